"""The wrong programs of a problem: those that makers of tests learn from, and those that tests are scored on.

A program is scored only if it is known to be wrong, and if no program that is learned from is wrong on the same tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from .boundaries import boundary_cases
from .bugs import bugs
from .cases import Case, thrown_cases
from .operators import HELD_OUT, mutants
from .problem import Problem
from .sandbox import Sandbox

POOL_SEED = 1_000_000  # no seed of tests
POOL = 400  # thrown tests, and as many at edges, that every program runs on
MORE = 1000  # of each beyond these, for those that no test of the pool tells
EXAMPLES = 200  # of a search with hypothesis, for those that are left


@dataclass(frozen=True, slots=True)
class Programs:
    """Texts of wrong programs of a problem.

    Attributes:
        learned: of all operators but the held-out ones.
        scored: of the held-out operators, and those written by hand.
        equal: how many were left out of these because nothing tells them from the reference.
        known: how many because a learned one fails the same tests of the pool.
    """

    learned: tuple[str, ...]
    scored: tuple[str, ...]
    equal: int
    known: int


def programs_of(problem: Problem, box: Sandbox) -> Programs:
    """The wrong programs of a problem, the same at each call."""
    made = list(mutants(problem.source))
    learned = [each.source for each in made if each.operator not in HELD_OUT]
    others = [each.source for each in made if each.operator in HELD_OUT]
    others += [each.source for each in bugs(problem)]
    is_learned = set(learned)
    others = [source for source in dict.fromkeys(others) if source not in is_learned]
    rng = np.random.default_rng(POOL_SEED)
    tells = told(problem, [*learned, *others], _pool(problem, rng, POOL), box).T
    patterns = {row.tobytes() for row in tells[: len(learned)]}
    rows = list(zip(others, tells[len(learned) :]))
    known = {source for source, row in rows if row.any() and row.tobytes() in patterns}
    unseen = [source for source, row in rows if not row.any()]
    equal = set(_never_told(problem, unseen, _pool(problem, rng, MORE) if unseen else [], box))
    scored = tuple(source for source in others if source not in equal and source not in known)
    wrong = [source for source, row in zip(learned, tells) if row.any()]
    return Programs(tuple(wrong), scored, len(equal), len(known))


def told(problem: Problem, sources: list[str], tests: list[Case], box: Sandbox) -> NDArray[np.bool_]:
    """(T, W), whether a test tells a program from the reference; none does that the reference has no answer to."""
    answered, rows = box.compare(problem.source, sources, problem.name, tests)
    tells = np.array(rows, bool).reshape(len(sources), len(tests)).T
    return tells & np.array(answered, bool)[:, None]


def _pool(problem: Problem, rng: np.random.Generator, count: int) -> list[Case]:
    return [case for make in (thrown_cases, boundary_cases) for case in islice(make(problem, rng), count)]


def _never_told(problem: Problem, sources: list[str], pool: list[Case], box: Sandbox) -> list[str]:
    """Those of some programs that neither more tests nor a search tells from the reference."""
    unseen = np.flatnonzero(~told(problem, sources, pool, box).any(axis=0))
    left = [sources[i] for i in unseen]
    jobs = [
        {"search": {"problem": problem.name, "wrong": source, "seed": POOL_SEED, "examples": EXAMPLES}}
        for source in left
    ]
    return [source for source, result in zip(left, box.run(jobs)) if not any(result.rows)]
