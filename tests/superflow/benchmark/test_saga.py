"""The benchmark of makers of tests: rows once, figures by hand, what it cannot be asked."""

from __future__ import annotations

import os

import pytest

from superflow.agents.saga import makers, programs
from superflow.benchmark import saga
from superflow.tools import benchmark as command

pytest.importorskip("hypothesis")


def row(problem, arm, found, end, held_out=0, seed=0):
    return {
        "seed": seed, "arm": arm, "problem": problem, "held out": held_out, "programs": 4, "equal": 1, "known": 2,
        **{f"found by {k}": n for k, n in zip(saga.BUDGETS, found)}, "all found by": end, "error patterns": 3,
    }  # fmt: skip


def few(monkeypatch):
    """As little of everything as still is something."""
    for name, count in {"POOL": 40, "MORE": 40, "EXAMPLES": 10}.items():
        monkeypatch.setattr(programs, name, count)
    for name, count in {"EDGES": 30, "LIKE": 15, "LOOKS": 10, "PAIRS": 1}.items():
        monkeypatch.setattr(makers, name, count)


def test_the_table_by_hand(tmp_path):
    saga.saga_rows(tmp_path).add(
        [
            row("a", "thrown", (0, 1, 2, 2, 2), None),
            row("b", "thrown", (0, 2, 4, 4, 4), 10),
            row("a", "thrown", (4, 4, 4, 4, 4), 1, seed=1),
            row("b", "thrown", (4, 4, 4, 4, 4), 1, seed=1),
        ]
    )
    # seed 0: DR@5 (1/4 + 2/4) / 2, DR@10 (2/4 + 4/4) / 2, VAcc@10 half; from 9 to 10 a half triangle, then a half
    auc = 50 * (0.5 + 40) / 49
    found, half = "**87.5** (75.0 to 100.0)", "**75.0** (50.0 to 100.0)"
    five, two = "**68.8** (37.5 to 100.0)", "**50.0** (0.0 to 100.0)"
    assert (
        f"| thrown scenes (baseline) | {two} | {five} | {found} | {found} | {found} | {half} | {half} | {half} "
        f"| **{(auc + 100) / 2:.1f}** ({auc:.1f} to 100.0) | **3.0** (3.0 to 3.0) |"
    ) in saga.table(tmp_path)
    assert "2 problems that the ways were made on, 8 wrong programs (2 left out as equal" in saga.table(
        tmp_path
    )
    assert "held-out problems" not in saga.table(tmp_path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_rows_are_made_once(tmp_path, monkeypatch):
    few(monkeypatch)
    two = {name: each for name, each in saga.problems().items() if name in ("nearest_kind", "count_in_strip")}
    monkeypatch.setattr(saga, "problems", lambda: two)
    arms = ["thrown", "saga", "mismatched"]
    assert len(list(saga.run_saga(tmp_path, [0], arms))) == 2
    rows = saga.saga_rows(tmp_path).read()
    assert len(rows) == 6
    assert all(0 < int(each["found by 50"]) <= int(each["programs"]) for each in rows)
    monkeypatch.setattr(saga, "_row", lambda *_: pytest.fail("made again"))
    list(saga.run_saga(tmp_path, [0], arms))
    assert saga.saga_rows(tmp_path).read() == rows


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--arms", "best"], "saga has no 'best'"), (["--root", "a=b"], "leave out --root")],
)
def test_what_it_does_not_take(tmp_path, capsys, options, message):
    assert command.main(["saga", "--out", str(tmp_path), *options]) == 2
    assert message in capsys.readouterr().err
