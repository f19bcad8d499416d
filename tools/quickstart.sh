#!/usr/bin/env bash
# The main job from end to end: makes .venv, installs, makes a synthetic drive, prepares it, pretrains with SuperFlow++,
# probes the pretrained and a random backbone, votes over time, exports, and writes work_dirs/quickstart/report.html.
#   bash tools/quickstart.sh                      on a synthetic drive
#   bash tools/quickstart.sh --data ROOT          on a log in nuScenes schema; --version, --card, ... as in prepare
#   bash tools/quickstart.sh --teacher NAME       with another image teacher than the embedded one
# Run again, it goes on where it stopped. All options: bash tools/quickstart.sh --help
set -euo pipefail
caller=$PWD
. "$(dirname "$0")/environment.sh" teacher
exec "$PYTHON" -m superflow.tools.quickstart --cwd "$caller" "$@"
