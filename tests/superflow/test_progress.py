"""How far a long job is: the log lines, and the bars of the commands."""

from __future__ import annotations

import logging

import pytest

from superflow.progress import LogLines, duration, track
from superflow.tools.progress_bar import progress_bar


@pytest.fixture
def clock(monkeypatch):
    """Times to give to the looks at the clock, in their order."""
    times: list[float] = []
    monkeypatch.setattr("superflow.progress.time.monotonic", lambda: times.pop(0))
    return times


def test_progress_counts_only_this_run_as_speed(caplog, clock):
    clock += [0.0, 10.0, 20.0]
    with caplog.at_level(logging.INFO):
        progress = LogLines(logging.getLogger("test"), every_s=5)
        for done in (6, 7, 10):
            progress("maps", done, 10)
    assert caplog.messages == [
        "maps: 6 of 10 are there already",
        "maps: 7/10, 30 s left",
        "maps: 10/10, took 20 s",
    ]
    assert [duration(s) for s in (0.4, 59.4, 200, 7500)] == ["0 s", "59 s", "3 min 20 s", "2 h 5 min"]
    assert duration(10.5 * 86_400) == "10 days 12 h"


def test_a_tracked_loop_speaks_when_it_is_long_and_says_what_is_left(caplog, clock):
    clock += [0.0, 4.0, 12.0, 16.0, 0.0, 4.0, 8.0]
    with caplog.at_level(logging.INFO):
        lines = [LogLines(logging.getLogger("test"), quiet=True) for _ in range(2)]
        assert list(track("abc", "letters", lines[0])) == ["a", "b", "c"]
        assert caplog.messages == ["letters: 2/3, 6 s left", "letters: 3/3, took 16 s"]
        caplog.clear()
        assert list(track("ab", "letters", lines[1])) == ["a", "b"]
    assert caplog.messages == []


def test_jobs_one_after_the_other_are_timed_apart(caplog, clock):
    clock += [0.0, 20.0, 30.0, 50.0]
    with caplog.at_level(logging.INFO):
        progress = LogLines(logging.getLogger("test"), every_s=15)
        for what in ("statistics", "features"):
            assert list(track("a", what, progress)) == ["a"]
    assert caplog.messages == ["statistics: 1/1, took 20 s", "features: 1/1, took 20 s"]


@pytest.mark.parametrize(("counts", "share"), [(True, "2/4"), (False, "50%")])
def test_a_bar_shows_each_job_on_standard_error(capsys, counts, share):
    with progress_bar(counts=counts) as progress:
        for what in ("reading", "writing"):
            progress(what, 0, 4)
            progress(what, 2, 4)
    out, drawn = capsys.readouterr()
    assert out == ""
    lines = {line.split()[0]: line for line in drawn.splitlines() if line.strip()}
    assert share in lines["reading"]
    assert share in lines["writing"]


def test_work_that_is_refused_draws_nothing(capsys):
    with pytest.raises(ValueError, match="refused"), progress_bar():
        raise ValueError("refused")
    assert capsys.readouterr() == ("", "")


def test_a_loop_over_what_has_no_length_is_told_its_total_and_what_was_ready():
    told = []
    items = track(iter("bc"), "letters", lambda *said: told.append(said), total=3, ready=1)
    assert next(items) == "b"
    assert told == [("letters", 1, 3)]
    assert list(items) == ["c"]
    assert told == [("letters", 1, 3), ("letters", 2, 3), ("letters", 3, 3)]
