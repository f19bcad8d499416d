"""Corruptions of a mount or a sensor, each a function of (cloud, labels, level, rng, domain)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..cloud import Cloud
from .domain import CROSSTALK_POINT, Corrupted, Domain, changed

Labels = NDArray[np.uint8] | None

_CROSSTALK_SIGMA = 3.0  # [m], and of the intensity in the units of the published files
_FEWEST_OF_OBJECT = 10  # a class with no more points keeps all


def motion_blur(
    cloud: Cloud, labels: Labels, level: int, rng: np.random.Generator, domain: Domain
) -> Corrupted:
    """The scan shifted as a whole, and every point by a tenth of that, in z by a twentieth."""
    sigma = domain.strengths.blur_m[level]
    shift = rng.normal(0, sigma, 3)
    jitter = rng.normal(0, 1, (len(cloud), 3)) * (0.1 * sigma, 0.1 * sigma, 0.05 * sigma)
    return changed(cloud, xyz=cloud.xyz + shift + np.clip(jitter, -3 * sigma, 3 * sigma))


def beam_missing(
    cloud: Cloud, labels: Labels, level: int, rng: np.random.Generator, domain: Domain
) -> Corrupted:
    """Without some of the beams, but for the lowest and highest ones.

    A quarter of them is drawn for each level. The published code draws with replacement, so that fewer are lost.
    """
    # 2 and 28 of 32 beams, 4 and 58 of 64 are the first and the last that may be lost
    edge = domain.beams // 16
    inner = np.arange(edge, domain.beams - edge - 1)
    count = min(domain.beams // 4 * (level + 1), len(inner))
    lost = rng.choice(inner, count, replace=domain.is_published)
    return changed(cloud, keep=~np.isin(domain.rings(cloud), lost))


def crosstalk(
    cloud: Cloud, labels: Labels, level: int, rng: np.random.Generator, domain: Domain
) -> Corrupted:
    """Some points thrown about, with their intensity.

    The published code adds noise of the size of 3 to intensities in the units of the files, unbounded; without its
    mistakes it is 3 of 255, and intensities stay in range.
    """
    rows = rng.choice(len(cloud), int(domain.strengths.crosstalk[level] * len(cloud)), replace=False)
    noise = _CROSSTALK_SIGMA * rng.normal(0, 1, (len(rows), 4))
    xyz = cloud.xyz.astype(np.float64)
    xyz[rows] += noise[:, :3]
    intensity = None
    if cloud.intensity is not None:
        intensity = cloud.intensity.astype(np.float64)
        intensity[rows] += noise[:, 3] / (domain.strengths.intensity_full if domain.is_published else 255.0)
        intensity = intensity if domain.is_published else intensity.clip(0, 1)
    kind = np.zeros(len(cloud), np.uint8)
    kind[rows] = CROSSTALK_POINT
    return changed(cloud, xyz=xyz, intensity=intensity, noise=kind)


def incomplete_echo(
    cloud: Cloud, labels: Labels, level: int, rng: np.random.Generator, domain: Domain
) -> Corrupted:
    """Most points of every class of vehicles lost, as of dark paint.

    Raises:
        InputError: there are no labels, or no vehicles among the classes.
    """
    known = domain.of_classes(labels, domain.vehicles, "incomplete_echo", "vehicles")
    keep = np.ones(len(cloud), bool)
    for vehicle in domain.vehicles:
        rows = np.flatnonzero(known == vehicle)
        if len(rows) > _FEWEST_OF_OBJECT:
            lost = int(domain.strengths.lost_echoes[level] * len(rows))
            keep[rng.choice(rows, lost, replace=False)] = False
    return changed(cloud, keep=keep)


def cross_sensor(
    cloud: Cloud, labels: Labels, level: int, rng: np.random.Generator, domain: Domain
) -> Corrupted:
    """As of a sensor of fewer beams, a quarter less for each level, and of half the points a beam. Without chance."""
    quarter = domain.beams // 4
    lost = (
        np.arange(1, domain.beams, 4),
        np.arange(1, domain.beams, 2),
        np.floor(1 + 1.33 * np.arange(3 * quarter)),
    )[level]
    kept = np.flatnonzero(~np.isin(domain.rings(cloud), lost))[::2]
    keep = np.zeros(len(cloud), bool)
    keep[kept] = True
    return changed(cloud, keep=keep)
