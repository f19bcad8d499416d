#!/usr/bin/env bash
# mypy over all rooms. Needs the .venv of tools/run_tests.sh, or PYTHON=... . Its verdict hangs on the stubs of the
# numpy and torch that are installed: the test suite runs it only with the versions that tests/tools/test_types.py names.
# Type checkers do not follow superflow's __path__, so the rooms are linked under one folder.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-$PWD/.venv/bin/python}"
farm=build/types/superflow
rm -rf build/types && mkdir -p "$farm"
for path in superflow/*; do ln -s "$PWD/$path" "$farm/"; done
for room in lidar camera datasets tools configs; do ln -s "$PWD/$room" "$farm/"; done
cd build/types
exec "$python" -m mypy --cache-dir ../../.mypy_cache --config-file ../../pyproject.toml --exclude '/configs/' -p superflow
