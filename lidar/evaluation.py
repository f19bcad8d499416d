"""Networks as they are used, not trained: one block for every place that asks one for its features."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Inside the block ``module`` is in evaluation mode, without gradients; then it is as it was.

    Every part gets back the mode that it had, frozen ones among trained ones, too, after errors as well.
    """
    training = [part for part in module.modules() if part.training]
    try:
        for part in training:
            part.training = False
        with torch.no_grad():
            yield
    finally:
        for part in training:
            part.training = True
