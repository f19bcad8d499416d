"""The grid on the ground that a language model looks at: features of points per cell, cut into square tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ...errors import InputError


@dataclass(frozen=True, slots=True)
class BevGrid:
    """Cells on the ground as a picture seen from above, the front up: row 0 is farthest ahead, column 0 farthest left.

    Frame: that of the vehicle, x forward, y left [m]. A cell holds its borders towards the front and the left, and not
    the other two, so that every place has one cell.

    Attributes:
        rows, columns: cells along x and y; multiples of ``tile``. cell_m: side of a cell. ahead_m: x of the centre.
        tile: side of a tile, in cells.
    """

    rows: int = 32
    columns: int = 32
    cell_m: float = 2.0
    ahead_m: float = 0.0
    tile: int = 32

    def __post_init__(self) -> None:
        if min(self.rows, self.columns, self.tile) < 1 or not self.cell_m > 0:
            raise InputError(f"a grid of {self} has no cells; give positive numbers")
        if self.rows % self.tile or self.columns % self.tile:
            raise InputError(
                f"{self.rows} x {self.columns} cells are no whole number of tiles of {self.tile} x {self.tile}; "
                "choose a tile that divides both sides"
            )

    @property
    def tiles(self) -> int:
        """Number of tiles."""
        return self.rows * self.columns // self.tile**2

    def tile_bounds(self) -> list[tuple[float, float, float, float]]:
        """Lowest x, lowest y, highest x, highest y of each tile [m, vehicle], in the order of tiles."""
        side = self.tile * self.cell_m
        front, left = self.ahead_m + self.rows * self.cell_m / 2, self.columns * self.cell_m / 2
        corners = [
            (front - side * i, left - side * j)
            for i in range(self.rows // self.tile)
            for j in range(self.columns // self.tile)
        ]
        return [(x - side, y - side, x, y) for x, y in corners]

    def config(self) -> dict[str, Any]:
        """Plain numbers with which ``BevGrid(**config)`` is the same grid."""
        return asdict(self)

    def cells(self, points: Tensor) -> Tensor:
        """(N,) int64 cell ``row * columns + column`` of points (N, 2+) x, y [m, vehicle]; -1 outside."""
        front = self.ahead_m + self.rows * self.cell_m / 2
        left = self.columns * self.cell_m / 2
        row = torch.floor((front - points[:, 0].double()) / self.cell_m).long()
        column = torch.floor((left - points[:, 1].double()) / self.cell_m).long()
        inside = (row >= 0) & (row < self.rows) & (column >= 0) & (column < self.columns)
        return torch.where(inside, row * self.columns + column, -1)

    def centers(self, *, device: torch.device | str = "cpu") -> Tensor:
        """(rows, columns, 2) float32 x, y of the middle of each cell [m, vehicle]."""
        x = self.ahead_m + self.cell_m * ((self.rows - 1) / 2 - torch.arange(self.rows, device=device))
        y = self.cell_m * ((self.columns - 1) / 2 - torch.arange(self.columns, device=device))
        return torch.stack(torch.meshgrid(x.float(), y.float(), indexing="ij"), -1)


def scatter(features: Tensor, cells: Tensor, grid: BevGrid) -> Tensor:
    """(C + 1, rows, columns) means of the features of the points in each cell, then log(1 + their number).

    Args:
        features: (N, C) of one scan, float32. cells: (N,) of ``grid.cells``; -1 is left out. Empty cells are zero.
    """
    inside = cells >= 0
    features, cells = features[inside], cells[inside]
    size = grid.rows * grid.columns
    count = torch.bincount(cells, minlength=size).to(features.dtype)
    total = features.new_zeros(size, features.shape[1]).index_add(0, cells, features)
    means = total / count.clamp(min=1)[:, None]
    planes = torch.cat([means, torch.log1p(count)[:, None]], 1)
    return planes.T.reshape(-1, grid.rows, grid.columns)


def to_tiles(planes: Tensor, grid: BevGrid) -> Tensor:
    """(B, tiles, tile, tile, C) of planes (B, C, rows, columns): tiles row by row, and so the cells in each."""
    batch, channels, rows, columns = planes.shape
    if (rows, columns) != (grid.rows, grid.columns):
        raise InputError(
            f"a scan comes as {rows} x {columns} cells, and the model's grid has {grid.rows} x {grid.columns}; "
            "make it with the model's own grid"
        )
    t = grid.tile
    cut = planes.reshape(batch, channels, rows // t, t, columns // t, t)
    return cut.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, t, t, channels)


def pixel_shuffle(tiles: Tensor, factor: int) -> Tensor:
    """(..., t // factor, t // factor, factor² C) of tiles (..., t, t, C): a square of cells becomes one long row.

    The channels of a merged token are those of its cells one after another, rows first (InternVL's pixel shuffle of
    version 2, arXiv 2508.18265, which here takes any number of leading dimensions).
    """
    *leading, rows, columns, channels = tiles.shape
    if rows % factor or columns % factor:
        raise InputError(f"{rows} x {columns} cells cannot be merged by {factor}; choose a factor of both")
    cut = tiles.reshape(*leading, rows // factor, factor, columns // factor, factor, channels)
    return cut.transpose(-4, -3).reshape(*leading, rows // factor, columns // factor, factor**2 * channels)


def token_sums(
    things: Sequence[tuple[Sequence[float], int]], kinds: int, grid: BevGrid, merge: int, *, parts: int = 1
) -> Tensor:
    """(tokens, parts² * kinds) float32 numbers of things in the square of each token, in the order of tokens.

    Args:
        things: place x, y [m, vehicle], and kind. merge: cells a side of a token; ``parts`` a side, counted row by row,
            divides it.
    """
    planes = torch.zeros(kinds, grid.rows * grid.columns)
    places = torch.tensor([place[:2] for place, _ in things], dtype=torch.float64).reshape(-1, 2)
    for (_, kind), cell in zip(things, grid.cells(places).tolist()):
        if cell >= 0:
            planes[kind, cell] += 1
    side = merge // parts
    tiles = to_tiles(planes.reshape(1, -1, grid.rows, grid.columns), grid)
    squares = pixel_shuffle(tiles, side).unflatten(-1, (side**2, kinds)).sum(-2)
    return pixel_shuffle(squares, parts).flatten(1, -2)[0]
