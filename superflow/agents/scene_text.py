"""Objects as text, for people and for language models that have no eyes."""

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
    velocity = "unknown" if thing.velocity is None else "({:.1f}, {:.1f}) m/s".format(*thing.velocity)
    heading = math.degrees(thing.yaw)
    return (
        f"{kind_text(thing, 'unknown motion')}: {thing.range_m:.1f} m {where_text(thing)}, at ({x:.1f}, {y:.1f}), "
        f"velocity {velocity}, heading {heading:.0f}, {thing.size[0]:.1f} x {thing.size[1]:.1f} m"
    )


def kind_text(thing: SceneObject, unknown: str = "") -> str:
    """Category and status, as "car, parked"; without a status word its motion, else ``unknown``."""
    states = thing.status or (thing.motion or unknown,)
    return ", ".join(word for word in (thing.category, *states) if word)


def where_text(thing: SceneObject) -> str:
    """The sector of ``query.SECTORS`` in which it lies, seen from the vehicle."""
    return sector_of(*thing.center[:2]) or "here"
