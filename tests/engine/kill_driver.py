"""Runs the toy in forked children that are killed at chosen moments, and in others that go on.

Usage: kill_driver.py FOLDER. Writes FOLDER/outcome.json: for each moment, how often the run was killed and whether
its end equals that of a run that was never stopped, bit by bit.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from engine_toy import CONFIG

import superflow.engine.hooks.checkpoint as hook_module
from superflow.engine import HOOKS, build_runner, load_config, read_checkpoint
from superflow.hub import checkpoint as checkpoint_module

OPTIONS: dict[str, Any] = {"custom_hooks": [{"type": "EMAHook", "momentum": 0.1}, {"type": "KillHook"}]}
KILL_AT: dict[str, int] = {}  # stage -> iteration, of this process


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@HOOKS.register_module()
class KillHook:
    """Kills the process in a stage of an iteration."""

    priority = "HIGHEST"

    def __getattribute__(self, name: str) -> Any:
        if name in ("before_train_iter", "after_train_iter", "after_val_iter", "after_val_epoch"):
            return lambda runner, **_: kill() if KILL_AT.get(name) == runner.iter else None
        return object.__getattribute__(self, name)


def while_writing(iteration: int, share: float) -> None:
    """Kill when a part of that checkpoint's bytes is in the temporary file."""
    real = torch.save

    def save(content: Any, file: Any) -> None:
        if content["meta"]["iter"] != iteration:
            return real(content, file)
        import io

        whole = io.BytesIO()
        real(content, whole)
        file.write(whole.getvalue()[: int(len(whole.getvalue()) * share)])
        file.flush()
        kill()

    checkpoint_module.torch.save = save


def before_pointing(iteration: int) -> None:
    """Kill when the new checkpoint has its name and the pointer still names the old one."""
    real = hook_module.point_to
    hook_module.point_to = lambda path: kill() if path.name == f"iter_{iteration}.pth" else real(path)


def before_deleting(iteration: int) -> None:
    """Kill when the pointer names the new checkpoint and the old one is still there."""
    real = hook_module.list_checkpoints
    hook_module.list_checkpoints = lambda folder: (
        kill() if (Path(folder) / f"iter_{iteration}.pth").exists() else real(folder)
    )


def at(**stages: int) -> Callable[[], None]:
    return lambda: KILL_AT.update(stages)


# moment -> what happens to the first, second, ... start of the run; the one after the last is left alone
MOMENTS: dict[str, list[Callable[[], None]]] = {
    "before any checkpoint": [at(after_train_iter=1)],
    "between two checkpoints": [at(after_train_iter=7)],
    "during the evaluation": [at(after_val_iter=8)],
    "after the best checkpoint": [at(before_train_iter=8)],
    "at the start of a written file": [lambda: while_writing(6, 0.0)],
    "in the middle of a written file": [lambda: while_writing(6, 0.5)],
    "before the pointer": [lambda: before_pointing(6)],
    "before the old file is deleted": [lambda: before_deleting(6)],
    "while the last file is written": [lambda: while_writing(12, 0.9)],
    "again and again": [
        at(before_train_iter=2),
        lambda: while_writing(3, 0.5),
        at(after_train_iter=4),
        at(after_val_epoch=8),
        at(after_train_iter=10),
    ],
    "with loader workers": [at(after_train_iter=5), at(after_train_iter=10)],
}


def in_child(work: Callable[[], None]) -> int:
    """Wait status of a forked child that does ``work``."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
    return os.waitpid(child, 0)[1]


def train(config: Path, work_dir: Path, options: dict[str, Any], prepare: Callable[[], None]) -> None:
    prepare()
    build_runner(load_config(config, options=options, work_dir=work_dir, resume=True)).train()


def same(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


def end(work_dir: Path) -> dict[str, Any]:
    """The last and the best checkpoint, without what may differ (times, curves, folder, state of the checkout)."""
    found = {name: read_checkpoint(work_dir / name) for name in ("iter_12.pth", "best_miou.pth")}
    for checkpoint in found.values():
        for key in ("seconds", "train", "config", "commit"):
            checkpoint["meta"].pop(key)
    return found


def main(folder: Path) -> None:
    config = folder / "toy_run.py"
    config.write_text(CONFIG)
    # in this process, so that the children find everything imported
    train(config, folder / "unbroken", OPTIONS, lambda: None)
    expected = end(folder / "unbroken")
    outcome = {}
    for moment, deaths in MOMENTS.items():
        work_dir = folder / moment.replace(" ", "_")
        workers = {"train_dataloader.num_workers": 2} if "workers" in moment else {}
        killed = 0
        for prepare in [*deaths, lambda: None]:
            status = in_child(lambda: train(config, work_dir, {**OPTIONS, **workers}, prepare))  # noqa: B023
            killed += os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        outcome[moment] = {
            "killed": killed,
            "expected": len(deaths),
            "same": status == 0 and same(end(work_dir), expected),
            "files": sorted(path.name for path in work_dir.iterdir() if path.is_file()),
        }
    (folder / "outcome.json").write_text(json.dumps(outcome))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
