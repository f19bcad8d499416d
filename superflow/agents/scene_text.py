"""A scene as lines of text, for language models that have no eyes."""

from __future__ import annotations

import math

from .query_answer import MIN_POINTS, sector_of
from .scene import SceneObject, SceneRecord


def scene_text(scene: SceneRecord, *, min_points: int = MIN_POINTS, max_range_m: float = 50.0) -> str:
    """The objects within the range, the nearest first, a line each; those that the sensor hardly hit are "perhaps"."""
    near = sorted((o for o in scene.objects if o.range_m <= max_range_m), key=lambda o: o.range_m)
    lines = [("" if o.points >= min_points else "perhaps ") + object_text(o) for o in near]
    return "\n".join(lines) or "no objects"


def object_text(thing: SceneObject) -> str:
    """Category, status, distance, direction, place, velocity, heading and size of one object; metres and degrees."""
    x, y, _ = thing.center
    states = [*thing.status] or [thing.motion or "unknown motion"]
    where = sector_of(x, y) or "here"
    velocity = "unknown" if thing.velocity is None else "({:.1f}, {:.1f}) m/s".format(*thing.velocity)
    heading = math.degrees(thing.yaw)
    return (
        f"{', '.join([thing.category, *states])}: {thing.range_m:.1f} m {where}, at ({x:.1f}, {y:.1f}), "
        f"velocity {velocity}, heading {heading:.0f}, {thing.size[0]:.1f} x {thing.size[1]:.1f} m"
    )
