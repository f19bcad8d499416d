"""`superflow visualize` on a real frame."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from superflow.camera.superpixels import write_superpixels
from superflow.datasets.index import LogIndex
from superflow.datasets.nuscenes import write_index
from superflow.hub import BackboneCard, save_backbone
from superflow.lidar.encoder import LidarEncoder
from superflow.tools.visualize import main


@pytest.fixture(scope="module")
def prepared(pandaset_root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    write_index(pandaset_root, folder / "index", version="v1.0-mini")
    torch.manual_seed(0)
    encoder = LidarEncoder(
        grid={"type": "cubic", "size_m": 0.5},
        backbone={"depth": "tiny", "width": 0.5},
        inputs=("intensity", "height", "range", "one"),
    )
    save_backbone(encoder, folder / "random.safetensors", BackboneCard("random"))
    return folder


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
