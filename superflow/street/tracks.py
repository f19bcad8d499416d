"""Things of a scene and how they move along the street."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .parts import Model
from .street import Street


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
        if self.track is not None:
            return self.track.pose(street, t)
        assert self.pose is not None
        return self.pose
