"""``tools/environment.sh`` by itself: what failed is not taken for installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

# an interpreter whose pip is there, and installs if it may
PYTHON = """#!/bin/sh
case "$*" in *install*) exit {code};; esac
"""


@pytest.mark.parametrize("code", [0, 1])
def test_an_installation_that_fails_leaves_no_stamp(repository: Path, tmp_path: Path, code: int) -> None:
    (tmp_path / "tools").mkdir()
    for name in ("tools/environment.sh", "setup.py", "pyproject.toml"):
        shutil.copy(repository / name, tmp_path / name)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON.format(code=code))
    python.chmod(0o755)
    command = ["bash", str(tmp_path / "tools" / "environment.sh"), "teacher"]
    assert subprocess.run(command, cwd="/", capture_output=True, timeout=60).returncode == code
    assert (tmp_path / ".venv" / "installed-teacher").is_file() == (code == 0)
