"""Weights that have seen the evaluated drives under another name are refused; allowed, the result says it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from superflow.benchmark.one_log.arms import run_arm
from superflow.benchmark.one_log.plan import Arm, Plan
from superflow.benchmark.one_log.table import leakage_lines
from superflow.benchmark.places.measures import Task, _encoder
from superflow.datasets.index import LogIndex
from superflow.engine import load_config
from superflow.engine.loader import build_dataset
from superflow.errors import InputError
from superflow.hub.backbone import BackboneCard, save_backbone
from superflow.hub.encoder_file import fill_encoder
from superflow.hub.leakage import check_leakage, seen_recordings
from superflow.lidar.encoder import LidarEncoder
from superflow.tools.main import main

CONFIG = "downstream/finetune_small.py"


def make_encoder() -> LidarEncoder:
    config = load_config(CONFIG, options={"model.encoder.backbone.width": 0.25}).model.encoder
    return LidarEncoder(grid=dict(config.grid), backbone=dict(config.backbone), inputs=tuple(config.inputs))


def exported(path: Path, *recordings: str) -> Path:
    train = {"dataset": "kitti_raw", "recordings": list(recordings), "raw_intensity": False}
    save_backbone(make_encoder(), path, BackboneCard("street", data={"train": train}))
    return path


def test_a_card_knows_what_its_encoder_and_the_one_before_it_have_seen(tmp_path):
    path = exported(tmp_path / "a.safetensors", "KITTI b", "KITTI a")
    before = fill_encoder(make_encoder(), path)
    assert before["recordings"] == {"kitti_raw": ["KITTI a", "KITTI b"]}
    parts = [{"dataset": "nuscenes", "recordings": ["nuScenes c"]}, {"dataset": "made", "recordings": []}]
    card = {"method": {"pretrained": before}, "data": {"train": {"parts": parts}}}
    assert seen_recordings(card) == {"kitti_raw": ["KITTI a", "KITTI b"], "nuscenes": ["nuScenes c"]}
    assert seen_recordings({"data": None, "method": {"pretrained": None}}) == {}
    assert seen_recordings({"data": {"train": {"raw_intensity": False}}}) == {}, "of an earlier version"


def record(dataset: str, *recordings: str) -> dict:
    return {"dataset": dataset, "recordings": list(recordings)}


def test_what_weights_have_seen_is_refused_with_the_drives():
    val = {"val": record("semantickitti", "KITTI x", "KITTI y")}
    assert check_leakage("w.pth", {"kitti_raw": ["KITTI z"]}, val) == []
    for dataset in ("kitti_raw", "semantickitti"):
        seen = {dataset: ["KITTI x", "KITTI z"]}
        said = r"w.pth: was trained on drives that are evaluated here \(KITTI x\).*--allow-leakage"
        with pytest.raises(InputError, match=said):
            check_leakage("w.pth", seen, val)
        assert check_leakage("w.pth", seen, val, allowed=True) == ["KITTI x"]
        assert check_leakage("w.pth", seen, {"train": val["val"]}) == [], "nothing of it is evaluated"


def test_frames_of_one_drive_of_one_dataset_are_the_configs_own_choice():
    data = {"train": record("semantickitti", "KITTI x"), "val": record("semantickitti", "KITTI x", "KITTI y")}
    assert check_leakage("w.pth", {"semantickitti": ["KITTI x"]}, data) == []
    for seen in ({"semantickitti": ["KITTI y"]}, {"kitti_raw": ["KITTI x"]}):
        with pytest.raises(InputError, match=r"w.pth: was trained on drives"):
            check_leakage("w.pth", seen, data)


@pytest.mark.parametrize("mixed", [False, True])
def test_labels_of_another_dataset_that_holds_the_drive_count(mixed):
    train = record("daps3d", "KITTI x")
    train = {"parts": [record("made"), train]} if mixed else train
    with pytest.raises(InputError, match=r"train_dataloader.dataset \(daps3d\): was trained on drives"):
        check_leakage("None", {}, {"train": train, "test": record("semantickitti", "KITTI x")})


@pytest.fixture
def held(prepared_log, monkeypatch) -> list[str]:
    """The recordings that the config evaluates, which other datasets hold as well."""
    monkeypatch.setattr(
        "superflow.datasets.index.recordings_of",
        lambda name, scenes, known: tuple(f"KITTI {s}" for s in scenes),
    )
    torch.manual_seed(0)
    config = load_config(CONFIG, data_root=prepared_log / "prepared")
    return build_dataset(config.val_dataloader.dataset).record()["recordings"]


def test_an_arm_of_a_plan_may_not_begin_with_weights_that_know_the_answers(prepared_log, tmp_path, held):
    weights = exported(tmp_path / "street.safetensors", *held)
    options = {"model.pretrained": str(weights), "model.encoder.backbone.width": 0.25}
    options |= {"train_cfg.max_iters": 1, "val_dataloader": None, "val_cfg": None, "val_evaluator": None}
    arm = Arm("tuned", "supervised", CONFIG, options)
    plan, where = Plan(arms=(arm,)), {"prepared": prepared_log / "prepared", "out": tmp_path / "out"}
    with pytest.raises(InputError, match=rf"street.safetensors: was trained on drives.*\({held[0]}"):
        run_arm(plan, arm, 0, **where)
    assert not list((tmp_path / "out").rglob("*.pth")), "it is refused before the work"
    record = run_arm(replace(plan, allow_leakage=True), arm, 0, **where)
    assert record["leakage"] == {"allowed": True, "recordings": held}
    said = "\n".join(leakage_lines([record]))
    assert "`--allow-leakage`" in said
    assert f"- tuned: {', '.join(held)}" in said
    with pytest.raises(
        InputError, match=r"benchmark.json: was measured on drives .* give it again, or choose"
    ):
        run_arm(plan, arm, 0, **where)


def test_a_measure_of_a_plan_may_share_a_drive_with_what_its_plan_learns_from(prepared_log, tmp_path, held):
    index = LogIndex.open(prepared_log / "prepared")
    rows = index.rows([held[0].removeprefix("KITTI ")])
    own, other = tmp_path / "own.safetensors", tmp_path / "other.safetensors"
    for path, dataset in ((own, index.card.name), (other, "daps3d")):
        train = {"dataset": dataset, "recordings": [held[0]], "raw_intensity": False}
        save_backbone(make_encoder(), path, BackboneCard("street", data={"train": train}))
    task = Task(own, index, None, None, "all", 0, train=rows[:1], held_out=[], evaluate=rows[1:], folds=[])
    assert _encoder(task) is not None, "frames of one drive, parted by the plan"
    elsewhere = index.rows()[~np.isin(index.rows(), rows)][:1]
    for leaky in (replace(task, train=elsewhere), replace(task, backbone=other)):
        with pytest.raises(InputError, match=rf"was trained on drives that are evaluated here \({held[0]}\)"):
            _encoder(leaky)
        assert replace(leaky, allow_leakage=True).leakage() == [held[0]]
        assert _encoder(replace(leaky, allow_leakage=True)) is not None


def test_what_a_loaded_checkpoint_was_trained_on_counts(prepared_log, tmp_path, held, capsys):
    options = ["train_cfg.max_iters=1", "model.encoder.backbone.width=0.25"]
    where = ["--data-root", str(prepared_log / "prepared")]
    weights = ["model.pretrained=" + str(exported(tmp_path / "w.safetensors"))]
    train = ["train", CONFIG, "--work-dir", str(tmp_path / "run"), *where, "--cfg-options"]
    assert main([*train, *options, *weights]) == 0
    path = tmp_path / "run/iter_1.pth"
    test = ["test", CONFIG, str(path), *where, "--cfg-options", options[1]]
    assert main(test) == 0, "frames of its own dataset are its config's choice"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["superflow"]["data"]["train"] |= {"dataset": "daps3d", "recordings": held}
    torch.save(checkpoint, path)
    capsys.readouterr()
    assert main(test) == 2
    assert f"(daps3d): was trained on drives that are evaluated here ({held[0]}" in capsys.readouterr().err
    train[3] = str(tmp_path / "again")
    assert main([*train, *options, *weights, f"load_from={path}"]) == 2
    assert f"iter_1.pth: was trained on drives that are evaluated here ({held[0]}" in capsys.readouterr().err


def test_fine_tuning_is_refused_and_with_the_option_the_result_says_it(prepared_log, tmp_path, held, capsys):
    assert held
    weights = exported(tmp_path / "street.safetensors", held[0], "KITTI elsewhere")
    command = [
        "train",
        CONFIG,
        "--work-dir",
        str(tmp_path / "run"),
        "--data-root",
        str(prepared_log / "prepared"),
    ]
    options = [
        "--cfg-options",
        f"model.pretrained={weights}",
        "train_cfg.max_iters=1",
        "model.encoder.backbone.width=0.25",
    ]
    assert main([*command, *options]) == 2
    assert (
        f"street.safetensors: was trained on drives that are evaluated here ({held[0]})"
        in capsys.readouterr().err
    )
    assert not list((tmp_path / "run").glob("*.pth"))
    assert main([*command, "--allow-leakage", *options]) == 0
    said = json.loads((tmp_path / "run/result.json").read_text())
    assert said["leakage"] == {"allowed": True, "recordings": [held[0]]}
    test = ["test", CONFIG, str(tmp_path / "run/iter_1.pth"), "--data-root", str(prepared_log / "prepared")]
    width = ["--cfg-options", "model.encoder.backbone.width=0.25"]
    capsys.readouterr()
    assert main([*test, *width]) == 2, "the checkpoint remembers where its weights began"
    assert "was trained on drives that are evaluated here" in capsys.readouterr().err
    assert main([*test, "--allow-leakage", *width]) == 0
    assert json.loads((tmp_path / "run/test_result.json").read_text())["leakage"]["recordings"] == [held[0]]
