"""Two processes over gloo do what one does with the joint batch."""

from __future__ import annotations

import json
import os
import re
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
from engine_toy import CONFIG
from mmengine.config import Config
from rank_driver import OPTIONS
from torch import nn

from superflow.benchmark.one_log.arms import run_arms
from superflow.engine import load_config, read_checkpoint, runner
from superflow.errors import InputError
from superflow.method import launch
from superflow.method.launch import slurm_environment, start_distributed

HERE = Path(__file__).parent


@pytest.fixture
def two_processes(toy_config: Path) -> Path:
    """Folder of a run of two processes, and of one resumed from its middle."""
    done = start_two(
        [str(HERE / "rank_driver.py"), str(toy_config), str(toy_config.parent)],
        *({"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"} for rank in "01"),
    )
    assert [code for code, _ in done] == [0, 0], done[0][1][-2000:]
    return toy_config.parent


def start_two(arguments: list[str], *variables: dict[str, str]) -> list[tuple[int, str]]:
    """Exit code and errors of python processes that start together, one for each entry of ``variables``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    shared = {**os.environ, "MASTER_PORT": port, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    processes = [
        subprocess.Popen(
            [sys.executable, *arguments], env={**shared, **own}, stderr=subprocess.PIPE, text=True
        )
        for own in variables
    ]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    return [(process.returncode, error) for process, error in zip(processes, errors)]


def torchrun(rank: str) -> dict[str, str]:
    return {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}


def srun(rank: str) -> dict[str, str]:
    tasks = {"SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2", "SLURM_NODELIST": "127.0.0.1"}
    return {"SLURM_PROCID": rank, "SLURM_LOCALID": rank, **tasks}


@pytest.mark.parametrize("starter", [torchrun, srun])
def test_processes_started_together_train_together_without_being_told(
    toy_config: Path, starter: Callable[[str], dict[str, str]]
) -> None:
    work = toy_config.parent / "work"
    command = ["-m", "superflow.tools.train", str(toy_config), "--work-dir", str(work)]
    options = ["--cfg-options", "train_cfg.max_iters=2", "custom_hooks=[]", "model.norm=False"]
    done = start_two([*command, *options], starter("0"), starter("1"))
    assert [code for code, _ in done] == [0, 0], done[0][1][-2000:]
    assert json.loads((work / "result.json").read_text())["world_size"] == 2
    assert len(list(work.glob("*/*.log"))) == 1


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
    # two processes with half the batch are the same plan: as many passes, as high learning rates
    plans = [found["plan"] for found in results]
    assert [(plan.pop("ranks"), plan.pop("batch_size")) for plan in plans] == [(1, 4), (2, 2)]
    assert plans[0] == plans[1]
    assert plans[0]["learning_rates"] == [pytest.approx(rate * 4 / 16) for rate in (0.01, 0.1)]
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

    # on machines without a common disk one would begin anew where another goes on, and wait for it for ever
    for rank in (0, 1):
        assert re.search(
            r"process 1 on \S+ has another start than process 0 on \S+ \(no checkpoint instead of iter_8.pth of "
            r"iteration 8\); give all machines the same work folder and data",
            (two_processes / f"refused_{rank}.txt").read_text(),
        )

    first, second = (torch.load(two_processes / f"buffers_{rank}.pt") for rank in (0, 1))
    assert len(first) == 3
    assert all(torch.equal(value, second[name]) for name, value in first.items())  # evaluated with the same


def _log(folder: Path) -> str:
    (written,) = [path for path in folder.glob("*/*.log") if path.stat().st_size]
    return written.read_text()


TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "node"}


@pytest.mark.parametrize(
    ("environment", "launcher"),
    [
        ({}, "none"),
        (TORCHRUN, "pytorch"),
        ({**TORCHRUN, "RANK": "0", "WORLD_SIZE": "1"}, "none"),
        ({"WORLD_SIZE": "2"}, "none"),  # some containers set it for everything
        (srun("0"), "slurm"),
        ({**srun("0"), **TORCHRUN}, "pytorch"),  # srun started torchrun on each node
        ({"SLURM_NTASKS": "8", "SLURM_NODELIST": "node"}, "none"),  # a shell in an allocation
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, "none"),
        ({"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "1"}, "none"),
    ],
)
def test_the_launcher_is_the_one_that_the_environment_tells_of(
    toy_config: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], launcher: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert load_config(toy_config).get("launcher", "none") == launcher
    for given in ("none", "slurm"):  # what is said counts
        assert load_config(toy_config, launcher=given).launcher == given
        assert load_config(toy_config, options={"launcher": given}).launcher == given
    toy_config.write_text(CONFIG + 'launcher = "slurm"\n')
    assert load_config(toy_config).launcher == "slurm"


@pytest.mark.parametrize(
    ("environment", "starter"),
    [
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, "Slurm"),
        ({"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "8"}, "mpirun"),
        ({"PMI_RANK": "3", "PMI_SIZE": "8"}, "MPI"),
    ],
)
def test_processes_that_cannot_be_joined_are_refused(
    toy_config: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], starter: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=rf"one of 8 processes by {starter}, .* or give --launcher none if"):
        load_config(toy_config)
    assert load_config(toy_config, launcher="none").launcher == "none"


@pytest.mark.parametrize("environment", [TORCHRUN, srun("1")])
def test_a_benchmark_is_started_once(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        InputError, match=r"one of 2 processes by (torchrun|srun), .* start it once, with --jobs"
    ):
        next(run_arms([], jobs=1))


def test_slurm_variables_become_those_of_torchrun() -> None:
    given = {"SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1", "SLURM_NODELIST": "node3"}
    assert slurm_environment(given, port=29500) == {
        "RANK": "5",
        "WORLD_SIZE": "8",
        "LOCAL_RANK": "1",
        "MASTER_ADDR": "node3",
        "MASTER_PORT": "29500",
    }
    for name in given:
        with pytest.raises(InputError, match=f"found no {name}; start with srun"):
            slurm_environment({key: value for key, value in given.items() if key != name}, port=1)


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
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace())
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


def test_a_slurm_step_has_its_own_hosts_and_port(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1", "SLURM_NODELIST": "node[1-4]"}
    step = {**given, "SLURM_STEP_NODELIST": "node3", "SLURM_JOB_ID": "41234567", "SLURM_STEP_ID": "0"}
    found = slurm_environment(step, port=None)
    assert found["MASTER_ADDR"] == "node3"
    others = (
        {**step, "SLURM_JOB_ID": "41234568"},
        {**step, "SLURM_STEP_ID": "2"},
        given | {"MASTER_ADDR": "a"},
    )
    ports = [found["MASTER_PORT"], *(slurm_environment(other, port=None)["MASTER_PORT"] for other in others)]
    assert len(set(ports)) == 4
    assert all(1024 < int(port) < 32768 for port in ports)
    monkeypatch.setenv("PATH", "")  # as in a container
    with pytest.raises(
        InputError, match=r"cannot read the hosts node\[1-4\] by scontrol .*set MASTER_ADDR to"
    ):
        slurm_environment(given, port=None)


@pytest.mark.parametrize(
    ("port", "told"),
    [("taken", "address already in use"), ("none", "invalid literal"), (None, "MASTER_PORT")],
)
def test_processes_that_cannot_meet_are_told_why(
    monkeypatch: pytest.MonkeyPatch, port: str | None, told: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name, value in {**torchrun("0"), "MASTER_PORT": port or ""}.items():
        monkeypatch.setenv(name, value)
    if port is None:
        monkeypatch.delenv("MASTER_PORT")
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        if port == "taken":
            monkeypatch.setenv("MASTER_PORT", str(taken.getsockname()[1]))
        with pytest.raises(InputError, match=told):
            start_distributed("pytorch")


@pytest.mark.parametrize(("uuids", "fails"), [(["a", "b"], False), (["a", "a"], True), ([None, None], False)])
def test_two_processes_on_one_gpu_are_refused(
    monkeypatch: pytest.MonkeyPatch, uuids: list[str | None], fails: bool
) -> None:
    """NCCL would say "Duplicate GPU detected" beneath a traceback, at the first step."""
    for name, value in {**torchrun("1"), "MASTER_PORT": "0"}.items():
        monkeypatch.setenv(name, value)
    host = socket.gethostname()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(
        torch.cuda,
        "get_device_properties",
        lambda device: SimpleNamespace(**{"uuid": uuids[1]} if uuids[1] else {}),
    )
    monkeypatch.setattr(dist, "init_process_group", lambda backend, **options: None)
    monkeypatch.setattr(launch, "end_at_sigterm", lambda: None)
    monkeypatch.setattr(launch, "_joined", False)
    monkeypatch.setattr(launch, "gather_values", lambda own: [None if own is None else (host, uuids[0]), own])
    if fails:
        with pytest.raises(InputError, match=r"2 processes on .* have the same GPU; .* here 1 \(torchrun"):
            start_distributed("pytorch")
    else:
        start_distributed("pytorch")
