"""A scene: a street, what stands on it, what moves along it, and the recording vehicle."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from .appearance import draw_light, repaint, repaved
from .light import Film, Light
from .place import PLAIN_PLACE, draw_place
from .populate import populate
from .street import MARGIN, Street, make_street
from .tracks import Pace, Placed, Track
from .vehicles import make_ego


@dataclass(frozen=True, slots=True)
class Scene:
    """All that is drawn at random for one scene, apart from sensor noise."""

    street: Street
    ego: Track
    placed: list[Placed]  # the first is the recording vehicle
    light: Light
    description: str


def scene_rng(seed: int, number: int, purpose: int) -> np.random.Generator:
    """Generator for one purpose of one scene: it depends on nothing else, so that scenes can be made in any order."""
    return np.random.default_rng([seed, number, purpose])


def make_scene(seed: int, number: int, seconds: float, vary: Collection[str] = ()) -> Scene:
    """Scene ``number`` of the drive with this seed, ``seconds`` long; ``vary``: see ``variation.GROUPS``."""
    rng = scene_rng(seed, number, 0)
    place = draw_place(scene_rng(seed, number, 5)) if "place" in vary else PLAIN_PLACE
    pace = Pace(
        rng.uniform(3.5, 9.0), rng.uniform(0.1, 0.5), rng.uniform(0.3, 0.9), rng.uniform(0, 2 * np.pi)
    )
    street = make_street(rng, float(pace.distance(seconds)), place)
    lane = int(rng.integers(street.lanes))
    ego = Track(MARGIN, -(lane + 0.5) * street.lane, pace, base=1.4)
    placed = [Placed(make_ego(), track=ego)]
    light = _draw_light(rng)
    populate(rng, street, ego, placed, seconds, place)
    if "appearance" in vary:
        other = scene_rng(seed, number, 6)
        light = draw_light(other)
        street = replace(street, style=repaved(other, street.style))
        repaint(other, [thing.model for thing in placed])
    for thing in placed:
        thing.low, thing.high = thing.model.bounds()
    weather = "sunny" if light.levels[0] > 0.6 else "overcast"
    bend = float(np.abs(np.diff(street.course[:, 2])).sum())
    shape = "straight" if bend < 0.3 else "bend" if bend < 0.9 else "turn"
    crossing = ", junction" if street.junction > 0 else ""
    kind = "street" if place is PLAIN_PLACE else place.name
    return Scene(street, ego, placed, light, f"Synthetic {kind}, {shape}{crossing}, {weather}")


def _draw_light(rng: np.random.Generator) -> Light:
    azimuth, elevation = rng.uniform(0, 2 * np.pi), np.deg2rad(rng.uniform(22, 65))
    sun = np.array(
        [np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)]
    )
    direct = float(rng.uniform(0.75, 1.0) if rng.random() < 0.7 else rng.uniform(0.1, 0.45))
    levels = np.array([direct, 0.62 - 0.22 * direct, rng.uniform(150, 500)])
    warm = rng.uniform(-0.05, 0.06)
    haze = np.array([0.70 + warm, 0.76, 0.84 - warm]) * rng.uniform(0.85, 1.0)
    return Light(sun, levels, haze, Film(float(rng.uniform(1.15, 1.5))))
