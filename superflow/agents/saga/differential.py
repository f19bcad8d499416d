"""Tests that tell a wrong program from the reference, shrunk, and others like them: SAGA's differential analysis.

`search` runs a wrong program, and so only within `worker`. Its shrunk test is the smallest that hypothesis found; the
scenes around it are that one with other things beside it, turned, moved a little, in another order.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import require
from ..bootcamps.made_scenes import made_scenes
from ..scene import SceneObject, SceneRecord
from ..words import APPLIES, CATEGORIES, MOTIONS
from .cases import Case, thrown_arguments, thrown_cases
from .outcomes import load_program, outcome, same
from .problem import Problem, problems

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

EXAMPLES = 150  # tests of one search, before the shrinking
CALLS = 4  # runs of both programs for each example, shrinking included


def search(problem: str, wrong: str, seed: int, examples: int = EXAMPLES) -> dict[str, Any] | None:
    """The smallest test found on which a wrong program differs from the reference, as JSON types; None without any."""
    require("hypothesis", "agents")
    from hypothesis import HealthCheck, Phase, find, settings
    from hypothesis.errors import NoSuchExample

    asked = problems()[problem]
    right, other = load_program(asked.source, problem), load_program(wrong, problem)
    calls = 0

    def differs(case: Case) -> bool:
        nonlocal calls
        calls += 1
        answer = outcome(right, case)  # where the reference has none, nothing is asked
        return calls <= CALLS * examples and "value" in answer and not same(outcome(other, case), answer)

    options = settings(
        max_examples=examples, deadline=None, database=None, phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    try:
        case: Case = find(_cases(asked), differs, settings=options, random=random.Random(seed))
    except NoSuchExample:
        return None
    return case.to_dict()


def around(problem: Problem, shrunk: Sequence[Case], rng: np.random.Generator) -> Iterator[Case]:
    """Each shrunk test, then tests like them without end; thrown ones where nothing was found."""
    yield from shrunk
    while shrunk:
        yield _like(problem, shrunk[int(rng.integers(len(shrunk)))], rng)
    yield from thrown_cases(problem, rng)


def _like(problem: Problem, case: Case, rng: np.random.Generator) -> Case:
    """One test with one or two things of it changed."""
    objects, arguments = list(case.scene.objects), dict(case.arguments)
    for k in rng.permutation(6)[: 1 + int(rng.integers(2))]:
        if k == 0:  # others beside them
            (more,) = made_scenes(rng, 1, objects=(1, 4))
            objects = [*more.objects, *objects] if rng.random() < 0.5 else [*objects, *more.objects]
        elif k == 1:
            objects = [_turned(each, float(rng.choice([90, 180, 270]))) for each in objects]
        elif k == 2:
            objects = [_moved(each, rng) for each in objects]
        elif k == 3:
            objects = objects[::-1]
        elif k == 4:
            arguments = thrown_arguments(problem, rng)
        else:
            objects = [_other(each, rng) for each in objects]
    tracked = tuple(replace(each, track=f"object/{i}") for i, each in enumerate(objects))
    return Case(replace(case.scene, objects=tracked), arguments)


def _turned(each: SceneObject, degrees: float) -> SceneObject:
    """Around the vehicle, with all that it has."""
    c, s = round(math.cos(math.radians(degrees))), round(math.sin(math.radians(degrees)))
    x, y, z = each.center
    velocity = None
    if each.velocity is not None:
        u, v = each.velocity
        velocity = (c * u - s * v, s * u + c * v)
    yaw = (each.yaw + math.radians(degrees) + math.pi) % (2 * math.pi) - math.pi
    return replace(each, center=(c * x - s * y, s * x + c * y, z), velocity=velocity, yaw=yaw)


def _moved(each: SceneObject, rng: np.random.Generator) -> SceneObject:
    x, y, z = each.center
    dx, dy = rng.normal(0, 2, 2)
    return replace(each, center=(x + float(dx), y + float(dy), z))


def _other(each: SceneObject, rng: np.random.Generator) -> SceneObject:
    """Of another kind, size and number of points, at its place."""
    (scene,) = made_scenes(rng, 1, objects=(3, 3))
    other = scene.objects[0]
    return replace(each, category=other.category, size=other.size, points=other.points)


def _cases(problem: Problem) -> SearchStrategy[Case]:
    """Tests of which the simplest has no object and the lowest arguments; numbers are mostly few and whole."""
    from hypothesis import strategies as st

    metre = st.one_of(st.integers(-12, 12).map(float), st.floats(-60, 60, allow_nan=False))
    speed = st.one_of(st.integers(-6, 6).map(float), st.floats(-15, 15, allow_nan=False))
    side = st.one_of(st.integers(1, 8).map(float), st.floats(0.2, 12, allow_nan=False))
    quarter = st.integers(-2, 2).map(lambda n: n * math.pi / 2)
    thing = st.builds(
        lambda category, x, y, z, size, yaw, velocity, word, points: SceneObject(
            "object", category, (x, y, z), size, yaw, velocity, (word,) if category in APPLIES[word] else (), points
        ),
        st.sampled_from(CATEGORIES), metre, metre, st.one_of(st.just(0.5), st.floats(-1, 4)),
        st.tuples(side, side, side),
        st.one_of(quarter, st.floats(-math.pi, math.pi)), st.one_of(st.none(), st.tuples(speed, speed)),
        st.sampled_from(MOTIONS), st.sampled_from([5, 4, 6, 0, 40]),
    )  # fmt: skip
    spans: dict[str, SearchStrategy[Any]] = {}
    for name, span in problem.spans.items():
        if isinstance(span[0], str):
            spans[name] = st.sampled_from(span)
        elif isinstance(span[0], int):
            spans[name] = st.integers(*span)
        else:
            low, high = math.ceil(span[0]), math.floor(span[1])
            spans[name] = st.one_of(st.integers(low, high).map(float), st.floats(*span))
    scene = st.lists(thing, max_size=5).map(
        lambda objects: SceneRecord(
            "made", "made", tuple(replace(each, track=f"object/{i}") for i, each in enumerate(objects))
        )
    )
    return st.builds(Case, scene, st.fixed_dictionaries(spans))
