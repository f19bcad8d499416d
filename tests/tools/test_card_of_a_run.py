"""An exported file says how it was trained: limits, objectives, teacher, data, config; and keeps to the limits."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import superflow
from superflow.datasets.index import LogIndex
from superflow.downstream.recalibration import recalibrate_batch_norm
from superflow.downstream.segmentor import Segmentor
from superflow.engine import load_config
from superflow.hub.backbone import BackboneCard, save_backbone
from superflow.hub.encoder_file import build_encoder, read_encoder_file
from superflow.protocol import commit, token_hash
from superflow.tools.main import main

METHODS = ("slidr", "superflowpp", "regression", "ppkt")
LIMITS = {"range_m": [1.5, 60.0], "height_m": [-5.0, 14.0]}  # of small_pretrain.py


def options(prepared, *further):
    dataset = "train_dataloader.dataset"
    return [
        *(
            "--data-root",
            str(prepared),
            "--cfg-options",
            "train_cfg.max_iters=1",
            "train_dataloader.batch_size=1",
        ),
        f"{dataset}.views.features={prepared}/features/filter_bank",
        *(
            f"{dataset}.frames=scene-0001",
            f"{dataset}.views.size=(36,64)",
            "model.student.backbone.width=0.25",
        ),
        *further,
    ]


@pytest.fixture(scope="module", params=METHODS)
def exported(request, prepared_log, tmp_path_factory):
    """The exported backbone of one step of a shipped config."""
    prepared = prepared_log / "prepared"
    name = f"pretrain/{request.param}_small.py"
    work = tmp_path_factory.mktemp(request.param) / "run"
    assert main(["train", name, "--work-dir", str(work), *options(prepared)]) == 0
    file = work.parent / f"{request.param}.safetensors"
    assert main(["export", str(work), "--out", str(file)]) == 0
    return SimpleNamespace(
        name=name, work=work, file=file, backbone=superflow.load(file), index=LogIndex.open(prepared)
    )


def test_the_card_says_what_was_trained(exported):
    card, config = exported.backbone.card, load_config(exported.name)
    assert card.limits == LIMITS
    method = card.method
    assert method["objectives"] == json.loads(json.dumps(config.model.objectives))
    assert method["region"] == config.model.get("region", {})
    assert (method["kind"], method["pixels"]) == ("pretrainer", config.model.get("pixels", "all"))
    assert card.teacher["name"] == "filter_bank"
    assert card.teacher["cached"]["components"] == 8
    rows = exported.index.rows("scene-0001")
    data = card.data["train"]
    assert (data["hash"], data["frames"]) == (exported.index.hash, len(rows))
    assert data["tokens_hash"] == token_hash(exported.index.tokens(rows))
    training = card.training
    assert (training["iter"], training["seed"], training["world_size"]) == (1, 0, 1)
    assert training["commit"] == commit()


def test_the_config_in_the_card_is_the_run_s_own(exported, tmp_path):
    text = exported.backbone.card.training["config"]
    assert text == (exported.work / "config.py").read_text()
    (tmp_path / "again.py").write_text(text)
    again = load_config(tmp_path / "again.py")
    assert again.model.objectives == load_config(exported.name).model.objectives
    assert again.train_cfg.max_iters == 1


def test_nothing_is_said_of_where_training_never_looked(exported):
    points = np.array(
        [[0.5, 0, 0, 0.5], [20, 0, 0, 0.5], [0, 150, 0, 0.5], [0, 20, 0, 0.5], [10, 0, 30, 0.5]], np.float32
    )
    rows = exported.backbone.extract(points)
    assert rows.shape == (5, exported.backbone.out_channels)
    assert rows.any(axis=1).tolist() == [False, True, False, True, False]
    assert exported.backbone.within_limits(points).tolist() == [False, True, False, True, False]
    assert exported.backbone.extract(points, everywhere=True).any(axis=1).all()


def test_the_checkpoint_itself_says_the_same(exported):
    loaded = superflow.load(exported.work / "iter_1.pth").card
    card = exported.backbone.card
    for part in ("limits", "method", "teacher", "data", "training", "weights_sha256"):
        assert getattr(loaded, part) == getattr(card, part)


def test_methods_do_not_look_alike(prepared_log):
    """What tells the shipped methods apart is in the card: no two have equal objectives, regions and clips."""
    told = [load_config(f"pretrain/{name}_small.py").model.objectives for name in METHODS]
    assert all(told.count(objectives) == 1 for objectives in told)


REGIONS = {
    "data": (LIMITS, None, LIMITS),
    "model": (None, {"range_m": [0.0, 50.0]}, {"range_m": [0.0, 50.0], "height_m": [None, None]}),
    "both": (
        LIMITS,
        {"range_m": [0.0, 50.0], "height_m": [-2.0, None]},
        {"range_m": [1.5, 50.0], "height_m": [-2.0, 14.0]},
    ),
    "neither": (None, None, None),
}


@pytest.fixture
def checkpoint(tmp_path):
    """Writes a checkpoint of an encoder with the given record."""

    def write(**record):
        torch.manual_seed(0)
        encoder = superflow.lidar.encoder.LidarEncoder(
            grid={"type": "cubic", "size_m": 0.5}, backbone={"depth": "tiny", "width": 0.25}
        )
        state = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
        content = {
            "meta": {"iter": 1},
            "state_dict": state,
            "superflow": {"encoder": encoder.config(), **record},
        }
        torch.save(content, tmp_path / "iter_1.pth")
        return tmp_path / "iter_1.pth"

    return write


@pytest.mark.parametrize("where", REGIONS)
def test_limits_of_data_and_model_are_joined(checkpoint, where):
    of_data, of_model, joined = REGIONS[where]
    train = {"limits": of_data, "raw_intensity": True}
    card = superflow.load(checkpoint(data={"train": train}, limits=of_model)).card
    assert card.limits == joined
    assert card.intensity == "0..255"


def test_recalibration_keeps_to_the_limits(checkpoint, prepared_log, tmp_path):
    limits = {"range_m": [20.0, 45.0], "height_m": [-1.0, None]}
    path, out = checkpoint(data={"train": {"limits": limits}}), tmp_path / "b.safetensors"
    asked = ["--recalibrate", str(prepared_log / "prepared"), "--frames", "scene-0001"]
    assert main(["export", str(path), "--out", str(out), *asked]) == 0
    index = LogIndex.open(prepared_log / "prepared")
    clouds = []
    for row in index.rows("scene-0001"):
        points = torch.from_numpy(index.frame(int(row), cameras=()).points)
        distance = points[:, :2].norm(dim=1)
        clouds.append(points[(distance >= 20) & (distance <= 45) & (points[:, 2] >= -1)])
        assert 0 < len(clouds[-1]) < len(points)
    want = recalibrate_batch_norm(build_encoder(read_encoder_file(path)), clouds).state_dict()
    got = superflow.load(out)
    assert all(torch.equal(value, want[name]) for name, value in got.encoder.state_dict().items())
    assert got.card.training["batch_norm"]["recalibrated_on"]["limits"] == limits


def test_a_fine_tuned_backbone_names_its_pretraining(prepared_log, tmp_path):
    source = superflow.lidar.encoder.LidarEncoder(
        grid={"type": "cubic", "size_m": 0.25},
        backbone={"depth": "tiny", "width": 0.25},
        inputs=("intensity", "height", "range", "one"),
    )
    teacher = {"name": "some_image_model", "licence": "Apache-2.0"}
    card = save_backbone(source, tmp_path / "street.safetensors", BackboneCard("street", teacher=teacher))
    given = [f"model.pretrained={tmp_path}/street.safetensors", "model.encoder.backbone.width=0.25"]
    run = ["--data-root", str(prepared_log / "prepared"), "--cfg-options", "train_cfg.max_iters=1", *given]
    assert main(["train", "downstream/finetune_small.py", "--work-dir", str(tmp_path / "run"), *run]) == 0
    tuned = superflow.load(tmp_path / "run" / "iter_1.pth").card
    assert tuned.method["kind"] == "segmentor"
    assert tuned.method["pretrained"]["weights_sha256"] == card.weights_sha256
    assert tuned.weights_sha256 != card.weights_sha256
    assert tuned.limits == LIMITS
    assert tuned.teacher == teacher, "who taught the weights that it began with is said of it, too"
    encoder = superflow.load(tmp_path / "run" / "iter_1.pth").encoder
    save_backbone(encoder, tmp_path / "tuned.safetensors", tuned)
    again = Segmentor(encoder, 4, pretrained=tmp_path / "tuned.safetensors")
    assert again.record()["pretrained"]["teacher"] == teacher, "nor is it forgotten one stage later"


def test_scans_without_a_point_inside_are_named(checkpoint, prepared_log, tmp_path, capsys):
    path = checkpoint(data={"train": {"limits": {"range_m": [900.0, 901.0]}}})
    asked = ["--out", str(tmp_path / "b.safetensors"), "--recalibrate", str(prepared_log / "prepared")]
    assert main(["export", str(path), *asked]) == 2
    assert (
        "scans has a point within the backbone's limits, {'range_m': [900.0, 901.0]"
        in capsys.readouterr().err
    )
    assert not (tmp_path / "b.safetensors").exists()


def test_the_screen_is_spared_the_text_of_the_config(exported, tmp_path, capsys):
    assert main(["export", str(exported.work), "--out", str(tmp_path / "b.safetensors")]) == 0
    said = capsys.readouterr().out
    assert '"objectives"' in said
    assert "lines, in the file" in said
    assert "train_dataloader" not in said
