"""What both ways in plain PyTorch share: blocks of output rows, and the sum of the products of each row.

Nothing is scattered, so that sums have one order and runs repeat bit by bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice, pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from ..sparse import KernelMap

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


class Sums(NamedTuple):
    """Which products each of the output rows ``begin`` to ``end`` sums.

    products: int32 rows of the workspace of products, by output row; starts: (end - begin + 1,) int32, those of row
    begin + r are products[starts[r]:starts[r + 1]].
    """

    begin: int
    end: int
    products: Tensor
    starts: Tensor

    def into(self, output: Tensor, products: Tensor, rows: Tensor, center: Tensor | None) -> None:
        """Write the output rows: the sum of their ``products``, and their own row of ``rows`` times ``center``."""
        target = output[self.begin : self.end]
        if len(self.products) == 0:
            summed = None
        elif center is None and len(self.products) == len(target):
            # without a centre every row has a product, so here each has one, as on the way up
            torch.index_select(products, 0, self.products, out=target)
            return
        else:
            # without gradient F.embedding_bag only adds checks to this call; mode 0 sums
            summed = torch.embedding_bag(products, self.products, self.starts, False, 0, False, None, True)[0]
        if center is None:
            target.zero_() if summed is None else target.copy_(summed)
        elif summed is None:
            torch.mm(rows[self.begin : self.end], center, out=target)
        else:
            torch.addmm(summed, rows[self.begin : self.end], center, out=target)


class Cuts(NamedTuple):
    """Where blocks of output rows cut the pairs of a map.

    edges: rows between the blocks, 0 and the last among them. at: (K, blocks + 1) int64, how many pairs of each offset
    lead to rows before each edge; host: the same on the host.
    """

    edges: list[int]
    at: Tensor
    host: list[list[int]]

    @property
    def counts(self) -> Tensor:
        """(K, blocks) pairs of each offset in each block."""
        return self.at.diff(dim=1)

    def begins(self, kernel_map: KernelMap) -> Tensor:
        """(K, blocks) row of the map's list at which those pairs begin."""
        return kernel_map.firsts[:, None] + self.at[:, :-1]


def block_rows(kernel_map: KernelMap, max_rows: int, max_pairs: int) -> int:
    """Output rows of a block: ``max_rows`` at most, and about ``max_pairs`` pairs."""
    return max(min(max_rows, max_pairs * kernel_map.num_out // max(len(kernel_map.rows_out), 1)), 1)


def cut_all(maps: Sequence[KernelMap], limits: Sequence[tuple[int, int]]) -> list[Cuts]:
    """The cuts of all maps, with one wait for the device, and none where each map is a single block.

    Args:
        limits: for each map, rows of a block at most, and its pairs, about.
    """
    sizes = [block_rows(one, *limit) for one, limit in zip(maps, limits)]
    edges = [[*range(0, one.num_out, size), one.num_out] for one, size in zip(maps, sizes)]
    cuts = [_cut(one, edge) for one, edge in zip(maps, edges)]
    asked = [cut.flatten() for cut in cuts if cut.shape[1] > 2]
    numbers = iter(torch.cat(asked).tolist() if asked else [])
    found = []
    for one, edge, cut in zip(maps, edges, cuts):
        host = [[0, count] for count in one.counts]  # of a single block
        if cut.shape[1] > 2:
            host = [list(islice(numbers, cut.shape[1])) for _ in one.counts]
        found.append(Cuts(edge, cut, host))
    return found


def _cut(kernel_map: KernelMap, edges: list[int]) -> Tensor:
    """The pairs before each edge."""
    if len(edges) <= 2:
        last = kernel_map.firsts.new_full((1,), len(kernel_map.rows_out))
        counts = torch.cat([kernel_map.firsts, last]).diff()
        return torch.stack([torch.zeros_like(counts), counts][: len(edges)], 1)
    size = edges[1]
    device = kernel_map.rows_out.device
    at = (torch.arange(len(edges), dtype=torch.int32, device=device) * size).clamp_(max=edges[-1])
    return torch.stack(
        [torch.searchsorted(part, at) for part in kernel_map.rows_out.split(kernel_map.counts)]
    )


def arrange_sums(kernel_map: KernelMap, cuts: Cuts, shift: Tensor) -> list[Sums]:
    """The sums of each block.

    Args:
        shift: (K, blocks) from the row of a pair in the map's list to that of its product in the block's workspace.
    """
    rows, pairs = kernel_map.num_out, len(kernel_map.rows_out)
    order = kernel_map.rows_out.sort(stable=True).indices
    place = torch.repeat_interleave(shift.reshape(-1), cuts.counts.view(-1), output_size=pairs)
    products = (place.index_select(0, order) + order).int()
    ends = torch.bincount(kernel_map.rows_out, minlength=rows).cumsum(0).int()
    starts = torch.cat([ends.new_zeros(1), ends])
    found, first = [], 0
    for b, (begin, end) in enumerate(pairwise(cuts.edges)):
        last = first + sum(row[b + 1] - row[b] for row in cuts.host)
        found.append(Sums(begin, end, products[first:last], starts[begin : end + 1] - first))
        first = last
    return found
