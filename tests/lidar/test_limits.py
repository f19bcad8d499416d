"""How many points of a cloud stay."""

from __future__ import annotations

import numpy as np
import pytest

from superflow.errors import InputError
from superflow.lidar.limits import draw_count


def never() -> float:
    raise AssertionError("a fixed number draws nothing, so that a run with it stays what it was")


def test_a_number_is_a_limit_and_none_keeps_all():
    assert [draw_count(total, 100, never) for total in (0, 99, 100, 5000)] == [0, 99, 100, 100]
    assert draw_count(5000, 0, never) == 0
    assert draw_count(5000, None, never) == 5000


def test_a_pair_is_drawn_evenly_in_its_logarithm():
    draws = np.random.default_rng(0)
    counts = np.array([draw_count(10**6, (100, 10_000), draws.random) for _ in range(4000)])
    assert counts.min() >= 100
    assert counts.max() <= 10_000
    assert (counts < 1000).mean() == pytest.approx(0.5, abs=0.03)


def test_a_pair_reaches_the_whole_cloud_and_no_further():
    assert draw_count(2000, (500, 100_000), lambda: 0.0) == 500
    assert draw_count(2000, (500, 100_000), lambda: 1.0) == 2000
    assert draw_count(300, (500, 100_000), lambda: 0.5) == 300


@pytest.mark.parametrize("limit", [-1, (0, 5), (9, 5)])
def test_limits_that_make_no_sense_are_named(limit):
    with pytest.raises(InputError, match="give a number or an ascending pair"):
        draw_count(10, limit, lambda: 0.5)
