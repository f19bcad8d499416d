"""What a run is going to cost on this machine, from a few of its steps: hours, and disk for its checkpoints."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from ...engine.hooks.checkpoint import CheckpointHook
from ...progress import duration


@dataclass(frozen=True, slots=True)
class RunCost:
    """Figures of a run that begins or goes on.

    iterations: that are left. waits: seconds that each timed step waited for its batch; steps: seconds of forward,
    backward and optimizer, of the same ones. checkpoint_bytes: of one file. files: how many lie there at most, the
    one that is being written with them.
    """

    iterations: int
    waits: Sequence[float]
    steps: Sequence[float]
    checkpoint_bytes: int
    files: int

    @property
    def seconds(self) -> float:
        """Of all iterations that are left, without evaluations."""
        return self.iterations * median(wait + step for wait, step in zip(self.waits, self.steps))

    @property
    def disk_bytes(self) -> int:
        """Of checkpoints, at most."""
        return self.files * self.checkpoint_bytes

    def sentences(self, free_bytes: int) -> list[str]:
        """The figures in words; ``free_bytes`` is the room where the run would write."""
        told = [
            f"time: {self.iterations} iterations at {median(self.steps):.3f} s and {median(self.waits):.3f} s of "
            f"waiting for data (medians of {len(self.steps)}): {duration(self.seconds)}, evaluations not counted",
            f"disk: {size(self.disk_bytes)} for at most {self.files} checkpoints of {size(self.checkpoint_bytes)}, "
            f"logs not counted; {size(free_bytes)} are free",
        ]
        if self.disk_bytes > free_bytes:
            told.append(
                "caution: the checkpoints do not fit; free some room, give another --work-dir, or set "
                "default_hooks.checkpoint.max_keep_ckpts lower"
            )
        return told


def run_cost(runner: Any, waits: Sequence[float], steps: Sequence[float]) -> RunCost:
    """The cost of a runner that has made some steps, so that its optimizer has its state."""
    keepers = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
    files = sum(hook.max_keep_ckpts + 1 + (hook.save_best is not None) for hook in keepers)
    held = [runner.engine_model.state_dict(), runner.optim_wrapper.state_dict()]
    loop = runner.train_loop
    return RunCost(loop.max_iters - loop.iter, waits, steps, tensor_bytes(held), files)


def tensor_bytes(value: Any) -> int:
    """Of all tensors in nested dicts and lists."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, Mapping):
        return sum(map(tensor_bytes, value.values()))
    return sum(map(tensor_bytes, value)) if isinstance(value, list | tuple) else 0


def free_bytes(folder: str | Path) -> int:
    """Room for new files in a folder, which need not be there yet."""
    place = Path(folder).absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def synchronize() -> None:
    """Wait for the CUDA device, where there is one, so that a clock sees what it has done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def size(count: int) -> str:
    """Bytes in MB or GB."""
    return f"{count / 2**30:.1f} GB" if count >= 2**30 else f"{count / 2**20:.1f} MB"
