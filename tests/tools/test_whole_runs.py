"""Runs of the real method by its command, with everything in it that keeps a state or draws at random."""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from superflow.benchmark.preparation import prepare_features
from superflow.datasets.sets.nuscenes import write_index

CONFIG = """
_base_ = ["{bases}/runtime.py", "{bases}/onecycle.py", "{bases}/small_pretrain.py"]
custom_imports = dict(imports=["run_hooks"])
data_root = "{prepared}"
model = dict(
    student=dict(backbone=dict(width=0.5)),
    objectives=[
        dict(type="spatial", queue=48),
        dict(type="temporal", learn_temperature=True, max_rows=8),
        dict(type="cross_temporal", learn_temperature=True, queue=16),
        dict(type="dense_to_sparse", kind="cosine"),
        dict(type="point_regression"),
    ],
    batch_norm=dict(dense="own"),
    pixels="hit",
    normalize="after",
)
train_dataloader = dict(
    dataset=dict(
        frames=["scene-0001"],
        times=dict(offsets=(-1, 0, 1), unit="frames"),
        clouds=dict(sweeps=2, max_points=(20, 45), sweep_points=(10, 40), occlusion=False),
        views=dict(features="{prepared}/features/filter_bank", size=(36, 64)),
        region="world_cell",
        cell_m=8.0,
        cameras_per_clip=1,
    )
)
train_cfg = dict(max_iters=8)
default_hooks = dict(checkpoint=dict(interval=3))
custom_hooks = [dict(type="EMAHook", momentum=0.1), dict(type="KillHook"), dict(type="RankHook")]
"""

HOOKS = '''
import os
import signal

import torch
from mmengine.hooks import Hook
from superflow.engine import HOOKS


@HOOKS.register_module()
class KillHook(Hook):
    """Kills the process within the iteration that the environment names."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == int(os.environ.get("KILL_AT", -1)):
            os.kill(os.getpid(), signal.SIGKILL)


@HOOKS.register_module()
class RankHook(Hook):
    """Keeps what each process ends with."""

    def after_train(self, runner):
        weights = dict(runner.plain_model.named_parameters())
        torch.save(weights, runner.work_path / f"rank_{runner.rank}.pt")
'''


@pytest.fixture(scope="module")
def prepared(write_small_log: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small log with images of noise instead of flat ones, so that the teacher tells its pixels apart."""
    folder = tmp_path_factory.mktemp("noisy")
    root = write_small_log(folder / "log")
    generator = np.random.default_rng(0)
    for path in sorted(root.rglob("*.jpg")):
        shape = cv2.imread(str(path)).shape
        cv2.imwrite(str(path), generator.integers(0, 256, shape, dtype=np.uint8))
    index = write_index(root, folder / "prepared", version="v1.0-mini")
    prepare_features(index, None, teacher="filter_bank", size=(32, 64), components=8)
    return folder / "prepared"


@pytest.fixture
def config(prepared: Path, repository: Path, tmp_path: Path) -> Path:
    """The config of a small run with every term, beside the hooks that it imports."""
    (tmp_path / "run_hooks.py").write_text(HOOKS)
    bases = repository / "configs" / "_base_"
    (tmp_path / "whole.py").write_text(CONFIG.format(bases=bases, prepared=prepared))
    return tmp_path / "whole.py"


def command(config: Path, name: str, *options: str) -> list[str]:
    return ["-m", "superflow.tools.train", str(config), "--work-dir", str(config.parent / name), *options]


def run(config: Path, arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Python with these arguments, where the hooks can be imported."""
    paths = os.pathsep.join([str(config.parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )


def last(config: Path, name: str) -> dict[str, Any]:
    return torch.load(config.parent / name / "iter_8.pth", weights_only=True)


def differences(left: Any, right: Any, where: str = "") -> list[str]:
    """Places where two checkpoints are not equal bit by bit."""
    if isinstance(left, dict) and isinstance(right, dict) and left.keys() == right.keys():
        return [found for key in left for found in differences(left[key], right[key], f"{where}.{key}")]
    if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        pairs = enumerate(zip(left, right))
        return [found for row, (a, b) in pairs for found in differences(a, b, f"{where}[{row}]")]
    same = torch.equal(left, right) if isinstance(left, torch.Tensor) else left == right
    return [] if same else [where]


def test_a_killed_pretraining_ends_bit_by_bit_like_an_unbroken_one(config: Path) -> None:
    unbroken = run(config, command(config, "unbroken"))
    assert unbroken.returncode == 0, unbroken.stderr[-2000:]
    killed = run(config, command(config, "killed"), KILL_AT="4")
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    assert (config.parent / "killed" / "last_checkpoint").read_text() == "iter_3.pth"
    resumed = run(config, command(config, "killed", "--resume"))
    assert resumed.returncode == 0, resumed.stderr[-2000:]

    expected, found = last(config, "unbroken"), last(config, "killed")
    parts = ("state_dict", "training_state_dict", "optimizer", "param_schedulers")
    assert [place for part in parts for place in differences(expected[part], found[part], part)] == []
    # all that the test is about was there
    held = expected["training_state_dict"]
    assert {"student", "queue", "learned_temperature"} <= {part for name in held for part in name.split(".")}
    assert all(bool(filled.all()) for name, filled in held.items() if name.endswith(".filled"))
    terms = json.loads((config.parent / "killed" / "result.json").read_text())["train"]
    assert all(0 < terms[name] < math.inf for name in ("temporal", "cross_temporal", "dense_to_sparse"))
    assert 0 < terms["point_regression"] < 1


def test_two_processes_pretrain_together(config: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = ["--nproc_per_node=2", "--master_addr=127.0.0.1", f"--master_port={port}"]
    launched = ["-m", "torch.distributed.run", *place, *command(config, "two", "--launcher", "pytorch")]
    done = run(config, launched)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads((config.parent / "two" / "result.json").read_text())
    assert (result["world_size"], result["iteration"], result["finished"]) == (2, 8, True)
    assert math.isfinite(result["train"]["loss"])
    assert last(config, "two")["meta"]["iter"] == 8
    folder = config.parent / "two"
    first, second = (torch.load(folder / f"rank_{rank}.pt", weights_only=True) for rank in (0, 1))
    assert differences(first, second) == []
