"""Region ids of an image: (H, W) uint16, where 65535 means no region."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...compiled import compiled

IGNORE = 65535


def as_ids(regions: NDArray, source: str) -> NDArray[np.uint16]:
    """``regions`` (H, W) of any integer type as uint16; negative entries become ``IGNORE``.

    Raises:
        ValueError: an id above 65534 (65535 itself is kept as ``IGNORE``); it would wrap around.
    """
    regions = np.asarray(regions).astype(np.int64)
    regions[regions < 0] = IGNORE
    if regions.size and regions.max() > IGNORE:
        raise ValueError(
            f"{source}: region id {regions.max()} does not fit 16 bits; use ids of at most {IGNORE - 1}"
        )
    return regions.astype(np.uint16)


@compiled()
def connected_components(regions: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """Number 4-connected areas of equal value 0, 1, ... in raster order of their first pixel.

    Returns:
        (H, W) int64 numbers, and how many there are.
    """
    height, width = regions.shape
    number = np.full((height, width), -1, np.int64)
    stack = np.empty(height * width, np.int64)
    count = 0
    for start in range(height * width):
        if number[start // width, start % width] >= 0:
            continue
        value = regions[start // width, start % width]
        number[start // width, start % width] = count
        stack[0] = start
        filled = 1
        while filled > 0:
            filled -= 1
            y, x = stack[filled] // width, stack[filled] % width
            for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1)):
                ny, nx = y + dy, x + dx
                if 0 <= ny < height and 0 <= nx < width and number[ny, nx] < 0 and regions[ny, nx] == value:
                    number[ny, nx] = count
                    stack[filled] = ny * width + nx
                    filled += 1
        count += 1
    return number, count


@compiled()
def merge_small(regions: NDArray[np.int64], smallest: int) -> NDArray[np.int64]:
    """Give every 4-connected area of fewer than ``smallest`` pixels the value of a neighbour.

    The neighbour is the area before its first pixel in raster order (left, else above), which has been settled
    by then; the very first area of an image has none and stays.
    """
    number, count = connected_components(regions)
    height, width = regions.shape
    area = np.zeros(count, np.int64)
    first = np.full(count, -1, np.int64)
    for y in range(height):
        for x in range(width):
            area[number[y, x]] += 1
            if first[number[y, x]] < 0:
                first[number[y, x]] = y * width + x
    value = np.empty(count, np.int64)
    for n in range(count):
        y, x = first[n] // width, first[n] % width
        value[n] = regions[y, x]
        if area[n] < smallest:
            if x > 0:
                value[n] = value[number[y, x - 1]]
            elif y > 0:
                value[n] = value[number[y - 1, x]]
    merged = np.empty((height, width), np.int64)
    for y in range(height):
        for x in range(width):
            merged[y, x] = value[number[y, x]]
    return merged
