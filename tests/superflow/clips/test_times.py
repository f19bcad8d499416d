"""Which frames of a log are the neighbours of a frame in time: by steps or seconds, at holes, at any rate."""

from __future__ import annotations

import numpy as np
import pytest

from superflow.clips.times import ClipTimes
from superflow.datasets.index import LogIndex
from superflow.datasets.sets.nuscenes import write_index
from superflow.engine.config import load_config


@pytest.fixture(scope="module")
def index(pandaset_root, tmp_path_factory) -> LogIndex:
    return write_index(pandaset_root, tmp_path_factory.mktemp("prepared"), version="v1.0-mini")


def test_small_configs_look_half_a_second_away(index):
    data = load_config("pretrain/superflowpp_small.py").train_dataloader.dataset
    times = ClipTimes(index, index.rows(), **data.times)
    assert times.rows(10) == {-1: 5, 0: 10, 1: 15}  # scans come every 0.1 s


@pytest.mark.parametrize(("step", "seconds"), [(3, 0.6), (4, 0.4), (5, 0.5), (10, 1.0), (20, 2.0)])
def test_seconds_are_looked_up_among_the_chosen_frames(index, step, seconds):
    """Half a second away lies no frame of most strides: the nearest chosen one is taken, however rare they are."""
    rows = index.rows([f"scene-9002[::{step}]"])
    times = ClipTimes(index, rows, (-0.5, 0, 0.5), unit="seconds")
    beside = round(10 * seconds / step)  # chosen frames from a frame to its neighbour
    for place in range(beside, len(rows) - beside):
        found = times.rows(int(rows[place]))
        assert found == {-1: rows[place - beside], 0: rows[place], 1: rows[place + beside]}


def test_jitter_of_the_clock_does_not_hide_neighbours(index):
    shaken = LogIndex.open(index.folder)
    shaken.time_us = index.time_us + np.random.default_rng(0).integers(-20_000, 20_000, len(index))
    rows = shaken.rows(["scene-9002[::10]"])  # one frame a second, asked for half a second
    times = ClipTimes(shaken, rows, (-0.5, 0, 0.5), unit="seconds")
    assert all(sorted(times.rows(int(row))) == [-1, 0, 1] for row in rows[1:-1])


def test_two_seconds_that_are_one_frame_count_once(index):
    times = ClipTimes(index, index.rows(), (0, 0.48, 0.52), unit="seconds")
    assert times.rows(10) == {0: 10, 1: 15}


@pytest.mark.parametrize("unit", ["frames", "seconds"])
def test_the_other_side_of_the_centre_stays_that_side(index, unit):
    """What stands in at the end of a scene takes nothing from the time that it is borrowed from."""
    offsets = (-5, 0, 5) if unit == "frames" else (-0.5, 0, 0.5)
    rows = index.rows(["scene-9002"]).tolist()
    first, last = (
        list(ClipTimes(index, rows, offsets, unit=unit, border="other").rows(rows[place]).values())
        for place in (0, -1)
    )
    assert first == [rows[5], rows[0], rows[5]]
    assert last == [rows[-6], rows[-1], rows[-6]]


def with_hole(index: LogIndex, place: int, hole_s: float) -> tuple[LogIndex, np.ndarray]:
    """The log with so many seconds more before a frame of its first scene, and the rows of that scene."""
    broken = LogIndex.open(index.folder)
    rows = broken.rows(["scene-9002"])
    broken.time_us = index.time_us.copy()
    broken.time_us[rows[place:]] += round(hole_s * 1e6)
    return broken, rows


@pytest.mark.parametrize(("hole_s", "is_hole"), [(0.03, False), (0.06, True), (0.1, True), (2.0, True)])
@pytest.mark.parametrize("border", ["absent", "other", "repeat"])
def test_a_frame_behind_a_hole_is_no_neighbour(index, hole_s, is_hole, border):
    broken, rows = with_hole(index, 10, hole_s)  # scans come every 0.1 s
    times = ClipTimes(broken, broken.rows(), (-2, -1, 0, 1), border=border)
    instead = {"absent": {}, "other": {1: rows[8]}, "repeat": {1: rows[9]}}[border]
    assert times.rows(rows[9]) == {-2: rows[7], -1: rows[8], 0: rows[9]} | (
        instead if is_hole else {1: rows[10]}
    )
    assert times.rows(rows[8])[1] == rows[9]
    assert (times.rows(rows[11]).get(-2) == rows[9]) is not is_hole
    assert times.rows(rows[11])[-1] == rows[10]


def test_the_hole_that_is_allowed_can_be_said(index):
    broken, rows = with_hole(index, 10, 2.0)
    assert 1 in ClipTimes(broken, broken.rows(), (0, 1), tolerance_s=2.1).rows(rows[9])
    assert 1 not in ClipTimes(broken, broken.rows(), (0, 1), tolerance_s=1.9).rows(rows[9])
    assert 1 not in ClipTimes(index, index.rows(), (0, 1), tolerance_s=-0.05).rows(rows[9])


def test_scenes_of_different_rates_each_have_their_usual_time(index):
    mixed = LogIndex.open(index.folder)
    rows = mixed.rows(["scene-9102"])
    mixed.time_us = index.time_us.copy()
    # a frame a second, the others ten
    mixed.time_us[rows] += 9 * (index.time_us[rows] - index.time_us[rows[0]])
    assert ClipTimes(mixed, mixed.rows(), (-1, 0, 1)).rows(rows[4]) == {-1: rows[3], 0: rows[4], 1: rows[5]}
    mixed.time_us[rows[5:]] += 700_000
    assert ClipTimes(mixed, mixed.rows(), (-1, 0, 1)).rows(rows[4]) == {-1: rows[3], 0: rows[4]}
