"""Problems, wrong programs, and the tests that are made for them."""

from __future__ import annotations

import ast
from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import islice

import numpy as np
import pytest

from superflow.agents.saga.boundaries import boundary_cases, constants_of, reads
from superflow.agents.saga.bugs import BUGS, bugs
from superflow.agents.saga.cases import Case, thrown_cases
from superflow.agents.saga.operators import HELD_OUT, OPERATORS, mutants
from superflow.agents.saga.outcomes import load_program, outcome, same
from superflow.agents.saga.problem import problems

from .answers_again import again

PROBLEMS = problems()
GENERATORS = {"thrown": thrown_cases, "boundary": boundary_cases}


@cache
def cases(name, generator, count=150, seed=0):
    return list(islice(GENERATORS[generator](PROBLEMS[name], np.random.default_rng(seed)), count))


def test_there_are_twenty_two_and_eight_of_them_are_held_out():
    assert len(PROBLEMS) == 22
    assert sum(each.held_out for each in PROBLEMS.values()) == 8


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_statement_a_reference_and_its_second_writing(name):
    """The reference gives what someone else wrote from its statement, on thrown scenes and at edges."""
    problem = PROBLEMS[name]
    program = load_program(problem.source, name)
    assert len(problem.statement) > 40
    assert "return" in problem.source
    answers = Counter()
    for generator in GENERATORS:
        for case in cases(name, generator):
            found = outcome(program, case)
            assert "value" in found, found
            answers[str(found["value"])] += 1
            assert same(found, {"value": again(name, case)}), (case, found, again(name, case))
    assert len(answers) >= 2
    assert answers.most_common(1)[0][1] < 297


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("generator", GENERATORS)
def test_tests_are_json_and_within_spans_and_equal_for_equal_seeds(name, generator):
    first = cases(name, generator, 30)
    assert (
        [Case.from_dict(case.to_dict()) for case in first] == first == cases.__wrapped__(name, generator, 30)
    )
    assert first != cases(name, generator, 30, seed=1)
    assert all(case.arguments.keys() == PROBLEMS[name].spans.keys() for case in first)


def test_operators_change_one_place():
    assert set(OPERATORS) > HELD_OUT
    source = ast.unparse(
        ast.parse("def f(x, y):\n    if x < 5:\n        return None\n    return math.atan2(y, -x) % 360")
    )
    found = {(each.operator, each.source.partition("\n")[2]) for each in mutants(source)}
    test, rest = "    if x < 5:\n        return None", "    return math.atan2(y, -x) % 360"
    assert ("comparison edge", f"{test.replace('<', '<=')}\n{rest}") in found
    assert ("comparison turned", f"{test.replace('<', '>')}\n{rest}") in found
    assert ("one more", f"{test.replace('5', '6')}\n{rest}") in found
    assert ("arguments swapped", f"{test}\n    return math.atan2(-x, y) % 360") in found
    assert ("sign lost", f"{test}\n    return math.atan2(y, x) % 360") in found
    assert ("wrap lost", f"{test}\n    return math.atan2(y, -x)") in found
    assert ("guard lost", f"    pass\n{rest}") in found
    assert ("condition turned", f"{test.replace('x < 5', 'not x < 5')}\n{rest}") in found
    assert ("a hair wider", f"{test.replace('5', '5 + 0.001')}\n{rest}") in found
    assert ("cut to whole", f"{test.replace('x', 'int(x)')}\n{rest}") in found
    assert len({text for _, text in found}) == len(found)


@pytest.mark.parametrize(
    ("operator", "before", "after"),
    [
        ("rest of a chain lost", "return 0 < x <= y", "return 0 < x"),
        ("one axis alone", "return math.hypot(x, y)", "return abs(x)"),
        ("sum for root", "return math.hypot(x, y)", "return abs(x) + abs(y)"),
        ("a hair wider", "return x >= y", "return x >= y - 0.001"),
        ("empty for none", "return 1 if x is None else 2", "return 1 if not x else 2"),
        ("empty for none", "return 1 if x is not None else 2", "return 1 if x else 2"),
        ("overwritten", "x += y\n    return x", "x = y\n    return x"),
        ("order lost", "return sorted(x, key=y)", "return list(x)"),
        ("last object lost", "return len(x.objects)", "return len(x.objects[:-1])"),
        ("other size", "return x.size[2]", "return x.size[0]"),
        ("break for continue", "for y in x:\n        break", "for y in x:\n        continue"),
    ],
)
def test_what_a_held_out_operator_makes(operator, before, after):
    assert operator in HELD_OUT
    made = [each.source for each in mutants(f"def f(x, y):\n    {before}") if each.operator == operator]
    assert made == [f"def f(x, y):\n    {after}"]


def test_every_operator_makes_programs_that_can_be_read_and_differ():
    made = Counter()
    for problem in PROBLEMS.values():
        found = list(mutants(problem.source))
        texts = [each.source for each in found]
        assert problem.source not in texts
        assert len(set(texts)) == len(texts)
        for each in found:
            load_program(each.source, problem.name)
            made[each.operator] += 1
    assert not [name for name in OPERATORS if not made[name] and name != "filter lost"]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: f"{bug[0]}: {bug[1]}")
def test_a_bug_changes_one_passage_and_the_answer(bug):
    name, _, passage, _ = bug
    problem = PROBLEMS[name]
    assert problem.source.count(passage) == 1 or name == "stops_in_time"
    (source,) = [each.source for each in bugs(problem) if each.what == bug[1]]
    right, wrong = load_program(problem.source, name), load_program(source, name)
    tests = (case for generator in GENERATORS for case in cases(name, generator, 600))
    assert any(not same(outcome(wrong, case), outcome(right, case)) for case in tests)


def test_every_problem_has_bugs():
    assert {name for name, *_ in BUGS} == set(PROBLEMS)


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_reference_answers_whatever_a_search_may_draw(name):
    """Where it raises, every program would count as wrong; time_to_near divided by a speed whose square is 0."""
    pytest.importorskip("hypothesis")
    from hypothesis import HealthCheck, given, settings

    from superflow.agents.saga.differential import _cases

    program = load_program(PROBLEMS[name].source, name)

    @settings(max_examples=60, database=None, suppress_health_check=list(HealthCheck))
    @given(_cases(PROBLEMS[name]))
    def answers(case):
        assert "value" in outcome(program, case)

    answers()
    (case,) = cases(name, "thrown", 1)
    things = tuple(
        replace(case.scene.objects[0], track=str(i), center=center, velocity=velocity)
        for i, center in enumerate([(0.0, 0.0, 0.0), (30.0, 0.0, 0.0), (-0.0, -9.0, 1.0)])
        for velocity in [(-1e-200, 0.0), (0.0, 0.0), (5e-324, -5e-324)]
    )
    assert "value" in outcome(program, replace(case, scene=replace(case.scene, objects=things)))


def test_only_dimensions_that_are_read_are_put_to_edges():
    assert reads("def f(scene):\n    return scene.objects[0].center[2] < scene.objects[1].points") == {
        "objects", "center", "points", "z"
    }  # fmt: skip
    for case in cases("widest_gap", "boundary", 100):  # which reads places alone
        assert all(each.velocity is None or 0 <= each.speed < 30 for each in case.scene.objects)
        assert all(each.size[0] < 13 for each in case.scene.objects)


def test_edges_of_a_reference_are_met():
    assert constants_of("def f(x):\n    return x < 5 or x % 360 > 0.5") == (0.0, 0.5, 1.0, 5.0, 360.0)
    points, counts, velocities = Counter(), Counter(), Counter()
    for case in cases("count_toward", "boundary", 300):
        counts[len(case.scene.objects)] += 1
        points.update(each.points for each in case.scene.objects)
        velocities.update(each.velocity is None for each in case.scene.objects)
    assert min(counts[0], counts[1], points[4], points[5], points[6], velocities[True]) > 5
    near = [case for case in cases("kinds_by_range", "boundary", 300) if exact(case)]
    assert len(near) > 10


def exact(case):
    return any(each.range_m == case.arguments["metres"] for each in case.scene.objects)


def test_a_search_finds_the_smallest_difference():
    pytest.importorskip("hypothesis")
    from superflow.agents.saga.differential import search

    problem = PROBLEMS["nearest_kind"]
    wrong = problem.source.replace("each.points >= 5", "each.points >= 4")
    found = Case.from_dict(search("nearest_kind", wrong, 3))
    (thing,) = found.scene.objects
    assert thing.points == 4
    assert search("nearest_kind", problem.source, 3) is None


def test_tests_around_a_shrunk_one_are_like_it():
    from superflow.agents.saga.differential import around

    problem = PROBLEMS["time_to_near"]
    (first,) = cases("time_to_near", "thrown", 1)
    scene = replace(first.scene, objects=first.scene.objects[:1])
    made = list(islice(around(problem, [Case(scene, first.arguments)], np.random.default_rng(0)), 50))
    assert made[0] == Case(scene, first.arguments)
    assert len({case.scene.to_json() + str(case.arguments) for case in made}) > 40
    assert all(len(case.scene.objects) >= 1 for case in made)
    # thrown ones, without any
    assert len(list(islice(around(problem, [], np.random.default_rng(0)), 5))) == 5
