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

    def before_train(self, runner: Any) -> None:
        """Start from the weights as they are, unless a checkpoint brought an average."""
        live = runner.engine_model.saved_state()
        self.average = self.average or {name: value.clone() for name, value in live.items()}

    @torch.no_grad()
    def after_train_iter(self, runner: Any, **step: Any) -> None:
        """Move the average, only when the weights moved."""
        if not runner.optim_wrapper.should_update():
            return
        weights = {name for name, _ in runner.plain_model.named_parameters()}
        moves = runner.iter + 1 >= self.begin_iter
        for name, value in runner.engine_model.saved_state().items():
            if moves and name in weights:
                self.average[name].lerp_(value, self.momentum)
            else:
                self.average[name].copy_(value)

    @torch.no_grad()
    def before_val_epoch(self, runner: Any, **metrics: Any) -> None:
        """Evaluate the average: exchange it and the model's weights."""
        for name, value in runner.engine_model.saved_state().items() if self.average else ():
            kept = value.clone()
            value.copy_(self.average[name])
            self.average[name].copy_(kept)

    after_val_epoch = before_val_epoch  # and train on with the trained weights

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """The average becomes ``state_dict``, the trained weights ``training_state_dict``."""
        checkpoint.update(training_state_dict=checkpoint["state_dict"], state_dict=self.average)

    def after_resume(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Go on with the average of a checkpoint that has one."""
        if "training_state_dict" in checkpoint:
            live, average = runner.engine_model.saved_state(), checkpoint["state_dict"]
            self.average = {name: value.to(live[name].device, copy=True) for name, value in average.items()}
