"""A log with a card of its own classes: fine-tuned and tested by the shipped configs."""

from __future__ import annotations

import json

import pytest
import torch

from superflow.errors import InputError
from superflow.method.from_data import number_of_classes
from superflow.tools.main import main

CARD = """
name: two-classes
real: false
licence: none
source: a test
points: {columns: [x, y, z, intensity, ring], axes: right-forward-up}
intensity: {raw_max: 255}
classes:
  - {name: vehicle, colour: [0, 150, 245], categories: [vehicle.car]}
  - {name: ground, colour: [255, 0, 255], categories: [flat.driveable_surface, static.manmade]}
categories: {}
splits: {train: [scene-0001], val: [scene-0003]}
"""


@pytest.fixture
def command(write_small_log, tmp_path):
    """Arguments of a short run on a log with two classes."""
    (tmp_path / "card.yaml").write_text(CARD)
    root, prepared = write_small_log(tmp_path / "log"), str(tmp_path / "prepared")
    card = ["--card", str(tmp_path / "card.yaml")]
    assert main(["prepare", "nuscenes", "--root", str(root), "--out", prepared, *card]) == 0
    run = ["--data-root", prepared, "--cfg-options", "model.encoder.backbone.width=0.5"]
    return [*run, "train_cfg.max_iters=1", "train_dataloader.batch_size=1"]


def test_the_head_has_the_classes_of_the_card(command, tmp_path, capsys):
    work = tmp_path / "run"
    config = "downstream/finetune_small.py"
    assert main(["train", config, "--work-dir", str(work), *command]) == 0
    assert torch.load(work / "iter_1.pth", weights_only=True)["superflow"]["num_classes"] == 2
    metrics = json.loads((work / "result.json").read_text())["metrics"]
    assert {"iou/vehicle", "iou/ground"} <= set(metrics)
    assert main(["test", config, str(work), *command]) == 0
    assert "iou/ground" in capsys.readouterr().out


def test_another_number_is_refused_before_anything_is_trained(command, tmp_path, capsys):
    work = tmp_path / "run"
    options = [*command, "model.num_classes=16"]
    assert main(["train", "downstream/finetune_small.py", "--work-dir", str(work), *options]) == 2
    assert (
        "model.num_classes: is 16, but train_dataloader has 2 classes (vehicle, ground)"
        in capsys.readouterr().err
    )
    assert not list(work.glob("*.pth"))


def test_datasets_of_a_run_share_their_classes():
    class Named:
        def __init__(self, *names):
            self.class_names = names

    two, other = Named("car", "road"), Named("car", "tree")
    assert number_of_classes(None, {"train": two, "val": Named("car", "road")}) == 2
    assert number_of_classes(5, {"train": object()}) == 5
    assert number_of_classes(None, {}) is None
    with pytest.raises(
        InputError, match=r"val_dataloader: has 2 classes \(car, tree\) and train_dataloader 2"
    ):
        number_of_classes(None, {"train": two, "val": other})
