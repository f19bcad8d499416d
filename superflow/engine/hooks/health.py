"""Whether a run is learning: figures in the log, and an end with a report instead of hours of nan."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from mmengine.hooks import Hook
from torch import Tensor

from ...files.writes import write_json
from ...hub.checkpoint import list_checkpoints, not_finite, point_to, saved_iteration
from ...method.pretrainer import effective_rank
from ..registry import HOOKS


class DivergedError(RuntimeError):
    """The loss or the weights are no longer numbers; the message names the report and what to go on from."""


@HOOKS.register_module()
class HealthHook(Hook):
    """Logs what tells a healthy run from a broken one, and stops at the first loss that is not finite.

    ``effective_rank`` of the features that the model reports as ``_features``; near 1 they have collapsed.
    ``data_share``: share of the iteration spent waiting for its batch. What else tells it, a model reports itself.

    Args:
        interval: iterations between two effective ranks.
        rank_rows: feature rows used for it.
    """

    priority = "ABOVE_NORMAL"  # before the log is written

    def __init__(self, interval: int = 50, rank_rows: int = 2048) -> None:
        self.interval, self.rank_rows = interval, rank_rows

    def after_train_iter(self, runner: Any, *, data_batch: Any, outputs: Any, **step: Any) -> None:
        """Look at one step."""
        hub, loop = runner.message_hub, runner.train_loop
        if not math.isfinite(loop.numbers["loss"]) or not self._gradient_is_finite(runner):
            what = f"loss {loop.numbers['loss']} or its gradient is not finite"
            weights = _broken(runner, {"state_dict": runner.engine_model.saved_state()})
            raise _diverged(runner, what, weights, batch=data_batch)
        hub.update_scalar("train/data_share", loop.waited / max(time.perf_counter() - loop.started, 1e-9))
        features = outputs.get("_features", ())
        if len(features) > 1 and runner.iter % self.interval == 0:
            hub.update_scalar("train/effective_rank", effective_rank(features, limit=self.rank_rows))

    def before_val(self, runner: Any) -> None:
        """Broken weights are no case for an evaluation, which would fail on what they predict."""
        stop_if_broken(runner, {"state_dict": runner.engine_model.saved_state()})

    @staticmethod
    def _gradient_is_finite(runner: Any) -> bool:
        scaler = getattr(runner.optim_wrapper, "loss_scaler", None)
        if "train/grad_norm" not in runner.message_hub.log_scalars or (scaler and scaler.is_enabled()):
            return True  # nothing known, or the scaler leaves such steps out
        return math.isfinite(runner.message_hub.get_scalar("train/grad_norm").current())


def stop_if_broken(runner: Any, checkpoint: Mapping[str, Any]) -> None:
    """Look through what is to be evaluated or written.

    Raises:
        DivergedError: a part of it is not finite.
    """
    if broken := _broken(runner, checkpoint):
        more = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
        raise _diverged(runner, f"{broken[0]}{more} is not finite", broken)


def _broken(runner: Any, checkpoint: Mapping[str, Any]) -> list[str]:
    return not_finite(checkpoint, [name for name, _ in runner.plain_model.named_parameters()])


def _diverged(runner: Any, what: str, weights: list[str], *, batch: Any = None) -> DivergedError:
    """The error that ends a run, after its report is written and the newest sound checkpoint is the one to resume.

    Sound are those before this iteration: their weights are finite, and so was the loss that came of them.

    Args:
        what: is not finite, for the message.
        weights: names of what is not finite in the model. batch: of the broken step, where it is known.
    """
    entries = fields(batch) if is_dataclass(batch) else ()
    report = {
        "iteration": runner.iter,
        "rank": runner.rank,
        "values": runner.train_loop.numbers,
        "last_20": {
            name: past.data[0][-20:].tolist() for name, past in runner.message_hub.log_scalars.items()
        },
        "learning_rates": [group["lr"] for group in runner.optim_wrapper.optimizer.param_groups],
        "weights_not_finite": weights,
        "batch_not_finite": [entry.name for entry in entries if not _finite(getattr(batch, entry.name))],
        "tokens": list(getattr(batch, "tokens", ())),
    }
    path = runner.work_path / f"health_report{f'_{runner.rank}' if runner.rank else ''}.json"
    write_json(path, report)
    sound = [place for place in list_checkpoints(runner.work_dir) if saved_iteration(place) < runner.iter]
    remedy = "lower the learning rate or set optim_wrapper.clip_grad, and start "
    if sound:
        remedy = f"{sound[-1].name} is whole, and its loss was finite: {remedy}with --resume"
        if runner.rank == 0:
            point_to(sound[-1])
    else:
        remedy = f"No checkpoint is from before it: {remedy}anew"
    return DivergedError(
        f"iteration {runner.iter}: {what}; {path} says what the batch and the weights looked like. {remedy}"
    )


def _finite(value: Any) -> bool:
    return not isinstance(value, Tensor) or bool(torch.isfinite(value).all())
