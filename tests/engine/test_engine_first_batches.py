"""A run that learns from nothing ends with a sentence, and leaves nothing that could be taken for a model."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from engine_toy import NeedyModel

from superflow.benchmark.speed.dry_run import dry_run
from superflow.clips.batch import Batch
from superflow.engine import load_config, read_checkpoint
from superflow.errors import InputError

Train = Callable[..., Any]
HERE = Path(__file__).parent


def needy(*, batches: int = 4, max_iters: int = 12, **model: Any) -> dict[str, Any]:
    return {
        "model": {"type": "NeedyModel", "_delete_": True, **model},
        "train_cfg.max_iters": max_iters,
        "train_cfg.val_interval": 1,
        "default_hooks.checkpoint.interval": 1,
        "default_hooks.first_batches.batches": batches,
    }


def warnings(runner: Any) -> list[str]:
    logged = "".join(path.read_text() for path in sorted(runner.work_path.glob("*/*.log")))
    return [line for line in logged.splitlines() if "was 0 in each of the first" in line]


@pytest.mark.parametrize(
    ("batches", "max_iters", "seen"),
    [(4, 12, 4), (1, 12, 1), (20, 12, 12), (20, 1, 1)],
)
def test_a_run_that_sees_nothing_ends_and_leaves_no_checkpoint(
    train: Train, toy_config: Path, batches: int, max_iters: int, seen: int
) -> None:
    message = (
        rf"the first {seen} batches have pairs 0: nothing is seen; look at the eyes; .*first_batches\.batches"
    )
    with pytest.raises(InputError, match=message):
        train(needy(batches=batches, max_iters=max_iters, empty=99))
    work = toy_config.parent / "work"
    assert [path.name for path in work.iterdir() if path.suffix == ".pth"] == []
    assert not (work / "last_checkpoint").exists()


@pytest.mark.parametrize("empty", [0, 1, 3])
def test_some_batches_without_anything_are_no_fault(train: Train, empty: int) -> None:
    runner = train({**needy(empty=empty), "default_hooks.checkpoint.max_keep_ckpts": 99})
    assert runner.iter == 12
    kept = {int(path.stem.removeprefix("iter_")) for path in runner.work_path.glob("iter_*.pth")}
    assert kept == set(range(empty + 1, 13))  # from the first batch on that taught something
    assert warnings(runner) == []


def test_a_run_that_something_else_ends_early_is_judged_too(train: Train, toy_config: Path) -> None:
    stop = {
        "type": "EarlyStoppingHook",
        "monitor": "miou",
        "patience": 1,
        "min_delta": 1e9,
        "rule": "greater",
    }
    with pytest.raises(InputError, match="the first 2 batches have pairs 0"):
        train({**needy(batches=8, empty=99), "custom_hooks": [stop]})
    assert list((toy_config.parent / "work").glob("*.pth")) == []


def test_what_lacks_oftenest_is_named(train: Train) -> None:
    with pytest.raises(InputError, match="the first 4 batches have loss 0: nothing differs"):
        train({**needy(), "model.type": "DullModel"})


@pytest.mark.parametrize("silent", [[], ["far"], ["near", "far"]])
def test_partial_losses_that_never_teach_are_named_once(train: Train, silent: list[str]) -> None:
    runner = train(needy(silent=silent))
    said = warnings(runner)
    assert len(said) == bool(silent)
    assert all(
        f"of the objectives, {', '.join(silent)} was 0 in each of the first 4 batches" in line
        for line in said
    )


def test_a_resumed_run_goes_on_counting(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    first = train(needy(batches=8, max_iters=3, silent=["far"]))
    assert len(warnings(first)) == 1  # at the end of a shorter run
    state = read_checkpoint(first.work_path / "iter_3.pth")["meta"]["first_batches"]
    assert state == {"seen": 3, "has_learned": True, "silent": ["far"]}
    longer = train(needy(batches=8, max_iters=12, silent=["far"]), resume=True)
    assert [line.split("of the ")[2].split(" and")[0] for line in warnings(longer)] == [
        "first 3 batches",
        "first 8 batches",
    ]
    # what has learned once may go on over stretches without anything
    seeing = NeedyModel.loss

    def blind(model: NeedyModel, batch: Batch) -> dict[str, Any]:
        model.empty = 99
        return seeing(model, batch)

    monkeypatch.setattr(NeedyModel, "loss", blind)
    assert train(needy(max_iters=16, silent=["far"]), resume=True).iter == 16


def test_a_dry_run_says_what_its_batch_lacks(toy_config: Path) -> None:
    def shown(**model: Any) -> list[str]:
        lines: list[str] = []
        dry_run(
            load_config(toy_config, options=needy(**model), work_dir=toy_config.parent / "never"),
            lines.append,
        )
        return [line for line in lines if line.startswith("caution")]

    assert shown() == []
    assert shown(empty=9)[0] == "caution: pairs is 0 in this batch: nothing is seen; look at the eyes"


@pytest.mark.parametrize(("ranks", "iterations"), [([0, 1], 4), ([1], 4), ([7], 1)])
def test_all_ranks_come_to_the_same_end(toy_config: Path, ranks: list[int], iterations: int) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    folder = toy_config.parent / "two"
    command = [
        sys.executable,
        str(HERE / "first_batches_rank.py"),
        str(toy_config),
        str(folder),
        *map(str, ranks),
    ]
    paths = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    processes = [
        subprocess.Popen(
            command,
            env={**os.environ, **shared, "PYTHONPATH": paths, "RANK": rank, "LOCAL_RANK": rank},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors[0][-2000:]
    ends = [json.loads((folder / f"rank_{rank}.json").read_text()) for rank in (0, 1)]
    assert ends[0] == ends[1]
    assert ends[0]["iter"] == iterations
    assert bool(ends[0]["said"]) == (ranks == [7])
