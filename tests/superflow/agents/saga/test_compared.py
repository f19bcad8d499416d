"""Arguments at which a comparison of a reference is a tie."""

from __future__ import annotations

import math

import numpy as np
import pytest

from superflow.agents.saga.cases import thrown_cases
from superflow.agents.saga.compared import ties
from superflow.agents.saga.problem import Problem, problems
from superflow.agents.scene import SceneObject, SceneRecord

SCENE = SceneRecord(
    "t", "s",
    tuple(
        SceneObject(f"{i}", "car", (x, y, 0.5), (4.0, 2.0, 1.5), 0.0, None, (), 9)
        for i, (x, y) in enumerate([(3.0, 4.0), (-2.0, 1.0)])
    ),
)  # fmt: skip


def asked(body, **spans):
    source = f"def f(scene, {', '.join(spans)}):\n    {body}"
    return Problem("f", "", source, spans, held_out=False)


def test_by_hand():
    problem = asked("return [abs(o.center[1]) <= width / 2 for o in scene.objects]", width=(1.0, 9.0))
    assert ties(problem, SCENE, {"width": 3.0}) == {"width": [8.0, 2.0]}
    problem = asked("return [0 < o.center[0] <= far for o in scene.objects]", far=(1.0, 9.0))
    # the second object is not ahead, and not compared
    assert ties(problem, SCENE, {"far": 3.0}) == {"far": [3.0]}
    problem = asked("return near <= 5 and scene.objects[0].center[0] >= near", near=(0, 9))
    assert ties(problem, SCENE, {"near": 9}) == {"near": [5.0]}  # what comes after a false part is not run
    assert ties(asked("return word == 'car'", word=("car", "bus")), SCENE, {"word": "bus"}) == {}


def test_of_several_arguments_and_bent_ones():
    problem = asked("return scene.objects[0].center[0] < a * a * b", a=(0.0, 4.0), b=(0.0, 10.0))
    found = ties(problem, SCENE, {"a": 2.0, "b": 3.0})
    assert found["b"] == [0.75]
    assert math.isclose(found["a"][0], 1.0, abs_tol=1e-9)
    assert ties(problem, SCENE, {"a": 2.0, "b": 0.1})["b"] == [0.75]
    assert "a" not in ties(problem, SCENE, {"a": 2.0, "b": 0.1})  # beyond its span


@pytest.mark.parametrize(
    "name", ["kinds_by_range", "hit_at_height", "stops_in_time", "is_crowded", "count_oncoming"]
)
def test_at_a_tie_a_hair_decides(name):
    """Just beside some of the values the reference gives another answer."""
    problem, decided = problems()[name], 0
    program: dict = {"math": math, "SceneRecord": SceneRecord}
    exec(problem.source, program)
    for case, _ in zip(thrown_cases(problem, np.random.default_rng(3)), range(40)):
        for argument, values in ties(problem, case.scene, case.arguments).items():
            low, high = problem.spans[argument]
            for value in values:
                if low <= value <= high:
                    beside = [
                        program[name](case.scene, **{**case.arguments, argument: value + hair})
                        for hair in (-1e-6, 1e-6)
                    ]
                    decided += beside[0] != beside[1]
    assert decided > 2
