"""Which ways of making tests find wrong programs, by the metrics of TCGBench: rows of a CSV file, and their table.

What is scored are programs that no maker of tests has seen: those of the held-out operators, and those written by hand.
Programs that agree with their reference on ``POOL`` thrown and as many boundary tests are taken for equal to it, and
left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from ..agents.saga.boundaries import boundary_cases
from ..agents.saga.bugs import bugs
from ..agents.saga.cases import Case, thrown_arguments, thrown_cases
from ..agents.saga.differential import around
from ..agents.saga.metrics import area_under_curve, detection_rate, error_patterns
from ..agents.saga.operators import HELD_OUT, mutants
from ..agents.saga.problem import Problem, problems
from ..agents.saga.sandbox import Sandbox
from .markdown import table_lines
from .rows import Row, RowFile

# way of making tests -> how the table says it; the last one must lose
ARMS = {
    "thrown": "thrown scenes (baseline)",
    "boundaries": "multidimensional",
    "differential": "differential",
    "both": "both by turns",
    "mismatched": "differential, pairs of another problem",
}
BUDGETS = (1, 2, 5, 10, 20, 50)
TESTS = max(BUDGETS)
POOL = 1500  # of each kind of tests, for telling programs that are equal to their reference
PAIRS = 6  # wrong programs of training operators that a search is made for, of each problem and seed
POOL_SEED = 1_000_000  # no seed of tests
KEY = ("seed", "arm", "problem")
FIGURES = ("tests", "DR@5", "DR@10", "DR@50", "VAcc@10", "VAcc@50", "AUC@50", "DEPC@50")  # of the table
COLUMNS = (
    *KEY,
    "held out",
    "programs",
    "equal",
    *(f"found by {k}" for k in BUDGETS),
    "all found by",
    "error patterns",
)


def saga_rows(out: Path) -> RowFile:
    """The rows of a folder: of each seed, way and problem how many programs k tests find.

    ``equal`` programs were left out; ``all found by`` is the number of tests that finds all, empty where none does.
    """
    return RowFile(out / "saga.csv", KEY, COLUMNS)


@dataclass(frozen=True, slots=True)
class Wrong:
    """Programs of a problem. learned: of training operators. scored: of others. equal: left out of these."""

    learned: tuple[str, ...]
    scored: tuple[str, ...]
    equal: int


def run_saga(out: Path, seeds: Sequence[int], arms: Sequence[str]) -> Iterator[str]:
    """Make the rows that are not there yet, and name each seed and problem that is done."""
    rows = saga_rows(out)
    known = {tuple(row[name] for name in KEY) for row in rows.read()}
    with Sandbox() as box:
        study = Study(box)
        for seed in seeds:
            for problem in problems().values():
                missing = [arm for arm in arms if (str(seed), arm, problem.name) not in known]
                if missing:
                    rows.add([study.row(problem, seed, arm) for arm in missing])
                yield f"seed {seed}, {problem.name}"


class Study:
    """Wrong programs and pairs of problems, each made once."""

    def __init__(self, box: Sandbox) -> None:
        self.box = box
        self._wrong: dict[str, Wrong] = {}
        self._pairs: dict[tuple[str, int], list[Case]] = {}

    def row(self, problem: Problem, seed: int, arm: str) -> dict[str, Any]:
        """One row of the file."""
        wrong = self.wrong(problem)
        tests = self.tests(problem, seed, arm)
        expected = self.box.outcomes(problem.source, problem.name, tests)
        found = self.box.failures(wrong.scored, problem.name, tests, expected)
        fails = np.array(found, bool).reshape(len(wrong.scored), TESTS).T
        whole = np.flatnonzero(np.logical_or.accumulate(fails).all(axis=1))
        return {
            "seed": seed,
            "arm": arm,
            "problem": problem.name,
            "held out": int(problem.held_out),
            "programs": len(wrong.scored),
            "equal": wrong.equal,
            **{f"found by {k}": round(detection_rate(fails, k) * len(wrong.scored)) for k in BUDGETS},
            "all found by": int(whole[0]) + 1 if len(whole) else None,
            "error patterns": error_patterns(fails, TESTS),
        }

    def wrong(self, problem: Problem) -> Wrong:
        """The wrong programs of a problem."""
        if problem.name not in self._wrong:
            made = list(mutants(problem.source))
            learned = [each.source for each in made if each.operator not in HELD_OUT]
            others = [each.source for each in made if each.operator in HELD_OUT]
            others += [each.source for each in bugs(problem)]
            rng = np.random.default_rng(POOL_SEED)
            pool = [
                case for make in (thrown_cases, boundary_cases) for case in islice(make(problem, rng), POOL)
            ]
            expected = self.box.outcomes(problem.source, problem.name, pool)
            differ = [any(row) for row in self.box.failures(others, problem.name, pool, expected, stop=True)]
            scored = tuple(source for source, is_wrong in zip(others, differ) if is_wrong)
            self._wrong[problem.name] = Wrong(tuple(learned), scored, len(others) - len(scored))
        return self._wrong[problem.name]

    def tests(self, problem: Problem, seed: int, arm: str) -> list[Case]:
        """The first ``TESTS`` tests of a way, in order."""
        number = list(problems()).index(problem.name)
        rng = np.random.default_rng([seed, number, list(ARMS).index(arm)])
        return list(islice(self._stream(problem, seed, arm, rng), TESTS))

    def _stream(self, problem: Problem, seed: int, arm: str, rng: np.random.Generator) -> Iterator[Case]:
        plain: dict[str, Callable[[Problem, np.random.Generator], Iterator[Case]]] = {
            "thrown": thrown_cases, "boundaries": boundary_cases
        }  # fmt: skip
        if arm in plain:
            return plain[arm](problem, rng)
        if arm == "differential":
            return around(problem, self.pairs(problem, seed), rng)
        if arm == "both":
            two = boundary_cases(problem, rng), around(problem, self.pairs(problem, seed), rng)
            return (case for pair in zip(*two) for case in pair)
        names = list(problems())
        other = problems()[names[(names.index(problem.name) + 1) % len(names)]]
        shrunk = [replace(case, arguments=thrown_arguments(problem, rng)) for case in self.pairs(other, seed)]
        return around(problem, shrunk, rng)

    def pairs(self, problem: Problem, seed: int) -> list[Case]:
        """Shrunk tests that tell programs of training operators from the reference."""
        key = problem.name, seed
        if key not in self._pairs:
            rng = np.random.default_rng([seed, 7])
            learned = self.wrong(problem).learned
            chosen = [learned[i] for i in rng.permutation(len(learned))[:PAIRS]]
            jobs = [{"search": {"problem": problem.name, "wrong": source, "seed": seed}} for source in chosen]
            rows = [row for result in self.box.run(jobs) for row in result.rows if row is not None]
            self._pairs[key] = [Case.from_dict(row) for row in rows]
        return self._pairs[key]


def table(out: Path) -> str:
    """The rows of a folder as text: means over problems, and over seeds with the lowest and the highest."""
    rows = saga_rows(out).read()
    lines = []
    for flag, name in (("0", "problems that the ways were made on"), ("1", "held-out problems")):
        part = [row for row in rows if row["held out"] == flag]
        if not part:
            continue
        seeds = sorted({row["seed"] for row in part})
        count = len({row["problem"] for row in part})
        first = [row for row in part if (row["seed"], row["arm"]) == (part[0]["seed"], part[0]["arm"])]
        programs, equal = (sum(int(row[column]) for row in first) for column in ("programs", "equal"))
        lines += [
            f"{count} {name}, {programs} wrong programs ({equal} left out as equal), {len(seeds)} seeds:",
            "",
        ]
        shown = []
        for arm, title in ARMS.items():
            own = [[row for row in part if (row["seed"], row["arm"]) == (seed, arm)] for seed in seeds]
            if any(own):
                shown.append([title, *map(_cell, zip(*(_figures(each) for each in own if each)))])
        lines += [*table_lines(FIGURES, shown), ""]
    return "\n".join(lines)


def _figures(rows: Sequence[Row]) -> list[float]:
    """The columns of the table, of one seed and way."""
    rates = [
        100 * mean(int(row[f"found by {k}"]) / int(row["programs"]) for row in rows) for k in (5, 10, 50)
    ]
    ends = [int(row["all found by"] or TESTS + 1) for row in rows]
    whole = [100 * mean(end <= k for end in ends) for k in range(1, TESTS + 1)]
    patterns = mean(int(row["error patterns"]) for row in rows)
    return [*rates, whole[9], whole[-1], area_under_curve(whole), patterns]


def _cell(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"**{mean(values):.1f}** ({min(values):.1f} to {max(values):.1f})"
