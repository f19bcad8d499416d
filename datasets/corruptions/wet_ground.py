"""Wet ground after Hahner et al. 2022: water mirrors the laser away, and what returns too weakly is lost."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..cloud import Cloud
from .domain import Corrupted, Domain, changed, ranges_of
from .ground import FEWEST, incidence_cosines, noise_line, power_line

Labels = NDArray[np.uint8] | None

_AIR, _WATER = 1.0003, 1.33  # refractive indices
_TEXTURE_MM = 1.2  # depth of the ground's relief, which water fills
_EMITTED = 15.0  # power, as a multiple of what the ground returns at normal incidence


def wet_ground(
    cloud: Cloud, labels: Labels, level: int, rng: np.random.Generator, domain: Domain
) -> Corrupted:
    """The scan on wet ground; one that sees less than 1000 points of ground stays as it is. Without chance.

    The published code divides what comes back out of water by the angle of incidence, so that more may come back than
    from dry ground, and takes the laser's power for the noise of the receiver.

    Raises:
        InputError: there are no labels or intensities, or no ground among the classes.
    """
    known = domain.of_classes(labels, domain.ground, "wet_ground", "ground")
    intensity = domain.intensity(cloud, "wet_ground")
    rows = np.flatnonzero(np.isin(known, domain.ground))
    if len(rows) < FEWEST:
        return changed(cloud)
    before, ranges = intensity[rows], ranges_of(cloud)[rows]
    cosine = incidence_cosines(cloud.xyz[rows], ranges)
    line = power_line(ranges, before / cosine)
    lowest = line if domain.is_published else noise_line(ranges, before / cosine)
    power = np.maximum(_EMITTED * np.polyval(line, ranges), 1e-6)
    reflectivity = before / cosine / power
    wet = transmission(np.arccos(cosine), np.clip(reflectivity, 0.05, 1))
    if domain.is_published:
        wet /= np.maximum(np.arccos(cosine), 1e-6)
    share = min(domain.strengths.water_mm[level] / _TEXTURE_MM, 1.0)
    after = np.clip(power * cosine * ((1 - share) * reflectivity + share * wet), 0, before)
    keep = np.ones(len(cloud), bool)
    keep[rows] = after > domain.strengths.wet_noise[level] * np.polyval(lowest, ranges) * cosine
    intensity[rows] = after
    return changed(cloud, intensity=intensity, keep=keep)


def transmission(angle: NDArray[np.float64], reflectivity: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) share of the light that comes back out of water over ground, of the better polarisation.

    Args:
        angle: of incidence in air [rad]. reflectivity: of the ground below.
    """
    cos_air = np.cos(angle)
    cos_water = np.sqrt(1 - (_AIR / _WATER * np.sin(angle)) ** 2)
    # perpendicular, parallel; the same from either side
    mirrored = (
        ((_AIR * cos_air - _WATER * cos_water) / (_AIR * cos_air + _WATER * cos_water)) ** 2,
        ((_WATER * cos_air - _AIR * cos_water) / (_WATER * cos_air + _AIR * cos_water)) ** 2,
    )
    return np.maximum(*((1 - r) ** 2 * reflectivity / (1 - reflectivity * r) for r in mirrored))
