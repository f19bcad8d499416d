"""Sparse convolution in plain PyTorch with few launches, as a GPU likes it: offsets of like size share one product.

Offset by offset a layer would start some fifty kernels, and small ones wait for the host. Here the offsets of a map
are sorted by their number of pairs and cut into a few groups; inside a group the shorter ones repeat their last pair
until all are equally long. So one gather serves all offsets, one batched product a group, and every output row then
sums its own products, of which none is a repeated one. Blocks of output rows bound the memory: (input channels + output
channels) numbers for each pair of a block, repeated ones included.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..sparse import KernelMap
from .torch_blocks import problem, version
from .torch_sums import DTYPES, Cuts, Sums, arrange_sums, cut_all

__all__ = ["DTYPES", "convolve", "prepare", "prepare_all", "problem", "version"]

# Rows and pairs of a block at most; 512k pairs from 96 to 96 channels are 400 MB.
BLOCK = (1 << 18, 1 << 19)
# One more product is worth as many repeated pairs: 128 x 128 weights for each are 0.27 GFLOP, which is about what a
# GPU multiplies while the host starts a kernel.
LAUNCH = 8192
_NAME = "torch_grouped"  # of what is kept with a map


class Block(NamedTuple):
    """The part of a kernel map that leads to the output rows of ``sums``; S pairs with the repeated ones."""

    sums: Sums
    widths: tuple[int, ...]  # pairs of every offset, for each group
    rows_in: Tensor  # (S,) int32 rows of the input, group by group, offset by offset
    rows_out: Tensor  # (S,) int32 rows of the output
    repeated: Tensor  # (R,) int64 which of the S only fill up


class Groups(NamedTuple):
    """A kernel map arranged. The sorted offsets are cut into groups; last come those without pairs."""

    offsets: list[int]  # K, as sorted; `order` on the host
    slices: list[slice]  # of the sorted offsets, for each group
    order: Tensor  # (K,) int64 offset of each sorted one
    back_order: Tensor  # (K,) int64 whose weight leads back along it: of a mirrored map its mirror image
    back_rank: Tensor  # (K,) int64 where each of those was sorted to
    blocks: list[Block]


def convolve(features: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
    """Output (num_out, Cout) of the convolution with ``weight`` (K, Cin, Cout) over ``features`` (num_in, Cin)."""
    return _Convolve.apply(features.contiguous(), weight.contiguous(), kernel_map)


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.kernel_map = kernel_map
        groups = prepare(kernel_map)
        output = features.new_empty(kernel_map.num_out, weight.shape[2])
        center = None if kernel_map.center is None else weight[kernel_map.center]
        weights = weight.index_select(0, groups.order)
        for block in groups.blocks:
            products = _multiply(groups, block, features.index_select(0, block.rows_in), weights)
            block.sums.into(output, products, features, center)
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        features, weight = ctx.saved_tensors
        need_features, need_weight, _ = ctx.needs_input_grad
        return *_backward(
            features, weight, grad.contiguous(), ctx.kernel_map, need_features, need_weight
        ), None


def _multiply(groups: Groups, block: Block, gathered: Tensor, weights: Tensor) -> Tensor:
    """(S, Cout) products of ``gathered`` (S, Cin) with the sorted ``weights`` (K, Cin, Cout) of their offsets."""
    products = gathered.new_empty(len(gathered), weights.shape[2])
    parts = zip(_by_group(groups, block, gathered), _by_group(groups, block, products))
    for (group, rows), (_, product) in parts:
        torch.bmm(rows, weights[group], out=product)
    return products


def _by_group(groups: Groups, block: Block, rows: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """For each group that has pairs in the block, its part of ``rows`` (S, C) as (offsets, pairs of each, C)."""
    sizes = [(cut.stop - cut.start, width) for cut, width in zip(groups.slices, block.widths)]
    parts = rows.split([number * width for number, width in sizes])
    for cut, (number, width), part in zip(groups.slices, sizes, parts):
        if width > 0:
            yield cut, part.view(number, width, rows.shape[1])


def _backward(
    features: Tensor,
    weight: Tensor,
    grad: Tensor,
    kernel_map: KernelMap,
    need_features: bool,
    need_weight: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """Both gradients from one gather: blocks of input rows with the output gradients that they reach."""
    groups = prepare(kernel_map.transposed)
    grad_features = torch.empty_like(features) if need_features else None
    weights = weight.index_select(0, groups.back_order).transpose(1, 2) if need_features else None
    center = None if kernel_map.center is None else weight[kernel_map.center].t()
    # in half precision a block's share would be lost in the sum over many blocks
    single = len(groups.blocks) <= 1
    total = weight.dtype if single else torch.promote_types(weight.dtype, torch.float32)
    summed = torch.zeros_like(weight, dtype=total) if need_weight else None
    for block in groups.blocks:
        gathered = grad.index_select(0, block.rows_in)
        if grad_features is not None and weights is not None:
            block.sums.into(grad_features, _multiply(groups, block, gathered, weights), grad, center)
        if summed is not None:
            _add_products(groups, block, features, gathered, summed)
    if summed is None:
        return grad_features, None
    if kernel_map.center is not None:
        _add_product(summed[groups.offsets.index(kernel_map.center)], features.t(), grad)
    return grad_features, summed.index_select(0, groups.back_rank).to(weight.dtype)


def _add_products(groups: Groups, block: Block, features: Tensor, gathered: Tensor, summed: Tensor) -> None:
    """Add the block's share to the gradient of the sorted weights. Clears the repeated rows of ``gathered``."""
    if len(block.repeated) > 0:
        gathered.index_fill_(0, block.repeated, 0)
    inputs = features.index_select(0, block.rows_out)
    parts = zip(_by_group(groups, block, inputs), _by_group(groups, block, gathered))
    for (group, rows), (_, above) in parts:
        _add_product(summed[group], rows.transpose(1, 2), above)


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """``total`` += ``a`` @ ``b``, of matrices or batches; these may be of half precision where the total is not."""
    if total.dtype != a.dtype:
        total += a @ b
    elif total.dim() == 2:
        total.addmm_(a, b)
    else:
        total.baddbmm_(a, b)


def prepare(kernel_map: KernelMap) -> Groups:
    """The groups of a map, made at the first call: what ``convolve`` does before it multiplies."""
    return kernel_map.arranged(_NAME, lambda one: _arrange_all([one])[0])


def prepare_all(maps: Sequence[KernelMap]) -> None:
    """`prepare` for several maps, with one wait for the device, and none where each map is a single block."""
    pending = [one for one in maps if not one.is_arranged(_NAME)]
    for one, groups in zip(pending, _arrange_all(pending)):
        one.arranged(_NAME, lambda _, groups=groups: groups)  # type: ignore[misc]


def _arrange_all(maps: Sequence[KernelMap]) -> list[Groups]:
    if not maps:
        return []
    cuts = cut_all(maps, [BLOCK] * len(maps))
    plans = [_plan(one.counts, cut) for one, cut in zip(maps, cuts)]
    # what the plans say goes to the device for all maps at once
    numbers = [number for offsets, _, widths in plans for row in (offsets, *widths) for number in row]
    told = torch.tensor(numbers, dtype=torch.int64, device=maps[0].rows_out.device)
    sizes = [len(offsets) * (1 + len(widths)) for offsets, _, widths in plans]
    return [
        _arrange(one, cut, plan, rows.view(-1, len(one.counts)))
        for one, cut, plan, rows in zip(maps, cuts, plans, told.split(sizes))
    ]


Plan = tuple[list[int], list[slice], list[list[int]]]


def _plan(counts: list[int], cuts: Cuts) -> Plan:
    """The offsets by falling number of pairs; their groups; and for each block the width of each sorted offset."""
    offsets = sorted(range(len(counts)), key=lambda k: -counts[k])
    slices = group([counts[k] for k in offsets if counts[k]], LAUNCH * (len(cuts.edges) - 1))
    widths = []
    for b in range(len(cuts.edges) - 1):
        inside = [cuts.host[k][b + 1] - cuts.host[k][b] for k in offsets]
        for cut in slices:
            inside[cut] = [max(inside[cut])] * (cut.stop - cut.start)
        widths.append(inside)
    return offsets, slices, widths


def group(counts: Sequence[int], price: int) -> list[slice]:
    """Falling ``counts`` cut so that all, filled up to the largest of their group, and a ``price`` a group cost least.

    By the best cut of what comes after each place, from the last to the first.
    """
    best: list[tuple[int, int]] = [(0, len(counts))]  # cost from a place on, and where its group ends
    for begin in reversed(range(len(counts))):
        ends = range(begin + 1, len(counts) + 1)
        best.insert(
            0, min((counts[begin] * (end - begin) + price + best[end - begin - 1][0], end) for end in ends)
        )
    edges = [0]
    while edges[-1] < len(counts):
        edges.append(best[edges[-1]][1])
    return [slice(*pair) for pair in pairwise(edges)]


def _arrange(kernel_map: KernelMap, cuts: Cuts, plan: Plan, told: Tensor) -> Groups:
    """The pairs of a map, group by group and filled up, block by block.

    Args:
        told: (1 + blocks, K) the order and the widths of the plan, on the device.
    """
    offsets, slices, widths = plan
    order, wide = told[0], told[1:]
    rank = torch.empty_like(order).index_copy_(0, order, torch.arange(len(order), device=order.device))
    counts, begins = cuts.counts, cuts.begins(kernel_map)
    first = wide.cumsum(1) - wide  # of each sorted offset in the workspace of its block
    summed = arrange_sums(kernel_map, cuts, first.t().index_select(0, rank) - begins)

    # (blocks * K,) by block, then as sorted
    counts, begins = (part.index_select(0, order).t().reshape(-1) for part in (counts, begins))
    lengths = [sum(row) for row in widths]
    pair, past = _run(wide.reshape(-1), sum(lengths))
    last = (counts - 1).index_select(0, pair)
    # an offset without pairs in this block has a neighbour's to repeat
    chosen = (begins.index_select(0, pair) + torch.minimum(past, last)).clamp_(min=0)
    fillers = [length - len(block.products) for length, block in zip(lengths, summed)]
    of, nth = _run(wide.reshape(-1) - counts, sum(fillers))
    repeated = (first.reshape(-1) + counts).index_select(0, of) + nth

    parts = zip(
        summed,
        widths,
        kernel_map.rows_in.index_select(0, chosen).split(lengths),
        kernel_map.rows_out.index_select(0, chosen).split(lengths),
        repeated.split(fillers),
    )
    blocks = [Block(s, tuple(row[cut.start] for cut in slices), *rest) for s, row, *rest in parts]
    back = (len(order) - 1 - order, rank.flip(0)) if kernel_map.mirrored else (order, rank)
    return Groups(offsets, slices, order, *back, blocks)


def _run(lengths: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """For ``lengths`` that sum to ``total``: to which of them each of the total belongs, and its place inside."""
    which = torch.arange(len(lengths), device=lengths.device)
    which = torch.repeat_interleave(which, lengths, output_size=total)
    starts = lengths.cumsum(0) - lengths
    return which, torch.arange(total, device=lengths.device) - starts.index_select(0, which)
