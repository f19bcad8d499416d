"""Snowfall after Hahner et al. 2022: flakes take their share of a beam, and may echo more than what is behind them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..cloud import Cloud
from .domain import SNOW_RETURN, Corrupted, Domain, changed, ranges_of
from .flakes import patterns, receive
from .ground import FEWEST, incidence_cosines, noise_line

Labels = NDArray[np.uint8] | None

_SAME_M = 0.2  # nearer than this to what was seen, the strongest echo is of that
_NOISE = 0.7  # of the receiver, as a share of the weakest echoes of the ground
_FLAKE_DENSITY, _WATER_AREA = 0.1, 0.003  # of snow in water [g/cm3]; as the published code converts rates


def snow(cloud: Cloud, labels: Labels, level: int, rng: np.random.Generator, domain: Domain) -> Corrupted:
    """The scan in snowfall; a pattern of flakes a beam, which of them is drawn.

    In the published code a target behind any flake loses the normalisation of its range and nearly always vanishes. It
    also corrects intensities for the focus of one certain sensor, which is left out here. Where less than 1000 points
    are labelled as ground, nothing is lost in the noise of the receiver.

    Raises:
        InputError: the dataset has no intensities.
    """
    intensity = 255 * domain.intensity(cloud, "snow")
    ranges, rings = ranges_of(cloud), domain.rings(cloud)
    azimuths = np.arctan2(cloud.xyz[:, 1], cloud.xyz[:, 0]).astype(np.float64)
    falling = patterns(*_rates(domain, level), domain.beams)
    shuffled = rng.permutation(len(falling))
    peak_m, peak = np.full(len(cloud), np.nan), np.full(len(cloud), np.nan)
    for ring in np.unique(rings):
        rows = np.flatnonzero(rings == ring)
        flakes = falling[shuffled[ring % len(falling)]]
        peak_m[rows], peak[rows] = receive(
            ranges[rows], azimuths[rows], intensity[rows], flakes, is_published=domain.is_published
        )
    is_met = np.isfinite(peak_m)
    is_flake = is_met & (np.abs(peak_m - ranges) >= _SAME_M)
    after = np.where(is_met, np.clip(np.round(peak), 0, 255), intensity)
    factor = np.where(is_flake, peak_m / np.maximum(ranges, 1e-9), 1.0)
    return changed(
        cloud,
        xyz=cloud.xyz * factor[:, None],
        intensity=after / 255,
        noise=np.where(is_flake, SNOW_RETURN, 0).astype(np.uint8),
        keep=is_flake | (after >= _threshold(cloud, labels, intensity, ranges, domain)),
    )


def _rates(domain: Domain, level: int) -> tuple[float, float]:
    """Rate of rain of as much water [mm/h], and the share of a plane that flakes fill."""
    snowfall, speed = domain.strengths.snowfall_mm_h[level], domain.strengths.fall_speed_m_s[level]
    rain = (snowfall / (487 * _FLAKE_DENSITY * _WATER_AREA * speed)) ** 1.5
    return rain, snowfall / (3.6e6 * _FLAKE_DENSITY * speed)


def _threshold(
    cloud: Cloud,
    labels: Labels,
    intensity: NDArray[np.float64],
    ranges: NDArray[np.float64],
    domain: Domain,
) -> NDArray[np.float64]:
    """(N,) intensity below which a return is lost: a parabola through the noise level of the ground over range."""
    ground = np.zeros(len(cloud), bool) if labels is None else np.isin(labels, domain.ground)
    if ground.sum() < FEWEST:
        return np.full(len(cloud), -np.inf)
    cosine = incidence_cosines(cloud.xyz[ground], ranges[ground])
    line = noise_line(ranges[ground], intensity[ground] / cosine)
    level = _NOISE * np.polyval(line, ranges[ground]) * cosine
    return np.asarray(np.polyval(np.polyfit(ranges[ground], level, 2), ranges), np.float64)
