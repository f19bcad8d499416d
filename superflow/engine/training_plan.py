"""What a run is going to do with its data: how many passes, in which batches, at which learning rates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import InputError
from .optim import OneCycleLR


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """Length, batch and learning rates of a run.

    items: of the training set. ranks: processes. batch_size: items of one process and iteration. accumulate:
    iterations to an optimizer step. iterations: of the whole run. learning_rates: peak of each parameter group.
    base_batch_size: batch that the config's learning rates are for; None where they do not follow the batch.
    """

    items: int
    ranks: int
    batch_size: int
    accumulate: int
    iterations: int
    learning_rates: tuple[float, ...]
    base_batch_size: int | None = None

    @property
    def epochs(self) -> float:
        """Passes over the training set."""
        return self.iterations * self.ranks * self.batch_size / self.items

    def sentences(self) -> list[str]:
        """The plan for the log."""
        at_once = self.ranks * self.batch_size
        batch = at_once * self.accumulate
        made_of = f"{self.ranks} process{'es' if self.ranks > 1 else ''} x {self.batch_size}"
        made_of += f" x {self.accumulate} iterations" if self.accumulate > 1 else ""
        rates = ", ".join(f"{rate:.4g}" for rate in self.learning_rates)
        if self.base_batch_size is not None:
            share = f"{batch / self.base_batch_size:.4g}"
            rates += f" ({share} of the config's, which are for batches of {self.base_batch_size})"
        return [
            f"{self.iterations} iterations of {at_once} items out of {self.items}: {self.epochs:.2f} epochs; "
            "schedules go by iteration",
            f"{self.items / at_once:.1f} iterations an epoch, {-(-self.iterations // self.accumulate)} optimizer steps "
            f"on batches of {batch} ({made_of}); peak learning rates: {rates}",
        ]

    def record(self) -> dict[str, Any]:
        """Plain values for results and cards."""
        return {**asdict(self), "learning_rates": list(self.learning_rates), "epochs": round(self.epochs, 4)}


def training_plan(runner: Any) -> TrainingPlan:
    """The plan of a runner whose training loop, optimizer and schedules are built."""
    sampler = runner.train_loop.sampler
    groups = runner.optim_wrapper.optimizer.param_groups
    rates = [group.get("initial_lr", group["lr"]) for group in groups]
    for scheduler in runner.param_schedulers or []:
        if isinstance(scheduler, OneCycleLR):
            rates = scheduler.peaks[: len(groups)]  # without mmengine's base_lr, which no parameter has
    return TrainingPlan(
        items=sampler.items,
        ranks=sampler.world_size,
        batch_size=sampler.batch_size,
        accumulate=runner.optim_wrapper._accumulative_counts,
        iterations=runner.train_loop.max_iters,
        learning_rates=tuple(rates),
        base_batch_size=base_batch_size(runner.auto_scale_lr),
    )


def base_batch_size(auto_scale_lr: Mapping[str, Any] | None) -> int | None:
    """The batch that mmengine's ``auto_scale_lr`` takes the config's learning rates to be for; None if it is off.

    Raises:
        InputError: it is on and names no batch.
    """
    if not auto_scale_lr or not auto_scale_lr.get("enable", False):
        return None
    size = auto_scale_lr.get("base_batch_size")
    if size is None:
        raise InputError(
            "auto_scale_lr.base_batch_size: is None; give the number of items in all processes' batches that the "
            "learning rates are for, or set auto_scale_lr.enable=False"
        )
    return size
