"""Whether a run is learning: figures in the log, and an end with the reason instead of hours of nan or of nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from mmengine.hooks import Hook
from torch import Tensor

from ...errors import InputError
from ...files.writes import write_json
from ...hub.checkpoint import list_checkpoints, not_finite, point_to, saved_iteration
from ...method.distributed import world_sum
from ...method.pretrainer import effective_rank
from ..registry import HOOKS

RANK_ROWS = 2048  # feature rows that an effective rank is of


class DivergedError(RuntimeError):
    """The loss or the weights are no longer numbers; the message names the report and what to go on from."""


@HOOKS.register_module()
class HealthHook(Hook):
    """Logs what tells a healthy run from a broken one, and stops at the first loss that is not finite.

    ``effective_rank`` of the features that the model reports as ``_features``; near 1 they have collapsed.
    What else tells it, a model reports itself.

    Args:
        interval: iterations between two effective ranks.
    """

    priority = "ABOVE_NORMAL"  # before the log is written

    def __init__(self, interval: int = 50) -> None:
        self.interval = interval

    def after_train_iter(self, runner: Any, *, data_batch: Any, outputs: Any, **step: Any) -> None:
        """Look at one step."""
        loss = runner.train_loop.numbers["loss"]
        if not math.isfinite(loss) or not self._gradient_is_finite(runner):
            stop_if_broken(runner, what=f"loss {loss} or its gradient is not finite", batch=data_batch)
        features = outputs.get("_features", ())
        if len(features) > 1 and runner.iter % self.interval == 0:
            rank = effective_rank(features, limit=RANK_ROWS)
            runner.message_hub.update_scalar("train/effective_rank", rank)

    def before_val(self, runner: Any) -> None:
        """Broken weights are no case for an evaluation, which would fail on what they predict."""
        stop_if_broken(runner)

    @staticmethod
    def _gradient_is_finite(runner: Any) -> bool:
        scaler = getattr(runner.optim_wrapper, "loss_scaler", None)
        if "train/grad_norm" not in runner.message_hub.log_scalars or (scaler and scaler.is_enabled()):
            return True  # nothing known, or the scaler leaves such steps out
        return math.isfinite(runner.message_hub.get_scalar("train/grad_norm").current())


@HOOKS.register_module()
class FirstBatchesHook(Hook):
    """Ends a run none of whose first batches, of any rank, teaches anything.

    A model says what its steps need by ``needs``: name of an output of its ``loss`` -> what it means when that is 0,
    and what to do. ``parts``, the names of its partial losses, may be 0 each: a warning names those that never were
    anything else. Until the first batch that taught something, no checkpoint is written (``EngineRunner.has_learned``),
    so that nothing can be exported that never learned.

    Args:
        batches: how many of them, or all of a run that is shorter. A single batch without pairs or labels is no fault.
    """

    priority = "NORMAL"  # after HealthHook has refused nan

    def __init__(self, batches: int = 20) -> None:
        self.batches = batches
        self.has_learned = False
        self._seen = 0
        self._lacked: dict[str, int] = {}  # need -> batches that had nothing of it
        self._silent: list[str] | None = None  # partial losses that were 0; None before the first batch

    def after_train_iter(self, runner: Any, **step: Any) -> None:
        """Look at one step; every rank comes to the same end, since all look at the sums over all ranks."""
        needs = getattr(runner.plain_model, "needs", {})
        if self._silent is None:
            self._silent = list(getattr(runner.plain_model, "parts", ()))
        if self.has_learned and (not self._silent or self._seen >= self.batches):
            return
        self._seen += 1
        names = [*needs, *self._silent]
        own = torch.tensor([float(runner.train_loop.numbers[name] != 0) for name in names])
        has = {name: count > 0 for name, count in zip(names, world_sum(own).tolist())}
        self._lacked = {name: self._lacked.get(name, 0) + (not has[name]) for name in needs}
        self.has_learned |= all(has[name] for name in needs)
        self._silent = [name for name in self._silent if not has[name]]
        if self._seen >= self.batches or runner.iter + 1 >= runner.max_iters:
            self._judge(runner)

    def after_train(self, runner: Any) -> None:
        """A run that something else ended before its last iteration."""
        if self._seen and not self.has_learned:
            self._judge(runner)

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """What was seen belongs to the checkpoint."""
        seen = {"seen": self._seen, "has_learned": self.has_learned, "silent": self._silent}
        checkpoint["meta"]["first_batches"] = seen

    def after_resume(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Go on from what was seen."""
        if seen := checkpoint["meta"].get("first_batches"):
            self._seen, self.has_learned, self._silent = seen["seen"], seen["has_learned"], seen["silent"]

    def _judge(self, runner: Any) -> None:
        """Raise if no batch taught anything, else name the partial losses that never were anything but 0."""
        if not self.has_learned:
            name = max(self._lacked, key=lambda need: self._lacked[need])  # the first that lacked oftenest
            raise InputError(
                f"nothing to learn from: the first {self._seen} batches have {name} 0: "
                f"{runner.plain_model.needs[name]}; where single batches may be like that, raise "
                "default_hooks.first_batches.batches"
            )
        if self._silent:
            runner.logger.warning(
                f"of the objectives, {', '.join(self._silent)} was 0 in each of the first {self._seen} batches "
                "and so teaches nothing: no two of the clouds or images that it compares show the same region, or no "
                "point has a label; look at the offsets, at the time between the log's key frames and at its sweeps, "
                "at its labels, or leave it out"
            )


def stop_if_broken(
    runner: Any, checkpoint: Mapping[str, Any] | None = None, *, what: str = "", batch: Any = None
) -> None:
    """End a run that is broken, with a report; the newest sound checkpoint becomes the one to resume.

    Sound are those before this iteration: their weights are finite, and so was the loss that came of them.

    Args:
        checkpoint: what is to be evaluated or written; None takes the weights as they are.
        what: is known to be broken; without it, the run goes on where all of the checkpoint is finite.
        batch: of the broken step, where it is known.

    Raises:
        DivergedError: ``what`` is broken, or a part of the checkpoint is not finite.
    """
    saved = checkpoint or {"state_dict": runner.engine_model.saved_state()}
    broken = not_finite(saved, [name for name, _ in runner.plain_model.named_parameters()])
    if broken and not what:
        what = f"{broken[0]}{f' (and {len(broken) - 1} more)' if len(broken) > 1 else ''} is not finite"
    if not what:
        return
    figures = runner.message_hub.log_scalars.items()
    names = [entry.name for entry in fields(batch)] if is_dataclass(batch) else []
    tensors = {name: value for name in names if isinstance(value := getattr(batch, name), Tensor)}
    report = {
        "iteration": runner.iter,
        "rank": runner.rank,
        "values": runner.train_loop.numbers,
        "last_20": {name: past.data[0][-20:].tolist() for name, past in figures},
        "learning_rates": [group["lr"] for group in runner.optim_wrapper.optimizer.param_groups],
        "weights_not_finite": broken,
        "batch_not_finite": [name for name, value in tensors.items() if not value.isfinite().all()],
        "tokens": list(getattr(batch, "tokens", ())),
    }
    path = runner.work_path / f"health_report{f'_{runner.rank}' if runner.rank else ''}.json"
    write_json(path, report)
    said = f"iteration {runner.iter}: {what}; {path} says what the batch and the weights looked like."
    raise DivergedError(f"{said} {_remedy(runner)}")


def _remedy(runner: Any) -> str:
    sound = [place for place in list_checkpoints(runner.work_dir) if saved_iteration(place) < runner.iter]
    remedy = "lower the learning rate or set optim_wrapper.clip_grad, and start"
    if not sound:
        return f"No checkpoint is from before it: {remedy} anew"
    if runner.rank == 0:
        point_to(sound[-1])
    return f"{sound[-1].name} is whole, and its loss was finite: {remedy} with --resume"
