"""Which tests are taken first, against a plain twin and by hand; what makes tests, and what is scored."""

from __future__ import annotations

import os

import numpy as np
import pytest

from superflow.agents.saga import makers, programs
from superflow.agents.saga.choice import in_order
from superflow.agents.saga.operators import HELD_OUT, mutants
from superflow.agents.saga.problem import problems
from superflow.agents.saga.sandbox import Sandbox


def plain(tells, count):
    rows = [tuple(map(bool, row)) for row in tells]
    new = [i for i, row in enumerate(rows) if row not in rows[:i]]
    order = []
    while new and len(order) < count:

        def worth(i):
            return sum(0.5 ** sum(rows[j][w] for j in order) for w, hit in enumerate(rows[i]) if hit)

        best = max(new, key=lambda i: (worth(i), -i))
        order.append(best)
        new.remove(best)
    return (order + [i for i in range(len(rows)) if i not in order])[:count]


@pytest.mark.parametrize("seed", range(30))
def test_as_the_plain_twin(seed):
    rng = np.random.default_rng(seed)
    tells = rng.random((int(rng.integers(1, 25)), int(rng.integers(0, 7)))) < rng.random()
    for count in (1, 3, 40):
        assert in_order(tells, count) == plain(tells, count)


def test_what_is_told_by_one_alone_comes_early():
    tells = np.array([[1, 1, 0], [1, 1, 0], [1, 0, 0], [0, 0, 1]], bool)
    assert in_order(tells, 4) == [0, 3, 2, 1]
    assert in_order(np.zeros((0, 2), bool), 5) == []


pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture
def box(monkeypatch):
    for name, count in {"POOL": 60, "MORE": 20, "EXAMPLES": 5}.items():
        monkeypatch.setattr(programs, name, count)
    for name, count in {"EDGES": 30, "LIKE": 15, "LOOKS": 10, "PAIRS": 1}.items():
        monkeypatch.setattr(makers, name, count)
    with Sandbox() as box:
        yield box


def test_scored_programs_are_wrong_and_not_those_that_are_learned_from(box):
    problem = problems()["count_in_strip"]
    found = programs.programs_of(problem, box)
    by = {each.source: each.operator for each in mutants(problem.source)}
    assert {by[source] for source in found.learned}.isdisjoint(HELD_OUT)
    assert {by.get(source, "by hand") for source in found.scored} <= {*HELD_OUT, "by hand"}
    assert not set(found.learned) & set(found.scored)
    made = sum(operator in HELD_OUT for operator in by.values()) + 3  # by hand
    assert len(found.scored) + found.known + found.equal <= made
    assert "0.001" in "".join(found.scored)  # an edge that thrown scenes hardly meet
    assert programs.programs_of(problem, box) == found
    # with one more point of 0 everywhere nothing changes: nobody can tell it, and it is not scored
    same = problem.source.replace("found += 1", "found += 1 + 0 * x")
    assert programs._never_told(
        problem, [same], programs._pool(problem, np.random.default_rng(0), 20), box
    ) == [same]


def test_a_test_without_an_answer_of_the_reference_tells_nothing(box):
    problem = problems()["nearest_kind"]
    tests = programs._pool(problem, np.random.default_rng(0), 5)
    broken = problems()["range_after"]
    assert not programs.told(broken, [broken.source], tests, box).any()  # its argument is missing: it raises
    turned = problem.source.replace("distance < best_range", "distance > best_range")
    assert programs.told(problem, [turned], tests, box).any()


@pytest.mark.parametrize("maker", makers.MAKERS)
def test_a_maker_gives_tests_of_its_problem_and_the_same_ones_again(box, maker):
    pytest.importorskip("hypothesis")
    problem = problems()["nearest_kind"]
    tests = makers.Makers(box).tests(problem, 3, maker, 12)
    assert len(tests) == 12
    assert all(case.arguments.keys() == problem.spans.keys() for case in tests)
    assert makers.Makers(box).tests(problem, 3, maker, 12) == tests
    assert makers.Makers(box).tests(problem, 4, maker, 12) != tests


def test_chosen_tests_tell_what_is_learned_from(box):
    pytest.importorskip("hypothesis")
    problem, all_of_them = problems()["count_in_strip"], makers.Makers(box)
    learned = list(all_of_them.programs(problem).learned)
    told = {
        maker: programs.told(problem, learned, all_of_them.tests(problem, 0, maker, 8), box).any(0).mean()
        for maker in ("thrown", "thrown, chosen", "saga")
    }
    assert told["thrown"] < told["thrown, chosen"] <= told["saga"]
