"""Problems of where objects stand."""

from __future__ import annotations

import math

from ...scene import SceneRecord
from ...words import CATEGORIES
from ..problem import problem


@problem(category=CATEGORIES, start_deg=(-180, 180))
def count_toward(scene: SceneRecord, category: str, start_deg: int) -> int:
    """How many objects of a category with 5 points or more lie in the sector of 60 degrees that begins at start_deg.

    Bearings are counter-clockwise from straight ahead; the beginning belongs to the sector, its end does not.
    """
    found = 0
    for each in scene.objects:
        if each.category != category or each.points < 5:
            continue
        bearing = math.degrees(math.atan2(each.center[1], each.center[0]))
        if (bearing - start_deg) % 360 < 60:
            found += 1
    return found


@problem()
def nearest_kind(scene: SceneRecord) -> str | None:
    """The category of the nearest object with 5 points or more; of equally near ones the first. None without any."""
    best, best_range = None, math.inf
    for each in scene.objects:
        distance = math.hypot(each.center[0], each.center[1])
        if each.points >= 5 and distance < best_range:
            best, best_range = each.category, distance
    return best


@problem(metres=(5.0, 60.0), held_out=True)
def kinds_by_range(scene: SceneRecord, metres: float) -> list[str]:
    """Categories of the objects up to so many metres away, the nearest first; equally near ones as listed."""
    near = []
    for each in scene.objects:
        distance = math.hypot(each.center[0], each.center[1])
        if distance <= metres:
            near.append((distance, each.category))
    return [category for _, category in sorted(near, key=lambda pair: pair[0])]


@problem()
def closest_pair(scene: SceneRecord) -> float | None:
    """Distance of the two objects that are closest to each other; None with fewer than two."""
    best = None
    for i, first in enumerate(scene.objects):
        for second in scene.objects[i + 1 :]:
            distance = math.hypot(first.center[0] - second.center[0], first.center[1] - second.center[1])
            if best is None or distance < best:
                best = distance
    return best


@problem(held_out=True)
def widest_gap(scene: SceneRecord) -> float:
    """The largest angle around the vehicle without the bearing of a centre, in degrees; 360 with one object or none."""
    bearings = sorted(math.degrees(math.atan2(each.center[1], each.center[0])) for each in scene.objects)
    if len(bearings) < 2:
        return 360.0
    widest = bearings[0] + 360 - bearings[-1]
    for before, after in zip(bearings, bearings[1:]):  # noqa: RUF007  # programs have nothing but math
        widest = max(widest, after - before)
    return widest


@problem(metres=(2.0, 20.0), number=(1, 4))
def is_crowded(scene: SceneRecord, metres: float, number: int) -> bool:
    """Whether some object has at least so many other objects no farther than so many metres from it."""
    for i, first in enumerate(scene.objects):
        others = 0
        for k, second in enumerate(scene.objects):
            distance = math.hypot(first.center[0] - second.center[0], first.center[1] - second.center[1])
            if i != k and distance <= metres:
                others += 1
        if others >= number:
            return True
    return False


@problem(metres=(5.0, 60.0), width=(2.0, 8.0))
def count_in_strip(scene: SceneRecord, metres: float, width: float) -> int:
    """How many centres lie in a strip of a width, half of it on either side, from the vehicle so many metres ahead.

    The edges belong to the strip, the vehicle's own place does not.
    """
    found = 0
    for each in scene.objects:
        x, y = each.center[0], each.center[1]
        if 0 < x <= metres and abs(y) <= width / 2:
            found += 1
    return found


@problem(metres=(5.0, 60.0), held_out=True)
def commonest_kind(scene: SceneRecord, metres: float) -> str | None:
    """The category that most of the objects up to so many metres away have; None without any.

    Of equally common ones it is that of the object listed first.
    """
    counts: dict[str, int] = {}
    for each in scene.objects:
        if math.hypot(each.center[0], each.center[1]) <= metres:
            counts[each.category] = counts.get(each.category, 0) + 1
    best, most = None, 0
    for category, count in counts.items():
        if count > most:
            best, most = category, count
    return best
