"""Whether a point lies in the shadow: rays to the sun are parallel, so each crosses one cell of a grid across them."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .compiled import jit, jit_inline
from .shapes import intersect
from .trace import Movers, World

SHADOW_RANGE = 60.0  # m
CELL = 1.0  # m
_START = 0.02  # m off the surface


@jit_inline
def _cell(grid, x, y, z):
    """Number of the cell that the ray from a point to the sun crosses, or -1; ``grid`` is ``World.sun_grid``."""
    i = math.floor((grid[0] * x + grid[1] * y + grid[2] * z - grid[6]) / CELL)
    j = math.floor((grid[3] * x + grid[4] * y + grid[5] * z - grid[7]) / CELL)
    columns, rows = int(grid[8]), int(grid[9])
    return j * columns + i if 0 <= i < columns and 0 <= j < rows else -1


class MoverShadows(NamedTuple):
    """The K primitives of everything that moves at one moment, on the grid across the sun's rays."""

    matrix: NDArray[np.float64]  # (K, 12) world to unit shape
    top: NDArray[np.float64]  # (K,) as World.sun_top
    start: NDArray[np.int32]  # (S + 1,) by cell
    items: NDArray[np.int32]


@jit_inline
def in_shadow(world, moving, x, y, z):
    """Does a primitive stand between a point and the sun? The ground throws no shadow. ``moving``: MoverShadows."""
    c = _cell(world.sun_grid, x, y, z)
    if c < 0:
        return False
    sun = world.sun
    height = sun[0] * x + sun[1] * y + sun[2] * z
    fixed = _blocked(world, world.sun_start, world.sun_items, world.matrix, world.sun_top, c, height, x, y, z)
    return fixed or _blocked(world, moving.start, moving.items, moving.matrix, moving.top, c, height, x, y, z)


@jit_inline
def _blocked(world, start, items, matrix, top, c, height, x, y, z):
    """Does one of the primitives of cell c stand between a point at this height along the sun's rays and the sun?"""
    sun = world.sun
    for item in range(start[c], start[c + 1]):
        p = items[item]
        if top[p] > height and intersect(
            world.kind[p], matrix[p], world.half[p], world.shape[p, 0], world.shape[p, 1], world.seed[p],
            x, y, z, sun[0], sun[1], sun[2], _START, SHADOW_RANGE,
        ) < SHADOW_RANGE:  # fmt: skip
            return True
    return False


def mover_shadows(world: World, movers: Movers) -> MoverShadows:
    """The movers' primitives as they stand at the start of the interval."""
    count = int(movers.first[-1])
    owner = world.mover[:count]
    to_object = movers.world_to_object[0].reshape(-1, 3, 4)[owner]
    unit = world.matrix[:count].reshape(-1, 3, 4)
    matrix = unit[..., :3] @ to_object
    matrix[..., 3] += unit[..., 3]
    box = world.box[:count].copy()
    box[:, 0] -= to_object[..., 3]
    box = box @ to_object[..., :3]  # the inverse of a rotation is its transpose
    grid = world.sun_grid
    axes = np.stack([grid[:3], grid[3:6], world.sun])
    low, high = _extent(axes, box)
    first, last = (np.floor((ends[:, :2] - grid[6:8]) / CELL).astype(np.int64) for ends in (low, high))
    start, items = _lists(first, last, int(grid[8]), int(grid[9]))
    return MoverShadows(matrix.reshape(-1, 12), high[:, 2].copy(), start, items)


@jit
def _lists(first, last, columns, rows):
    """Compressed lists by cell of what covers the cells ``first`` .. ``last`` (K, 2) along u and v."""
    start = np.zeros(columns * rows + 1, dtype=np.int32)
    for fill in range(2):
        if fill:
            total = np.int32(0)
            for c in range(len(start)):
                total += start[c]
                start[c] = total
            items = np.empty(total, dtype=np.int32)
        else:
            items = np.empty(0, dtype=np.int32)
        for q in range(len(first) - 1, -1, -1):
            for j in range(max(first[q, 1], 0), min(last[q, 1], rows - 1) + 1):
                for i in range(max(first[q, 0], 0), min(last[q, 0], columns - 1) + 1):
                    if fill:
                        start[j * columns + i] -= 1
                        items[start[j * columns + i]] = q
                    else:
                        start[j * columns + i] += 1
    return start, items


def _extent(axes: NDArray, box: NDArray) -> tuple[NDArray, NDArray]:
    """Lowest and highest coordinates (P, 3) of boxes (P, 4, 3) along ``axes`` (rows)."""
    seen = box @ axes.T
    reach = np.abs(seen[:, 1:]).sum(axis=1)
    return seen[:, 0] - reach, seen[:, 0] + reach


def across_the_sun(sun: NDArray, box: NDArray, moving: int) -> dict[str, NDArray]:
    """The fields of ``World`` about the grid across the sun's rays.

    Args:
        sun: (3,) unit vector to it; box: (P, 4, 3) as in ``World``, of which the first ``moving`` belong to movers.
    """
    aside = np.array([-sun[1], sun[0], 0.0]) / np.hypot(sun[0], sun[1])
    axes = np.stack([aside, np.cross(sun, aside), sun])
    low, high = _extent(axes, box[moving:])
    corner = low[:, :2].min(axis=0)
    first, last = (np.floor((ends[:, :2] - corner) / CELL).astype(np.int64) for ends in (low, high))
    columns, rows = last.max(axis=0) + 1
    start, items = _lists(first, last, int(columns), int(rows))
    return {
        "sun_start": start,
        "sun_items": items + np.int32(moving),
        "sun_grid": np.array([*axes[0], *axes[1], *corner, columns, rows]),
        "sun_top": np.concatenate([np.zeros(moving), high[:, 2]]),
    }
