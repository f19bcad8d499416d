"""What the log shows of a step."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from mmengine.hooks import LoggerHook as MMEngineLoggerHook
from mmengine.hooks import RuntimeInfoHook as MMEngineRuntimeInfoHook

from ...protocol import cuda_peak
from ..registry import HOOKS

_KEPT = 1000  # values of each figure: mmengine copies all of them with every new one


@HOOKS.register_module()
class RuntimeInfoHook(MMEngineRuntimeInfoHook):
    """mmengine's hook, with the numbers that the loop has fetched from the device, and only scalars of evaluations."""

    def after_train_iter(self, runner: Any, **step: Any) -> None:
        """Hand the numbers of a step to the log."""
        for name, value in runner.train_loop.numbers.items():
            runner.message_hub.update_scalar(f"train/{name}", value)
        for history in runner.message_hub.log_scalars.values():
            history.max_length = _KEPT

    def after_val_epoch(self, runner: Any, metrics: Mapping[str, Any] | None = None) -> None:
        """Hand the scalars of an evaluation to the log; tables go to ``result.json``."""
        super().after_val_epoch(runner, _scalar_metrics(metrics))

    def after_test_epoch(self, runner: Any, metrics: Mapping[str, Any] | None = None) -> None:
        """As after an evaluation in training."""
        super().after_test_epoch(runner, _scalar_metrics(metrics))


@HOOKS.register_module()
class LoggerHook(MMEngineLoggerHook):
    """mmengine's hook, which also writes the first iteration's line and one after ``seconds`` without any.

    Args:
        interval: iterations between lines.
        seconds: longest silence of a slow run.
        log_metric_by_epoch: False, since runs are counted in iterations.
        options: those of mmengine's hook.
    """

    def __init__(
        self, interval: int = 50, *, seconds: float = 30.0, log_metric_by_epoch: bool = False, **options: Any
    ) -> None:
        super().__init__(interval=interval, log_metric_by_epoch=log_metric_by_epoch, **options)
        self.seconds = seconds
        self._last = -math.inf

    def every_n_inner_iters(self, batch_idx: int, n: int) -> bool:
        """Whether this iteration gets a line."""
        due = super().every_n_inner_iters(batch_idx, n) or time.monotonic() - self._last > self.seconds
        self._last = time.monotonic() if due else self._last
        cuda_peak()  # mmengine asks before it writes a line, and then starts the count of memory anew
        return due


def _scalar_metrics(metrics: Mapping[str, Any] | None) -> dict[str, float]:
    return {name: value for name, value in (metrics or {}).items() if isinstance(value, int | float)}
