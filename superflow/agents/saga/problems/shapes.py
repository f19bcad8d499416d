"""Problems of boxes: size is length, width, height; yaw is counter-clockwise from straight ahead [rad]."""

from __future__ import annotations

import math

from ...scene import SceneRecord
from ...words import CATEGORIES
from ..problem import problem


@problem(x=(-30.0, 30.0), y=(-30.0, 30.0))
def boxes_over(scene: SceneRecord, x: float, y: float) -> int:
    """How many boxes cover a place on the ground, seen from above; edges belong to them."""
    found = 0
    for each in scene.objects:
        dx, dy = x - each.center[0], y - each.center[1]
        c, s = math.cos(each.yaw), math.sin(each.yaw)
        along, across = c * dx + s * dy, c * dy - s * dx
        if abs(along) <= each.size[0] / 2 and abs(across) <= each.size[1] / 2:
            found += 1
    return found


@problem(category=CATEGORIES, held_out=True)
def heading_spread(scene: SceneRecord, category: str) -> float | None:
    """The largest difference of heading, 0 to 180 degrees, of two objects of a category; None with fewer than two."""
    yaws = [each.yaw for each in scene.objects if each.category == category]
    if len(yaws) < 2:
        return None
    spread = 0.0
    for i, first in enumerate(yaws):
        for second in yaws[i + 1 :]:
            turn = (math.degrees(first - second) + 180) % 360 - 180
            spread = max(spread, abs(turn))
    return spread


@problem(tolerance_deg=(5, 60))
def count_facing(scene: SceneRecord, tolerance_deg: int) -> int:
    """How many objects with 5 points or more have their front towards the vehicle, within a tolerance."""
    found = 0
    for each in scene.objects:
        home = math.degrees(math.atan2(-each.center[1], -each.center[0]))
        turn = (math.degrees(each.yaw) - home + 180) % 360 - 180
        if each.points >= 5 and abs(turn) <= tolerance_deg:
            found += 1
    return found


@problem(height_m=(0.0, 4.0), metres=(5.0, 60.0))
def hit_at_height(scene: SceneRecord, height_m: float, metres: float) -> int:
    """How many boxes up to so many metres away reach from a height or lower to that height or higher."""
    found = 0
    for each in scene.objects:
        half = each.size[2] / 2
        near = math.hypot(each.center[0], each.center[1]) <= metres
        if near and each.center[2] - half <= height_m <= each.center[2] + half:
            found += 1
    return found


@problem()
def count_hidden(scene: SceneRecord) -> int:
    """How many centres lie behind a nearer object: within the half angle that it is wide, seen from the vehicle.

    Half the diagonal of length and width over the distance is the tangent of that angle. What stands at the origin
    hides nothing and is not hidden.
    """
    found = 0
    for each in scene.objects:
        distance = math.hypot(each.center[0], each.center[1])
        bearing = math.atan2(each.center[1], each.center[0])
        for other in scene.objects:
            nearer = math.hypot(other.center[0], other.center[1])
            if nearer == 0 or nearer >= distance:
                continue
            half = math.atan2(math.hypot(other.size[0], other.size[1]) / 2, nearer)
            turn = bearing - math.atan2(other.center[1], other.center[0])
            if abs((turn + math.pi) % (2 * math.pi) - math.pi) < half:
                found += 1
                break
    return found


@problem(metres=(5.0, 60.0), held_out=True)
def ground_taken(scene: SceneRecord, metres: float) -> float:
    """The area of length times width of all objects with 5 points or more, up to so many metres away."""
    area = 0.0
    for each in scene.objects:
        if each.points >= 5 and math.hypot(each.center[0], each.center[1]) <= metres:
            area += each.size[0] * each.size[1]
    return area
