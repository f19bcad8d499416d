"""Ways of making tests for a problem, to be held against each other: each gives so many tests, in order.

The baseline throws scenes. The others know the problem's reference, and all but one the wrong programs that are learned
from: these say which tests to take first (`choice`), and what tells them is shrunk and varied (`differential`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice

import numpy as np

from .boundaries import boundary_cases
from .cases import Case, thrown_arguments, thrown_cases
from .choice import in_order
from .differential import around
from .problem import Problem, problems
from .programs import Programs, programs_of, told
from .sandbox import Sandbox

EDGES, LIKE = 200, 100  # to choose from: tests at edges, tests like shrunk ones; together as many thrown ones
LOOKS = 60  # tests at edges that say which programs are told least
PAIRS = 4  # of these that a search is made for, of each problem and seed

# way -> how a table says it; the last one must lose
MAKERS = {
    "thrown": "thrown scenes (baseline)",
    "thrown, chosen": "thrown scenes, chosen",
    "boundaries": "multidimensional",
    "differential": "differential, chosen",
    "saga": "both, chosen",
    "mismatched": "both, chosen, pairs of another problem",
}


class Makers:
    """Makes tests; programs and pairs of a problem are made once.

    Args:
        box: where wrong programs run.
    """

    def __init__(self, box: Sandbox) -> None:
        self._box = box
        self._programs: dict[str, Programs] = {}
        self._pairs: dict[tuple[str, int], list[Case]] = {}

    def programs(self, problem: Problem) -> Programs:
        """The wrong programs of a problem."""
        if problem.name not in self._programs:
            self._programs[problem.name] = programs_of(problem, self._box)
        return self._programs[problem.name]

    def tests(self, problem: Problem, seed: int, maker: str, count: int) -> list[Case]:
        """The first tests of a way of ``MAKERS``."""
        rng = np.random.default_rng([seed, list(problems()).index(problem.name), list(MAKERS).index(maker)])
        if maker in ("thrown", "boundaries"):
            return _some(problem, rng, maker, count)
        if maker == "thrown, chosen":
            return self._chosen(problem, _some(problem, rng, "thrown", EDGES + LIKE), count)
        if maker == "differential":
            return self._chosen(problem, self._like(problem, self.pairs(problem, seed), rng), count)
        edges = _some(problem, rng, "boundaries", EDGES)
        if maker == "saga":
            made = [*edges, *self._like(problem, self.pairs(problem, seed), rng)]
            return self._chosen(problem, made, count)
        other = _next(problem)
        foreign = [
            replace(case, arguments=thrown_arguments(problem, rng)) for case in self.pairs(other, seed)
        ]
        made = [*edges, *self._like(problem, foreign, rng)]
        asked = [replace(case, arguments=thrown_arguments(other, rng)) for case in made]
        return self._chosen(other, asked, count, made)

    def pairs(self, problem: Problem, seed: int) -> list[Case]:
        """Shrunk tests that tell learned programs from the reference."""
        key = problem.name, seed
        if key not in self._pairs:
            rng = np.random.default_rng([seed, list(problems()).index(problem.name), len(MAKERS)])
            learned = list(self.programs(problem).learned)
            looks = told(problem, learned, _some(problem, rng, "boundaries", LOOKS), self._box)
            hard = [learned[i] for i in np.argsort(looks.mean(axis=0), kind="stable")[:PAIRS]]
            jobs = [{"search": {"problem": problem.name, "wrong": source, "seed": seed}} for source in hard]
            rows = [row for result in self._box.run(jobs) for row in result.rows if row is not None]
            self._pairs[key] = [Case.from_dict(row) for row in rows]
        return self._pairs[key]

    def _like(self, problem: Problem, shrunk: list[Case], rng: np.random.Generator) -> list[Case]:
        return list(islice(around(problem, shrunk, rng), LIKE))

    def _chosen(
        self, problem: Problem, asked: list[Case], count: int, made: list[Case] | None = None
    ) -> list[Case]:
        """Of the tests made those that tell learned programs best, by what a problem is asked with them."""
        tells = told(problem, list(self.programs(problem).learned), asked, self._box)
        return [(made or asked)[i] for i in in_order(tells, count)]


def _next(problem: Problem) -> Problem:
    names = list(problems())
    return problems()[names[(names.index(problem.name) + 1) % len(names)]]


def _some(problem: Problem, rng: np.random.Generator, kind: str, count: int) -> list[Case]:
    streams: dict[str, Callable[[], Iterator[Case]]] = {
        "thrown": partial(thrown_cases, problem, rng), "boundaries": partial(boundary_cases, problem, rng)
    }  # fmt: skip
    return list(islice(streams[kind](), count))
