"""Flakes of snow: how many and how large they are, and what a beam receives, against a beam of many thin rays."""

from __future__ import annotations

import math

import numpy as np
import pytest

from superflow.datasets.card import load_card
from superflow.datasets.corruptions.domain import Domain
from superflow.datasets.corruptions.flakes import Flakes, patterns, receive
from superflow.datasets.corruptions.snow import _rates

RAYS = 40_001


def received(distance: float, azimuth: float, bright: float, flakes: list[tuple], published: bool):
    """The formula, the beam's angle cut into thin rays: nearest flakes first, each ray ends at what it meets."""
    angles = np.linspace(-0.0015, 0.0015, RAYS)
    ends = np.full(RAYS, -1)
    met = []
    for number, (away, direction, radius) in sorted(enumerate(flakes), key=lambda f: f[1][0]):
        side = (direction - azimuth + math.pi) % (2 * math.pi) - math.pi
        half = math.asin(radius / away)
        if away < distance and abs(side) < 0.0015 + half:
            met.append(number)
            ends[(ends < 0) & (np.abs(angles - side) < half)] = number
    if not met:
        return None
    grid = np.arange(0, 1300) * 0.1
    signal = np.zeros(1300)
    pulse = 299_792_458 * 10e-9
    for number in (*met, -1):
        away = distance if number < 0 else flakes[number][0]
        echo = 0.9 * 255 / away**2 if number >= 0 or published else bright
        echo *= (ends == number).mean() * min(max((away - 0.9) / 0.1, 0), 1)
        inside = (grid >= away) & (grid <= away + pulse)
        signal[inside] += echo * np.sin(math.pi * (grid[inside] - away) / pulse) ** 2
    return grid[signal.argmax()] - pulse / 2, signal.max()


@pytest.mark.parametrize("published", [True, False])
def test_a_beam_receives_what_its_rays_do(published):
    rng = np.random.default_rng(3)
    count = 900
    azimuths = rng.uniform(-0.02, 0.02, count) + np.where(rng.uniform(size=count) < 0.5, 0.0, math.pi - 0.01)
    azimuths = (azimuths + math.pi) % (2 * math.pi) - math.pi  # also around the seam
    listed = list(zip(rng.uniform(1, 60, count), azimuths, rng.uniform(0.0005, 0.01, count)))
    flakes = Flakes.of(*(np.array(column) for column in zip(*listed)))
    targets = rng.uniform(2, 70, 60)
    beams = rng.uniform(-0.025, 0.025, 60) + np.where(rng.uniform(size=60) < 0.5, 0.0, math.pi - 0.01)
    beams = (beams + math.pi) % (2 * math.pi) - math.pi
    bright = rng.uniform(1, 255, 60)
    peak_m, peak = receive(targets, beams, bright, flakes, is_published=published)
    met = 0
    for i in range(60):
        want = received(targets[i], beams[i], bright[i], listed, published)
        assert (want is None) == math.isnan(peak_m[i])
        if want is not None:
            met += 1
            assert peak[i] == pytest.approx(want[1], rel=2e-3, abs=2e-3)
            assert peak_m[i] == pytest.approx(want[0], abs=0.101)
    assert met > 20


def test_nothing_is_received_of_no_flakes():
    none = Flakes.of(np.empty(0), np.empty(0), np.empty(0))
    peak_m, _ = receive(np.array([5.0]), np.array([0.0]), np.array([3.0]), none, is_published=True)
    assert math.isnan(peak_m[0])


@pytest.mark.parametrize(
    ("level", "rain", "occupied"), [(0, 2.24, 6.9e-7), (1, 8.85, 1.74e-6), (2, 34.97, 4.34e-6)]
)
def test_rates_are_the_published_ones(level, rain, occupied):
    found = _rates(Domain.of(load_card("nuscenes")), level)
    assert found == (pytest.approx(rain, abs=0.01), pytest.approx(occupied, rel=0.01))


def test_flakes_fill_their_share_evenly_and_never_overlap():
    rain, occupied = 34.97, 4.34e-6
    (flakes,) = patterns(rain, occupied, 1)
    seam = flakes.widest + 0.0015
    own = np.abs(flakes.azimuths) <= math.pi
    ranges, azimuths, radii = (v[own] for v in (flakes.ranges, flakes.azimuths, flakes.radii))
    assert (np.pi * radii**2).sum() / (np.pi * 120**2) == pytest.approx(occupied, rel=0.02)
    rate = 25.5 * rain**-0.48 * 100
    assert (radii**2).mean() == pytest.approx(1 / (3 * rate**2), rel=0.05)
    assert ((ranges / 120) ** 2).mean() == pytest.approx(0.5, abs=0.01)
    assert np.histogram(azimuths, 8)[0].std() < 0.03 * len(azimuths)
    assert (np.diff(flakes.azimuths) >= 0).all()
    beyond = flakes.azimuths[~own]
    assert (np.abs(beyond) < math.pi + seam).all()
    assert len(beyond) > 0
    near = ranges < 15
    xy = np.stack([ranges * np.cos(azimuths), ranges * np.sin(azimuths)], 1)[near]
    gap = np.linalg.norm(xy[:, None] - xy[None], axis=2) - radii[near][:, None] - radii[near][None]
    assert (gap[~np.eye(len(xy), dtype=bool)] > 0).all()
    assert ranges.min() >= 0.9
