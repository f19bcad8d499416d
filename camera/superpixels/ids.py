"""Region ids of an image: (H, W) uint16, where 65535 means no region."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

from ...errors import InputError

IGNORE = 65535


def as_ids(regions: NDArray, source: str) -> NDArray[np.uint16]:
    """``regions`` (H, W) of any integer type as uint16; negative entries become ``IGNORE``.

    Raises:
        InputError: an id above 65534 (65535 itself is kept as ``IGNORE``); it would wrap around.
    """
    regions = np.asarray(regions).astype(np.int64)
    regions[regions < 0] = IGNORE
    if regions.size and regions.max() > IGNORE:
        raise InputError(
            f"{source}: region id {regions.max()} does not fit 16 bits; use ids of at most {IGNORE - 1}"
        )
    return regions.astype(np.uint16)


def connected_components(regions: NDArray[np.integer]) -> tuple[NDArray[np.int64], int]:
    """Number 4-connected areas of equal value 0, 1, ... in raster order of their first pixel.

    Returns:
        (H, W) int64 numbers, and how many there are.
    """
    number, count = label(regions, background=regions.min() - 1, connectivity=1, return_num=True)
    return number.astype(np.int64) - 1, count


def merge_small(regions: NDArray[np.integer], smallest: int) -> NDArray[np.int64]:
    """Give every 4-connected area of fewer than ``smallest`` pixels the value of a neighbour.

    The neighbour is the area before its first pixel in raster order (left, else above), which has been settled
    by then; the very first area of an image has none and stays.
    """
    number, count = connected_components(regions)
    flat, width = number.ravel(), regions.shape[1]
    first = np.searchsorted(np.maximum.accumulate(flat), np.arange(count))  # numbers rise in raster order
    before = np.where(first % width > 0, first - 1, np.maximum(first - width, 0))
    source = np.where(np.bincount(flat) < smallest, flat[before], np.arange(count))
    while not np.array_equal(source, source[source]):  # follow small areas to one that keeps its value
        source = source[source]
    return regions.ravel()[first[source]].astype(np.int64)[number]
