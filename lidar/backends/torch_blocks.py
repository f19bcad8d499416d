"""Sparse convolution in plain PyTorch, as a CPU likes it: gather, multiply, gather-sum, block by block.

A block is a range of output rows. Offset by offset, its input rows are gathered and multiplied by the weight of the
offset into a workspace of products; then every output row sums its own products. Nothing large is allocated, because
the C library maps and unmaps blocks over 32 MB at every call; and what one step writes is still in the cache when the
next one reads it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..sparse import KernelMap
from .gradients import Convolve
from .torch_sums import DTYPES, Cuts, Sums, arrange_sums, cut_all

__all__ = ["DTYPES", "convolve", "prepare", "prepare_all", "problem", "version"]

# Rows and pairs of a block at most: the first keeps gathered rows in the cache, the second bounds the workspace
# (32k pairs x 256 channels x 4 bytes = 34 MB).
CPU_BLOCK = (8192, 32 * 1024)
CUDA_BLOCK = (1 << 18, 1 << 19)
_NAME = "torch_blocks"  # of what is kept with a map


def problem(device: torch.device) -> str | None:
    """None: it runs wherever PyTorch does."""
    return None


def version() -> str:
    """Version of PyTorch."""
    return torch.__version__


class Block(NamedTuple):
    """The part of a kernel map that leads to the output rows of ``sums``."""

    sums: Sums
    offsets: tuple[int, ...]  # those with pairs
    counts: tuple[int, ...]  # pairs of each of them
    rows_in: tuple[Tensor, ...]  # (count,) int32 rows of the input, for each of them
    rows_out: tuple[Tensor, ...]  # (count,) int32 rows of the output


def convolve(features: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
    """Output (num_out, Cout) of the convolution with ``weight`` (K, Cin, Cout) over ``features`` (num_in, Cin)."""
    return Convolve.apply(features.contiguous(), weight.contiguous(), kernel_map, _forward, _backward)


def _forward(features: Tensor, weight: Tensor, kernel_map: KernelMap, output: Tensor) -> None:
    weights = weight.unbind(0)
    center = None if kernel_map.center is None else weights[kernel_map.center]
    for block in prepare(kernel_map):
        products = _workspace(output, sum(block.counts))
        for k, rows, product in zip(block.offsets, block.rows_in, products.split(block.counts)):
            torch.mm(features.index_select(0, rows), weights[k], out=product)
        block.sums.into(output, products, features, center)


def _backward(
    features: Tensor,
    weight: Tensor,
    grad: Tensor,
    kernel_map: KernelMap,
    grad_features: Tensor | None,
    grad_weight: Tensor | None,
) -> None:
    """Both gradients from one gather: blocks of input rows with the output gradients that they reach."""
    weights = weight.transpose(1, 2).unbind(0)
    grad_weights = () if grad_weight is None else grad_weight.unbind(0)
    if kernel_map.mirrored:
        weights, grad_weights = weights[::-1], grad_weights[::-1]
    center = None if kernel_map.center is None else weights[kernel_map.center]
    for block in prepare(kernel_map.transposed):
        products = _workspace(features, sum(block.counts))
        parts = zip(block.offsets, block.rows_in, block.rows_out, products.split(block.counts))
        for k, rows_in, rows_out, product in parts:
            gathered = grad.index_select(0, rows_in)
            if grad_weight is not None:
                _add_product(grad_weights[k], features.index_select(0, rows_out).t(), gathered)
            if grad_features is not None:
                torch.mm(gathered, weights[k], out=product)
        if grad_features is not None:
            block.sums.into(grad_features, products, grad, center)
    if grad_weight is not None and kernel_map.center is not None:
        _add_product(grad_weight[kernel_map.center], features.t(), grad)


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """``total`` += ``a`` @ ``b``; these may be of half precision where the total is not."""
    if total.dtype == a.dtype:
        total.addmm_(a, b)
    else:
        total += a @ b


_local = threading.local()


def _workspace(like: Tensor, rows: int) -> Tensor:
    """(rows, columns of ``like``), uninitialised, in this thread's buffer, which grows to the largest request."""
    buffers = _local.__dict__.setdefault("buffers", {})
    size, key = rows * like.shape[1], (like.dtype, like.device)
    if key not in buffers or buffers[key].numel() < size:
        with torch.inference_mode(False):  # a buffer made in inference mode could not be written in training
            buffers[key] = torch.empty(size, dtype=like.dtype, device=like.device)
    return buffers[key][:size].view(rows, like.shape[1])


def prepare(kernel_map: KernelMap) -> list[Block]:
    """The blocks of a map, made at the first call: what ``convolve`` does before it multiplies."""
    return kernel_map.arranged(_NAME, lambda one: _arrange_all([one])[0])


def prepare_all(maps: Sequence[KernelMap], limit: tuple[int, int] | None = None) -> None:
    """`prepare` for several maps, with one wait for the device, and none where each map is a single block.

    Args:
        limit: rows of a block at most, and its pairs, about; None for what suits the device of the maps.
    """
    pending = [one for one in maps if not one.is_arranged(_NAME)]
    for one, blocks in zip(pending, _arrange_all(pending, limit)):
        one.arranged(_NAME, lambda _, blocks=blocks: blocks)  # type: ignore[misc]


def _arrange_all(maps: Sequence[KernelMap], limit: tuple[int, int] | None = None) -> list[list[Block]]:
    limits = [limit or (CPU_BLOCK if one.rows_out.device.type == "cpu" else CUDA_BLOCK) for one in maps]
    return [_arrange(one, cuts) for one, cuts in zip(maps, cut_all(maps, limits))]


def _arrange(kernel_map: KernelMap, cuts: Cuts) -> list[Block]:
    """The pairs of a map cut into blocks.

    The workspace of a block holds its products offset by offset, each by output row.
    """
    rows_in = kernel_map.rows_in.split(kernel_map.counts)
    rows_out = kernel_map.rows_out.split(kernel_map.counts)
    shift = (cuts.counts.cumsum(0) - cuts.counts) - cuts.begins(kernel_map)
    blocks = []
    for b, summed in enumerate(arrange_sums(kernel_map, cuts, shift)):
        cut = {k: slice(row[b], row[b + 1]) for k, row in enumerate(cuts.host) if row[b] < row[b + 1]}
        blocks.append(
            Block(
                summed,
                tuple(cut),
                tuple(part.stop - part.start for part in cut.values()),
                tuple(rows_in[k][part] for k, part in cut.items()),
                tuple(rows_out[k][part] for k, part in cut.items()),
            )
        )
    return blocks
