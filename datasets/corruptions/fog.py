"""Fog after Hahner et al. 2021: every return is dimmed; where the fog before it echoes more, that is what returns."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import trapezoid

from ..cloud import Cloud
from .domain import FOG_RETURN, Corrupted, Domain, changed, ranges_of

Labels = NDArray[np.uint8] | None

ATTENUATIONS = (0.0, 0.005, 0.01, 0.02, 0.03, 0.06)  # [1/m], one of them a scan
_TARGET_BACKSCATTER = 1e-6 / np.pi  # of what a hard return is seen on [1/sr]
_PULSE_M = 299_792_458 * 20e-9  # half width of 20 ns, as far as light goes
_SECONDS_A_METRE = 2 / 299_792_458  # there and back
_NEAR_M, _FULL_M = 0.9, 1.0  # nothing nearer than the first is received, everything beyond the second
_GRID_M, _FARTHEST_M = 0.1, 200.0
_STEPS = 600  # of the integral over a pulse
_NOISE_M = 10.0


def fog(cloud: Cloud, labels: Labels, level: int, rng: np.random.Generator, domain: Domain) -> Corrupted:
    """The scan in fog whose attenuation is drawn; the level is its backscatter.

    The distance of an echo of fog is drawn around 1 / R0 in a way that crosses zero for R0 below 10 m: in the published
    code such points are mirrored or thrown far away, here their noise ends at half of R0. Published intensities may
    exceed those of the sensor.
    """
    attenuation = ATTENUATIONS[rng.integers(len(ATTENUATIONS))]
    backscatter = domain.strengths.backscatter[level]
    ranges = ranges_of(cloud)
    intensity = np.ones(len(cloud)) if cloud.intensity is None else cloud.intensity.astype(np.float64)
    hard = intensity * np.exp(-2 * attenuation * ranges)
    if domain.is_published and domain.strengths.rounds:
        hard = np.round(255 * hard) / 255
    peak_m, peak = soft_peaks(attenuation)
    cell = np.clip(np.round(ranges / _GRID_M), 0, len(peak) - 1).astype(np.int64)
    soft = intensity * ranges**2 * backscatter / _TARGET_BACKSCATTER * peak[cell]
    is_fog = soft > hard

    noise_m = np.full(len(cloud), _NOISE_M) if domain.is_published else np.minimum(_NOISE_M, ranges / 2)
    divisor = rng.uniform(ranges - noise_m, ranges + noise_m)
    factor = np.where(is_fog, peak_m[cell] / np.where(divisor == 0, np.inf, divisor), 1.0)
    xyz = cloud.xyz * np.clip(factor, -_FARTHEST_M, _FARTHEST_M)[:, None]
    found = np.where(is_fog, soft, hard)
    return changed(
        cloud,
        xyz=np.clip(xyz, -_FARTHEST_M, _FARTHEST_M),
        intensity=None if cloud.intensity is None else found if domain.is_published else found.clip(0, 1),
        noise=np.where(is_fog, FOG_RETURN, 0).astype(np.uint8),
    )


@cache
def soft_peaks(attenuation: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(G,) distance R* [m] at which the echo of fog is strongest, and how strong: for hard targets every 0.1 m.

    A target cuts the fog off behind it. So from where the echo of endless fog peaks, all targets have that peak.
    """
    grid = np.arange(0, _FARTHEST_M + _GRID_M / 2, _GRID_M)
    endless = _soft_returns(grid[grid < 3 * _PULSE_M], np.inf, attenuation)
    peak_m, peak = np.full(len(grid), grid[endless.argmax()]), np.full(len(grid), endless.max())
    for place in np.flatnonzero(grid <= peak_m[0]):
        behind = grid[grid < grid[place] + 3 * _PULSE_M]
        returns = _soft_returns(behind, grid[place], attenuation)
        peak_m[place], peak[place] = behind[returns.argmax()], returns.max()
    return peak_m, peak


def _soft_returns(distances: NDArray[np.float64], target: float, attenuation: float) -> NDArray[np.float64]:
    """(D,) power that is received from fog at these distances [m], in front of a hard target."""
    first = np.clip(distances - target, 0, _PULSE_M)  # of the pulse, what is not yet behind the target
    last = np.clip(distances - _NEAR_M, first, _PULSE_M)  # and not yet too near
    back_m = first[:, None] + (last - first)[:, None] * np.linspace(0, 1, _STEPS + 1)
    depth = np.maximum(distances[:, None] - back_m, _NEAR_M)
    received = np.clip((depth - _NEAR_M) / (_FULL_M - _NEAR_M), 0, 1)
    power = np.sin(np.pi * back_m / _PULSE_M) ** 2 * np.exp(-2 * attenuation * depth) / depth**2 * received
    seconds: NDArray[np.float64] = trapezoid(power, dx=_SECONDS_A_METRE / _STEPS, axis=1) * (last - first)
    return seconds
