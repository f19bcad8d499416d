"""The mean of a backbone and of the one that it began with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import superflow
from superflow.errors import InputError
from superflow.hub.averaging import average_with
from superflow.hub.backbone import BackboneCard, card_of, save_backbone
from superflow.hub.encoder_file import build_encoder, fill_encoder, read_encoder_file
from superflow.hub.leakage import seen_recordings
from superflow.lidar.encoder import LidarEncoder
from superflow.tools.export import main


def encoder(seed: int, size_m: float = 0.5) -> LidarEncoder:
    torch.manual_seed(seed)
    made = LidarEncoder(grid={"type": "cubic", "size_m": size_m}, backbone={"depth": "tiny", "width": 0.25})
    for buffer in made.buffers():
        buffer.copy_(torch.rand(buffer.shape) if buffer.is_floating_point() else torch.tensor(7 + seed))
    return made


def saved(path, seed: int, **card):
    train = {"dataset": f"set {seed}", "recordings": [f"drive {seed}"]}
    save_backbone(encoder(seed), path, replace(BackboneCard("a", data={"train": train}), **card))
    return path


@pytest.mark.parametrize("share", [0.5, 0.25])
def test_every_weight_and_statistic_is_the_mean_and_counters_stay(tmp_path, share):
    start = saved(tmp_path / "start.safetensors", 1)
    before = {name: value.numpy().copy() for name, value in encoder(0).state_dict().items()}
    began = {name: value.numpy() for name, value in encoder(1).state_dict().items()}
    card = BackboneCard("trained", method={"kind": "pretrainer"}, teacher={"name": "t"})
    made, said = average_with(encoder(0), card, start, share=share)
    for name, value in made.state_dict().items():
        want = (1 - share) * before[name].astype(float) + share * began[name].astype(float)
        if value.is_floating_point():
            np.testing.assert_array_equal(value.numpy(), want.astype(np.float32), err_msg=name)
        else:
            assert int(value) == 7
    averaged = said.method["averaged"]
    assert (averaged["file"], averaged["share"]) == ("start.safetensors", share)
    assert averaged["weights_sha256"] == read_encoder_file(start).card["weights_sha256"]
    assert (said.method["kind"], said.teacher) == ("pretrainer", {"name": "t"})


def test_weights_that_the_training_did_not_begin_with_are_told(tmp_path, caplog):
    start = saved(tmp_path / "start.safetensors", 1)
    began = {"pretrained": {"weights_sha256": read_encoder_file(start).card["weights_sha256"]}}
    average_with(encoder(0), BackboneCard("trained", method=began), start)
    assert not caplog.records
    for method in ({}, {"pretrained": None}, {"pretrained": {"weights_sha256": "0"}}):
        caplog.clear()
        average_with(encoder(0), BackboneCard("trained", method=method), start)
        assert (
            "start.safetensors: the backbone's card does not say that its training began with" in caplog.text
        )


def test_what_either_was_trained_on_has_been_seen(tmp_path):
    trained, start = (saved(tmp_path / f"{n}.safetensors", n) for n in (0, 1))
    file = read_encoder_file(trained)
    _, card = average_with(build_encoder(file), card_of(file), start)
    assert seen_recordings({"data": card.data, "method": card.method}) == {
        "set 0": ["drive 0"],
        "set 1": ["drive 1"],
    }


def test_another_architecture_other_intensities_and_no_share_are_refused(tmp_path):
    start = saved(tmp_path / "start.safetensors", 1)
    for other, card, share, message in (
        (encoder(0, 0.25), BackboneCard("a"), 0.5, r"start\.safetensors: has another grid than"),
        (encoder(0), BackboneCard("a", intensity="0..255"), 0.5, "has another intensity than"),
        (encoder(0), BackboneCard("a"), 1.0, "in an average is 1; give one above 0 and below 1"),
        (encoder(0), BackboneCard("a"), float("nan"), "in an average is nan"),
    ):
        weights = {name: value.clone() for name, value in other.state_dict().items()}
        with pytest.raises(InputError, match=message):
            average_with(other, card, start, share=share)
        assert all(torch.equal(value, weights[name]) for name, value in other.state_dict().items())


def test_how_statistics_follow_in_training_makes_no_other_backbone(tmp_path, caplog):
    """The configs for nuScenes pretrain with another momentum of batch norm than they fine-tune with."""
    start = saved(tmp_path / "start.safetensors", 1)
    backbone = {"depth": "tiny", "width": 0.25, "momentum": 0.02}
    tuned = LidarEncoder(grid={"type": "cubic", "size_m": 0.5}, backbone=backbone)
    fill_encoder(tuned, start)
    assert "other settings" not in caplog.text
    before = {name: value.clone() for name, value in tuned.state_dict().items()}
    averaged, _ = average_with(tuned, BackboneCard("tuned"), start)
    assert averaged.config()["backbone"] == backbone
    for name, value in averaged.state_dict().items():
        torch.testing.assert_close(value, before[name])


def test_the_command_exports_the_mean(tmp_path, capsys):
    trained, start = (saved(tmp_path / f"{n}.safetensors", n) for n in (0, 1))
    out = tmp_path / "mean.safetensors"
    assert main([str(trained), "--average-with", str(start), "--share", "0.25", "--out", str(out)]) == 0
    want, _ = average_with(encoder(0), BackboneCard("a"), start, share=0.25)
    backbone = superflow.load(out)
    assert all(torch.equal(v, want.state_dict()[k]) for k, v in backbone.encoder.state_dict().items())
    assert backbone.card.method["averaged"]["share"] == 0.25
    capsys.readouterr()
    assert main([str(trained), "--share", "0.25"]) == 2
    assert "--share is that of --average-with" in capsys.readouterr().err


def test_an_average_of_an_average_has_seen_what_all_three_were_trained_on(tmp_path):
    """And the figures of the weights before are not those of the mean."""
    paths = [saved(tmp_path / f"{n}.safetensors", n, metrics=[{"mIoU": 40.0}]) for n in range(4)]
    made = read_encoder_file(paths[0])
    for start in paths[1:]:
        encoder_, card = average_with(build_encoder(made), card_of(made), start)
        assert card.metrics == []
        save_backbone(encoder_, tmp_path / "mean.safetensors", replace(card, metrics=[{"mIoU": 1.0}]))
        made = read_encoder_file(tmp_path / "mean.safetensors")
    assert seen_recordings(made.card) == {f"set {n}": [f"drive {n}"] for n in range(4)}
