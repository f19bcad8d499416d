"""Which scans vote on which."""

from __future__ import annotations

import pytest

from superflow.datasets.index import LogIndex
from superflow.downstream.voting import neighbour_rows


def test_neighbours_end_at_the_border_of_the_scene(log):
    assert neighbour_rows(log, 5, (-2, -1, 1, 2)) == {-2: 3, -1: 4}
    assert neighbour_rows(log, 6, (-2, -1, 1, 2)) == {1: 7, 2: 8}


def test_sweeps_are_counted_as_scans_within_the_scene(prepared_scans):
    index = prepared_scans
    key = int(index.rows()[1])
    assert neighbour_rows(index, key, (-2, -1, 1, 2), sweeps=True) == {
        -2: key - 2,
        -1: key - 1,
        1: key + 1,
        2: key + 2,
    }
    assert neighbour_rows(index, key, (-1, 1)) == {-1: key - 10, 1: key + 10}
    first, last = (int(index.rows(["scene-0001"])[i]) for i in (0, -1))
    assert set(neighbour_rows(index, first, (-1, 1), sweeps=True)) == {1}
    assert set(neighbour_rows(index, last, (-1, 1), sweeps=True)) == {-1}
    assert neighbour_rows(index, key, (-3,), sweeps=True) == {-3: key - 3}
    assert neighbour_rows(index, key, (), sweeps=True) == {}


@pytest.mark.parametrize(("hole_s", "is_hole"), [(0.4, False), (600.0, True)])
@pytest.mark.parametrize("sweeps", [False, True])
def test_no_scan_behind_a_hole_in_the_recording_votes(prepared_scans, sweeps, hole_s, is_hole):
    index = LogIndex.open(prepared_scans.folder)
    before, key, after = (int(row) for row in index.rows(["scene-0001"])[:3])
    index.time_us = prepared_scans.time_us.copy()
    index.time_us[key:] += round(hole_s * 1e6)
    around = {-1: key - 1, 1: key + 1} if sweeps else {-1: before, 1: after}
    if is_hole:
        del around[-1]
    assert neighbour_rows(index, key, (-1, 1), sweeps=sweeps) == around
