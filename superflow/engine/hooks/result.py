"""What a run tells: the lines of its log, and one JSON file with everything that a table of results needs of it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.hooks import LoggerHook as MMEngineLoggerHook
from mmengine.hooks import RuntimeInfoHook as MMEngineRuntimeInfoHook

from ...downstream.fractions import write_tokens
from ...files.writes import write_json
from ...protocol import commit, cuda_peak, device_name, peak_memory
from ..registry import HOOKS
from ..training_plan import training_plan
from .checkpoint import CheckpointHook

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


@HOOKS.register_module()
class ResultHook(Hook):
    """Writes ``result.json`` after every evaluation and at the end, ``test_result.json`` after a test.

    Beside them ``STAGE_frames.txt`` lists the labelled frames of each stage.
    """

    priority = "LOWEST"  # the checkpoint hook knows the best value by then

    def __init__(self) -> None:
        self.metrics: dict[str, Any] = {}
        self.train: dict[str, float] = {}

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """A run that is resumed after its end still knows its figures."""
        checkpoint["meta"].update(metrics=_json(self.metrics), train=self._last_values(runner))

    def after_resume(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Go on from the figures so far."""
        self.metrics, self.train = (checkpoint["meta"].get(name, {}) for name in ("metrics", "train"))

    def after_val_epoch(self, runner: Any, metrics: dict[str, Any]) -> None:
        """Write what is known so far."""
        self.metrics = dict(metrics)
        self._write_training(runner)

    def after_train(self, runner: Any) -> None:
        """Write the final state."""
        self._write_training(runner, finished=runner.iter >= runner.max_iters)

    def after_test_epoch(self, runner: Any, metrics: dict[str, Any]) -> None:
        """Write the figures of a test."""
        self.metrics = dict(metrics)
        of_training: dict[str, Any] = {"last": {}, "best": {}, "train": {}, "plan": {}}
        tested = {"checkpoint": str(runner.loaded_from or ""), "iteration": runner.loaded_iteration}
        self._write(runner, "test_result.json", {**tested, **of_training})

    def _write_training(self, runner: Any, **further: Any) -> None:
        keeper = next((hook for hook in runner.hooks if isinstance(hook, CheckpointHook)), None)
        further |= {"last": keeper.last, "best": keeper.best} if keeper else {"last": {}, "best": {}}
        further |= {"train": self._last_values(runner), "plan": training_plan(runner).record()}
        self._write(runner, "result.json", {**further, "iteration": runner.iter})

    @master_only
    def _write(self, runner: Any, name: str, further: dict[str, Any]) -> None:
        for stage, dataset in runner.datasets().items():
            if hasattr(dataset, "frame_tokens"):  # the labelled frames, whose hash the record of the data has
                note = "{frames} frames of {dataset}, tokens_hash {tokens_hash}".format(**dataset.record())
                write_tokens(runner.work_path / f"{stage}_frames.txt", dataset.frame_tokens, note=note)
        result = {
            **further,
            "metrics": self.metrics,
            "seed": runner.seed,
            "commit": commit(),
            "config": str(runner.cfg.filename or ""),
            "superflow": runner.engine_model.record(),
            "data": runner.data_records(),
            "leakage": runner.leakage,
            "device": device_name(),
            "world_size": runner.world_size,
            "seconds": round(runner.seconds, 1),
            **peak_memory(),
        }
        write_json(runner.work_path / name, _json(result))

    def _last_values(self, runner: Any) -> dict[str, float]:
        """Mean of each training figure over the last 10 iterations; without any, as a checkpoint had them."""
        figures = runner.message_hub.log_scalars.items()
        found = {name[6:]: float(past.mean(10)) for name, past in figures if name.startswith("train/")}
        return found or self.train


def _json(value: Any) -> Any:
    """``value`` as JSON knows it; nan and inf, which it does not, as None."""
    if isinstance(value, dict):
        return {str(key): _json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    return _json(value.item()) if getattr(value, "numel", lambda: 0)() == 1 else str(value)


def _scalar_metrics(metrics: Mapping[str, Any] | None) -> dict[str, float]:
    return {name: value for name, value in (metrics or {}).items() if isinstance(value, int | float)}
