"""Whether nobody can tell an answer: then cases that the sensor does not tell apart have other answers.

A phrase whose object is not known has no answer, though all that it may mean may share one: the nearest of two cars is
a car. "Cannot tell" would be wrong there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from ..scene import SceneRecord


def is_open(scene: SceneRecord, min_points: int, solve: Callable[[SceneRecord], Any]) -> bool:
    """Whether two of the cases that a scene may be answer differently, or one has no answer.

    Args:
        min_points: an object with fewer is perhaps not there. solve: the answer on a scene, None for none.
    """
    answers = (solve(case) for case in _cases(scene, min_points))  # the first two mostly settle it
    first = next(answers)
    return first is None or any(answer != first for answer in answers)


def _cases(scene: SceneRecord, min_points: int) -> Iterator[SceneRecord]:
    """The scene with all that is perhaps there, without any of it, and with each alone there or alone not there."""
    perhaps = [i for i, thing in enumerate(scene.objects) if thing.points < min_points]
    everything = set(perhaps)
    chosen = [everything, set[int](), *({i} for i in perhaps), *(everything - {i} for i in perhaps)]
    surely = [replace(thing, points=max(thing.points, min_points)) for thing in scene.objects]
    for there in chosen if perhaps else [everything]:
        gone = everything - there
        yield replace(scene, objects=tuple(thing for i, thing in enumerate(surely) if i not in gone))
