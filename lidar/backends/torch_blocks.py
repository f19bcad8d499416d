"""Sparse convolution in plain PyTorch, on any device: gather, multiply, gather-sum, block by block.

A block is a range of output rows. Offset by offset, its input rows are gathered and multiplied by the weight of the
offset into a workspace of products; then every output row sums its own products. Nothing is scattered, so that
sums have one order and runs repeat bit by bit; nothing large is allocated, because the C library maps and unmaps
blocks over 32 MB at every call; and what one step writes is still in the cache when the next one reads it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import islice, pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..sparse import KernelMap

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)

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
    """The part of a kernel map that leads to the output rows ``begin`` to ``end``."""

    begin: int
    end: int
    offsets: tuple[int, ...]  # those with pairs
    counts: tuple[int, ...]  # pairs of each of them
    rows_in: tuple[Tensor, ...]  # (count,) int32 rows of the input, for each of them
    rows_out: tuple[Tensor, ...]  # (count,) int32 rows of the output
    products: Tensor  # (sum(counts),) int32 rows of the workspace, by output row
    starts: Tensor  # (end - begin + 1,) int32; the products of row begin + r are products[starts[r]:starts[r + 1]]


def convolve(features: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
    """Output (num_out, Cout) of the convolution with ``weight`` (K, Cin, Cout) over ``features`` (num_in, Cin)."""
    return _Convolve.apply(features.contiguous(), weight.contiguous(), kernel_map)


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.kernel_map = kernel_map
        output = features.new_empty(kernel_map.num_out, weight.shape[2])
        _forward(features, weight.unbind(0), kernel_map, output)
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        features, weight = ctx.saved_tensors
        need_features, need_weight, _ = ctx.needs_input_grad
        grad = grad.contiguous()
        grad_features = torch.empty_like(features) if need_features else None
        # in half precision a block's share would be lost in the sum over many blocks
        total = torch.promote_types(weight.dtype, torch.float32)
        grad_weight = torch.zeros_like(weight, dtype=total) if need_weight else None
        _backward(features, weight, grad, ctx.kernel_map, grad_features, grad_weight)
        return grad_features, None if grad_weight is None else grad_weight.to(weight.dtype), None


def _forward(features: Tensor, weight: tuple[Tensor, ...], kernel_map: KernelMap, output: Tensor) -> None:
    center = None if kernel_map.center is None else weight[kernel_map.center]
    for block in prepare(kernel_map):
        products = _workspace(output, sum(block.counts))
        for k, rows, product in zip(block.offsets, block.rows_in, products.split(block.counts)):
            torch.mm(features.index_select(0, rows), weight[k], out=product)
        _sum_products(block, products, features, center, output)


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
            _sum_products(block, products, grad, center, grad_features)
    if grad_weight is not None and kernel_map.center is not None:
        _add_product(grad_weight[kernel_map.center], features.t(), grad)


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """``total`` += ``a`` @ ``b``; these may be of half precision where the total is not."""
    if total.dtype == a.dtype:
        total.addmm_(a, b)
    else:
        total += a @ b


def _sum_products(
    block: Block, products: Tensor, rows: Tensor, center: Tensor | None, output: Tensor
) -> None:
    """Output rows of the block: the sum of their products, and their own row of ``rows`` times ``center``."""
    target = output[block.begin : block.end]
    if len(products) == 0:
        summed = None
    elif center is None and len(products) == len(target):
        # without a centre every row has a product, so here each has one, as on the way up
        torch.index_select(products, 0, block.products, out=target)
        return
    else:
        # without gradient F.embedding_bag only adds checks to this call; mode 0 sums
        summed = torch.embedding_bag(products, block.products, block.starts, False, 0, False, None, True)[0]
    if center is None:
        target.zero_() if summed is None else target.copy_(summed)
    elif summed is None:
        torch.mm(rows[block.begin : block.end], center, out=target)
    else:
        torch.addmm(summed, rows[block.begin : block.end], center, out=target)


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


def prepare_all(maps: Sequence[KernelMap]) -> None:
    """`prepare` for several maps, with one wait for the device, and none where each map is a single block."""
    pending = [one for one in maps if not one.is_arranged(_NAME)]
    for one, blocks in zip(pending, _arrange_all(pending)):
        one.arranged(_NAME, lambda _, blocks=blocks: blocks)  # type: ignore[misc]


def _arrange_all(maps: Sequence[KernelMap]) -> list[list[Block]]:
    cuts = [_cut(one) for one in maps]
    # what lies on the device comes to the host for all maps at once
    asked = [cut.flatten() for cut in cuts if cut.shape[1] > 2]
    numbers = iter(torch.cat(asked).tolist() if asked else [])
    found = []
    for one, cut in zip(maps, cuts):
        ends = [[0, count] for count in one.counts]  # of a single block
        if cut.shape[1] > 2:
            ends = [list(islice(numbers, cut.shape[1])) for _ in one.counts]
        found.append(_arrange(one, cut, ends))
    return found


def _block_rows(kernel_map: KernelMap) -> int:
    """Output rows of a block."""
    max_rows, max_pairs = CPU_BLOCK if kernel_map.rows_out.device.type == "cpu" else CUDA_BLOCK
    return max(min(max_rows, max_pairs * kernel_map.num_out // max(len(kernel_map.rows_out), 1)), 1)


def _cut(kernel_map: KernelMap) -> Tensor:
    """(K, blocks + 1) int64, how many pairs of each offset lead to rows before each edge of the blocks."""
    size = _block_rows(kernel_map)
    blocks = -(-kernel_map.num_out // size)
    edges = torch.arange(blocks + 1, dtype=torch.int32, device=kernel_map.rows_out.device) * size
    edges = edges.clamp_(max=kernel_map.num_out)
    return torch.stack(
        [torch.searchsorted(part, edges) for part in kernel_map.rows_out.split(kernel_map.counts)]
    )


def _arrange(kernel_map: KernelMap, cuts: Tensor, ends_at: list[list[int]]) -> list[Block]:
    """The pairs of a map cut into blocks, and for each output row where its products will lie.

    The workspace of a block holds its products offset by offset, each by output row.

    Args:
        cuts: as from `_cut`; ends_at: the same on the host.
    """
    rows, pairs = kernel_map.num_out, len(kernel_map.rows_out)
    edges = [*range(0, rows, _block_rows(kernel_map)), rows]
    rows_in, rows_out = (
        kernel_map.rows_in.split(kernel_map.counts),
        kernel_map.rows_out.split(kernel_map.counts),
    )

    counts = cuts.diff(dim=1)
    begins = kernel_map.firsts[:, None] + cuts[:, :-1]
    shift = (counts.cumsum(0) - counts) - begins  # from the list to the workspace
    order = kernel_map.rows_out.sort(stable=True).indices
    place = torch.repeat_interleave(shift.view(-1), counts.view(-1), output_size=pairs)
    products = (place.index_select(0, order) + order).int()
    ends = torch.bincount(kernel_map.rows_out, minlength=rows).cumsum(0).int()
    starts = torch.cat([ends.new_zeros(1), ends])

    blocks, first = [], 0
    for b, (begin, end) in enumerate(pairwise(edges)):
        cut = {k: slice(row[b], row[b + 1]) for k, row in enumerate(ends_at) if row[b] < row[b + 1]}
        sizes = tuple(part.stop - part.start for part in cut.values())
        last = first + sum(sizes)
        blocks.append(
            Block(
                begin,
                end,
                tuple(cut),
                sizes,
                tuple(rows_in[k][part] for k, part in cut.items()),
                tuple(rows_out[k][part] for k, part in cut.items()),
                products[first:last],
                starts[begin : end + 1] - first,
            )
        )
        first = last
    return blocks
