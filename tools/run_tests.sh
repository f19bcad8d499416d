#!/usr/bin/env bash
# Runs the whole test suite in .venv, which is made on the first call; arguments go to pytest.
#   bash tools/run_tests.sh            bash tools/run_tests.sh tests/lidar -k conv
set -euo pipefail
. "$(dirname "$0")/environment.sh" test-agents

export OMP_NUM_THREADS=1  # one thread a test process: they share the cores
if [ $# -eq 0 ]; then
    "$PYTHON" -m ruff check .
    "$PYTHON" -m ruff format --check .
    exec "$PYTHON" -m pytest -q -n 2 --dist loadfile --durations 15
fi
exec "$PYTHON" -m pytest "$@"
