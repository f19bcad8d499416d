"""Learning-rate schedules that keep the ratio between parameter groups."""

from __future__ import annotations

import math
from typing import Any

from mmengine.optim.scheduler.param_scheduler import _ParamScheduler

from .registry import PARAM_SCHEDULERS


# torch's divides by zero where pct_start is one iteration (5 of them at 0.2) or the whole run, and raises past its end
@PARAM_SCHEDULERS.register_module()
class OneCycleLR(_ParamScheduler):
    """One warm-up and one decay over the run, by iteration; every group's peak is its own learning rate.

    mmengine's scheduler of this name writes one ``eta_max`` into all groups, which cancels ``lr_mult``; here
    ``eta_max`` is the peak of a group without multiplier.

    Args:
        optimizer: with the learning rates of ``optim_wrapper``.
        eta_max: peak; None takes the optimizer's ``lr``.
        total_steps: iterations; None takes those from ``begin`` to ``end``.
        pct_start: share of the run spent rising.
        anneal_strategy: ``cos`` or ``linear``.
        div_factor: peak / first value; final_div_factor: first / last value.
        begin, end: first iteration, and the one after the last; the runner gives ``train_cfg.max_iters`` as end.
        by_epoch: must be False, the schedule is by iteration.
    """

    def __init__(
        self,
        optimizer: Any,
        eta_max: float | None = None,
        total_steps: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        begin: int = 0,
        end: int | None = None,
        last_step: int = -1,
        by_epoch: bool = False,
    ) -> None:
        if by_epoch:
            raise ValueError("OneCycleLR goes by iteration: by_epoch must be False")
        steps = total_steps if total_steps is not None else 0 if end is None else end - begin
        if steps < 1:
            raise ValueError(f"OneCycleLR over {steps} iterations; give total_steps or an end after begin")
        if anneal_strategy not in ("cos", "linear") or not 0 <= pct_start <= 1:
            raise ValueError(
                f"anneal_strategy is {anneal_strategy!r} (cos or linear), pct_start {pct_start} (0 to 1)"
            )
        scale = 1.0 if eta_max is None else eta_max / optimizer.defaults["lr"]
        self.peaks = [group["lr"] * scale for group in optimizer.param_groups]
        self.total_steps, self.pct_start, self.anneal_strategy = steps, pct_start, anneal_strategy
        self.div_factor, self.final_div_factor = div_factor, final_div_factor
        super().__init__(optimizer, "lr", begin=begin, end=begin + steps, last_step=last_step, by_epoch=False)
        # while gradients are accumulated the schedule goes on without optimizer steps; mmengine would warn of it
        optimizer._global_step = 0

    def factor(self, step: int) -> float:
        """Learning rate / peak at iteration ``step``."""
        low, last = 1 / self.div_factor, 1 / self.div_factor / self.final_div_factor
        rise = self.pct_start * self.total_steps - 1
        if step <= rise:
            start, end, share = low, 1.0, step / max(rise, 1e-12)
        else:
            fall = max(self.total_steps - 1 - max(rise, 0), 1e-12)
            start, end, share = 1.0, last, min((step - max(rise, 0)) / fall, 1.0)
        weight = share if self.anneal_strategy == "linear" else (1 - math.cos(math.pi * share)) / 2
        return start + (end - start) * weight

    def _get_value(self) -> list[float]:
        factor = self.factor(self.last_step)
        return [peak * factor for peak in self.peaks]
