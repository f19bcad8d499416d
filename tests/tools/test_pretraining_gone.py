"""A fine-tuned run holds all its weights: the file of its pretraining is read once, then it may be gone."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from superflow.engine import load_config
from superflow.hub.backbone import BackboneCard, save_backbone
from superflow.hub.encoder_file import weights_hash
from superflow.lidar.encoder import LidarEncoder
from superflow.tools.main import main

CONFIG = "downstream/finetune_small.py"
FORMS = {"exported": "street.safetensors", "checkpoint": "iter_7.pth", "folder": "."}


@pytest.fixture(scope="module")
def encoder() -> LidarEncoder:
    torch.manual_seed(3)
    config = load_config(CONFIG, options={"model.encoder.backbone.width": 0.25}).model.encoder
    return LidarEncoder(grid=dict(config.grid), backbone=dict(config.backbone), inputs=tuple(config.inputs))


@pytest.fixture(params=FORMS)
def pretraining(request, encoder, tmp_path):
    """A folder of its own, and what ``model.pretrained`` is told of it."""
    folder = tmp_path / "pretraining"
    folder.mkdir()
    if request.param == "exported":
        save_backbone(encoder, folder / FORMS["exported"], BackboneCard("street"))
    else:
        state = {f"student.{name}": value for name, value in encoder.state_dict().items()}
        record = {"encoder": encoder.config(), "data": {"train": {"raw_intensity": False}}}
        torch.save({"meta": {"iter": 7}, "superflow": record, "state_dict": state}, folder / "iter_7.pth")
    return folder, folder / FORMS[request.param]


@pytest.fixture
def options(prepared_log):
    return [
        *("--data-root", str(prepared_log / "prepared"), "--cfg-options", "train_cfg.max_iters=2"),
        *("model.encoder.backbone.width=0.25", "train_dataloader.batch_size=1"),
        *("default_hooks.checkpoint.interval=1", "default_hooks.checkpoint.max_keep_ckpts=2"),
    ]


def train(work, *arguments, config=CONFIG):
    assert main(["train", str(config), "--work-dir", str(work), *arguments]) == 0


def state(work, name="iter_2.pth"):
    return torch.load(work / name, weights_only=True)


def test_testing_and_resuming_do_without_the_file(
    pretraining, encoder, options, tmp_path, capsys, monkeypatch
):
    folder, named = pretraining
    work = tmp_path / "run"
    train(work, *options, f"model.pretrained={named}")
    whole = state(work)
    first = state(work, "iter_1.pth")["state_dict"]
    assert not all(torch.equal(first[name], value) for name, value in whole["state_dict"].items())
    file = "iter_7.pth" if named == folder or named.suffix == ".pth" else named.name
    known = {"file": file, "weights_sha256": weights_hash(encoder.state_dict()), "raw_intensity": False}
    known |= {"teacher": None, "recordings": {}}
    assert json.loads((work / "result.json").read_text())["superflow"]["pretrained"] == known

    shutil.rmtree(folder)
    asked = [[*options, f"model.pretrained={named}"], options]  # with the key, and as the README has it
    for place, further in enumerate(asked):
        out = tmp_path / f"tested_{place}"
        assert main(["test", CONFIG, str(work), "--work-dir", str(out), *further]) == 0
        found = json.loads((out / "test_result.json").read_text())
        assert found["superflow"]["pretrained"] == known
        assert found["metrics"] == json.loads((work / "result.json").read_text())["metrics"]
    assert main(["test", str(work / "config.py"), str(work)]) == 0

    (work / "iter_2.pth").unlink()
    reads, load = [], torch.load
    monkeypatch.setattr(torch, "load", lambda path, **how: reads.append(path) or load(path, **how))
    train(work, "--resume", *options, f"model.pretrained={named}")
    assert reads == [work / "iter_1.pth"]  # once, though the model is built from it and then gets its weights
    assert "iter_1.pth (iteration 1)" in capsys.readouterr().out
    resumed = state(work)
    assert resumed["meta"]["iter"] == 2
    assert all(torch.equal(resumed["state_dict"][name], value) for name, value in whole["state_dict"].items())
    assert resumed["superflow"]["pretrained"] == known


def test_without_an_encoder_of_its_own_the_model_is_rebuilt_from_the_checkpoint(
    encoder, options, prepared_log, repository, tmp_path
):
    """``model.encoder`` left out is the one that the pretraining describes, also when that is gone."""
    bases = repository / "configs" / "_base_"
    config = tmp_path / "tune.py"
    config.write_text(
        f'_base_ = ["{bases}/runtime.py", "{bases}/onecycle.py", "{bases}/small_segment.py"]\n'
        "model = dict(encoder=None)\n"
    )
    given = [option for option in options if "width" not in option]
    save_backbone(encoder, tmp_path / "street.safetensors", BackboneCard("street"))
    named = f"model.pretrained={tmp_path}/street.safetensors"
    train(tmp_path / "run", *given, named, config=config)
    (tmp_path / "street.safetensors").unlink()
    assert main(["test", str(config), str(tmp_path / "run"), *given, named]) == 0
    found = json.loads((tmp_path / "run" / "test_result.json").read_text())["superflow"]
    assert found["encoder"] == encoder.config()
    assert found["pretrained"]["file"] == "street.safetensors"


def test_a_new_run_needs_the_file(options, tmp_path, capsys):
    named = f"model.pretrained={tmp_path}/gone.safetensors"
    arguments = ["--work-dir", str(tmp_path / "run"), "--resume", *options, named]
    assert main(["train", CONFIG, *arguments]) == 2
    assert f"{tmp_path}/gone.safetensors: there is no such file" in capsys.readouterr().err


def test_a_run_from_scratch_stays_one(options, encoder, tmp_path):
    """Tested with the name of a pretraining that it never had, the record does not take it over."""
    train(tmp_path / "run", *options)
    save_backbone(encoder, tmp_path / "street.safetensors", BackboneCard("street"))
    named = f"model.pretrained={tmp_path}/street.safetensors"
    assert main(["test", CONFIG, str(tmp_path / "run"), *options, named]) == 0
    found = json.loads((tmp_path / "run" / "test_result.json").read_text())
    assert found["superflow"]["pretrained"] is None
