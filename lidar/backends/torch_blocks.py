"""Sparse convolution in plain PyTorch, on any device: gather, one GEMM per offset, gather-sum, block by block.

A block is a range of output rows. Its input rows are gathered once into a workspace, sorted by offset; each
offset is one matrix product into a second workspace; then every output row sums its own products. Nothing is
scattered, so that sums have one order and runs repeat bit by bit; nothing large is allocated, because the C library
maps and unmaps blocks over 32 MB at every call; and a block stays in the cache between the three steps.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..sparse import KernelMap

# Rows and pairs of a block: the first keeps the products in the cache, the second bounds the workspaces
# (24k pairs x 256 channels x 4 bytes = 25 MB each).
CPU_BLOCK = (4096, 24 * 1024)
CUDA_BLOCK = (1 << 18, 1 << 19)


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
    pairs: int
    offsets: list[int]  # those with pairs
    counts: list[int]  # pairs of each of them
    rows_in: Tensor  # (pairs,) int32 rows of the input, by offset
    rows_out: Tensor  # (pairs,) int32 rows of the output, counted from ``begin``
    products: Tensor  # (pairs,) int32 rows of the products, by output row
    starts: (
        Tensor  # (end - begin + 1,) int32; the products of output row r are products[starts[r]:starts[r + 1]]
    )


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
        grad_weight = torch.zeros_like(weight) if need_weight else None
        _backward(features, weight, grad, ctx.kernel_map, grad_features, grad_weight)
        return grad_features, grad_weight, None


def _forward(features: Tensor, weight: tuple[Tensor, ...], kernel_map: KernelMap, output: Tensor) -> None:
    for block in _blocks(kernel_map):
        gathered = _workspace(features, 0, block.pairs, features.shape[1])
        torch.index_select(features, 0, block.rows_in, out=gathered)
        products = _workspace(features, 1, block.pairs, output.shape[1])
        for k, rows, product in zip(
            block.offsets, gathered.split(block.counts), products.split(block.counts)
        ):
            torch.mm(rows, weight[k], out=product)
        center = None if kernel_map.center is None else weight[kernel_map.center]
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
    back = kernel_map.transposed
    transposed = weight.transpose(1, 2).unbind(0)
    grads = () if grad_weight is None else grad_weight.unbind(0)
    if kernel_map.mirrored:
        transposed, grads = transposed[::-1], grads[::-1]
    center = kernel_map.center
    for block in _blocks(back):
        gathered = _workspace(grad, 0, block.pairs, grad.shape[1])
        torch.index_select(grad, 0, block.rows_in, out=gathered)
        parts = gathered.split(block.counts)
        if grad_weight is not None:
            inputs = _workspace(features, 1, block.pairs, features.shape[1])
            torch.index_select(features[block.begin : block.end], 0, block.rows_out, out=inputs)
            for k, rows, part in zip(block.offsets, inputs.split(block.counts), parts):
                grads[k].addmm_(rows.t(), part)
        if grad_features is not None:
            products = _workspace(features, 1, block.pairs, features.shape[1])
            for k, part, product in zip(block.offsets, parts, products.split(block.counts)):
                torch.mm(part, transposed[k], out=product)
            _sum_products(
                block, products, grad, None if center is None else transposed[center], grad_features
            )
    if grad_weight is not None and center is not None:
        torch.mm(features.t(), grad, out=grads[center])


def _sum_products(
    block: Block, products: Tensor, rows: Tensor, center: Tensor | None, output: Tensor
) -> None:
    """Output rows of the block: the sum of their products, and their own row times ``center``."""
    target = output[block.begin : block.end]
    if block.pairs == 0:
        if center is None:
            target.zero_()
        else:
            torch.mm(rows[block.begin : block.end], center, out=target)
        return
    if center is None and block.pairs == block.end - block.begin:  # one product each
        torch.index_select(products, 0, block.products, out=target)
        return
    # mode 0 sums
    summed = torch.embedding_bag(products, block.products, block.starts, False, 0, False, None, True)[0]
    if center is None:
        target.copy_(summed)
    else:
        torch.addmm(summed, rows[block.begin : block.end], center, out=target)


_local = threading.local()


def _workspace(like: Tensor, slot: int, rows: int, columns: int) -> Tensor:
    """(rows, columns) of this thread's buffer ``slot``, uninitialised; the buffer grows to the largest request."""
    buffers = _local.__dict__.setdefault("buffers", {})
    key = (slot, like.dtype, like.device)
    buffer = buffers.get(key)
    if buffer is None or buffer.numel() < rows * columns:
        buffer = buffers[key] = torch.empty(rows * columns, dtype=like.dtype, device=like.device)
    return buffer[: rows * columns].view(rows, columns)


def _blocks(kernel_map: KernelMap) -> list[Block]:
    return kernel_map.arranged("torch_blocks", _arrange)


def _arrange(kernel_map: KernelMap) -> list[Block]:
    """The pairs of a map by (block, offset, output row), and for each output row where its products will lie.

    Both orders are found by counting, without a sort.
    """
    rows_in, rows_out, volume = kernel_map.rows_in, kernel_map.rows_out, len(kernel_map.counts)
    device, pairs, rows = rows_out.device, len(rows_out), kernel_map.num_out
    max_rows, max_pairs = CPU_BLOCK if device.type == "cpu" else CUDA_BLOCK
    block_rows = max(min(max_rows, max_pairs * rows // max(pairs, 1)), 256)
    num_blocks = -(-rows // block_rows)
    if pairs == 0:
        empty = rows_out.new_zeros(0)
        edges = range(0, rows, block_rows)
        return [
            Block(b, min(b + block_rows, rows), 0, [], [], empty, empty, empty, rows_out.new_zeros(1))
            for b in edges
        ]
    offset = torch.repeat_interleave(
        torch.arange(volume, device=device), torch.tensor(kernel_map.counts, device=device), output_size=pairs
    )
    block = torch.div(rows_out, block_rows, rounding_mode="floor").long()
    counts = torch.bincount(offset * num_blocks + block, minlength=volume * num_blocks).view(
        volume, num_blocks
    )
    now = (counts.view(-1).cumsum(0) - counts.view(-1)).view(volume, num_blocks)
    by_block = counts.t().reshape(-1)
    then = (by_block.cumsum(0) - by_block).view(num_blocks, volume).t()
    place = torch.arange(pairs, device=device) + (then - now)[offset, block]
    arranged_in, arranged_out = torch.empty_like(rows_in), torch.empty_like(rows_out)
    arranged_in[place] = rows_in
    arranged_out[place] = rows_out - (block * block_rows).int()

    slots = torch.full((rows, volume), -1, dtype=torch.int32, device=device)
    slots[rows_out.long(), offset] = place.int()
    products = slots.view(-1)[slots.view(-1) >= 0]
    ends = torch.bincount(rows_out, minlength=rows).cumsum(0).int()
    starts = torch.cat([ends.new_zeros(1), ends])

    blocks, first = [], 0
    for b, block_counts in enumerate(counts.t().tolist()):
        begin, end = b * block_rows, min((b + 1) * block_rows, rows)
        offsets = [k for k, count in enumerate(block_counts) if count]
        last = first + sum(block_counts)
        blocks.append(
            Block(
                begin,
                end,
                last - first,
                offsets,
                [block_counts[k] for k in offsets],
                arranged_in[first:last],
                arranged_out[first:last],
                products[first:last] - first,
                starts[begin : end + 1] - first,
            )
        )
        first = last
    return blocks
