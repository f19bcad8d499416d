"""What the check looks at: all of a scan or some of its rows, all of a log or a sample."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from superflow.camera.projection import project
from superflow.datasets.check.clouds import measure_cloud, spread_rows
from superflow.datasets.check.log import check_log
from superflow.datasets.check.sample import sample_rows
from superflow.datasets.index import LogIndex
from superflow.errors import InputError
from superflow.tools.prepare import main


@given(st.integers(1, 300), st.integers(1, 40), st.integers(0, 9))
@settings(max_examples=40)
def test_copies_are_counted(places, repeats, seed):
    generator = np.random.default_rng(seed)
    rows = generator.normal(0, 20, (places, 5)).astype(np.float32)[
        generator.integers(0, places, places * repeats)
    ]
    cloud, some = measure_cloud(0, rows, np.eye(3), (0, 1))
    want = 1 - len(np.unique(rows[:, :3], axis=0)) / len(rows)
    assert float(cloud["copies"]) == pytest.approx(want)
    assert len(some) == min(len(rows), 2048)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.95, 1.0])
def test_copies_of_large_scans_are_estimated(share):
    generator = np.random.default_rng(1)
    rows = generator.normal(0, 20, (120_000, 4)).astype(np.float32)
    copied = generator.permutation(len(rows))[: int(share * len(rows))]
    rows[copied] = rows[generator.integers(0, len(rows), len(copied))] if share < 0.9 else rows[7]
    cloud, _ = measure_cloud(0, rows, np.eye(3), (0, 1))
    want = 1 - len(np.unique(rows[:, :3], axis=0)) / len(rows)
    assert float(cloud["copies"]) == pytest.approx(want, abs=0.02)


@pytest.mark.parametrize("axis", range(3))
def test_points_of_one_coordinate_are_no_copies(axis):
    """Two walls, a level ground, a grid: whether their coordinate was drawn decided."""
    rows = np.random.default_rng(2).uniform(-30, 30, (120_000, 4)).astype(np.float32)
    rows[:60_000, axis] = 8
    rows[60_000:, axis] = -8
    cloud, _ = measure_cloud(0, rows, np.eye(3), (0, 1))
    assert float(cloud["copies"]) == pytest.approx(
        1 - len(np.unique(rows[:, :3], axis=0)) / len(rows), abs=0.02
    )


@given(st.integers(1, 10**6), st.integers(1, 4096))
def test_rows_are_spread(count, most):
    rows = spread_rows(count, most)
    assert len(rows) == min(count, most)
    assert rows.min() >= 0
    assert rows.max() < count
    if count > most >= 100:
        assert np.ptp(np.bincount(rows * 10 // count, minlength=10)) <= 6


def fake_index(keys: list[int], sweeps: int) -> SimpleNamespace:
    """Scenes of so many key frames, each but a scene's first with ``sweeps`` before it."""
    is_key, scene_of = [], []
    for scene, count in enumerate(keys):
        flags = ([True] + [False] * sweeps) * count
        flags = flags[: len(flags) - sweeps] if count else []
        is_key += flags
        scene_of += [scene] * len(flags)
    return SimpleNamespace(is_key=np.array(is_key, bool), scene_of=np.array(scene_of, np.int32))


@given(st.lists(st.integers(1, 30), min_size=1, max_size=12), st.integers(0, 3), st.integers(1, 200))
def test_a_sample_is_spread_over_the_scenes(sizes, sweeps, count):
    index = fake_index(sizes, sweeps)
    rows = sample_rows(index, count)
    keys = rows[index.is_key[rows]]
    assert len(keys) == min(count, sum(sizes))
    taken = np.bincount(index.scene_of[keys], minlength=len(sizes))
    if count >= len(sizes):
        assert taken.min() >= 1
    short = [n for n, size in zip(taken.tolist(), sizes) if n < size]
    assert not short or taken.max() <= min(short) + 1  # nobody has two more than one who could have more
    others = rows[~index.is_key[rows]]
    assert set(others.tolist()) == {k - 1 for k in keys.tolist() if k and not index.is_key[k - 1]}
    assert (np.diff(rows) > 0).all()
    assert sample_rows(index, count).tolist() == rows.tolist()


def test_a_sample_reads_that_and_says_so(street, tmp_path, capsys):
    root = street.log.write()
    command = ["nuscenes", "--root", str(root), "--out", str(tmp_path / "out"), "--check", "--workers", "1"]
    assert main([*command, "--sample", "3"]) == 0
    printed = capsys.readouterr().out
    assert (
        "sample: 3 of 8 key frames and 3 of 54 sweeps were read, from 2 of 2 scenes; of the other" in printed
    )
    assert "nothing is wrong in what was read" in printed
    report = json.loads((tmp_path / "out" / "check" / "report.json").read_text())
    assert report["sample"] == {"asked": 3, "key_frames": 3, "sweeps": 3, "scenes": 2}
    assert report["counts"]["points"] == 6 * 3200
    assert {row["images"] for row in report["cameras"]} == {3}
    index = LogIndex.open(tmp_path / "out")
    unread = sorted(set(range(len(index))) - set(sample_rows(index, 3).tolist()))
    index.point_path(unread[0]).unlink()
    assert main([*command, "--sample", "3"]) == 0
    assert main(command) == 1
    capsys.readouterr()


def test_a_sample_without_a_check_is_refused(street, tmp_path, capsys):
    words = ["nuscenes", "--root", str(street.log.write()), "--out", str(tmp_path / "out")]
    assert main([*words, "--sample", "5"]) == 2
    said = capsys.readouterr().err.strip()
    assert said.endswith("--sample says how much --check reads; give --check with it")
    assert not (tmp_path / "out").exists()


def test_a_sample_needs_a_positive_count(small_index):
    with pytest.raises(InputError, match="a sample of 0 frames reads nothing; give at least 1"):
        check_log(small_index, project=project, sample=0)
