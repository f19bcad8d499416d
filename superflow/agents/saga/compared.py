"""What a reference compares its arguments with: a copy that notes both sides of its comparisons runs on a test."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from ..scene import SceneRecord
from .problem import Problem, Span

_NOTE = "_note_side"
_HALVINGS = 40  # of a span


def ties(problem: Problem, scene: SceneRecord, arguments: dict[str, Any]) -> dict[str, list[float]]:
    """Argument -> values of it at which some comparison of the reference would be a tie on this scene.

    Known of comparisons of which one side holds arguments and numbers alone: exact where that side is straight in the
    argument, as ``width / 2``, else close. The other side is what it is with the arguments given.
    """
    reference = _reference(problem.source)
    found: dict[str, list[float]] = {}
    for side, value in reference.sides(scene, arguments):
        for name in side.names:
            if (tie := _tie(side, name, arguments, value, problem.spans[name])) is not None:
                found.setdefault(name, []).append(tie)
    return found


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison that is made of arguments and numbers."""

    names: tuple[str, ...]
    value: Callable[..., float]


def _tie(side: Side, name: str, arguments: dict[str, Any], value: float, span: Span) -> float | None:
    def far(x: float) -> float:
        return side.value(**{each: arguments[each] for each in side.names} | {name: x}) - value

    start, slope = far(0.0), far(1.0) - far(0.0)
    if slope and math.isclose(far(2.0), start + 2 * slope):
        return -start / slope
    low, high = map(float, span)
    if (far(low) < 0) == (far(high) < 0):
        return None
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if (far(middle) < 0) == (far(low) < 0) else (low, middle)
    return low


class _Reference:
    """A program that notes. Sides have numbers; those in ``_second`` are compared with the one before them."""

    def __init__(self, source: str) -> None:
        tree = ast.parse(source)
        function = tree.body[0]
        assert isinstance(function, ast.FunctionDef)
        arguments = {each.arg for each in function.args.args[1:]}
        self._second: set[int] = set()
        self._sides: dict[int, Side] = {}
        self._noted: list[tuple[int, Any]] = []
        count = 0
        for node in [each for each in ast.walk(tree) if isinstance(each, ast.Compare)]:
            sides = [node.left, *node.comparators]
            for place, side in enumerate(sides):
                if place:
                    self._second.add(count)
                names = tuple(sorted({each.id for each in ast.walk(side) if isinstance(each, ast.Name)}))
                if names and arguments.issuperset(names):
                    self._sides[count] = Side(names, eval(f"lambda {', '.join(names)}: {ast.unparse(side)}"))
                sides[place] = ast.Call(ast.Name(_NOTE, ast.Load()), [ast.Constant(count), side], [])
                count += 1
            node.left, node.comparators = sides[0], sides[1:]
        known: dict[str, Any] = {"math": math, "SceneRecord": SceneRecord, _NOTE: self._note}
        exec(compile(ast.fix_missing_locations(tree), f"<{function.name}>", "exec"), known)
        self._run = known[function.name]

    def _note(self, number: int, value: Any) -> Any:
        self._noted.append((number, value))
        return value

    def sides(self, scene: SceneRecord, arguments: dict[str, Any]) -> Iterator[tuple[Side, float]]:
        """Each side of arguments, with the number that it was compared with on this test."""
        self._noted.clear()
        self._run(scene, **arguments)
        last: dict[int, Any] = {}
        for number, value in self._noted:
            if number in self._second:
                for side, other in ((number, last[number - 1]), (number - 1, value)):
                    if side in self._sides and _is_number(other):
                        yield self._sides[side], other
            last[number] = value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@cache
def _reference(source: str) -> _Reference:
    return _Reference(source)
