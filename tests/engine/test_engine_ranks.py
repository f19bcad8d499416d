"""Two processes over gloo do what one does with the joint batch."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from mmengine.config import Config
from rank_driver import OPTIONS
from torch import nn

from superflow.engine import read_checkpoint, runner
from superflow.engine.launch import slurm_environment, start_distributed
from superflow.errors import InputError

HERE = Path(__file__).parent


@pytest.fixture
def two_processes(toy_config: Path) -> Path:
    """Folder of a run of two processes, and of one resumed from its middle."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "rank_driver.py"), str(toy_config), str(toy_config.parent)]
    processes = [
        subprocess.Popen(
            command,
            env={**os.environ, **shared, "PYTHONPATH": str(HERE), "RANK": rank, "LOCAL_RANK": rank},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors[0][-2000:]
    return toy_config.parent


def test_mistake_44_two_processes_train_like_one_with_the_joint_batch(
    two_processes: Path, train: Callable[..., Any]
) -> None:
    one = train({**OPTIONS, "train_dataloader.batch_size": 4}, name="one").work_path
    two = two_processes / "two"
    joint, parts = (read_checkpoint(folder / "iter_8.pth") for folder in (one, two))
    for name, value in joint["state_dict"].items():
        torch.testing.assert_close(parts["state_dict"][name], value, rtol=1e-4, atol=1e-6)
    results = [json.loads((folder / "result.json").read_text()) for folder in (one, two)]
    assert results[1]["world_size"] == 2
    points = [found["metrics"]["segmentation"]["points"] for found in results]
    assert points == [110, 110]  # both ranks' points are counted, each once
    assert results[0]["metrics"]["miou"] == pytest.approx(results[1]["metrics"]["miou"], abs=2.0)

    # one log, one set of files: rank 0 writes
    assert sorted(path.name for path in two.iterdir() if path.is_file()) == [
        *("best_miou.pth", "config.py", "iter_4.pth", "iter_8.pth", "last_checkpoint", "result.json")
    ]
    assert len([line for line in _log(two).splitlines() if "Iter(train)" in line]) == 3

    resumed = read_checkpoint(two_processes / "resumed" / "iter_8.pth")
    for part in ("state_dict", "training_state_dict"):
        assert all(torch.equal(value, parts[part][name]) for name, value in resumed[part].items())

    first, second = (torch.load(two_processes / f"buffers_{rank}.pt") for rank in (0, 1))
    assert len(first) == 3
    assert all(torch.equal(value, second[name]) for name, value in first.items())  # evaluated with the same


def _log(folder: Path) -> str:
    (written,) = [path for path in folder.glob("*/*.log") if path.stat().st_size]
    return written.read_text()


def test_slurm_variables_become_those_of_torchrun() -> None:
    given = {"SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1", "SLURM_NODELIST": "node3"}
    assert slurm_environment(given, port=29500) == {
        "RANK": "5",
        "WORLD_SIZE": "8",
        "LOCAL_RANK": "1",
        "MASTER_ADDR": "node3",
        "MASTER_PORT": "29500",
    }
    with pytest.raises(InputError, match="found no SLURM_PROCID; start with srun"):
        slurm_environment({}, port=1)


def test_a_launcher_without_its_environment_says_how_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(
        InputError, match=r"launcher 'pytorch' needs RANK.*torchrun --nproc_per_node=N -m superflow"
    ):
        start_distributed("pytorch")
    with pytest.raises(InputError, match="launcher 'mpi' is unknown; use one of none, pytorch, slurm"):
        start_distributed("mpi")


@pytest.mark.parametrize(
    ("asked", "gpu", "expected"),
    [
        (None, True, "cpu:gloo,cuda:nccl"),
        ("nccl", True, "cpu:gloo,cuda:nccl"),  # alone it could not add what evaluation counts on the CPU
        ("gloo", True, "gloo"),
        (None, False, "gloo"),
    ],
)
def test_there_is_always_a_back_end_for_tensors_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch, asked: str | None, gpu: bool, expected: str
) -> None:
    started = []
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(dist, "init_process_group", lambda backend, **options: started.append(backend))
    start_distributed("pytorch", backend=asked)
    assert started == [expected]


class NormAct(nn.BatchNorm2d):
    """Batch norm with an activation in it, as timm builds its networks."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images).relu()


def test_joined_batch_norm_leaves_the_teacher_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    student = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    model = nn.ModuleDict(
        {"student": student, "teacher": nn.Sequential(nn.Conv2d(3, 4, 1), NormAct(4))}
    ).eval()
    images = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    before = model["teacher"](images)
    monkeypatch.setattr(runner, "MMDistributedDataParallel", lambda model, **options: model)
    run = SimpleNamespace(distributed=True, cfg=Config({"sync_bn": "torch"}), plain_model=model)
    runner.EngineRunner.wrap_model(run, None, model)
    assert isinstance(model["student"][1], nn.SyncBatchNorm)
    assert torch.equal(model["teacher"](images), before)
