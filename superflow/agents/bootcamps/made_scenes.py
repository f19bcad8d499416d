"""Scenes of objects that are thrown around the vehicle: to ask without a log at hand. They have no points."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ..scene import SceneObject, SceneRecord
from ..words import CYCLES

# category -> share, length, width, height [m], speed of one that moves [m/s]
KINDS = {
    "car": (0.34, 4.5, 1.9, 1.6, 9.0),
    "truck": (0.09, 7.5, 2.5, 3.0, 8.0),
    "bus": (0.05, 11.0, 2.6, 3.2, 8.0),
    "trailer": (0.03, 9.0, 2.5, 3.4, 8.0),
    "construction vehicle": (0.03, 6.0, 2.6, 3.0, 2.0),
    "pedestrian": (0.22, 0.7, 0.7, 1.75, 1.4),
    "motorcycle": (0.05, 2.1, 0.8, 1.4, 8.0),
    "bicycle": (0.07, 1.8, 0.6, 1.3, 4.0),
    "traffic cone": (0.07, 0.4, 0.4, 0.8, 0.0),
    "barrier": (0.05, 0.6, 2.2, 1.0, 0.0),
}
REACH_M = 55.0
CLOSEST_M = 3.5  # from the vehicle to a centre
HIDDEN = 0.1  # share of objects that something else hides all but entirely
UNKNOWN = 0.1  # share of objects whose motion nobody can tell


def made_scenes(
    rng: np.random.Generator, count: int, *, objects: tuple[int, int] = (4, 14), name: str = "made"
) -> Iterator[SceneRecord]:
    """Scenes, each of a scene of its own; boxes do not overlap.

    Args:
        objects: the fewest and the most of a scene. name: with which their tokens begin.
    """
    for number in range(count):
        found: list[SceneObject] = []
        for _ in range(int(rng.integers(objects[0], objects[1] + 1))):
            thing = _thing(rng, f"object/{len(found)}")
            if all(_apart(thing, other) for other in found):
                found.append(thing)
        yield SceneRecord(f"{name}-{number}", f"{name}-{number}", tuple(found))


def _thing(rng: np.random.Generator, track: str) -> SceneObject:
    names = list(KINDS)
    shares = np.array([row[0] for row in KINDS.values()])
    category = names[int(rng.choice(len(names), p=shares / shares.sum()))]
    _, length, width, height, speed = KINDS[category]
    far, angle = (
        CLOSEST_M + (REACH_M - CLOSEST_M) * float(rng.random()) ** 1.3,
        float(rng.uniform(-math.pi, math.pi)),
    )
    yaw = float(rng.choice([0.0, math.pi, math.pi / 2]) + rng.normal(0, 0.1))
    scale = float(rng.uniform(0.9, 1.1))
    seen = 0.02 if rng.random() < HIDDEN else 1.0
    velocity, status = _motion(rng, category, speed, yaw)
    return SceneObject(
        track=track,
        category=category,
        center=(far * math.cos(angle), far * math.sin(angle), height / 2),
        size=(scale * length, scale * width, scale * height),
        yaw=(yaw + math.pi) % (2 * math.pi) - math.pi,
        velocity=velocity,
        status=status,
        points=int(rng.poisson(seen * 900 * length * height / (far + 5) ** 2)),
    )


def _motion(
    rng: np.random.Generator, category: str, speed: float, yaw: float
) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
    """Velocity and status words, as datasets have them: both, one of them, or none."""
    if rng.random() < UNKNOWN:
        return None, ()
    moves = speed > 0 and rng.random() < 0.45
    speed = speed * float(rng.uniform(0.5, 1.4)) if moves else 0.0
    velocity = (speed * math.cos(yaw), speed * math.sin(yaw))
    if category in CYCLES:
        return velocity, ("with rider" if moves or rng.random() < 0.3 else "without rider",)
    if speed == 0 and category in ("traffic cone", "barrier"):
        return velocity, ()
    words = ("standing", "sitting") if category == "pedestrian" else ("parked", "stopped")
    word = "moving" if moves else str(rng.choice(words, p=[0.7, 0.3]))
    return velocity, (word,) if rng.random() < 0.85 else ()


def _apart(thing: SceneObject, other: SceneObject) -> bool:
    gap = math.dist(thing.center[:2], other.center[:2])
    return gap > (math.hypot(*thing.size[:2]) + math.hypot(*other.size[:2])) / 2
