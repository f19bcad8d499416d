#!/usr/bin/env bash
# mypy over all rooms, for developers and CI: its verdict hangs on the stubs of the numpy and torch that are installed,
# so the test suite, which users run, goes without. Needs the .venv of tools/run_tests.sh. Type checkers do not
# follow superflow's __path__, so the rooms are linked under one folder.
set -euo pipefail
cd "$(dirname "$0")/.."
farm=build/types/superflow
rm -rf build/types && mkdir -p "$farm"
for path in superflow/*; do ln -s "$PWD/$path" "$farm/"; done
for room in lidar camera datasets tools configs; do ln -s "$PWD/$room" "$farm/"; done
cd build/types
exec ../../.venv/bin/python -m mypy --cache-dir ../../.mypy_cache --config-file ../../pyproject.toml --exclude '/configs/' -p superflow
