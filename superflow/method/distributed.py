"""Rows of all ranks as if one process held the joint batch; an identity in a single process.

A loss that is to equal the joint batch's takes its columns from `gather_rows`, sums over its own rows
only, and divides by ``world_sum(own rows) / world_size()``. The mean of the ranks' gradients, which is what
DistributedDataParallel takes, is then the gradient of the joint loss.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")
_alone: list[bool] = []  # one entry for each `each_rank_alone` block around the current call


@contextmanager
def each_rank_alone() -> Iterator[None]:
    """Inside the block `world_size` is 1, so that gathers and sums stay within the process.

    For what ranks do unequally often, such as their batches of an evaluation set: a collective would wait forever for
    the rank that has no batch left.
    """
    _alone.append(True)
    try:
        yield
    finally:
        _alone.pop()


def world_size() -> int:
    """Number of ranks; 1 when no process group exists, and within `each_rank_alone`."""
    if _alone:
        return 1
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's rank; 0 when no process group exists."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_sum(values: Tensor) -> Tensor:
    """Sum of ``values`` (any shape, equal on all ranks) over ranks. A new tensor, without gradient."""
    total = values.detach().clone()
    if world_size() > 1:
        dist.all_reduce(total)
    return total


def world_mean(values: Tensor) -> Tensor:
    """Mean of ``values`` (any shape, equal on all ranks) over ranks. A new tensor, without gradient."""
    return world_sum(values) / world_size()


def gather_values(value: T) -> list[T]:
    """``value``, anything that can be pickled, of every rank in their order."""
    if world_size() == 1:
        return [value]
    found: list[Any] = [None] * world_size()
    dist.all_gather_object(found, value)
    return found


def copy_from_first(tensors: Iterable[Tensor]) -> None:
    """Overwrite ``tensors`` (the same ones on all ranks) with those of rank 0."""
    if world_size() > 1:
        for tensor in tensors:
            if tensor.numel():
                dist.broadcast(tensor, 0)


def gather_rows(rows: Tensor) -> tuple[Tensor, int]:
    """Rows of all ranks in rank order, and where the own ones start.

    Gradients flow back to the rank that a row came from, summed over the ranks that used it. All ranks must
    call this equally often, also with 0 rows, and either all or none with a tensor that requires a gradient:
    the backward pass is a collective too.

    Args:
        rows: (S, ...) of any dtype; S may differ between ranks and be 0, the other sizes must agree.

    Returns:
        (sum of S, ...) and the position of the first own row. In a single process ``(rows, 0)``.
    """
    if world_size() == 1:
        return rows, 0
    counts = _row_counts(rows)
    start = sum(counts[: rank()])
    if rows.is_floating_point() and torch.is_grad_enabled():
        return _Gather.apply(rows, counts), start
    return _gather(rows, counts), start


class _Gather(torch.autograd.Function):
    """All ranks' rows forward; backward, the sum over ranks of the own rows' gradients."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: list[int]) -> Tensor:
        ctx.counts = counts
        return _gather(rows, counts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        total = grad.contiguous().clone()
        dist.all_reduce(total)
        start = sum(ctx.counts[: rank()])
        return total[start : start + ctx.counts[rank()]], None


def _row_counts(rows: Tensor) -> list[int]:
    counts = torch.zeros(world_size(), dtype=torch.int64, device=rows.device)
    counts[rank()] = len(rows)
    dist.all_reduce(counts)
    return counts.tolist()


def _gather(rows: Tensor, counts: list[int]) -> Tensor:
    # collectives want equal shapes: pad to the longest, cut afterwards
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows.detach()
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts)])
