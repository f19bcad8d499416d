"""What a dry run says of hours and disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from superflow.benchmark.speed.dry_run import dry_run
from superflow.benchmark.speed.run_cost import RunCost, free_bytes, tensor_bytes
from superflow.engine import load_config


def test_hours_are_those_of_the_middle_step_and_its_wait():
    cost = RunCost(1000, waits=(0.5, 0.0, 0.1), steps=(1.0, 2.0, 30.0), checkpoint_bytes=2**20, files=3)
    assert cost.seconds == 2000
    time, disk = cost.sentences(free_bytes=3 * 2**20)
    assert "1000 iterations at 2.000 s and 0.100 s of waiting for data (medians of 3): 33 min 20 s" in time
    assert disk == "disk: 3.0 MB for at most 3 checkpoints of 1.0 MB, logs not counted; 3.0 MB are free"


def test_a_disk_that_is_too_small_is_told():
    cost = RunCost(1, (0.0,), (1.0,), checkpoint_bytes=2**31, files=2)
    assert "do not fit" in cost.sentences(free_bytes=2**32 - 1)[-1]
    assert len(cost.sentences(free_bytes=2**32)) == 2


def test_bytes_of_nested_tensors_and_room_of_a_folder_to_be(tmp_path):
    held = {"a": torch.zeros(3), "b": [torch.zeros(2, dtype=torch.int8), {"c": 5, "d": None}]}
    assert tensor_bytes(held) == 14
    assert free_bytes(tmp_path / "not" / "there") > 0


def test_the_disk_of_a_dry_run_is_about_that_of_the_run(toy_config: Path, train: Any) -> None:
    lines: list[str] = []
    dry_run(load_config(toy_config, work_dir=toy_config.parent / "never"), lines.append)
    (disk,) = [line for line in lines if line.startswith("disk: ")]
    work = train().work_path
    files = list(work.glob("*.pth"))
    assert 1 <= len(files) <= int(disk.split("at most ")[1].split()[0])
