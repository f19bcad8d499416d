"""`superflow visualize` on a real frame."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch

from superflow.camera.superpixels import write_superpixels
from superflow.datasets.index import LogIndex
from superflow.datasets.sets.nuscenes import write_index
from superflow.hub.backbone import BackboneCard, save_backbone
from superflow.lidar.encoder import LidarEncoder
from superflow.tools.visualize import main


@pytest.fixture(scope="module")
def prepared(pandaset_root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    write_index(pandaset_root, folder / "index", version="v1.0-mini")
    write_encoder(folder / "random.safetensors")
    return folder


@pytest.fixture
def prepared_encoder(tmp_path):
    write_encoder(tmp_path / "random.safetensors")
    return str(tmp_path / "random.safetensors")


def write_encoder(path):
    torch.manual_seed(0)
    encoder = LidarEncoder(
        grid={"type": "cubic", "size_m": 0.5},
        backbone={"depth": "tiny", "width": 0.5},
        inputs=("intensity", "height", "range", "one"),
    )
    save_backbone(encoder, path, BackboneCard("random"))


def names(folder):
    return sorted(path.name.removeprefix("scene-9002_0003_") for path in folder.iterdir())


def test_everything_that_the_inputs_allow(prepared, tmp_path, capsys):
    index = LogIndex.open(prepared / "index")
    row = index.rows()[3]
    cameras = index.cameras([row], channels=["CAM_FRONT"])
    write_superpixels(cameras, tmp_path / "slic", provider="slic", workers=0)
    arguments = ["--index", str(prepared / "index"), "--frame", "3", "--out", str(tmp_path / "out")]
    arguments += ["--backbone", str(prepared / "random.safetensors"), "--superpixels", str(tmp_path / "slic")]
    assert main([*arguments, "--cameras", "CAM_FRONT", "--pick", "12", "1"]) == 0
    assert names(tmp_path / "out") == [
        "classes_bev.png",
        "classes_images.png",
        "depth_images.png",
        "features_bev.png",
        "features_images.png",
        "similarity_bev.png",
        "similarity_images.png",
        "superpixels_images.png",
    ]
    assert len(capsys.readouterr().out.splitlines()) == 8
    for path in (tmp_path / "out").iterdir():
        image = cv2.imread(str(path))
        assert image is not None
        assert len(np.unique(image.reshape(-1, 3), axis=0)) > 100, f"{path.name} is nearly empty"


def test_frames_by_token(prepared, tmp_path):
    index = LogIndex.open(prepared / "index")
    token = index.tokens(index.rows())[3]
    arguments = [
        "--index",
        str(prepared / "index"),
        "--frame",
        token,
        "--out",
        str(tmp_path),
        "--what",
        "classes",
    ]
    assert main([*arguments, "--cameras", "CAM_BACK"]) == 0
    assert names(tmp_path) == ["classes_bev.png", "classes_images.png"]


@pytest.fixture
def changed_log(write_small_log, tmp_path):
    """``changed_log(change)``: index of the small log whose rows of each table went through ``change(name, rows)``."""

    def prepare(change):
        root = write_small_log(tmp_path / "log")
        for path in (root / "v1.0-mini").glob("*.json"):
            path.write_text(json.dumps(change(path.stem, json.loads(path.read_text()))))
        return str(write_index(root, tmp_path / "index").folder)

    return prepare


def test_a_token_of_digits_is_no_number(changed_log, tmp_path):
    def rename(name, rows):
        return json.loads(json.dumps(rows).replace('"scene-0001-sample-3"', '"000001"'))

    arguments = ["--index", changed_log(rename), "--what", "classes", "--out", str(tmp_path / "out")]
    for frame, want in (("000001", "scene-0001_0003"), ("1", "scene-0003_0001")):
        assert main([*arguments, "--frame", frame]) == 0
        made = sorted((tmp_path / "out").iterdir())
        assert [path.name for path in made] == [f"{want}_classes_bev.png", f"{want}_classes_images.png"]
        for path in made:
            path.unlink()


def without_cameras(name, rows):
    return [row for row in rows if "-CAM_" not in row["token"]] if name == "sample_data" else rows


def test_a_frame_without_cameras_is_drawn_from_above(changed_log, prepared_encoder, tmp_path, capsys):
    arguments = ["--index", changed_log(without_cameras), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--backbone", prepared_encoder]) == 0
    made = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert made == [f"scene-0003_0000_{what}_bev.png" for what in ("classes", "features", "similarity")]
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_a_frame_without_cameras_and_labels_is_one_line(changed_log, tmp_path, capsys):
    bare = changed_log(lambda name, rows: [] if name == "lidarseg" else without_cameras(name, rows))
    assert main(["--index", bare, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "has neither labels nor images to draw" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--frame", "76"], "no number below 76; choose 0 to 75"),
        (["--what", "features"], "without --backbone"),
        (["--what", "superpixels"], "without --superpixels"),
        (["--backbone", "nobody"], '"nobody" is no file and no backbone'),
        (["--cameras", "CAM_TOP"], "CAM_TOP"),
    ],
)
def test_wrong_input_is_one_line(prepared, tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.setenv("SUPERFLOW_HOME", str(tmp_path / "home"))
    assert main(["--index", str(prepared / "index"), "--out", str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
