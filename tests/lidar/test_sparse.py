"""Kernel maps against dictionaries of cells."""

from __future__ import annotations

import itertools

import pytest
import torch

from superflow.errors import InputError
from superflow.lidar.sparse import KernelMap, Pyramid
from superflow.lidar.voxelize import CubicGrid, CylinderGrid, voxelize

SHAPES = [(5, 6, 7), (9, 5, 3), (3, 1, 5), (4, 2, 4), (1, 1, 1)]


def random_pyramid(shape, density: float, wraps: bool = False, clouds: int = 2, seed: int = 0) -> Pyramid:
    occupied = torch.rand(clouds, *shape, generator=torch.Generator().manual_seed(seed)) < density
    return Pyramid.from_cells(occupied.nonzero(), shape, num_clouds=clouds, wraps=wraps)


def listed(kernel_map: KernelMap) -> list[tuple[int, int, int]]:
    """(offset, output row, input row) of all pairs in the order of the map, the centre's among them."""
    offsets = [k for k, count in enumerate(kernel_map.counts) for _ in range(count)]
    pairs = list(zip(offsets, kernel_map.rows_out.tolist(), kernel_map.rows_in.tolist()))
    if kernel_map.center is not None:
        pairs += [(kernel_map.center, row, row) for row in range(kernel_map.num_out)]
    return pairs


def slow_neighbours(level) -> list[tuple[int, int, int]]:
    rows = {tuple(cell): row for row, cell in enumerate(level.cells.tolist())}
    pairs = []
    for (cloud, x, y, z), out in rows.items():
        for k, (dx, dy, dz) in enumerate(itertools.product((-1, 0, 1), repeat=3)):
            side = (y + dy) % level.shape[1] if level.wraps else y + dy
            if (other := rows.get((cloud, x + dx, side, z + dz))) is not None:
                pairs.append((k, out, other))
    return pairs


@pytest.mark.parametrize("wraps", [False, True])
@pytest.mark.parametrize("density", [0.05, 0.4, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_neighbours_are_those_of_a_dictionary(shape, density, wraps):
    pyramid = random_pyramid(shape, density, wraps)
    for index in range(3):
        got = listed(pyramid.subm(index))
        assert sorted(got) == sorted(slow_neighbours(pyramid.level(index)))
        without_center = [pair for pair in got if pair[0] != 13]
        assert without_center == sorted(without_center)  # by offset, then by output row


@pytest.mark.parametrize("wraps", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_halving_pairs_every_cell_with_its_parent(shape, wraps):
    pyramid = random_pyramid(shape, 0.4, wraps)
    down, fine, coarse = pyramid.down(0), pyramid.level(0), pyramid.level(1)
    parents = sorted({(b, x // 2, y // 2, z // 2) for b, x, y, z in fine.cells.tolist()})
    assert [tuple(cell) for cell in coarse.cells.tolist()] == parents
    assert coarse.shape == tuple((size + 1) // 2 for size in shape)
    want = [
        (4 * (x % 2) + 2 * (y % 2) + z % 2, parents.index((b, x // 2, y // 2, z // 2)), row)
        for row, (b, x, y, z) in enumerate(fine.cells.tolist())
    ]
    assert listed(down) == sorted(want)
    assert sorted(listed(down.transposed)) == sorted((k, row, parent) for k, parent, row in want)
    assert down.transposed.transposed is down
    alone = random_pyramid(shape, 0.4, wraps).down(0).transposed  # the map that it came from is gone
    assert listed(alone.transposed) == listed(down)
    assert alone.transposed.transposed is alone


def test_maps_are_built_once_and_shared():
    pyramid = random_pyramid((8, 8, 8), 0.3).build(4)
    assert all(pyramid.subm(k) is pyramid.subm(k) for k in range(4))
    assert all(pyramid.down(k) is pyramid.down(k) for k in range(3))
    assert pyramid.subm(2).transposed is pyramid.subm(2)
    built = []
    for _ in range(2):
        pyramid.subm(0).arranged("test", built.append)
    assert len(built) == 1


def test_cells_at_both_ends_of_a_key_space_of_60_bits():
    generator = torch.Generator().manual_seed(0)
    near = torch.rand(60, 3, generator=generator) * 0.4
    far = torch.tensor([[3270.0, 3270, 3270], [-3270, -3270, -3270], [-3270, 3270, 0], [0, 0, 0]])
    points = (far[:, None] + near).reshape(-1, 3)
    cloud = torch.tensor([0, 1999]).repeat(len(points) // 2)
    pyramid = Pyramid.from_voxels(voxelize(points, cloud, CubicGrid(0.1), num_clouds=2000))
    assert int(pyramid.level(0).keys.max()) > 2**60
    for index in range(5):
        assert sorted(listed(pyramid.subm(index))) == sorted(slow_neighbours(pyramid.level(index)))


def test_mistake_14_neighbours_across_the_seam():
    ring = torch.tensor([[x, y, 0.0] for x, y in ((-5.0, 0.02), (-5.0, -0.02), (5.0, 0.02), (5.0, -0.02))])
    pyramid = Pyramid.from_voxels(
        voxelize(ring, torch.zeros(4, dtype=torch.long), CylinderGrid(1.0, 1.0, 1.0))
    )
    assert pyramid.level(0).cells[:, 2].tolist() == [0, 179, 180, 359]
    assert [pair[1:] for pair in listed(pyramid.subm(0)) if pair[1] != pair[2]] == [
        (0, 3),
        (2, 1),
        (1, 2),
        (3, 0),
    ]
    for index in range(5):  # also where the number of sectors is odd: 45, 23
        assert sorted(listed(pyramid.subm(index))) == sorted(slow_neighbours(pyramid.level(index)))


def test_no_cells():
    pyramid = random_pyramid((4, 4, 4), 0.0).build(5)
    assert [len(pyramid.level(k)) for k in range(5)] == [0] * 5
    assert pyramid.subm(0).counts == [0] * 27
    assert pyramid.down(0).counts == [0] * 8


def test_cells_must_be_unique_sorted_and_inside():
    cells = torch.tensor([[0, 1, 1, 1], [0, 1, 1, 2], [0, 2, 0, 0]])
    Pyramid.from_cells(cells, (3, 3, 3), num_clouds=1)
    with pytest.raises(InputError, match="unique and sorted"):
        Pyramid.from_cells(cells[[0, 0, 1]], (3, 3, 3), num_clouds=1)
    with pytest.raises(InputError, match="unique and sorted"):
        Pyramid.from_cells(cells.flip(0), (3, 3, 3), num_clouds=1)
    with pytest.raises(InputError, match="outside of 1 clouds"):
        Pyramid.from_cells(cells, (3, 3, 2), num_clouds=1)


def test_a_grid_beyond_64_bits_is_refused():
    with pytest.raises(InputError, match="do not fit into 64-bit keys"):
        Pyramid.from_cells(torch.zeros(1, 4, dtype=torch.int64), (2**21,) * 3, num_clouds=1)
