"""The main job from end to end on a tiny made log: it ends in a report, and goes on where it stopped."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from superflow.errors import InputError
from superflow.files.writes import building
from superflow.hub.backbone import load
from superflow.quickstart import run
from superflow.quickstart.report import summary_table
from superflow.quickstart.run import QuickstartOptions, run_quickstart, teacher_size
from superflow.street.drive import DriveSettings, make_drive

PLAN = """
vote_frames: 1
options:
  pretrained: {train_cfg.max_iters: 3, train_dataloader.dataset.clouds.max_points: 2000, model.student.grid.size_m: 0.5}
arms:
  random: {kind: random, config: pretrain/superflowpp_small.py}
  pretrained: {kind: pretrained, config: pretrain/superflowpp_small.py}
"""


@pytest.fixture(scope="module")
def drive(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("drive")
    settings = DriveSettings(seconds=1.5, image_size=(96, 160), lidar_hz=2)
    make_drive(root, scenes=3, val_scenes=1, settings=settings, workers=1)
    return root


@pytest.fixture(scope="module")
def result(drive, tmp_path_factory):
    out = tmp_path_factory.mktemp("quickstart")
    (out / "plan.yaml").write_text(PLAN)
    return run_quickstart(QuickstartOptions(out=out, data=drive, jobs=1, plan=str(out / "plan.yaml")))


def test_it_ends_in_a_report_with_pictures_and_a_backbone(result):
    out = result.backbone.parent
    page = (out / "report.html").read_text()
    pictures = sorted((out / "pictures").glob("*.png"))
    assert len(pictures) >= 5
    assert page.count("<img") == 5
    assert all(f"pictures/{name}" in page for name in ("overview.png",))
    summary = summary_table(result)
    assert "random" in summary
    assert "pretrained + voting" in summary
    assert "made, not recorded" in summary
    assert load(result.backbone).extract(np.zeros((0, 4), np.float32)).shape == (0, 48)


def test_both_arms_were_measured_on_unseen_scenes(result):
    assert {(record["arm"], record["seed"]) for record in result.records} == {
        ("random", 0),
        ("pretrained", 0),
    }
    for record in result.records:
        assert record["probe"]["protocol"]["real"] is False
        assert record["probe"]["scores"]["linear"]["points"] > 1000
    seen, unseen = (set(result.index.rows(getattr(result.plan, which))) for which in ("train", "evaluate"))
    assert not {result.index.scene(row) for row in seen} & {result.index.scene(row) for row in unseen}


def test_a_second_call_trains_nothing(result, drive, caplog):
    out = result.backbone.parent
    before = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/*/benchmark.json")}
    weights = result.backbone.stat().st_mtime_ns
    with caplog.at_level(logging.INFO):
        run_quickstart(QuickstartOptions(out=out, data=drive, jobs=1, plan=str(out / "plan.yaml")))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert result.backbone.stat().st_mtime_ns == weights
    assert set(json.loads((out / "seconds.json").read_text())) == set(result.seconds)


def test_two_do_not_work_in_one_folder(drive, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "PATIENCE_S", 0.0)
    with (
        building(tmp_path, ".quickstart"),
        pytest.raises(InputError, match="another quickstart is running here"),
    ):
        run_quickstart(QuickstartOptions(out=tmp_path, data=drive, jobs=1))
    assert not list(tmp_path.iterdir())


def test_a_log_that_is_not_there_leaves_no_folder(tmp_path):
    with pytest.raises(
        InputError, match="nowhere: there is no such folder; give the folder that holds samples/"
    ):
        run_quickstart(QuickstartOptions(out=tmp_path / "out", data=tmp_path / "nowhere", jobs=1))
    assert not (tmp_path / "out").exists()


def test_a_folder_belongs_to_one_log(result, tmp_path):
    with pytest.raises(InputError, match="is the preparation of"):
        run_quickstart(QuickstartOptions(out=result.backbone.parent, data=tmp_path, jobs=1))


def test_the_teacher_sees_small_images_as_they_are_and_large_ones_smaller():
    assert teacher_size((256, 448)) == (256, 448)
    assert teacher_size((900, 1600)) == (448, 800)
    assert teacher_size((396, 704)) == (384, 704)
