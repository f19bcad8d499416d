"""Which ways of making tests find wrong programs, by the metrics of TCGBench: rows of a CSV file, and their table.

What is scored are programs that no maker of tests has seen: those of the held-out operators, and those written by hand,
see `superflow.agents.saga.programs`; eight of the problems are held out, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from ..agents.saga.makers import MAKERS, Makers
from ..agents.saga.metrics import area_under_curve, detection_rate, error_patterns
from ..agents.saga.problem import Problem, problems
from ..agents.saga.programs import told
from ..agents.saga.sandbox import Limits, Sandbox
from .markdown import table_lines
from .rows import Row, RowFile

ARMS = MAKERS
BUDGETS = (1, 5, 10, 20, 50)
SHOWN = (10, 20, 50)  # of the table's VAcc@k
TESTS = max(BUDGETS)
# of the table
FIGURES = ("tests", *(f"DR@{k}" for k in BUDGETS), *(f"VAcc@{k}" for k in SHOWN), "AUC@50", "DEPC@50")
LIMITS = Limits(cpu_s=60, wall_s=1200)  # a search takes its time, the more on a busy machine
KEY = ("seed", "arm", "problem")
COLUMNS = (
    *KEY,
    "held out",
    "programs",
    "equal",
    "known",
    *(f"found by {k}" for k in BUDGETS),
    "all found by",
    "error patterns",
)
NUMBERS = tuple(name for name in COLUMNS if name not in ("arm", "problem"))


def saga_rows(out: Path) -> RowFile:
    """The rows of a folder: of each seed, way and problem how many programs k tests find.

    ``equal`` and ``known`` programs were left out; ``all found by`` is the number of tests that finds all, empty where
    none does.
    """
    needed = [name for name in NUMBERS if name != "all found by"]
    return RowFile(out / "saga.csv", KEY, COLUMNS, numbers=NUMBERS, needed=needed)


def run_saga(out: Path, seeds: Sequence[int], arms: Sequence[str]) -> Iterator[str]:
    """Make the rows that are not there yet, and name each seed and problem that is done."""
    rows = saga_rows(out)
    known = {tuple(row[name] for name in KEY) for row in rows.read()}
    with Sandbox(LIMITS) as box:
        makers = Makers(box)
        held_out_first = sorted(problems().values(), key=lambda problem: not problem.held_out)
        for problem in held_out_first:
            for seed in seeds:
                missing = [arm for arm in arms if (str(seed), arm, problem.name) not in known]
                if missing:
                    rows.add([_row(makers, box, problem, seed, arm) for arm in missing])
                yield f"seed {seed}, {problem.name}"


def _row(makers: Makers, box: Sandbox, problem: Problem, seed: int, arm: str) -> dict[str, Any]:
    programs = makers.programs(problem)
    fails = told(problem, list(programs.scored), makers.tests(problem, seed, arm, TESTS), box)
    whole = np.flatnonzero(np.logical_or.accumulate(fails).all(axis=1))
    return {
        "seed": seed,
        "arm": arm,
        "problem": problem.name,
        "held out": int(problem.held_out),
        "programs": len(programs.scored),
        "equal": programs.equal,
        "known": programs.known,
        **{f"found by {k}": round(detection_rate(fails, k) * len(programs.scored)) for k in BUDGETS},
        "all found by": int(whole[0]) + 1 if len(whole) else None,
        "error patterns": error_patterns(fails, TESTS),
    }


def table(out: Path) -> str:
    """The rows of a folder as text: means over problems, and over seeds with the lowest and the highest."""
    rows = saga_rows(out).read()
    lines = []
    for flag, name in (("0", "problems that the ways were made on"), ("1", "held-out problems")):
        part = [row for row in rows if row["held out"] == flag and row["programs"] != "0"]
        if not part:
            continue
        seeds = sorted({row["seed"] for row in part})
        count = len({row["problem"] for row in part})
        first = [row for row in part if (row["seed"], row["arm"]) == (part[0]["seed"], part[0]["arm"])]
        programs, equal, known = (
            sum(int(row[column]) for row in first) for column in ("programs", "equal", "known")
        )
        lines += [
            f"{count} {name}, {programs} wrong programs ({equal} left out as equal to the reference, {known} as equal "
            f"to one that is learned from), {len(seeds)} seeds:",
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
    rates = [100 * mean(int(row[f"found by {k}"]) / int(row["programs"]) for row in rows) for k in BUDGETS]
    ends = [int(row["all found by"] or TESTS + 1) for row in rows]
    whole = [100 * mean(end <= k for end in ends) for k in range(1, TESTS + 1)]
    patterns = mean(int(row["error patterns"]) for row in rows)
    return [*rates, *(whole[k - 1] for k in SHOWN), area_under_curve(whole), patterns]


def _cell(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"**{mean(values):.1f}** ({min(values):.1f} to {max(values):.1f})"
