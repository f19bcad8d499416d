"""Which points of a sweep are gone: the centre scan looks through where they are. Needs no labels and no boxes.

After the visibility test of "Remove, then Revert" (Kim and Kim, IROS 2020), which compares range images of a scan and
a map. Here at one coarse resolution, and against the smallest range of the bins around instead of a revert step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError


def seen_through(
    points: NDArray[Any],
    origin_scan: NDArray[Any],
    *,
    bin_deg: float = 1.5,
    margin_m: float = 0.5,
    margin: float = 0.05,
) -> NDArray[np.bool_]:
    """(N,) bool: the scan's rays pass where the point is, so what was there has left (or, in a later sweep, arrives).

    True where the point's own direction bin has a return, and every return in the 3 x 3 bins around lies further away
    than the point by both margins. Hidden points, points in directions without return and points beside an edge are
    not called gone; nor are the lower parts of a thing that left, where the road before it is as near.

    The default bin is just wider than the beam spacing of a 32 beam LiDAR (1.33 deg): a bin that looks at the road
    then has road in the bin below, nearer than its own points. With bins finer than the beams the bin below is
    empty and the road seems open, as happens to a few of its points where the lowest beams of a 64 beam LiDAR are
    5 deg apart. Wider bins need wider openings: 3 x 3 of 1.5 deg are 1.6 m at 20 m, about the height of a car.

    Args:
        points: (N, 3+) x, y, z [m] of a sweep, already in the LiDAR frame of ``origin_scan``.
        origin_scan: (M, 3+) x, y, z [m, its LiDAR frame], best the whole scan: each return left out may open a view
            that it closes, or leave a direction without any. Rows at the origin are no returns.
        bin_deg: width of a direction bin in azimuth and elevation [deg], rounded to a whole number of bins a turn.
        margin_m: how much further the returns must lie [m]; covers errors of poses and range.
        margin: the same as a part of the point's range; covers ground at grazing angles.

    Raises:
        InputError: ``bin_deg`` is not in 0.1 to 30.
    """
    if not 0.1 <= bin_deg <= 30:
        raise InputError(f"bin_deg is {bin_deg}; choose 0.1 to 30 degrees, no less than the beams are apart")
    rows, columns, range_m = _directions(points, bin_deg)
    nearest_m = _nearest_by_direction(origin_scan, bin_deg)
    is_hit = np.isfinite(nearest_m[rows, columns])
    beyond_m = np.maximum(range_m + margin_m, range_m * (1 + margin))
    return is_hit & (_smallest_around(nearest_m)[rows, columns] > beyond_m)


def _directions(
    points: NDArray[Any], bin_deg: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """(N,) elevation bin, (N,) azimuth bin, (N,) range [m] of each point, seen from the origin."""
    height, width = _grid_size(bin_deg)
    x, y, z = points[:, :3].astype(np.float64).T
    flat_m = np.hypot(x, y)
    elevation = np.arctan2(z, flat_m) / np.pi + 0.5  # 0 below, 1 above
    azimuth = np.arctan2(y, x) / (2 * np.pi) + 0.5  # 0 and 1 are the same direction, backwards
    rows = np.minimum((elevation * height).astype(np.int64), height - 1)
    return rows, (azimuth * width).astype(np.int64) % width, np.hypot(flat_m, z)


def _grid_size(bin_deg: float) -> tuple[int, int]:
    """Elevation and azimuth bins: whole numbers of them, so that the seam behind is a border like any other."""
    return round(180 / bin_deg), round(360 / bin_deg)


def _nearest_by_direction(scan: NDArray[Any], bin_deg: float) -> NDArray[np.float64]:
    """(elevation bins, azimuth bins) range of the nearest return [m]; inf where there is none."""
    nearest_m = np.full(_grid_size(bin_deg), np.inf)
    rows, columns, range_m = _directions(scan, bin_deg)
    there = range_m > 0  # some drivers write a beam without return as a point at the origin
    np.minimum.at(nearest_m, (rows[there], columns[there]), range_m[there])
    return nearest_m


def _smallest_around(nearest_m: NDArray[np.float64]) -> NDArray[np.float64]:
    """Smallest of each 3 x 3 neighbourhood; azimuth wraps, elevation ends."""
    over_azimuth = np.minimum.reduce([np.roll(nearest_m, step, axis=1) for step in (-1, 0, 1)])
    padded = np.pad(over_azimuth, ((1, 1), (0, 0)), constant_values=np.inf)
    return np.minimum.reduce([padded[:-2], padded[1:-1], padded[2:]])
