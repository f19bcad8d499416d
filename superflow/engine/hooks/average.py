"""Averaged weights beside the trained ones."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.hooks import Hook
from torch import Tensor

from ..registry import HOOKS


# not mmengine's or torch's average: those hold a second frozen teacher, and average before the optimizer moved anything
@HOOKS.register_module()
class EMAHook(Hook):
    """Exponential moving average of all weights; used for evaluation and stored as the checkpoint's weights.

    average = (1 - momentum) * average + momentum * weight, after every optimizer step. Batch-norm statistics are
    averages already and are copied.

    Args:
        momentum: share of the new weights.
        begin_iter: until this iteration the average is a copy.
    """

    priority = "NORMAL"  # before CheckpointHook and after the optimizer

    def __init__(self, momentum: float = 0.0002, begin_iter: int = 0) -> None:
        if not 0 < momentum < 1:
            raise ValueError(f"momentum is {momentum}; it must be between 0 and 1")
        self.momentum, self.begin_iter = momentum, begin_iter
        self.average: dict[str, Tensor] = {}
        self._averaged: tuple[list[Tensor], list[Tensor]] = ([], [])  # averages and the weights behind them
        self._copied: tuple[list[Tensor], list[Tensor]] = ([], [])

    def before_train(self, runner: Any) -> None:
        """Start from the weights as they are, unless a checkpoint brought an average."""
        live = runner.engine_model.saved_state()  # the model's own tensors: they change in place
        if not self.average:
            self.average = {name: value.clone() for name, value in live.items()}
        parameters = {name for name, _ in runner.plain_model.named_parameters()}
        averaged = [name for name, value in live.items() if name in parameters and value.is_floating_point()]
        copied = [name for name in live if name not in averaged]
        self._averaged = [self.average[name] for name in averaged], [live[name] for name in averaged]
        self._copied = [self.average[name] for name in copied], [live[name] for name in copied]

    @torch.no_grad()
    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Move the average, only when the weights moved."""
        if not runner.optim_wrapper.should_update():
            return
        if runner.iter + 1 < self.begin_iter:
            _copy(*self._averaged)
        elif self._averaged[0]:
            torch._foreach_lerp_(*self._averaged, self.momentum)
        _copy(*self._copied)

    def before_val_epoch(self, runner: Any) -> None:
        """Evaluate the average."""
        self.swap(runner)

    def after_val_epoch(self, runner: Any, metrics: dict[str, Any] | None = None) -> None:
        """Train on with the trained weights."""
        self.swap(runner)

    @torch.no_grad()
    def swap(self, runner: Any) -> None:
        """Exchange the average and the model's weights."""
        for name, value in runner.engine_model.saved_state().items() if self.average else ():
            kept = value.clone()
            value.copy_(self.average[name])
            self.average[name].copy_(kept)

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """The average becomes ``state_dict``, the trained weights ``training_state_dict``."""
        checkpoint["training_state_dict"] = checkpoint["state_dict"]
        checkpoint["state_dict"] = self.average

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Go on with the average of a checkpoint that has one."""
        if runner.is_resuming and "training_state_dict" in checkpoint:
            live = runner.engine_model.saved_state()
            self.average = {
                name: value.to(live[name].device, copy=True)
                for name, value in checkpoint["state_dict"].items()
            }


def _copy(targets: list[Tensor], sources: list[Tensor]) -> None:
    for target, source in zip(targets, sources):
        target.copy_(source)
