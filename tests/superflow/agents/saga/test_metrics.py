"""Figures of tests against plain twins, and on a case by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from superflow.agents.saga.metrics import (
    area_under_curve,
    detection_rate,
    error_patterns,
)

# three tests, four wrong programs: the second test finds what the first does, the last program is never found
BY_HAND = np.array([[1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 1, 0]], bool)
WHOLE = np.array([[0, 0], [1, 0], [1, 1]], bool)


def test_by_hand():
    assert [detection_rate(BY_HAND, k) for k in (1, 2, 3, 50)] == [0.25, 0.25, 0.75, 0.75]
    assert [error_patterns(BY_HAND, k) for k in (1, 2, 3)] == [1, 1, 2]
    assert [error_patterns(WHOLE, k) for k in (1, 2, 3)] == [0, 1, 2]  # finding nothing is no pattern
    assert area_under_curve([0.0, 0.0, 0.5]) == 0.125
    assert area_under_curve([0.4]) == 0.4


def test_without_wrong_programs_nothing_is_claimed():
    none = np.zeros((3, 0), bool)
    assert math.isnan(detection_rate(none, 2))
    assert error_patterns(none, 3) == 0


@pytest.mark.parametrize("seed", range(20))
def test_as_the_plain_twins(seed):
    rng = np.random.default_rng(seed)
    problems = [rng.random((6, int(rng.integers(1, 5)))) < 0.3 for _ in range(4)]
    for k in range(1, 8):
        for fails in problems:
            found = {w for t, row in enumerate(fails) for w, hit in enumerate(row) if hit and t < k}
            assert detection_rate(fails, k) == len(found) / fails.shape[1]
            sets = {frozenset(w for w, hit in enumerate(row) if hit) for row in fails[:k]} - {frozenset()}
            assert error_patterns(fails, k) == len(sets)
    heights = rng.random(9)
    assert math.isclose(area_under_curve(list(heights)), np.trapezoid(heights) / 8)
