"""The form with few launches against sums pair by pair, for kernels of any size and in half precision."""

from __future__ import annotations

import itertools

import pytest
import torch

from superflow.lidar.backends import torch_blocks, torch_grouped
from superflow.lidar.sparse import KernelMap, Pyramid

BLOCKS = [torch_grouped.BLOCK, (7, 1 << 20), (1 << 20, 40), (1, 1)]
PRICES = [0, 5, torch_grouped.LAUNCH]  # a group an offset, a few, and one for all


def as_map(pairs: list[list[tuple[int, int]]], num_in: int, num_out: int, center: int | None) -> KernelMap:
    """From (output row, input row) of each offset."""
    counts = [len(part) for part in pairs]
    listed = torch.tensor([pair for part in pairs for pair in sorted(part)], dtype=torch.int32).view(-1, 2)
    firsts = torch.tensor(counts).cumsum(0) - torch.tensor(counts)
    return KernelMap(listed[:, 1].clone(), listed[:, 0].clone(), counts, firsts, num_in, num_out, center)


def onto_itself(size: int, density: float) -> KernelMap:
    """The map of a ``size`` cubed kernel, from a grid to its own cells, by a dictionary."""
    occupied = torch.rand(6, 5, 4, generator=torch.Generator().manual_seed(size)) < density
    rows = {tuple(cell): row for row, cell in enumerate(occupied.nonzero().tolist())}
    reach = range(-(size // 2), size // 2 + 1)
    pairs = [
        [(row, other) for cell, row in rows.items() if (other := rows.get(moved(cell, step))) is not None]
        for step in itertools.product(reach, repeat=3)
    ]
    center = size**3 // 2
    pairs[center] = []
    return as_map(pairs, len(rows), len(rows), center)


def moved(cell, step):
    return tuple(a + b for a, b in zip(cell, step))


def halving(size: int, density: float) -> KernelMap:
    """The map of a ``size`` cubed kernel with stride 2, from a grid to one of half the cells, by dictionaries."""
    occupied = torch.rand(7, 6, 5, generator=torch.Generator().manual_seed(size)) < density
    fine = {tuple(cell): row for row, cell in enumerate(occupied.nonzero().tolist())}
    coarse = sorted({tuple(side // 2 for side in cell) for cell in fine})
    reach = range(-((size - 1) // 2), size // 2 + 1)
    pairs = [
        [
            (row, fine[cell])
            for row, above in enumerate(coarse)
            if (cell := moved([2 * side for side in above], step)) in fine
        ]
        for step in itertools.product(reach, repeat=3)
    ]
    return as_map(pairs, len(fine), len(coarse), None)


MAPS = {
    "1": lambda: onto_itself(1, 0.5),
    "3": lambda: onto_itself(3, 0.4),
    "3, hardly any neighbours": lambda: onto_itself(3, 0.05),
    "5": lambda: onto_itself(5, 0.3),
    "a cell alone": lambda: as_map([[] for _ in range(27)], 1, 1, 13),
    "no cells": lambda: as_map([[] for _ in range(27)], 0, 0, 13),
    "2, stride 2": lambda: halving(2, 0.3),
    "3, stride 2": lambda: halving(3, 0.3),
    "5, stride 2": lambda: halving(5, 0.1),
    "2, transposed": lambda: halving(2, 0.3).transposed,
    "3, transposed": lambda: halving(3, 0.5).transposed,
}


def pair_by_pair(features, weight, kernel_map):
    """Every pair by itself."""
    output = [features.new_zeros(weight.shape[2]) for _ in range(kernel_map.num_out)]
    offsets = [k for k, count in enumerate(kernel_map.counts) for _ in range(count)]
    for k, row, other in zip(offsets, kernel_map.rows_out.tolist(), kernel_map.rows_in.tolist()):
        output[row] = output[row] + features[other] @ weight[k]
    if kernel_map.center is not None:
        output = [total + features[row] @ weight[kernel_map.center] for row, total in enumerate(output)]
    no_rows = features.new_zeros(0, weight.shape[2]) + 0 * (features.sum() + weight.sum())
    return torch.stack(output) if output else no_rows


def values(run, kernel_map, dtype=torch.float64):
    """Output and gradients, in double precision."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(kernel_map.num_in, 6, generator=generator).abs()
    weight = torch.randn(len(kernel_map.counts), 6, 3, generator=generator).abs()
    upstream = torch.rand(kernel_map.num_out, 3, generator=generator)
    # rounded before, so that what differs is the arithmetic alone
    features, weight, upstream = (value.bfloat16().to(dtype) for value in (features, weight, upstream))
    features.requires_grad_()
    weight.requires_grad_()
    output = run(features, weight, kernel_map)
    found = [output.detach(), *torch.autograd.grad(output, (features, weight), upstream)]
    assert all(part.dtype == dtype for part in found)
    return [part.double() for part in found]


@pytest.mark.parametrize("price", PRICES)
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("kind", MAPS)
def test_equals_sums_pair_by_pair_and_the_form_of_a_cpu(monkeypatch, kind, block, price):
    monkeypatch.setattr(torch_grouped, "BLOCK", block)
    monkeypatch.setattr(torch_grouped, "LAUNCH", price)
    kernel_map = MAPS[kind]()
    got = values(torch_grouped.convolve, kernel_map)
    for twin in (pair_by_pair, torch_blocks.convolve):
        for ours, theirs in zip(got, values(twin, kernel_map)):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", [kind for kind in MAPS if kind != "no cells"])
@pytest.mark.parametrize("block", BLOCKS)
def test_half_precision_rounds_products_and_sums_but_nothing_between(monkeypatch, kind, dtype, block):
    monkeypatch.setattr(torch_grouped, "BLOCK", block)
    monkeypatch.setattr(torch_grouped, "LAUNCH", 5)
    kernel_map = MAPS[kind]()
    # numbers of one sign, where small shares would be lost in a sum of half precision
    got, want = (values(torch_grouped.convolve, kernel_map, kind_of) for kind_of in (dtype, torch.float64))
    for ours, exact in zip(got, want):
        allowed = 2 * torch.finfo(dtype).eps * exact.abs() + torch.finfo(dtype).tiny
        assert ((ours - exact).abs() <= allowed).all()


def test_what_only_fills_up_spoils_no_other_offset():
    """A number that is no number stays with the offset whose pair it is in."""
    kernel_map, weight = MAPS["2, stride 2"](), torch.ones(8, 6, 3, requires_grad=True)
    features = torch.ones(kernel_map.num_in, 6)
    features[kernel_map.rows_in[-1]] = torch.nan
    touched = [bool(features[part].isnan().any()) for part in kernel_map.rows_in.split(kernel_map.counts)]
    assert 0 < sum(touched) < sum(count > 0 for count in kernel_map.counts)
    torch_grouped.convolve(features, weight, kernel_map).sum().backward()
    assert weight.grad.isnan().flatten(1).any(1).tolist() == touched


@pytest.mark.parametrize("price", [0, 1, 7, 40, 1000])
def test_groups_cost_least_of_all_that_there_are(price):
    generator = torch.Generator().manual_seed(price)
    for length in range(1, 9):
        counts = sorted(torch.randint(1, 50, (length,), generator=generator).tolist(), reverse=True)
        found = torch_grouped.group(counts, price)
        assert [k for cut in found for k in range(length)[cut]] == list(range(length))
        costs = [
            sum(price + counts[a] * (b - a) for a, b in itertools.pairwise([0, *edges, length]))
            for number in range(length)
            for edges in itertools.combinations(range(1, length), number)
        ]
        assert sum(price + counts[cut.start] * (cut.stop - cut.start) for cut in found) == min(costs)
    assert torch_grouped.group([], price) == []


def test_the_memory_of_a_block_is_bounded():
    """Blocks hold about as many pairs as allowed; filling them up costs what the price of a group says, at most."""
    generator = torch.Generator().manual_seed(0)
    cells = (torch.rand(2, 24, 24, 24, generator=generator) < 0.2).nonzero()
    kernel_map = Pyramid.from_cells(cells, (24, 24, 24), num_clouds=2).subm(0)
    pairs = sum(kernel_map.counts)
    assert pairs > 20_000
    groups = torch_grouped.prepare(kernel_map)
    assert sum(len(block.rows_in) for block in groups.blocks) <= pairs + torch_grouped.LAUNCH * 26
    assert sum(len(block.rows_in) - len(block.repeated) for block in groups.blocks) == pairs
