"""Whether a run is learning: figures in the log, and an end with a report instead of hours of nan."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from torch import Tensor

from ...files.writes import write_atomically
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
            what = f"loss {values['loss']} or its gradient is not finite"
            raise diverged(runner, what, batch=data_batch, values=values)
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
    broken = not_finite(checkpoint, [name for name, _ in runner.plain_model.named_parameters()])
    if broken:
        more = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
        raise diverged(runner, f"{broken[0]}{more} is not finite", weights=broken)


def diverged(
    runner: Any,
    what: str,
    *,
    batch: Any = None,
    values: dict[str, float] | None = None,
    weights: Sequence[str] = (),
) -> DivergedError:
    """The error that ends a run, after its report is written and the newest sound checkpoint is the one to resume.

    Sound are those before this iteration: their weights are finite, and so was the loss that came of them.

    Args:
        what: is not finite, for the message.
        batch, values: of the broken step, where they are known.
        weights: names of what is not finite; without them the model is looked through.
    """
    history = {name: buffer.data[0][-20:].tolist() for name, buffer in runner.message_hub.log_scalars.items()}
    state = runner.engine_model.saved_state()
    report = {
        "iteration": runner.iter,
        "rank": runner.rank,
        "values": values or {},
        "last_20": history,
        "learning_rates": [group["lr"] for group in runner.optim_wrapper.optimizer.param_groups],
        "weights_not_finite": list(weights) or [name for name, value in state.items() if not _finite(value)],
        "batch_not_finite": _broken_fields(batch),
        "tokens": list(getattr(batch, "tokens", ())),
    }
    path = runner.work_path / f"health_report{f'_{runner.rank}' if runner.rank else ''}.json"
    with write_atomically(path, "w") as file:
        json.dump(report, file, indent=1)
    sound = _newest_sound(runner)
    remedy = "lower the learning rate or set optim_wrapper.clip_grad, and start "
    if sound is None:
        remedy = f"No checkpoint is from before it: {remedy}anew"
    else:
        remedy = f"{sound.name} is whole, and its loss was finite: {remedy}with --resume"
    return DivergedError(
        f"iteration {runner.iter}: {what}; {path} says what the batch and the weights looked like. {remedy}"
    )


def _newest_sound(runner: Any) -> Path | None:
    sound = [path for path in list_checkpoints(runner.work_dir) if saved_iteration(path) < runner.iter]
    if sound and runner.rank == 0:
        point_to(sound[-1])
    return sound[-1] if sound else None


def _finite(value: Any) -> bool:
    return not isinstance(value, Tensor) or bool(torch.isfinite(value).all())


def _broken_fields(batch: Any) -> list[str]:
    if not is_dataclass(batch):
        return []
    return [f.name for f in fields(batch) if not _finite(getattr(batch, f.name))]
