"""Whether nobody can tell an answer: then cases that the sensor does not tell apart have other answers.

A phrase whose object is not known has no answer, though all that it may mean may share one: the nearest of two cars is
a car. "Cannot tell" would be wrong there. So it would be where an answer hangs on a status that nobody knows in words
alone: there are never more moving cars than moving vehicles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from ..scene import SceneObject, SceneRecord
from ..words import APPLIES, MOTIONS, RIDERS


def is_open(scene: SceneRecord, min_points: int, solve: Callable[[SceneRecord], Any]) -> bool:
    """Whether two of the cases that a scene may be answer differently, or one has no answer; and so, if statuses that
    nobody knows are told.

    Args:
        min_points: an object with fewer is perhaps not there. solve: the answer on a scene, None for none.
    """
    cases = list(_cases(scene, min_points))
    return _differ(map(solve, cases)) and _differ(map(solve, _told_cases(cases)))


def _differ(answers: Iterable[Any]) -> bool:
    """Whether there are two answers, or there is none; the first two mostly settle it."""
    each = iter(answers)
    first = next(each)
    return first is None or any(answer != first for answer in each)


def _cases(scene: SceneRecord, min_points: int) -> Iterator[SceneRecord]:
    """The scene with all that is perhaps there, without any of it, and with each alone there or alone not there."""
    perhaps = [i for i, thing in enumerate(scene.objects) if thing.points < min_points]
    everything = set(perhaps)
    chosen = [everything, set[int](), *({i} for i in perhaps), *(everything - {i} for i in perhaps)]
    surely = [replace(thing, points=max(thing.points, min_points)) for thing in scene.objects]
    for there in chosen if perhaps else [everything]:
        gone = everything - there
        yield replace(scene, objects=tuple(thing for i, thing in enumerate(surely) if i not in gone))


def _told_cases(cases: list[SceneRecord]) -> Iterator[SceneRecord]:
    """Each case with statuses told, those of all things alike; then the first two with each thing unlike the others."""
    for case in cases:
        told = [_told(thing) for thing in case.objects]
        for k in range(max(map(len, told), default=1)):
            yield replace(case, objects=tuple(each[k % len(each)] for each in told))
    for case in cases[:2]:
        told = [_told(thing) for thing in case.objects]
        for k in range(max(map(len, told), default=1)):
            alike = [each[k % len(each)] for each in told]
            for i, own in enumerate(told):
                for thing in own if len(own) > 1 else ():
                    yield replace(case, objects=(*alike[:i], thing, *alike[i + 1 :]))


def _told(thing: SceneObject) -> list[SceneObject]:
    """All that a thing may be by its status."""
    halts = [word for word in MOTIONS if word not in ("moving", "still") and thing.category in APPLIES[word]]
    halts = halts or ["still"]
    known = thing.motion
    motions = ["moving", *halts] if known is None else halts if known == "still" else [known]
    riders: list[tuple[str, ...]] = [(word,) for word in RIDERS if thing.is_in(word) is not False] or [()]
    return [replace(thing, status=(motion, *rider)) for motion in motions for rider in riders]
