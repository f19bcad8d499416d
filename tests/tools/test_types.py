"""mypy over all rooms, where the libraries are those that the verdict was made for."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

# The verdict hangs on the stubs of these two: a newer release may refuse lines that are right, and is no fault of ours.
JUDGED_WITH = {"numpy": "2.4", "torch": "2.14"}


def test_types(repository: Path):
    others = [
        f"{name} {version(name)}"
        for name, judged in JUDGED_WITH.items()
        if not version(name).startswith(f"{judged}.")
    ]
    if others:
        judged = " and ".join(f"{name} {number}" for name, number in JUDGED_WITH.items())
        pytest.skip(f"types are judged with {judged}; here {', '.join(others)} brings other stubs")
    run = subprocess.run(
        ["bash", "tools/check_types.sh"],
        cwd=repository,
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
