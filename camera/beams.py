"""How far apart the beams and the columns of a scan are, measured on the scan itself.

Nothing has to be known of the sensor: beams may be spaced unevenly, scans moved to one pose, thinned or unsorted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..compiled import compiled

# A slice of directions thinner than the gap between any two beams holds one beam: its returns follow column on column
_SLICE_DEG = 0.05
_SECTORS, _SECTOR_DEG = 8, 4.0  # parts of the turn that are looked at
_COLUMN_DEG = (0.05, 2.0)  # gaps between columns that can be
_ONE_BEAM_DEG = 0.06  # returns of a column less apart than this are of one beam
_EVERY = 16  # of the columns tells the gaps between beams; a power of two
_BEAMS_DEG = 8.0  # the widest gap between beams that is believed
_LONG_COLUMN = 300  # returns; above, sorting one by one takes longer than all at once
_ENOUGH = 5  # gaps in a degree of elevation to believe their median


@dataclass(frozen=True, eq=False)
class Columns:
    """The returns of a scan in the order of its columns, each from below.

    There are N of them; rows without a return, which are not finite or lie at the origin, are left out.
    """

    points: NDArray[np.float64]  # (N, 3) [m, lidar frame]
    elevation: NDArray[np.float64]  # (N,) [rad]
    range_m: NDArray[np.float64]  # (N,)
    column: NDArray[np.int64]  # (N,) ascending; a column is as wide as the gap between two
    column_gap: float  # [rad]
    # (N,) usual gap from a return to the next one above it, at its elevation [rad]
    beam_gap: NDArray[np.float64]


def scan_columns(points: NDArray) -> Columns:
    """The columns of a scan (N, 3+) x, y, z [m, lidar frame: z is the axis that the sensor turns about]."""
    xyz = np.asarray(points)[:, :3].astype(np.float64)
    flat, range_m = _distances(xyz)
    there = np.isfinite(range_m) & (flat > 0)
    if not there.all():
        xyz, flat, range_m = xyz[there], flat[there], range_m[there]
    x, y, z = np.ascontiguousarray(xyz.T)  # with strides, angles take twice as long
    azimuth, elevation = np.arctan2(y, x), np.arctan2(z, flat)
    gap = _column_gap(azimuth, elevation)
    column = ((azimuth + np.pi) / gap).astype(np.int64)
    order = _from_below(column, elevation)
    column, elevation = column[order], elevation[order]
    # np.take: rows by index cost 7 times as much
    xyz = np.take(xyz, order, axis=0)
    return Columns(xyz, elevation, range_m[order], column, gap, _beam_gaps(column, elevation))


def _from_below(column: NDArray[np.int64], elevation: NDArray[np.float64]) -> NDArray[np.int64]:
    """(N,) rows by column, each column from below; returns of one direction stay in their order."""
    counts = np.bincount(column)
    if counts.max(initial=0) > _LONG_COLUMN:  # several scans in one
        return np.lexsort((elevation, column))
    order, first = np.empty(len(column), np.int64), np.cumsum(counts) - counts
    _sort_columns(column, elevation, first, first.copy(), order)
    return order


@compiled()
def _sort_columns(column, elevation, first, end, order):
    """Write the rows; in ``order``, column c begins at ``first[c]`` and has been filled up to ``end[c]``."""
    for n in range(len(column)):
        c, height = column[n], elevation[n]
        place = end[c]
        # columns are short, and often sorted already: a return moves down past those above it
        while place > first[c] and elevation[order[place - 1]] > height:
            order[place] = order[place - 1]
            place -= 1
        order[place] = n
        end[c] += 1


def _distances(xyz: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N,) horizontal and (N,) whole distance from the sensor [m], not finite for rows that are not."""
    flat, range_m = np.empty(len(xyz)), np.empty(len(xyz))
    _write_distances(xyz, flat, range_m)
    return flat, range_m


@compiled()
def _write_distances(xyz, flat, range_m):
    for n in range(len(xyz)):
        square = xyz[n, 0] * xyz[n, 0] + xyz[n, 1] * xyz[n, 1]
        flat[n] = math.sqrt(square)
        range_m[n] = math.sqrt(square + xyz[n, 2] * xyz[n, 2])


def _column_gap(azimuth: NDArray[np.float64], elevation: NDArray[np.float64]) -> float:
    """Usual gap of neighbouring returns of one beam [rad]."""
    rows, sector, into = _in_sectors(azimuth, 2 * math.pi / _SECTORS, float(np.radians(_SECTOR_DEG)))
    beam = np.floor(np.degrees(elevation[rows]) / _SLICE_DEG)
    # sorted by beam, sector and azimuth, one beam or sector a turn away from the next
    gaps = np.diff(np.sort((beam * _SECTORS + sector) * 360.0 + np.degrees(into)))
    low, high = _COLUMN_DEG
    gaps = gaps[(gaps > low / 4) & (gaps < _SECTOR_DEG)]
    if not len(gaps):
        return float(np.radians(low))
    # returns that are missing, or lie in the next slice, leave gaps of two or three columns
    single = gaps[gaps < 1.5 * np.quantile(gaps, 0.25)]
    return float(np.radians(np.clip(np.median(single), low, high)))


@compiled()
def _in_sectors(azimuth, step, width):
    """Rows of the returns in the first ``width`` of each ``step`` of the turn [rad], their sectors, and how far in."""
    rows = np.empty(len(azimuth), np.int64)
    sector, into, count = np.empty(len(azimuth)), np.empty(len(azimuth)), 0
    for n in range(len(azimuth)):
        turned = azimuth[n] + math.pi
        # off by roundings, so only what is clearly outside is passed
        rough = turned - math.floor(turned / step) * step
        if width + 1e-6 < rough < step - 1e-6:
            continue
        sector[count], into[count] = divmod(turned, step)
        rows[count] = n
        count += into[count] < width
    return rows[:count], sector[:count], into[:count]


def _beam_gaps(column: NDArray[np.int64], elevation: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) median gap above the returns of the same degree of elevation [rad]."""
    some = np.flatnonzero(column & (_EVERY - 1) == 0)
    below, gap = np.degrees(elevation[some[:-1]]), np.degrees(np.diff(elevation[some]))
    apart = (np.diff(column[some]) == 0) & (gap > _ONE_BEAM_DEG)
    degree, gap = np.floor(below[apart]), gap[apart]
    order = np.lexsort((gap, degree))
    degrees, first, count = np.unique(degree[order], return_index=True, return_counts=True)
    median = gap[order][first + count // 2]
    enough = count >= _ENOUGH
    if not enough.any():  # a single beam, or too few returns to tell
        return np.full(len(elevation), np.radians(_COLUMN_DEG[1]))
    usual = np.minimum(median[enough], _BEAMS_DEG)
    gaps = np.empty(len(elevation))
    knots = degrees[enough] + 0.5
    _interpolate(elevation, knots, usual, np.diff(usual) / np.diff(knots), gaps)
    return gaps


@compiled(error_model="numpy")
def _interpolate(elevation, knots, values, slopes, found):
    """Write what ``values`` are between ``knots``, halves of whole degrees, at each elevation; all in radians.

    ``slopes`` are those between the knots.
    """
    first, last = math.floor(knots[0]), len(knots) - 1
    below = np.zeros(math.floor(knots[last]) - first + 1, np.int64)  # the knot at or below each degree
    for k in range(last):
        below[math.floor(knots[k]) - first : math.floor(knots[k + 1]) - first] = k
    for n in range(len(elevation)):
        degree = elevation[n] * (180 / math.pi)
        if degree <= knots[0]:
            gap = values[0]
        elif degree >= knots[last]:
            gap = values[last]
        else:
            k = below[math.floor(degree - 0.5) - first]
            k -= knots[k] > degree  # where the half that was taken away rounded
            gap = slopes[k] * (degree - knots[k]) + values[k]
        found[n] = gap * (math.pi / 180)
