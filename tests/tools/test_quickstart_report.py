"""The quickstart's last page claims only what was measured, and is written whatever a log lacks."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch

from superflow.benchmark.one_log.plan import Arm, Plan
from superflow.datasets.sets.nuscenes import write_index
from superflow.hub.backbone import BackboneCard, save_backbone
from superflow.lidar.encoder import LidarEncoder
from superflow.quickstart.report import QuickstartResult, summary_table, write_report

TRAIN, EVALUATE = "scene-0001", "scene-0003"
MIDDLE = "samples/CAM_FRONT/scene-0003__1500000000980000.jpg"  # of the third of four key frames
SCORES = {"linear": {"miou": 20.0, "iou": {"car": 20.0}}}


@pytest.fixture
def log(prepared_log, tmp_path) -> Path:
    """A log of four key frames to train on and four to measure on, prepared; to be changed."""
    shutil.copytree(prepared_log, tmp_path / "case")
    return tmp_path / "case" / "log"


def drop(log: Path, table: str, unwanted) -> None:
    path = log / "v1.0-mini" / f"{table}.json"
    path.write_text(json.dumps([row for row in json.loads(path.read_text()) if not unwanted(row)]))


def made(log: Path, probe: dict | None) -> QuickstartResult:
    """What a quickstart leaves before its last stage, with a backbone of random weights."""
    index = write_index(log, log.parent / "prepared")
    torch.manual_seed(0)
    inputs = ("intensity", "height", "range", "one")
    encoder = LidarEncoder(
        grid={"type": "cubic", "size_m": 0.5}, backbone={"depth": "tiny", "width": 0.5}, inputs=inputs
    )
    backbone = log.parent / "backbone.safetensors"
    save_backbone(encoder, backbone, BackboneCard("random"))
    plan = Plan(arms=(Arm("random", "random", "x.py"),), train=[TRAIN], evaluate=[EVALUATE])
    record = {"arm": "random", "seed": 0, "probe": probe, "votes": None}
    return QuickstartResult(index, plan, [record], {"index": 1.0}, backbone)


def page(result: QuickstartResult) -> str:
    folder = result.backbone.parent
    write_report(result, folder / "report.html", pictures=folder / "pictures")
    return (folder / "report.html").read_text()


def test_a_labelled_log_says_what_was_measured(log):
    result = made(log, {"scores": SCORES})
    text = page(result)
    assert "trained on 4 key frames, measured on 4" in text
    assert "A scan the backbone never saw: annotated classes, features of a random" in text
    assert text.count("<img") == 5
    assert "nothing was measured" not in summary_table(result)


@pytest.mark.parametrize(
    ("without", "said"),
    [
        (
            (TRAIN, EVALUATE),
            "none of the 4 key frames for training has point labels and none of the 4 key frames for",
        ),
        ((EVALUATE,), "none of the 4 key frames for evaluation has point labels"),
        ((TRAIN,), "none of the 4 key frames for training has point labels"),
    ],
)
def test_without_labels_nothing_is_claimed(log, without, said):
    drop(log, "lidarseg", lambda row: row["token"].startswith(without))
    result = made(log, None)
    text, summary = page(result), summary_table(result)
    assert f"Pretrained on 4 key frames. Nothing was measured: {said}" in text
    assert f"\n  {said}" in summary
    assert ("for training has" in summary, "for evaluation has" in summary) == (
        TRAIN in without,
        EVALUATE in without,
    )
    assert "A linear classifier" not in text
    assert "mIoU" not in text + summary
    assert ("annotated classes" in text) == (EVALUATE not in without)


def test_a_frame_with_images_is_drawn_where_the_middle_one_has_none(log):
    drop(
        log, "sample_data", lambda row: row["token"] in (f"{EVALUATE}-CAM_FRONT-2", f"{EVALUATE}-CAM_BACK-2")
    )
    text = page(made(log, {"scores": SCORES}))
    assert text.count("<img") == 5
    assert f"{EVALUATE}_0001_depth_images.png" in text


def test_pictures_on_images_are_left_out_where_no_frame_has_any(log):
    drop(log, "sample_data", lambda row: row["token"].startswith(f"{EVALUATE}-CAM"))
    result = made(log, {"scores": SCORES})
    text = page(result)
    assert text.count("<img") == 2
    assert "pictures/overview.png" in text
    assert f"{TRAIN}_0002_superpixels_images.png" in text
    assert (result.backbone.parent / "pictures" / f"{EVALUATE}_0002_features_bev.png").is_file()


def test_a_damaged_image_costs_its_pictures_alone(log, caplog):
    (log / MIDDLE).write_bytes(b"no image")
    with caplog.at_level(logging.WARNING):
        text = page(made(log, {"scores": SCORES}))
    assert text.count("<img") == 2
    assert f"has not all pictures of the depth: {log / MIDDLE}" in caplog.text
