"""How far apart the beams and the columns of a scan are, measured on the scan itself.

Nothing has to be known of the sensor: beams may be spaced unevenly, scans moved to one pose, thinned or unsorted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# A slice of directions thinner than the gap between any two beams holds one beam: its returns follow column on column
_SLICE_DEG = 0.05
_SECTORS, _SECTOR_DEG = 8, 6.0  # parts of the turn that are looked at
_COLUMN_DEG = (0.05, 2.0)  # gaps between columns that can be
_ONE_BEAM_DEG = 0.06  # returns of a column less apart than this are of one beam
_EVERY = 8  # of the columns tells the gaps between beams
_BEAMS_DEG = 8.0  # the widest gap between beams that is believed
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
    beam_gap: NDArray[
        np.float64
    ]  # (N,) usual gap from a return to the next one above it, at its elevation [rad]


def scan_columns(points: NDArray) -> Columns:
    """The columns of a scan (N, 3+) x, y, z [m, lidar frame: z is the axis that the sensor turns about]."""
    xyz = np.ascontiguousarray(points[:, :3], dtype=np.float64)
    x, y, z = xyz.T
    flat = np.hypot(x, y)
    range_m = np.hypot(flat, z)
    there = np.isfinite(range_m) & (flat > 0)
    if not there.all():
        xyz, flat, range_m = xyz[there], flat[there], range_m[there]
        x, y, z = xyz.T
    azimuth, elevation = np.arctan2(y, x), np.arctan2(z, flat)
    gap = _column_gap(azimuth, elevation)
    column = ((azimuth + np.pi) / gap).astype(np.int64)
    order = np.argsort(column + (elevation / np.pi + 0.5) * 0.999)
    column, elevation = column[order], elevation[order]
    return Columns(xyz[order], elevation, range_m[order], column, gap, _beam_gaps(column, elevation))


def _column_gap(azimuth: NDArray[np.float64], elevation: NDArray[np.float64]) -> float:
    """Usual gap of neighbouring returns of one beam [rad]."""
    turn = np.degrees(azimuth) / 360.0 + 0.5
    sector = np.minimum((turn * _SECTORS).astype(np.int64), _SECTORS - 1)
    looked_at = turn * 360.0 - sector * (360.0 / _SECTORS) < _SECTOR_DEG
    beam = np.floor(np.degrees(elevation[looked_at]) / _SLICE_DEG).astype(np.int64)
    key = (beam * _SECTORS + sector[looked_at]) * 512.0 + turn[looked_at] * 360.0
    gaps = np.diff(np.sort(key))
    low, high = _COLUMN_DEG
    gaps = gaps[(gaps > low / 4) & (gaps < _SECTOR_DEG)]
    if not len(gaps):
        return float(np.radians(low))
    # returns that are missing, or lie in the next slice, leave gaps of two or three columns
    single = gaps[gaps < 1.5 * np.quantile(gaps, 0.25)]
    return float(np.radians(np.clip(np.median(single), low, high)))


def _beam_gaps(column: NDArray[np.int64], elevation: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) median gap above the returns of the same degree of elevation [rad]."""
    some = np.flatnonzero(column % _EVERY == 0)
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
    return np.radians(np.interp(np.degrees(elevation), degrees[enough] + 0.5, usual))
