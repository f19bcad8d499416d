"""Networks as they are used, not trained: one block for every place that asks one for its features."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import nn

_lock = threading.Lock()
# of parts that are in training mode outside of all blocks: how many blocks of all threads hold them in evaluation
_blocks: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Inside the block ``module`` is in evaluation mode, without gradients; then it is as it was.

    Every part gets back the mode that it had, frozen ones among trained ones, too, after errors as well. Threads may
    be inside at once: who leaves first leaves the others in evaluation.
    """
    with _lock:
        held = [part for part in module.modules() if part.training or part in _blocks]
        for part in held:
            _blocks[part] = _blocks.get(part, 0) + 1
            part.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        with _lock:
            for part in held:
                _blocks[part] -= 1
                if not _blocks[part]:
                    del _blocks[part]
                    part.training = True
