"""Tests on the edges of what a reference compares with: SAGA's multidimensional analysis, from the syntax tree.

A test has a few *dimensions* of a scene at an edge and the others thrown: how many objects there are, where they
stand, how they move, how they are turned, how many points they have, what stands as far as something else, and
arguments that are exactly what the reference compares them with. Edges are the numbers of the reference, those of its
arguments, and values just beside them. A dimension of which the reference reads nothing is left thrown.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from ..bootcamps.made_scenes import made_scenes
from ..scene import SceneObject, SceneRecord
from ..words import APPLIES, CATEGORIES, MOTIONS
from .cases import Case, thrown_arguments
from .compared import ties
from .problem import Problem

COUNTS = (0, 1, 2, 3, 5, 8, 12)
BESIDE = 0.01  # how far beside an edge a value is
ROUND_DEG = 15  # bearings and headings of which some edge is one
DIMENSIONS = (1, 2, 3)  # at an edge at a time


@dataclass(frozen=True, slots=True)
class Edges:
    """What a dimension draws from. numbers: edges of the reference and of this test's arguments."""

    rng: np.random.Generator
    numbers: tuple[float, ...]
    words: tuple[str, ...]
    places: tuple[tuple[float, float], ...]  # two arguments beside each other, taken for a place

    def pick(self, items: Any) -> Any:
        """One of some items."""
        return items[int(self.rng.integers(len(items)))]

    def number(self) -> float:
        """An edge, or just beside one."""
        return float(self.pick(self.numbers) + self.pick((-BESIDE, 0.0, 0.0, BESIDE)))


def boundary_cases(problem: Problem, rng: np.random.Generator) -> Iterator[Case]:
    """Tests at edges of a problem's reference, without end."""
    constants = constants_of(problem.source)
    read = reads(problem.source)
    dimensions = [name for name in CHANGES if READ_BY.get(name, set()) <= read]
    while True:
        arguments = thrown_arguments(problem, rng)
        numbers = [value for value in arguments.values() if not isinstance(value, str)]
        words = tuple(value for value in arguments.values() if isinstance(value, str))
        found = sorted({*constants, *map(float, numbers), *(value / 2 for value in numbers)})
        edges = Edges(rng, tuple(found), words, tuple(pairwise(map(float, numbers))))
        count = edges.pick(COUNTS)
        (scene,) = made_scenes(rng, 1, objects=(count, count))
        objects = [_category(o, edges) if words and rng.random() < 0.5 else o for o in scene.objects]
        for k in rng.permutation(len(dimensions))[: edges.pick(DIMENSIONS)]:
            if objects:
                objects = CHANGES[dimensions[k]](objects, edges)
        scene = replace(scene, objects=tuple(objects))
        yield Case(scene, _tied(problem, scene, arguments, edges) if rng.random() < 0.5 else arguments)


def constants_of(source: str) -> tuple[float, ...]:
    """The numbers of a program, and 0 and 1, by size."""
    found = {0.0, 1.0}
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, int | float)
            and not isinstance(node.value, bool)
        ):
            found.add(float(node.value))
    return tuple(sorted(found))


def reads(source: str) -> set[str]:
    """What of an object a program reads; of heights "z"."""
    tree = ast.walk(ast.parse(source))
    found = set()
    for node in tree:
        if isinstance(node, ast.Attribute):
            found.add(node.attr)
        if isinstance(node, ast.Subscript) and ast.unparse(node.slice) == "2":
            found.add("z")
    return found


def _each(
    change: Callable[[SceneObject, Edges], SceneObject],
) -> Callable[[list[SceneObject], Edges], list[SceneObject]]:
    """A change of about half of the objects, of one at least."""

    def changed(objects: list[SceneObject], edges: Edges) -> list[SceneObject]:
        sure = int(edges.rng.integers(len(objects)))
        return [
            change(each, edges) if i == sure or edges.rng.random() < 0.5 else each
            for i, each in enumerate(objects)
        ]

    return changed


def _place(each: SceneObject, edges: Edges) -> SceneObject:
    """On an axis, at a round bearing, or where both coordinates are edges."""
    far, other = edges.number(), edges.number()
    turn = math.radians(ROUND_DEG * int(edges.rng.integers(24)))
    places = [
        (far, 0.0), (-far, 0.0), (0.0, far), (0.0, -far), (far, other), (far, -other),
        (0.6 * far, 0.8 * far), (far * math.cos(turn), far * math.sin(turn)), (0.0, 0.0), (far, far), (-far, far),
    ]  # fmt: skip
    if edges.places and edges.rng.random() < 0.5:  # there, or so that an edge of its box is there
        x, y = edges.pick(edges.places)
        half = each.size[int(edges.rng.integers(2))] / 2
        places = [(x, y), (x + half, y), (x - half, y), (x, y + half), (x, y - half)]
    return _at(each, *edges.pick(places))


def _height(each: SceneObject, edges: Edges) -> SceneObject:
    bottom = edges.number()
    x, y, _ = each.center
    return replace(each, center=(x, y, bottom + edges.pick((0.0, 0.5, -0.5)) * each.size[2]))


def _points(each: SceneObject, edges: Edges) -> SceneObject:
    return replace(each, points=max(0, round(edges.pick(edges.numbers)) + int(edges.pick((-1, 0, 1)))))


def _motion(each: SceneObject, edges: Edges) -> SceneObject:
    """Of unknown velocity, standing, at an edge of speed along an axis, or straight to or from the vehicle."""
    speed = abs(edges.number())
    far = each.range_m
    to_vehicle = (-each.center[0] / far, -each.center[1] / far) if far else (-1.0, 0.0)
    turn = math.radians(ROUND_DEG * int(edges.rng.integers(24)))
    ways = [
        None, (0.0, 0.0), (speed, 0.0), (-speed, 0.0), (0.0, speed), (0.6 * speed, 0.8 * speed), (speed, -speed),
        (-speed, speed), (-0.6 * speed, -0.8 * speed),
        (speed * math.cos(turn), speed * math.sin(turn)), (speed * to_vehicle[0], speed * to_vehicle[1]),
        (5 * to_vehicle[0], 5 * to_vehicle[1]), (-5 * to_vehicle[0], -5 * to_vehicle[1]),
    ]  # fmt: skip
    words = [word for word in MOTIONS if each.category in APPLIES[word]]
    return replace(each, velocity=edges.pick(ways), status=edges.pick([(), (), *((word,) for word in words)]))


def _yaw(each: SceneObject, edges: Edges) -> SceneObject:
    """At a round heading, at half a turn and just beside it, or straight to the vehicle; up to an edge off it."""
    home = math.atan2(-each.center[1], -each.center[0])
    base = edges.pick(
        [0.0, math.pi, -math.pi, math.radians(ROUND_DEG * int(edges.rng.integers(-12, 13))), home]
    )
    yaw = base + edges.pick([0.0, 1.0, -1.0]) * math.radians(edges.number())
    return replace(each, yaw=(yaw + math.pi) % (2 * math.pi) - math.pi)


def _size(each: SceneObject, edges: Edges) -> SceneObject:
    """Unlike in all directions, so that none stands for another."""
    wide, long, high = (0.2 + abs(edges.number()), 1 + 8 * edges.rng.random(), 0.5 + 3 * edges.rng.random())
    return replace(each, size=tuple(float(v) for v in edges.rng.permutation([wide, long, high])))  # type: ignore[arg-type]


def _category(each: SceneObject, edges: Edges) -> SceneObject:
    return replace(each, category=edges.pick(edges.words or CATEGORIES))


def _ties(objects: list[SceneObject], edges: Edges) -> list[SceneObject]:
    """Another thing as far away, as fast, or at the very place of one of the objects."""
    first = edges.pick(objects)
    x, y, z = first.center
    other = replace(edges.pick(objects), category=edges.pick(CATEGORIES))
    twin = edges.pick([
        _at(other, x, -y), _at(other, -x, y), _at(other, x, y), _at(other, y, x),
        replace(other, velocity=first.velocity),
        replace(other, center=(x, y, z + 3)),
        replace(first, yaw=first.yaw + (math.pi if first.yaw <= 0 else -math.pi)),
    ])  # fmt: skip
    place = int(edges.rng.integers(len(objects) + 1))
    return [*objects[:place], replace(twin, track=f"{twin.track}/twin"), *objects[place:]]


def _order(objects: list[SceneObject], edges: Edges) -> list[SceneObject]:
    """By distance, the nearest first or last."""
    return sorted(objects, key=lambda each: each.range_m, reverse=bool(edges.rng.random() < 0.5))


def _close(objects: list[SceneObject], edges: Edges) -> list[SceneObject]:
    """All within a few metres of one place."""
    x, y = edges.rng.uniform(-12, 12, 2)
    return [
        _at(each, float(x + dx), float(y + dy))
        for each, (dx, dy) in zip(objects, edges.rng.normal(0, 4, (len(objects), 2)))
    ]


CHANGES: dict[str, Callable[[list[SceneObject], Edges], list[SceneObject]]] = {
    "place": _each(_place),
    "height": _each(_height),
    "points": _each(_points),
    "motion": _each(_motion),
    "yaw": _each(_yaw),
    "size": _each(_size),
    "category": _each(_category),
    "ties": _ties,
    "order": _order,
    "close": _close,
}
# dimension -> what a program reads whom it matters to; the others matter to all
READ_BY = {
    "height": {"z"}, "points": {"points"}, "motion": {"velocity"}, "yaw": {"yaw"}, "size": {"size"},
    "category": {"category"},
}  # fmt: skip


def _at(each: SceneObject, x: float, y: float) -> SceneObject:
    return replace(each, center=(float(x), float(y), each.center[2]))


def _tied(problem: Problem, scene: SceneRecord, arguments: dict[str, Any], edges: Edges) -> dict[str, Any]:
    """Arguments of which one makes a comparison a tie, is at an end of its span, or a number of the scene."""
    names = [name for name, span in problem.spans.items()]
    if not names:
        return arguments
    name = edges.pick(names)
    span = problem.spans[name]
    if isinstance(span[0], str):
        known = [each.category for each in scene.objects if each.category in span] or list(span)
        return {**arguments, name: edges.pick(known)}
    tied = ties(problem, scene, arguments).get(name, [])
    if not tied or edges.rng.random() < 0.3:
        tied = [*span, *(value for each in scene.objects for value in _values(each))]
    value = edges.pick(tied)
    return {**arguments, name: round(value) if isinstance(span[0], int) else float(value)}


def _values(each: SceneObject) -> list[float]:
    """Numbers of an object that a program may compare an argument with."""
    x, y, z = each.center
    bearing = math.degrees(math.atan2(y, x))
    return [
        each.range_m, abs(x), 2 * abs(y), x, y, x + each.size[0] / 2, z + each.size[2] / 2, z - each.size[2] / 2,
        bearing, bearing - 60, each.speed or 0.0,
    ]  # fmt: skip
