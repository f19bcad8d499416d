"""Outlines of objects on the ground, as seen from above: ways along a strip, lines of sight."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from ..scene import SceneObject

Point = tuple[float, float]
# way -> its quarter turns from straight ahead, counter-clockwise
WAYS = {"ahead": 0, "to the left": 1, "behind": 2, "to the right": 3}


def outline(thing: SceneObject, scale: float = 1.0) -> list[Point]:
    """The four corners of a box [m, ego], counter-clockwise; ``scale`` of its length and width."""
    c, s = math.cos(thing.yaw), math.sin(thing.yaw)
    a, b = scale * thing.size[0] / 2, scale * thing.size[1] / 2
    x, y = thing.center[:2]
    return [(x + u * c - v * s, y + u * s + v * c) for u, v in ((a, b), (-a, b), (-a, -b), (a, -b))]


def way_to(things: Iterable[SceneObject], way: str, low: float, high: float) -> float:
    """Free length of a strip from the vehicle along a way of ``WAYS`` [m]; infinite where nothing stands in it.

    Args:
        low, high: edges of the strip, measured to the left of its direction [m].
    """
    return min((_enters(turned(outline(each), WAYS[way]), low, high) for each in things), default=math.inf)


def turned(points: Iterable[Point], quarters: int) -> list[Point]:
    """Points in axes that are turned counter-clockwise by quarter turns."""
    found = list(points)
    for _ in range(quarters % 4):
        found = [(y, -x) for x, y in found]
    return found


def crosses(start: Point, end: Point, polygon: Sequence[Point]) -> bool:
    """Whether a line meets a convex polygon, whose corners go counter-clockwise (its inside is left of each edge)."""
    enter, leave = 0.0, 1.0
    for (ax, ay), (bx, by) in zip(polygon, [*polygon[1:], polygon[0]]):
        at_start = (bx - ax) * (start[1] - ay) - (by - ay) * (start[0] - ax)
        at_end = (bx - ax) * (end[1] - ay) - (by - ay) * (end[0] - ax)
        if at_start < 0 and at_end < 0:
            return False
        if at_start < 0 <= at_end:
            enter = max(enter, at_start / (at_start - at_end))
        elif at_end < 0 <= at_start:
            leave = min(leave, at_start / (at_start - at_end))
    return enter <= leave


def _enters(polygon: Sequence[Point], low: float, high: float) -> float:
    """Smallest x from 0 on of a convex polygon within a strip of y; infinite where it does not reach into it."""
    for axis, sign, limit in ((1, 1, low), (1, -1, -high), (0, 1, 0.0)):
        polygon = _cut(polygon, axis, sign, limit)
    return max(0.0, min((x for x, _ in polygon), default=math.inf))


def _cut(polygon: Sequence[Point], axis: int, sign: int, limit: float) -> list[Point]:
    """The part of a convex polygon in which ``sign`` times a coordinate is ``limit`` or more."""
    kept: list[Point] = []
    for first, second in zip(polygon, [*polygon[1:], *polygon[:1]]):
        a, b = sign * first[axis] - limit, sign * second[axis] - limit
        if a >= 0:
            kept.append(first)
        if (a < 0) != (b < 0):
            t = a / (a - b)
            kept.append((first[0] + t * (second[0] - first[0]), first[1] + t * (second[1] - first[1])))
    return kept
