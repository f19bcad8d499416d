"""A run killed at any moment ends like one that was never stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    folder = tmp_path_factory.mktemp("killed")
    paths = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "kill_driver.py"), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads((folder / "outcome.json").read_text())


def test_a_run_killed_at_any_moment_ends_bit_by_bit_like_an_unbroken_one(outcome: dict[str, dict]) -> None:
    assert len(outcome) == 11
    assert {moment: found["killed"] for moment, found in outcome.items()} == {
        moment: found["expected"] for moment, found in outcome.items()
    }
    assert [moment for moment, found in outcome.items() if not found["same"]] == []


def test_no_partial_or_superfluous_file_is_left(outcome: dict[str, dict]) -> None:
    expected = ["best_miou.pth", "config.py", "iter_12.pth", "last_checkpoint", "result.json"]
    assert {moment: found["files"] for moment, found in outcome.items()} == dict.fromkeys(outcome, expected)
