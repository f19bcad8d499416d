"""`superflow export`: checkpoint in, one file with its card out."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch

import superflow
from superflow.datasets.index import LogIndex
from superflow.downstream.recalibration import recalibrate_batch_norm, recalibrate_on_log
from superflow.hub.backbone import BackboneCard
from superflow.hub.encoder_file import read_encoder_file
from superflow.hub.leakage import seen_recordings
from superflow.lidar.encoder import LidarEncoder
from superflow.protocol import token_hash
from superflow.tools.export import main

RECORD = {
    "teacher": {"name": "some teacher", "sha256": "ab"},
    "data": {"train": {"dataset": "made", "hash": "0123", "frames": 3}},
}


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    encoder = LidarEncoder(grid={"type": "cubic", "size_m": 0.5}, backbone={"depth": "tiny", "width": 0.5})
    state = {"student." + name: value for name, value in encoder.state_dict().items()}
    state["point_head.weight"] = torch.zeros(2, 2)
    content = {
        "meta": {"iter": 12, "seed": 3, "version": "0.1.0", "config": "x = 1"},
        "superflow": {"encoder": encoder.config(), **RECORD},
        "state_dict": state,
        "optimizer": {},
    }
    torch.save(content, tmp_path / "iter_12.pth")
    return tmp_path / "iter_12.pth", encoder.eval()


def test_export_carries_weights_and_records(checkpoint, tmp_path, capsys):
    path, encoder = checkpoint
    out = tmp_path / "exported" / "street.safetensors"
    assert main([str(path), "--out", str(out)]) == 0
    assert "street.safetensors" in capsys.readouterr().out
    backbone = superflow.load(out)
    assert backbone.card.name == "street"
    assert backbone.card.teacher == RECORD["teacher"]
    assert backbone.card.data == RECORD["data"]
    assert backbone.card.training["iter"] == 12
    assert json.loads(out.with_suffix(".json").read_text())["channels"] == encoder.out_channels
    points = np.random.default_rng(0).uniform(0, 1, (50, 4)).astype(np.float32)
    want = encoder.point_features(torch.from_numpy(points), torch.zeros(50, dtype=torch.int64), 1)
    assert np.array_equal(backbone.extract(points), want.detach().numpy())


def test_default_place_is_beside_the_checkpoint(checkpoint):
    path, _ = checkpoint
    assert main([str(path)]) == 0
    assert path.with_suffix(".safetensors").is_file()


def test_install_makes_a_name(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("SUPERFLOW_HOME", str(tmp_path / "home"))
    assert main([str(checkpoint[0]), "--install", "--name", "street-tiny"]) == 0
    assert superflow.load("street-tiny").card.name == "street-tiny"


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "there is no such file"), (b"rubbish", "is")],
)
def test_bad_checkpoints_are_one_line_and_write_nothing(tmp_path, capsys, content, message):
    path = tmp_path / "bad.pth"
    if content is not None:
        path.write_bytes(content)
    assert main([str(path), "--out", str(tmp_path / "out.safetensors")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("superflow export: ")
    assert "bad.pth" in error
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out.safetensors").exists()


def test_the_folder_of_a_run_stands_for_its_newest_checkpoint(checkpoint, tmp_path):
    path, encoder = checkpoint
    path.rename(tmp_path / "iter_3.pth")
    torch.save({"nothing": 1}, tmp_path / "iter_2.pth")
    assert main([str(tmp_path), "--out", str(tmp_path / "b.safetensors")]) == 0
    assert superflow.load(tmp_path / "b.safetensors").out_channels == encoder.out_channels


def test_a_folder_without_checkpoints_is_named(tmp_path, capsys):
    assert main([str(tmp_path), "--out", str(tmp_path / "b.safetensors")]) == 2
    assert f"{tmp_path}: holds no checkpoint" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def recalibrated(checkpoint, prepared_log, out, *frames):
    index = str(prepared_log / "prepared")
    return main([str(checkpoint[0]), "--out", str(out), "--recalibrate", index, *frames])


def test_recalibration_takes_the_statistics_of_whole_scans(checkpoint, prepared_log, tmp_path):
    out = tmp_path / "b.safetensors"
    assert recalibrated(checkpoint, prepared_log, out, "--frames", "scene-0001[0:3]") == 0
    index = LogIndex.open(prepared_log / "prepared")
    rows = index.rows(["scene-0001[0:3]"])
    clouds = [torch.from_numpy(index.frame(int(row), cameras=()).points) for row in rows]
    want = recalibrate_batch_norm(checkpoint[1], clouds).state_dict()
    got = superflow.load(out)
    assert all(torch.equal(value, want[name]) for name, value in got.encoder.state_dict().items())
    assert any(not torch.equal(value, want[name]) for name, value in checkpoint[1].state_dict().items())
    record = got.card.training["batch_norm"]["recalibrated_on"]
    assert record["hash"] == index.hash
    assert record["frames"] == 3
    assert seen_recordings(read_encoder_file(out).card) == {index.card.name: list(index.recordings(rows))}
    assert record["tokens_hash"] == token_hash(index.tokens(rows))
    assert got.card.training["iter"] == 12


def test_recalibration_sees_what_extract_sees(checkpoint, prepared_log):
    """Raw intensity and limits of the card, at most so many scans evenly over the frames."""
    index = LogIndex.open(prepared_log / "prepared")
    card = BackboneCard("raw", intensity="0..255", limits={"range_m": [0.0, 30.0]})
    trained = copy.deepcopy(checkpoint[1])
    trained.raw_intensity = True
    encoder, card = recalibrate_on_log(trained, card, index, index.rows(), scans=3)
    clouds = []
    for row in index.rows()[::3]:
        points = torch.from_numpy(index.frame(int(row), cameras=()).points.copy())
        points[:, 3] *= 255
        clouds.append(points[torch.linalg.vector_norm(points[:, :2], dim=1) <= 30])
    assert sum(map(len, clouds)) < 150
    want = recalibrate_batch_norm(checkpoint[1], clouds).state_dict()
    for name, value in encoder.state_dict().items():
        torch.testing.assert_close(value, want[name])
    assert card.training["batch_norm"]["recalibrated_on"]["frames"] == 3


def test_frames_without_an_index_are_refused(checkpoint, tmp_path, capsys):
    assert main([str(checkpoint[0]), "--out", str(tmp_path / "b.safetensors"), "--frames", "train"]) == 2
    assert "--frames chooses the scans of --recalibrate; give that index too" in capsys.readouterr().err
    assert not (tmp_path / "b.safetensors").exists()


def test_what_is_exported_is_not_written_over_unasked(checkpoint, tmp_path, monkeypatch, capsys):
    """Recalibrated, without --out, a file would take the place of the one that it was made of."""
    monkeypatch.setenv("SUPERFLOW_HOME", str(tmp_path / "home"))
    assert main([str(checkpoint[0]), "--install", "--name", "mine"]) == 0
    assert main(["mine", "--out", str(tmp_path / "mine.safetensors")]) == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.safetensors")}
    assert len(before) == 2
    capsys.readouterr()
    for words in ([str(tmp_path / "mine.safetensors")], ["mine", "--install"]):
        assert main(words) == 2
        assert "mine.safetensors: is what is exported, and would be written over" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.safetensors")} == before
    assert main([str(tmp_path / "mine.safetensors"), "--out", str(tmp_path / "mine.safetensors")]) == 0


def test_the_card_takes_the_place_of_no_other_file(checkpoint, tmp_path, capsys):
    path, _ = checkpoint
    for content in ('{"miou": 3.0}', "[]", "rubbish"):
        (tmp_path / "result.json").write_text(content)
        assert main([str(path), "--out", str(tmp_path / "result.safetensors")]) == 2
        said = capsys.readouterr().err
        assert "result.json: " in said
        assert (
            "is no card of a backbone, and that of result.safetensors would be written over it; choose"
            in said
        )
        assert said.count("\n") == 1
        assert (tmp_path / "result.json").read_text() == content
        assert not (tmp_path / "result.safetensors").exists()
    (tmp_path / "result.json").unlink()
    for _ in range(2):  # a card of before is replaced
        assert main([str(path), "--out", str(tmp_path / "result.safetensors")]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--install", "--name", "../mine"], "--name '../mine' cannot be a file's name"),
        (["--name", "a/b"], "--name 'a/b' cannot be a file's name"),
        (["--install", "--out", "mine.safetensors"], "leave out --out"),
    ],
)
def test_a_place_that_is_none_is_one_sentence(checkpoint, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.setenv("SUPERFLOW_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert main([str(checkpoint[0]), *words]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.safetensors"))


def test_the_folder_that_one_is_in_is_exported_beside_it(checkpoint, tmp_path, monkeypatch):
    run = tmp_path / "run"
    run.mkdir()
    checkpoint[0].rename(run / "iter_12.pth")
    monkeypatch.chdir(run)
    assert main(["."]) == 0
    assert superflow.load(tmp_path / "run.safetensors").card.name == "run"
