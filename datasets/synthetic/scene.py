"""A scene: a street, what stands on it, what moves along it, and the recording vehicle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .parts import Model
from .street import MARGIN, Street, make_street
from .vehicles import make_ego


@dataclass(frozen=True, slots=True)
class Pace:
    """Distance driven over time at a speed that swings about its mean."""

    speed: float  # m/s
    swing: float = 0.0  # share of the speed
    rate: float = 1.0  # rad/s
    phase: float = 0.0

    def distance(self, t):
        """Metres since t = 0."""
        wave = np.cos(self.rate * t + self.phase) - np.cos(self.phase)
        return self.speed * (t - self.swing / self.rate * wave)


@dataclass(frozen=True, slots=True)
class Track:
    """Movement in street coordinates; ``drift`` is a speed across, ``turn`` an angle to the street's heading."""

    along: float
    across: float
    pace: Pace
    sign: float = 1.0
    drift: float = 0.0
    turn: float = 0.0
    tilted: bool = True
    base: float = 1.4  # half the wheel base [m]

    def pose(self, street: Street, t: float) -> NDArray[np.float64]:
        """(4, 4) object to world at time ``t`` [s]."""
        return track_poses(street, [self], np.array([t]))[0, 0]


def track_poses(street: Street, tracks: Sequence[Track], t: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T, M, 4, 4) object to world of M tracks at T times [s]."""
    t = np.asarray(t, dtype=np.float64)[:, None]
    paces = [track.pace for track in tracks]
    speed, swing, rate, phase = np.array([(p.speed, p.swing, p.rate, p.phase) for p in paces]).T
    distance = Pace(speed, swing, rate, phase).distance(t)
    columns = np.array([(k.along, k.across, k.sign, k.drift, k.turn, k.tilted, k.base) for k in tracks]).T
    along, across, sign, drift, turn, tilted, base = columns
    x, y, heading = street.place(along + sign * distance, across + drift * t)
    return street.stand(x, y, heading + turn, tilted=tilted > 0.5, base=base)


@dataclass(slots=True)
class Placed:
    """One object of the scene; scenery has no ``category``."""

    model: Model
    pose: NDArray[np.float64] | None = None  # (4, 4) to world, or None when it moves
    track: Track | None = None
    annotated: bool = False
    attribute: str = ""  # nuScenes' attribute name, or none
    low: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))  # corners of its box, object frame
    high: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))

    def pose_at(self, street: Street, t: float) -> NDArray[np.float64]:
        """(4, 4) object to world at time ``t`` [s]."""
        return self.pose if self.track is None else self.track.pose(street, t)


@dataclass(frozen=True, slots=True)
class Light:
    """Sun, haze and exposure of a scene."""

    sun: NDArray[np.float64]  # (3,) unit vector towards it
    levels: NDArray[np.float64]  # (3,) direct, ambient, distance of haze [m]
    haze: NDArray[np.float64]  # (3,) linear RGB
    exposure: float


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


def make_scene(seed: int, number: int, seconds: float) -> Scene:
    """Scene ``number`` of the drive with this seed, ``seconds`` long."""
    from .populate import populate

    rng = scene_rng(seed, number, 0)
    pace = Pace(
        rng.uniform(3.5, 9.0), rng.uniform(0.1, 0.5), rng.uniform(0.3, 0.9), rng.uniform(0, 2 * np.pi)
    )
    street = make_street(rng, float(pace.distance(seconds)))
    lane = int(rng.integers(street.lanes))
    ego = Track(MARGIN, -(lane + 0.5) * street.lane, pace, base=1.4)
    placed = [Placed(make_ego(), track=ego)]
    light = _draw_light(rng)
    populate(rng, street, ego, placed, seconds)
    for thing in placed:
        thing.low, thing.high = thing.model.bounds()
    weather = "sunny" if light.levels[0] > 0.6 else "overcast"
    bend = float(np.abs(np.diff(street.course[:, 2])).sum())
    shape = "straight" if bend < 0.3 else "bend" if bend < 0.9 else "turn"
    crossing = ", junction" if street.junction > 0 else ""
    return Scene(street, ego, placed, light, f"Synthetic street, {shape}{crossing}, {weather}")


def _draw_light(rng: np.random.Generator) -> Light:
    azimuth, elevation = rng.uniform(0, 2 * np.pi), np.deg2rad(rng.uniform(22, 65))
    sun = np.array(
        [np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)]
    )
    direct = float(rng.uniform(0.75, 1.0) if rng.random() < 0.7 else rng.uniform(0.1, 0.45))
    levels = np.array([direct, 0.62 - 0.22 * direct, rng.uniform(150, 500)])
    warm = rng.uniform(-0.05, 0.06)
    haze = np.array([0.70 + warm, 0.76, 0.84 - warm]) * rng.uniform(0.85, 1.0)
    return Light(sun, levels, haze, float(rng.uniform(1.15, 1.5)))
