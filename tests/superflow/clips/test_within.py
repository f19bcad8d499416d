"""The points within limits, found in one pass."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from superflow.clips.within import rows_within
from superflow.lidar.limits import Limits


@pytest.mark.parametrize(
    "limits",
    [
        Limits(),
        Limits((0.0, 100.0), (-30.0, 30.0)),
        Limits((2.5, 50.1), (-0.1, 0.3)),
        Limits((3.0, math.inf), (-math.inf, 4.2)),
        Limits((-1.0, 20.0), (-5.0, 0.0)),
    ],
)
def test_the_rows_are_those_of_the_mask(limits):
    rng = np.random.default_rng(0)
    xyz = rng.normal(0, (40, 40, 3), (20_000, 3)).astype(np.float32)
    turn = rng.uniform(0, 2 * np.pi, 5000)
    # points at the borders, but for rounding
    for row, border in enumerate((*limits.range_m, *limits.height_m)):
        at = slice(5000 * row, 5000 * row + 2500)
        if not math.isfinite(border):
            continue
        if row < 2:
            xyz[at, 0], xyz[at, 1] = border * np.cos(turn[:2500]), border * np.sin(turn[:2500])
        else:
            xyz[at, 2] = np.float32(border) + rng.integers(-2, 3, 2500) * np.spacing(np.float32(border))
    xyz[::997, 0], xyz[1::997, 2], xyz[2::997, 1] = np.nan, np.inf, -np.inf
    rows = rows_within(limits, xyz)
    np.testing.assert_array_equal(
        rows, np.flatnonzero(limits.mask(torch.from_numpy(xyz)).numpy()), strict=True
    )
    assert 0 < len(rows) < len(xyz)


def test_a_scan_that_is_all_within_and_an_empty_one():
    xyz = np.random.default_rng(0).uniform(-5, 5, (300, 3)).astype(np.float32)
    for points in (xyz, xyz[:0]):
        np.testing.assert_array_equal(
            rows_within(Limits((0.0, 10.0)), points), np.arange(len(points)), strict=True
        )
