"""Which key frames the quickstart takes: no more than asked for, from all over the log, never its test set."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import numpy as np
import pytest

from superflow.benchmark.one_log.plan import load_plan
from superflow.clips.times import ClipTimes
from superflow.datasets.index import LogIndex
from superflow.datasets.selection import select_rows
from superflow.datasets.sets.nuscenes import write_index
from superflow.errors import InputError
from superflow.quickstart.frames import frame_terms, limit_frames, plan_for, split_scenes


class MadeIndex:
    """The times of a log without files: key frames of each scene at ``rate_hz``."""

    root = "made"
    has_times = True
    require, neighbour_at, _scene_rows, key_interval_s = (
        LogIndex.require,
        LogIndex.neighbour_at,
        LogIndex._scene_rows,
        LogIndex.key_interval_s,
    )

    def __init__(self, frames, *, rate_hz=10.0, splits=None, without_image=()):
        self.scenes = tuple(frames)
        self.card = SimpleNamespace(splits=splits or {})
        self.row_splits = ()
        self.scene_of = np.repeat(np.arange(len(frames)), list(frames.values())).astype(np.int32)
        self.time_us = (np.arange(len(self.scene_of)) / rate_hz * 1e6).astype(
            np.int64
        ) + self.scene_of * 10**9
        self.is_key = np.ones(len(self.scene_of), dtype=bool)
        self._keys = np.arange(len(self.scene_of))
        self.camera_count = np.ones(len(self.scene_of), dtype=np.int64)
        self.camera_count[list(without_image)] = 0

    def _check(self, row):
        return int(row)

    def rows(self, terms):
        told = {"scenes": self.scenes, "splits": self.card.splits, "scene_of": self.scene_of}
        return select_rows(terms, **told, is_key=self.is_key)


def complete(index, terms) -> int:
    """Key frames whose neighbours half a second before and after are among the chosen."""
    rows = index.rows(terms)
    times = ClipTimes(index, rows, (-0.5, 0.0, 0.5), unit="seconds")
    return sum(len(times.rows(row)) == 3 for row in rows)


def test_an_hour_in_one_scene_is_cut_and_spread_over():
    index = MadeIndex({"drive": 36_000})
    plan = plan_for(index, load_plan("quickstart"), 120)
    train, evaluate = index.rows(plan.train), index.rows(plan.evaluate)
    assert (len(train), len(evaluate)) == (120, 60)
    assert plan.train[0] == "drive[:24]"
    assert np.ptp(train) > 20_000
    assert train.max() < 25_200 <= 27_000 <= evaluate.min()
    assert complete(index, plan.train) > 60
    assert plan.options["pretrained"]["train_dataloader.dataset.frames"] == plan.train


@pytest.mark.parametrize(("rate_hz", "scenes"), [(10.0, 5), (2.0, 24)])
def test_many_scenes_each_give_a_run_that_holds_whole_clips(rate_hz, scenes, caplog):
    index = MadeIndex({f"scene-{k:04d}": 200 for k in range(100)}, rate_hz=rate_hz)
    with caplog.at_level(logging.INFO):
        kept = limit_frames(index, list(index.scenes), 120, purpose="training")
    rows = index.rows(kept)
    assert len(rows) == 120
    assert np.unique(index.scene_of[rows], return_counts=True)[1].tolist() == [120 // scenes] * scenes
    assert index.scene_of[rows].max() > 75
    assert complete(index, kept) >= 50
    assert f"training takes 120 of 20000 key frames: scene-0000[:{120 // scenes}], scene-" in caplog.text


def test_a_log_within_the_limit_keeps_its_terms(caplog):
    index = MadeIndex({"a": 10, "b": 10})
    with caplog.at_level(logging.INFO):
        assert limit_frames(index, ["b", "a[2:]"], 18) == ["b", "a[2:]"]
    assert caplog.text == ""


@pytest.mark.parametrize("limit", [1, 2, 7, 20, 21, 60, 100, 188])
def test_scenes_of_any_length_stay_within_the_limit(limit):
    index = MadeIndex({"a": 3, "b": 40, "c": 1, "d": 40, "e": 100, "f": 5})
    terms = [*index.scenes[:4], "e[10:]", "f"]
    rows = index.rows(limit_frames(index, terms, limit))
    assert limit // 2 < len(rows) <= limit
    assert set(rows) <= set(index.rows(terms))


def test_terms_name_the_rows_they_were_made_of():
    index = MadeIndex({"a": 10, "b": 4, "c": 9})
    rows = np.array([0, 1, 2, 5, 8, 9, 10, 11, 12, 13, 20])
    terms = frame_terms(index, rows)
    assert terms == ["a[:3]", "a[5:6]", "a[8:]", "b", "c[6:7]"]
    assert index.rows(terms).tolist() == rows.tolist()


def test_a_real_log(pandaset_root, tmp_path):
    index = write_index(pandaset_root, tmp_path, version="v1.0-mini")
    assert split_scenes(index) == (["scene-9002", "scene-9102"], ["scene-9202"])
    plan = plan_for(index, load_plan("quickstart"), 40)
    assert (plan.train, plan.evaluate) == (["scene-9002[:40]"], ["scene-9202"])


# --- images


def test_frames_without_images_are_left_out_of_training_alone(caplog):
    index = MadeIndex({"a": 10, "b": 10}, without_image=[0, 1, 6, 15])
    with caplog.at_level(logging.INFO):
        plan = plan_for(index, load_plan("quickstart"), 120)
    assert (plan.train, plan.evaluate) == (["a[2:6]", "a[7:]"], ["b"])
    assert "3 of 10 key frames for training have no image" in caplog.text


def test_a_log_without_images_is_refused():
    index = MadeIndex({"a": 10, "b": 10}, without_image=range(20))
    with pytest.raises(InputError, match="its key frames have no images; pretraining needs cameras"):
        plan_for(index, load_plan("quickstart"), 120)


def test_too_few_frames_are_refused():
    with pytest.raises(InputError, match="max_frames 1 leaves no frame to measure on"):
        plan_for(MadeIndex({"a": 10, "b": 10}), load_plan("quickstart"), 1)


# --- splits

LONG = {name: 10 for name in "abcdefgh"}


@pytest.mark.parametrize(
    ("splits", "want", "said"),
    [
        ({"train": list("abcdef"), "test": list("gh")}, ("abcde", "f"), "no scene of this log as val"),
        (
            {"train": list("abcd"), "val": ["typo"]},
            ("abc", "d"),
            "as val; training on a, b, c and measuring on d",
        ),
        ({"val": list("ab"), "test": list("gh")}, ("cdef", "ab"), "no scene of this log as train"),
        ({"val": list("abcdefgh")}, ("abcdef", "gh"), "no scene of this log as train"),
        ({"test": list("gh")}, ("abcde", "f"), "no scene of this log as train or val"),
    ],
)
def test_an_incomplete_split_is_said_and_the_test_scenes_are_kept_out(splits, want, said, caplog):
    with caplog.at_level(logging.WARNING):
        train, evaluate = split_scenes(MadeIndex(LONG, splits=splits))
    assert ("".join(train), "".join(evaluate)) == want
    assert said in caplog.text


@pytest.mark.parametrize(
    ("splits", "want"),
    [({}, ("abcdef", "gh")), ({"train": list("ab"), "val": ["c"], "test": ["d"]}, ("ab", "c"))],
)
def test_a_log_that_says_all_or_nothing_gets_no_warning(splits, want, caplog):
    train, evaluate = split_scenes(MadeIndex(LONG, splits=splits))
    assert ("".join(train), "".join(evaluate)) == want
    assert caplog.text == ""


def test_a_log_of_test_scenes_alone_is_refused():
    index = MadeIndex({"a": 10, "b": 10}, splits={"test": ["a", "b"]})
    with pytest.raises(InputError, match="all its scenes belong to the splits test, none to train or val"):
        split_scenes(index)
