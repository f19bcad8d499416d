"""Whether a run is learning: figures in the log, and an end with a report instead of hours of nan."""

from __future__ import annotations

import json
import math
import time
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from mmengine.hooks import Hook
from torch import Tensor

from ...errors import write_atomically
from ...pretrainer import effective_rank
from ..registry import HOOKS


class DivergedError(RuntimeError):
    """The loss is no longer a number; the message names the report."""


@HOOKS.register_module()
class HealthHook(Hook):
    """Logs what tells a healthy run from a broken one, and stops at the first loss that is not finite.

    ``loss_per_ln_rows``: loss / ln(rows), when the model reports ``rows``; 1 is the level of guessing for one
    contrastive term without a queue. ``effective_rank`` of the features that the model reports as ``_features``; near
    1 they have collapsed. ``data_share``: share of the iteration spent waiting for its batch.

    Args:
        interval: iterations between two effective ranks.
        rank_rows: feature rows used for it.
    """

    priority = "ABOVE_NORMAL"  # after RuntimeInfoHook has read the step, before the log is written

    def __init__(self, interval: int = 50, rank_rows: int = 2048) -> None:
        self.interval, self.rank_rows = interval, rank_rows

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Look at one step."""
        hub, loop = runner.message_hub, runner.train_loop
        shown = [name for name in outputs if not name.startswith("_")]
        values = {name: hub.get_scalar(f"train/{name}").current() for name in shown}
        if not math.isfinite(values["loss"]) or not self._gradient_is_finite(runner):
            self._stop(runner, data_batch, values)
        if values.get("rows", 0) > 1:
            hub.update_scalar("train/loss_per_ln_rows", values["loss"] / math.log(values["rows"]))
        hub.update_scalar("train/data_share", loop.waited / max(time.perf_counter() - loop.started, 1e-9))
        features = outputs.get("_features", ())
        if len(features) > 1 and runner.iter % self.interval == 0:
            hub.update_scalar("train/effective_rank", effective_rank(features, limit=self.rank_rows))

    @staticmethod
    def _gradient_is_finite(runner: Any) -> bool:
        scaler = getattr(runner.optim_wrapper, "scaler", None)
        if "train/grad_norm" not in runner.message_hub.log_scalars or (scaler and scaler.is_enabled()):
            return True  # nothing known, or the scaler leaves such steps out
        return math.isfinite(runner.message_hub.get_scalar("train/grad_norm").current())

    def _stop(self, runner: Any, batch: Any, values: dict[str, float]) -> None:
        history = {
            name: buffer.data[0][-20:].tolist() for name, buffer in runner.message_hub.log_scalars.items()
        }
        state = runner.engine_model.saved_state()
        report = {
            "iteration": runner.iter,
            "rank": runner.rank,
            "values": values,
            "last_20": history,
            "learning_rates": [group["lr"] for group in runner.optim_wrapper.optimizer.param_groups],
            "weights_not_finite": [name for name, value in state.items() if not _finite(value)],
            "batch_not_finite": _broken_fields(batch),
            "tokens": list(getattr(batch, "tokens", ())),
        }
        path = runner.work_path / (
            "health_report.json" if runner.rank == 0 else f"health_report_{runner.rank}.json"
        )
        with write_atomically(path, "w") as file:
            json.dump(report, file, indent=1)
        raise DivergedError(
            f"iteration {runner.iter}: loss {values['loss']} or its gradient is not finite; {path} says what the "
            "batch and the weights looked like. Earlier checkpoints are whole: lower the learning rate or set "
            "optim_wrapper.clip_grad, and start with --resume"
        )


def _finite(value: Any) -> bool:
    return not isinstance(value, Tensor) or bool(torch.isfinite(value).all())


def _broken_fields(batch: Any) -> list[str]:
    if not is_dataclass(batch):
        return []
    return [f.name for f in fields(batch) if not _finite(getattr(batch, f.name))]
