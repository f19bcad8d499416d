"""The first batches of a run: do they hold anything to learn from?"""

from __future__ import annotations

from typing import Any

import torch
from mmengine.hooks import Hook

from ...errors import InputError
from ...method.distributed import world_sum
from ..registry import HOOKS


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
        if batches < 1:
            raise ValueError(f"FirstBatchesHook: batches is {batches}; it must be at least 1")
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

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Go on from what was seen."""
        seen = checkpoint["meta"].get("first_batches")
        if runner.is_resuming and seen:
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
