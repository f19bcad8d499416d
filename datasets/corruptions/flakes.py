"""Flakes of snow in the planes of a LiDAR's beams, and what a beam receives of them. The beam is compiled."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ...compiled import compiled

REACH_M, NEAR_M, FULL_M = 120.0, 0.9, 1.0  # of flakes, and from where on returns are received
HALF_BEAM = 0.0015  # half of the divergence [rad]
PULSE_M = 299_792_458 * 10e-9  # a pulse of 10 ns, as far as light goes
GRID_M = 0.1
_LARGEST_M = 0.02
_SEED = 1205


@dataclass(frozen=True, slots=True, eq=False)
class Flakes:
    """Disks in the plane of a beam, by ascending azimuth; those near either end are there again beyond the other.

    ranges, azimuths, radii: (F,) [m], [rad], [m]. widest: half of the largest angle that one fills [rad].
    """

    ranges: NDArray[np.float64]
    azimuths: NDArray[np.float64]
    radii: NDArray[np.float64]
    widest: float

    @classmethod
    def of(
        cls, ranges: NDArray[np.float64], azimuths: NDArray[np.float64], radii: NDArray[np.float64]
    ) -> Flakes:
        """The flakes of any order; azimuths in [-pi, pi)."""
        widest = float(np.arcsin(radii / ranges).max(initial=0.0))
        margin = widest + HALF_BEAM
        first, last = azimuths < -np.pi + margin, azimuths > np.pi - margin
        around = np.concatenate([azimuths, azimuths[first] + 2 * np.pi, azimuths[last] - 2 * np.pi])
        order = np.argsort(around, kind="stable")
        again = [np.concatenate([v, v[first], v[last]])[order] for v in (ranges, radii)]
        return cls(again[0], around[order], again[1], widest)


@lru_cache(maxsize=3)
def patterns(rain_mm_h: float, occupied: float, count: int) -> tuple[Flakes, ...]:
    """So many patterns of flakes, always the same ones.

    Args:
        rain_mm_h: rate of rain of as much water. occupied: share of the plane that flakes fill.
    """
    rng = np.random.default_rng(_SEED)
    return tuple(_pattern(rng, rain_mm_h, occupied) for _ in range(count))


def _pattern(rng: np.random.Generator, rain_mm_h: float, occupied: float) -> Flakes:
    """Disks evenly over the circle of 120 m until they fill their share; of two that overlap one is left out.

    Diameters of flakes after Gunn and Marshall; the plane cuts each at an even height. Those nearer than what is
    received are left out.
    """
    rate = 25.5 * rain_mm_h**-0.48 * 100  # of the exponential distribution [1/m]
    area = occupied * np.pi * REACH_M**2
    expected = int(area / (np.pi / (3 * rate**2)) * 1.3) + 100
    radius = rng.exponential(1 / rate, expected) / 2
    radius = radius[radius <= _LARGEST_M / 2]
    radii = radius * np.sqrt(1 - rng.uniform(-1, 1, len(radius)) ** 2)
    radii = radii[: np.searchsorted(np.cumsum(np.pi * radii**2), area)]
    ranges = REACH_M * np.sqrt(rng.uniform(0, 1, len(radii)))
    azimuths = rng.uniform(-np.pi, np.pi, len(radii))
    centres = np.stack([ranges * np.cos(azimuths), ranges * np.sin(azimuths)], axis=1)
    keep = ranges >= NEAR_M
    for first, second in cKDTree(centres).query_pairs(_LARGEST_M):
        if np.linalg.norm(centres[first] - centres[second]) < radii[first] + radii[second]:
            keep[max(first, second)] = False
    return Flakes.of(ranges[keep], azimuths[keep], radii[keep])


def receive(
    ranges: NDArray[np.float64],
    azimuths: NDArray[np.float64],
    intensity: NDArray[np.float64],
    flakes: Flakes,
    *,
    is_published: bool,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where each of the beams to N points receives most [m], and how much; NaN where it meets no flake.

    Args:
        ranges, azimuths, intensity: (N,) of the points that are hit [m], [rad] in [-pi, pi], [0, 255].
        is_published: a target behind a flake echoes as a flake does, as in the published code.
    """
    peak_m, peak = np.full(len(ranges), np.nan), np.full(len(ranges), np.nan)
    if len(ranges):
        _receive(
            *(ranges, azimuths, intensity, flakes.ranges, flakes.azimuths, flakes.radii, flakes.widest),
            *(is_published, peak_m, peak),
        )
    return peak_m, peak


@compiled(error_model="numpy", nogil=True)
def _receive(  # type: ignore[no-untyped-def]
    ranges, azimuths, intensity, flake_m, flake_azimuth, flake_radius, widest, is_published, peak_m, peak
):
    signal = np.zeros(int((max(ranges.max(), REACH_M) + PULSE_M) / GRID_M) + 2)
    for i in range(len(ranges)):
        low = np.searchsorted(flake_azimuth, azimuths[i] - HALF_BEAM - widest)
        high = np.searchsorted(flake_azimuth, azimuths[i] + HALF_BEAM + widest)
        met = np.empty(high - low, np.int64)
        count = 0
        for j in range(low, high):
            away = abs(flake_azimuth[j] - azimuths[i])
            if flake_m[j] < ranges[i] and away < HALF_BEAM + math.asin(flake_radius[j] / flake_m[j]):
                met[count] = j
                count += 1
        if count == 0:
            continue
        order = np.argsort(flake_m[met[:count]])
        free = np.empty((count + 1, 2))
        free[0, 0], free[0, 1] = -HALF_BEAM, HALF_BEAM
        pieces = 1
        for k in range(count + 1):
            share = 0.0
            if k < count:
                j = met[order[k]]
                middle, half = flake_azimuth[j] - azimuths[i], math.asin(flake_radius[j] / flake_m[j])
                left = np.empty((count + 1, 2))
                kept = 0
                for p in range(pieces):
                    start, end = free[p, 0], free[p, 1]
                    cut_start, cut_end = max(start, middle - half), min(end, middle + half)
                    if cut_start >= cut_end:
                        left[kept, 0], left[kept, 1] = start, end
                        kept += 1
                        continue
                    share += cut_end - cut_start
                    if cut_start > start:
                        left[kept, 0], left[kept, 1] = start, cut_start
                        kept += 1
                    if cut_end < end:
                        left[kept, 0], left[kept, 1] = cut_end, end
                        kept += 1
                free, pieces = left, kept
                distance = flake_m[j]
                echo = 0.9 * 255.0 / distance**2
            else:  # what is left of the beam hits the target
                for p in range(pieces):
                    share += free[p, 1] - free[p, 0]
                distance = ranges[i]
                echo = 0.9 * 255.0 / distance**2 if is_published else intensity[i]
            echo *= share / (2 * HALF_BEAM) * min(max((distance - NEAR_M) / (FULL_M - NEAR_M), 0.0), 1.0)
            for cell in range(math.ceil(distance / GRID_M), int((distance + PULSE_M) / GRID_M) + 1):
                signal[cell] += echo * math.sin(math.pi * (cell * GRID_M - distance) / PULSE_M) ** 2
        best = signal.argmax()
        peak_m[i], peak[i] = best * GRID_M - PULSE_M / 2, signal[best]
        signal[:] = 0.0
