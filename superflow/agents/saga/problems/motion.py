"""Problems of how objects move. A velocity is [m/s] over ground and may be None, which is not the same as standing."""

from __future__ import annotations

import math

from ...scene import SceneRecord
from ..problem import problem


@problem(near_m=(2.0, 10.0))
def time_to_near(scene: SceneRecord, near_m: float) -> float | None:
    """In how many seconds the first object of known velocity is no farther than near_m, all keeping their velocities.

    0 where one is already; None where none ever is. The vehicle stands still.
    """
    times = []
    for each in scene.objects:
        if each.velocity is None:
            continue
        x, y = each.center[0], each.center[1]
        u, v = each.velocity
        apart = x * x + y * y - near_m**2
        if apart <= 0:
            times.append(0.0)
            continue
        closing, square = -(x * u + y * v), u * u + v * v
        if closing <= 0 or square == 0:
            continue
        inside = closing**2 - square * apart
        if inside >= 0:
            times.append((closing - math.sqrt(inside)) / square)
    return min(times, default=None)


@problem(tolerance_deg=(5, 60))
def count_oncoming(scene: SceneRecord, tolerance_deg: int) -> int:
    """How many objects ahead (x > 0), at 1 m/s or faster, move against the vehicle's direction within a tolerance."""
    found = 0
    for each in scene.objects:
        if each.velocity is None or each.center[0] <= 0:
            continue
        u, v = each.velocity
        off = math.degrees(math.atan2(v, -u))
        if math.hypot(u, v) >= 1 and abs(off) <= tolerance_deg:
            found += 1
    return found


@problem(held_out=True)
def moving_share(scene: SceneRecord) -> float | None:
    """The share of objects at 0.5 m/s or faster among those of known velocity; None where no velocity is known."""
    known, moving = 0, 0
    for each in scene.objects:
        if each.velocity is not None:
            known += 1
            if math.hypot(each.velocity[0], each.velocity[1]) >= 0.5:
                moving += 1
    return moving / known if known else None


@problem(metres=(5.0, 60.0))
def fastest_kind(scene: SceneRecord, metres: float) -> str | None:
    """The category of the fastest object up to so many metres away; of equally fast ones the first.

    Objects of unknown velocity and those that stand do not count; None without any.
    """
    best, best_speed = None, 0.0
    for each in scene.objects:
        if each.velocity is None or math.hypot(each.center[0], each.center[1]) > metres:
            continue
        speed = math.hypot(each.velocity[0], each.velocity[1])
        if speed > best_speed:
            best, best_speed = each.category, speed
    return best


@problem()
def closing_speed(scene: SceneRecord) -> float | None:
    """How fast the nearest object of known velocity comes nearer, positive towards the vehicle; None without any.

    Objects less than 0.1 m away have no direction and do not count; of equally near ones the first counts.
    """
    best, nearest = None, math.inf
    for each in scene.objects:
        x, y = each.center[0], each.center[1]
        distance = math.hypot(x, y)
        if each.velocity is None or distance < 0.1 or distance >= nearest:
            continue
        nearest = distance
        best = -(x * each.velocity[0] + y * each.velocity[1]) / distance
    return best


@problem(seconds=(0.0, 5.0), held_out=True)
def range_after(scene: SceneRecord, seconds: float) -> float | None:
    """How far the nearest object with 5 points or more is after so many seconds; None without any.

    One of unknown velocity stays where it is.
    """
    ranges = []
    for each in scene.objects:
        if each.points < 5:
            continue
        u, v = each.velocity if each.velocity is not None else (0.0, 0.0)
        ranges.append(math.hypot(each.center[0] + seconds * u, each.center[1] + seconds * v))
    return min(ranges, default=None)


@problem(speed=(0.0, 25.0), reaction_s=(0.0, 2.0))
def stops_in_time(scene: SceneRecord, speed: float, reaction_s: float) -> bool:
    """Whether the vehicle at a speed, braking by 4 m/s^2 after a reaction time, stops before the next object ahead.

    Ahead: the centre has x > 0 and stands no more than 2 m to the side; it begins half its length before its centre.
    The way it takes may be as long as the free way; with nothing ahead it stops in time.
    """
    free = math.inf
    for each in scene.objects:
        x, y = each.center[0], each.center[1]
        if x > 0 and abs(y) <= 2:
            free = min(free, x - each.size[0] / 2)
    return speed * reaction_s + speed * speed / (2 * 4.0) <= free


@problem(metres=(5.0, 30.0), held_out=True)
def closing_pairs(scene: SceneRecord, metres: float) -> int:
    """How many pairs of objects of known velocity, no farther than so many metres apart, come closer to each other."""
    found = 0
    for i, first in enumerate(scene.objects):
        for second in scene.objects[i + 1 :]:
            if first.velocity is None or second.velocity is None:
                continue
            dx, dy = second.center[0] - first.center[0], second.center[1] - first.center[1]
            du, dv = second.velocity[0] - first.velocity[0], second.velocity[1] - first.velocity[1]
            if math.hypot(dx, dy) <= metres and dx * du + dy * dv < 0:
                found += 1
    return found
