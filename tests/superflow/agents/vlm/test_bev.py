"""The grid on the ground: every place has one cell, and what is merged lies side by side."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="needs the extra agents")
from superflow.agents.vlm.bev import BevGrid, pixel_shuffle, scatter, to_tiles
from superflow.errors import InputError

GRID = BevGrid(rows=4, columns=6, cell_m=2.0, ahead_m=1.0, tile=2)


def cell_of(x: float, y: float, grid: BevGrid) -> int:
    """The cell whose borders hold a place, by looking at all of them; -1 for none."""
    for row in range(grid.rows):
        for column in range(grid.columns):
            front = grid.ahead_m + grid.rows * grid.cell_m / 2 - row * grid.cell_m
            left = grid.columns * grid.cell_m / 2 - column * grid.cell_m
            if front - grid.cell_m < x <= front and left - grid.cell_m < y <= left:
                return row * grid.columns + column
    return -1


def test_cells_are_those_whose_borders_hold_the_place():
    steps = np.arange(-7.0, 7.5, 0.5)  # on borders, too
    points = torch.tensor([[x, y] for x in steps for y in steps])
    expected = [cell_of(x, y, GRID) for x, y in points.tolist()]
    assert GRID.cells(points).tolist() == expected
    assert {-1, 0, 23} <= set(expected)


def test_centers_lie_in_their_own_cells():
    centers = GRID.centers().reshape(-1, 2)
    assert GRID.cells(centers).tolist() == list(range(24))


def test_front_left_is_the_first_row_and_the_first_column():
    grid = BevGrid(rows=8, columns=8, cell_m=1.0, tile=8)
    planes = scatter(torch.ones(1, 1), grid.cells(torch.tensor([[3.5, 3.5]])), grid)
    assert planes[0].nonzero().tolist() == [[0, 0]]
    tokens = pixel_shuffle(to_tiles(planes[None], grid), 2).flatten(1, -2)[0]
    assert tokens.sum(1).nonzero().flatten().tolist() == [0]


def test_scatter_against_a_loop():
    rng = np.random.default_rng(0)
    points = rng.uniform(-8, 8, (200, 2))
    features = rng.normal(size=(200, 3))
    expected = np.zeros((4, 4, 6))
    for row in range(4):
        for column in range(6):
            inside = [f for p, f in zip(points, features) if cell_of(*p, GRID) == row * 6 + column]
            if inside:
                expected[:3, row, column] = sum(inside) / len(inside)
            expected[3, row, column] = math.log(1 + len(inside))
    planes = scatter(torch.tensor(features), GRID.cells(torch.tensor(points)), GRID)
    np.testing.assert_allclose(planes.numpy(), expected, atol=1e-12)


def test_a_scan_without_points_is_an_empty_grid():
    planes = scatter(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), GRID)
    assert planes.shape == (4, 4, 6)
    assert not planes.any()


def test_tiles_and_shuffle_against_loops():
    planes = torch.arange(2 * 3 * 4 * 6, dtype=torch.float64).reshape(2, 3, 4, 6)
    tiles = to_tiles(planes, GRID)
    assert tiles.shape == (2, 6, 2, 2, 3)
    for tile in range(6):
        for row in range(2):
            for column in range(2):
                where = (tile // 3) * 2 + row, (tile % 3) * 2 + column
                assert torch.equal(tiles[:, tile, row, column], planes[:, :, where[0], where[1]])
    big = torch.randn(3, 4, 8, 5, generator=torch.Generator().manual_seed(0))  # no square: 4 rows, 8 columns
    merged = pixel_shuffle(big, 2)
    for row in range(2):
        for column in range(4):
            cells = [big[:, 2 * row + i, 2 * column + j] for i in range(2) for j in range(2)]
            assert torch.equal(merged[:, row, column], torch.cat(cells, 1))


def test_shuffle_is_that_of_internvl():
    from transformers.models.internvl.modeling_internvl import InternVLModel

    squares = torch.randn(2, 8, 8, 5, generator=torch.Generator().manual_seed(1))
    for factor in (2, 4):
        assert torch.equal(
            pixel_shuffle(squares, factor), InternVLModel.pixel_shuffle(None, squares, 1 / factor)
        )


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: BevGrid(rows=5, columns=4, tile=4), "5 x 4 cells are no whole number of tiles"),
        (lambda: BevGrid(cell_m=0.0), "has no cells"),
        (
            lambda: to_tiles(torch.zeros(1, 2, 4, 4), GRID),
            "comes as 4 x 4 cells, and the model's grid has 4 x 6",
        ),
        (lambda: pixel_shuffle(torch.zeros(1, 6, 6, 2), 4), "6 x 6 cells cannot be merged by 4"),
    ],
)
def test_refusals(make, said):
    with pytest.raises(InputError, match=said):
        make()
