"""The worked example of CONTRIBUTING: a set without poses, times and cameras goes through every command that it can."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from superflow.datasets.card import load_card
from superflow.datasets.index import LogIndex
from superflow.datasets.prepare import DATASETS, prepare
from superflow.errors import InputError
from superflow.tools import main as tools

POINTS = 600


def write_streets(root: Path) -> Path:
    """Two streets of four scans: a road and a wall, in axes where y looks backward and x to the left."""
    for number in range(2):
        rng = np.random.default_rng(number)
        xyz = rng.uniform([-8, -20, -2.5], [8, 20, -2.4], (4, POINTS, 3))
        is_wall = rng.random((4, POINTS)) < 0.4
        xyz[is_wall] = np.column_stack(
            [
                np.full(is_wall.sum(), 6.0),
                rng.uniform(-20, 20, is_wall.sum()),
                rng.uniform(-2, 3, is_wall.sum()),
            ]
        )
        folder = root / f"street_{number}"
        folder.mkdir(parents=True)
        echo = rng.uniform(1, 9, (4, POINTS, 1))
        np.save(folder / "scans.npy", np.concatenate([xyz, echo], axis=2).astype(np.float32))
        np.save(folder / "labels.npy", np.where(is_wall, 9 | 3 << 8, 7).astype(np.int32))
    return root


@pytest.fixture
def card(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The set's card; its file stands in the table of datasets. Both are those that CONTRIBUTING shows."""
    page = (repository / "CONTRIBUTING.md").read_text().split("### A dataset, from its files to a run", 1)[1]
    page = page.split("\n## ", 1)[0].split("\n### ", 1)[0]
    for language, name in (("python", "made_set.py"), ("yaml", "made_set.yaml")):
        (block,) = re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)
        (tmp_path / name).write_text(block)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "made_set", raising=False)
    monkeypatch.setitem(DATASETS, "made_set", "made_set")
    return tmp_path / "made_set.yaml"


@pytest.fixture
def made(tmp_path: Path, card: Path) -> LogIndex:
    root = write_streets(tmp_path / "streets")
    return prepare("made_set", root, tmp_path / "work_dirs/prepared", card=load_card(card))


def test_a_scan_is_what_was_written(made, tmp_path):
    assert (len(made), made.has_times, made.has_poses) == (8, False, False)
    row = made.rows("val").tolist()[-1]
    frame = made.frame(row)
    written = np.load(tmp_path / "streets/street_1/scans.npy")[3]
    # the card turns the axes and lifts the sensor
    np.testing.assert_allclose(frame.points[:, 0], written[:, 1])
    np.testing.assert_allclose(frame.points[:, 1], -written[:, 0])
    np.testing.assert_allclose(frame.points[:, 2], written[:, 2] + np.float32(0.5))
    np.testing.assert_array_equal(frame.points[:, 4], written[:, 3])
    assert frame.cloud.columns == ("x", "y", "z", "intensity", "echo")
    assert frame.cloud.intensity is None
    assert np.isnan(frame.points[:, 3]).all()
    assert (frame.time_us, frame.ego_to_world, frame.cameras) == (None, None, ())
    assert np.array_equal(frame.labels, (np.load(tmp_path / "streets/street_1/labels.npy")[3] & 0xFF) == 9)


def test_splits_of_rows_are_selected_like_those_of_scenes(made):
    assert made.rows("train").tolist() == [0, 2, 4, 6]
    assert made.rows("val[1:]").tolist() == [3, 7]
    assert made.rows("street_1").tolist() == [4, 5, 6, 7]


def test_what_needs_times_or_poses_says_so(made):
    assert made.neighbour(1, 1) == 2
    with pytest.raises(InputError, match=r"a neighbour in seconds needs times of every scan.*times.unit="):
        made.neighbour_at(1, 0.5, tolerance_s=0.1)
    with pytest.raises(InputError, match=r"street_0_1 of street_0 has no pose"):
        _ = made.frame(1).lidar_to_world
    with pytest.raises(InputError, match=r"a dense cloud needs times and poses of every scan.*set sweeps=0"):
        made.require("a dense cloud", "set sweeps=0", times=True, poses=True)


def test_it_goes_through_the_commands(tmp_path, card, monkeypatch, capsys):
    write_streets(tmp_path / "streets")
    monkeypatch.chdir(tmp_path)
    prepared = ["--root", "streets", "--out", "work_dirs/prepared", "--card", str(card)]
    assert tools.main(["prepare", "made_set", *prepared, "--check", "--workers", "1"]) == 0
    follows = "superflow train downstream/finetune_small.py --data-root work_dirs/prepared"
    assert capsys.readouterr().out.endswith(f"next: {follows}\n"), "no images, so no features"
    report = json.loads(Path("work_dirs/prepared/check/report.json").read_text())
    assert [row["class"] for row in report["labels"] if row["points"]] == ["road", "wall"]
    assert any("times of all scans" in note for note in report["notes"])
    options = ["train_cfg.max_iters=2", "train_dataloader.batch_size=2"]
    run = ["--work-dir", "run", "--cfg-options", *options]
    assert tools.main(["train", "downstream/supervised_small.py", *run]) == 0
    weights = str(next(Path("run").glob("iter_*.pth")))
    capsys.readouterr()
    assert tools.main(["test", "downstream/supervised_small.py", weights]) == 0
    assert tools.main(["train", "pretrain/superflowpp_small.py", "--work-dir", "pre"]) == 2
    said = capsys.readouterr().err
    assert "has a camera image, and pretraining needs some" in said
    assert tools.main(["test", "downstream/supervised_small.py", weights, "--vote"]) == 2
    assert "voting over time needs poses of every scan" in capsys.readouterr().err
