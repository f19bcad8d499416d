"""Pretraining that begins with a backbone: its weights are taken once, and who made them stays on record."""

from __future__ import annotations

import json

import pytest
import torch

from superflow.engine import load_config
from superflow.hub.backbone import BackboneCard, save_backbone
from superflow.hub.encoder_file import read_encoder_file, weights_hash
from superflow.lidar.encoder import LidarEncoder
from superflow.method.pretrainer import Pretrainer
from superflow.tools.main import main

CONFIG = "pretrain/regression_small.py"
RECORDINGS = {"other set": ["drive 7"]}


@pytest.fixture(scope="module")
def encoder() -> LidarEncoder:
    torch.manual_seed(3)
    student = load_config(CONFIG, options={"model.student.backbone.width": 0.25}).model.student
    return LidarEncoder(
        grid=dict(student.grid), backbone=dict(student.backbone), inputs=tuple(student.inputs)
    )


@pytest.fixture
def backbone(encoder, tmp_path):
    data = {"train": {"dataset": "other set", "recordings": ["drive 7"], "raw_intensity": False}}
    save_backbone(encoder, tmp_path / "before.safetensors", BackboneCard("before", data=data))
    return tmp_path / "before.safetensors"


@pytest.fixture
def options(prepared_log):
    prepared = prepared_log / "prepared"
    dataset = "train_dataloader.dataset"
    return [
        *("--data-root", str(prepared), "--cfg-options", "train_cfg.max_iters=2"),
        *("model.student.backbone.width=0.25", "train_dataloader.batch_size=1"),
        *(f"{dataset}.frames=scene-0001", f"{dataset}.views.size=(36,64)"),
        f"{dataset}.views.features={prepared}/features/filter_bank",
        *("default_hooks.checkpoint.interval=1", "default_hooks.checkpoint.max_keep_ckpts=2"),
    ]


def train(work, *arguments):
    assert main(["train", CONFIG, "--work-dir", str(work), *arguments]) == 0


def state(work, name="iter_2.pth"):
    return torch.load(work / name, weights_only=True)


def test_the_student_begins_with_the_weights_of_the_file(backbone, encoder):
    options = load_config(CONFIG, options={"model.student.backbone.width": 0.25}).model.to_dict()
    options.pop("type")
    objectives = [{"type": "segmentation"}]  # learns from no image, so that nothing else is needed
    model = Pretrainer(**{**options, "objectives": objectives}, num_classes=3, pretrained=str(backbone))
    own = encoder.state_dict()
    assert all(torch.equal(own[name], value) for name, value in model.student.state_dict().items())


def test_the_file_is_read_once_and_stays_on_record(backbone, encoder, options, tmp_path, capsys):
    work, named = tmp_path / "run", f"model.pretrained={backbone}"
    train(work, *options, named, "optim_wrapper.optimizer.lr=1e-12")
    first = state(work, "iter_1.pth")["state_dict"]
    for name, value in encoder.named_parameters():
        torch.testing.assert_close(first[f"student.{name}"], value, rtol=0, atol=1e-6)
    known = {"file": backbone.name, "weights_sha256": weights_hash(encoder.state_dict())}
    known |= {"raw_intensity": False, "teacher": None, "recordings": RECORDINGS}
    assert json.loads((work / "result.json").read_text())["superflow"]["pretrained"] == known
    whole = state(work)

    backbone.unlink()
    (work / "iter_2.pth").unlink()
    train(work, "--resume", *options, named, "optim_wrapper.optimizer.lr=1e-12")
    assert "iter_1.pth (iteration 1)" in capsys.readouterr().out
    resumed = state(work)
    assert resumed["superflow"]["pretrained"] == known
    assert all(torch.equal(resumed["state_dict"][name], value) for name, value in whole["state_dict"].items())
    assert main(["export", str(work), "--out", str(tmp_path / "after.safetensors")]) == 0
    card = read_encoder_file(tmp_path / "after.safetensors").card
    assert card["method"]["pretrained"] == known
    assert card["teacher"]["name"] == "filter_bank"


def test_without_a_start_the_record_says_nothing(options, tmp_path):
    train(tmp_path / "run", *options)
    assert "pretrained" not in json.loads((tmp_path / "run" / "result.json").read_text())["superflow"]


def test_another_architecture_is_refused(backbone, options, tmp_path, capsys):
    wide = [option.replace("width=0.25", "width=0.5") for option in options]
    arguments = ["--work-dir", str(tmp_path / "run"), *wide, f"model.pretrained={backbone}"]
    assert main(["train", CONFIG, *arguments]) == 2
    assert f"{backbone}: does not fit this model" in capsys.readouterr().err.replace("\n", " ")
