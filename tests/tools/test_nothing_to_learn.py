"""A log whose files are whole and of no use: every command says so before its work, and no backbone comes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from superflow.benchmark.one_log.arms import run_arm
from superflow.benchmark.one_log.plan import Arm, Plan, load_plan
from superflow.camera.superpixels.map_file import encode_map, read_note
from superflow.datasets.index import LogIndex
from superflow.errors import InputError
from superflow.quickstart.run import QuickstartOptions, run_quickstart
from superflow.tools.main import main

TRAIN, VAL = "scene-0001", "scene-0003"
PRETRAINING = ["slidr_small", "superflow_small", "superflowpp_small", "regression_small", "ppkt_small"]
DOWNSTREAM = ["finetune_small", "linear_probe_small", "supervised_small"]
OUTSIDE = 200  # an id of no class


# --- faults of a log


def unturned_cameras(log: Path) -> None:
    """All cameras look along z of the vehicle, into the sky."""
    table = log / "v1.0-mini" / "calibrated_sensor.json"
    rows = json.loads(table.read_text())
    for row in rows:
        row["rotation"] = [1.0, 0.0, 0.0, 0.0] if "CAM" in row["token"] else row["rotation"]
    table.write_text(json.dumps(rows))


def changed_points(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def fault(log: Path) -> None:
        for path in log.rglob("*.pcd.bin"):
            points = np.fromfile(path, dtype="<f4").reshape(-1, 5)
            points[:, :3] = change(points[:, :3])
            points.tofile(path)

    return fault


def no_points(log: Path) -> None:
    for path in log.rglob("*.bin"):
        path.write_bytes(b"")


FAULTS = {
    "unturned cameras": unturned_cameras,
    "millimetres": changed_points(lambda xyz: 1000 * xyz),
    "UTM": changed_points(lambda xyz: xyz + np.array([4.0e5, 5.4e6, 300.0], dtype=np.float32)),
    "all at the sensor": changed_points(np.zeros_like),
    "no points": no_points,
}


def write_labels(log: Path, scene: str, value: int) -> None:
    for path in log.rglob(f"{scene}*_lidarseg.bin"):
        np.full(path.stat().st_size, value, dtype=np.uint8).tofile(path)


# --- commands


def index_again(place: Path) -> None:
    root = ["--root", str(place / "log"), "--out", str(place / "prepared")]
    assert main(["prepare", "nuscenes", *root]) == 0


def pretrain(place: Path, config: str, *options: str) -> int:
    cache = f"{place}/prepared/features/filter_bank"
    options = (
        f"model.features={cache}",
        f"train_dataloader.dataset.views.features={cache}",
        "model.student.backbone.width=0.5",
        "train_dataloader.batch_size=1",
        "train_dataloader.dataset.views.size=(36,64)",
        "train_cfg.max_iters=3",
        *options,
    )
    if "superflow_" in config:
        images = ["--index", str(place / "prepared"), "--workers", "1", "--option", f"features={cache}"]
        made = ["--provider", "clusters", "--option", "clusters=3"]
        assert main(["prepare", "superpixels", *images, *made]) == 0
    run = ["--data-root", str(place / "prepared"), "--work-dir", str(place / "work"), "--cfg-options"]
    return main(["train", f"pretrain/{config}.py", *run, *options])


def finetune(place: Path, command: str, config: str, *options: str) -> int:
    given = [f"downstream/{config}.py", *([str(place / "work")] if command == "test" else [])]
    run = ["--data-root", str(place / "prepared"), "--work-dir", str(place / "work"), "--cfg-options"]
    small = ["model.encoder.backbone.width=0.5", "train_cfg.max_iters=2", "train_dataloader.batch_size=1"]
    return main([command, *given, *run, *small, *options])


def nothing_to_export(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert list((place / "work").rglob("*.pth")) == []
    assert main(["export", str(place / "work"), "--out", str(place / "b.safetensors")]) == 2
    said = capsys.readouterr().err
    # what is refused before it begins leaves no folder
    assert ("holds no checkpoint" if (place / "work").is_dir() else "there is no such file") in said
    assert not (place / "b.safetensors").exists()


@pytest.mark.parametrize(
    ("fault", "config"),
    [(fault, "superflowpp_small") for fault in FAULTS]
    + [("all at the sensor", name) for name in PRETRAINING],
)
def test_pretraining_without_pairs_ends_and_exports_nothing(log_copy, capsys, fault, config):
    FAULTS[fault](log_copy / "log")
    index_again(log_copy)
    # of the landmarks, which fill the air too, none is above the vehicle in this frame
    options = [f"train_dataloader.dataset.frames={TRAIN}[3:4]"] if fault == "unturned cameras" else []
    assert pretrain(log_copy, config, *options) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(
        "superflow train: nothing to learn from: the first 3 batches have pairs 0: no LiDAR point"
    )
    assert "calibration, poses and units" in said
    assert "`superflow prepare DATASET --check`" in said
    nothing_to_export(log_copy, capsys)


def test_pretraining_without_regions_ends_and_exports_nothing(log_copy, capsys):
    for path in (log_copy / "prepared" / "superpixels" / "slic").glob("*.png"):
        note = read_note(path)
        assert note is not None
        path.write_bytes(encode_map(np.full(note.size, 65535, dtype=np.uint16), note))
    assert pretrain(log_copy, "slidr_small") == 2
    assert "have loss 0: no pair lies in a region that the objectives can compare" in capsys.readouterr().err
    nothing_to_export(log_copy, capsys)


@pytest.mark.parametrize(
    ("frames", "silent"),
    [(f"{TRAIN}[0:1]", "temporal, cross_temporal"), (TRAIN, "")],
)
def test_objectives_that_no_clip_serves_are_named(log_copy, capsys, frames, silent):
    assert pretrain(log_copy, "superflowpp_small", f"train_dataloader.dataset.frames={frames}") == 0
    said = [line for line in capsys.readouterr().out.splitlines() if "of the objectives" in line]
    assert len(said) == bool(silent)
    assert all(f"of the objectives, {silent} was 0 in each of the first 3 batches" in line for line in said)


@pytest.mark.parametrize(
    ("config", "options", "spared"),
    [("superflowpp_small", [], False), ("after_hilda_small", ["model.objectives.0.stages=1"], True)],
)
def test_the_null_experiment_still_runs_and_says_what_it_spares(log_copy, capsys, config, options, spared):
    assert pretrain(log_copy, config, "train_dataloader.dataset.shuffle_pairs=True", *options) == 0
    said = "shuffle_pairs changes nothing for global_regression: what reads no pairs goes on to learn"
    assert (said in capsys.readouterr().out) is spared


@pytest.mark.parametrize("config", DOWNSTREAM)
@pytest.mark.parametrize("value", [0, OUTSIDE])
@pytest.mark.parametrize(
    ("scene", "purpose"), [(TRAIN, "training"), (VAL, "validation")], ids=["training", "validation"]
)
def test_labels_of_no_class_are_said_before_the_first_step(log_copy, capsys, scene, purpose, value, config):
    write_labels(log_copy / "log", scene, value)
    assert finetune(log_copy, "train", config) == 2
    said = capsys.readouterr()
    assert (
        f"none of the 4 {purpose} frames has a point of a class (barrier, bicycle, bus, ..., vegetation)"
        in said.err
    )
    assert "Iter(train)" not in said.out
    nothing_to_export(log_copy, capsys)


def test_labels_that_training_never_sees_end_it(log_copy, capsys):
    """They are in the files, and all of them outside of the limits."""
    assert (
        finetune(log_copy, "train", "finetune_small", "train_dataloader.dataset.limits.range_m=(500,600)")
        == 2
    )
    said = capsys.readouterr().err
    assert "the first 2 batches have labelled_points 0: no point has a label of a class" in said
    assert "limits of the training set" in said
    nothing_to_export(log_copy, capsys)


@pytest.mark.parametrize("further", [[], ["--vote"]], ids=["plain", "vote"])
def test_a_test_without_labels_of_a_class_is_refused(log_copy, capsys, further):
    assert finetune(log_copy, "train", "finetune_small") == 0
    write_labels(log_copy / "log", VAL, 0)
    capsys.readouterr()
    assert (
        main(["test", "downstream/finetune_small.py", str(log_copy / "work"), *further, *TEST(log_copy)]) == 2
    )
    assert "none of the 4 test frames has a point of a class" in capsys.readouterr().err
    assert not (log_copy / "tested" / "test_result.json").exists()


def TEST(place: Path) -> list[str]:
    run = ["--data-root", str(place / "prepared"), "--work-dir", str(place / "tested"), "--cfg-options"]
    return [
        *run,
        "model.encoder.backbone.width=0.5",
        "train_cfg.max_iters=2",
        "train_dataloader.batch_size=1",
    ]


@pytest.mark.parametrize(
    ("scene", "purpose", "frames"),
    [(TRAIN, "training", 3), (VAL, "evaluation", 4)],
    ids=["training", "evaluation"],
)
def test_benchmark_and_quickstart_refuse_it_before_the_work(log_copy, tmp_path, scene, purpose, frames):
    write_labels(log_copy / "log", scene, 0)
    message = rf"none of the {frames} {purpose} frames has a point of a class"
    plan = Plan(arms=(), train=[TRAIN], evaluate=[VAL])
    for arm in (Arm("raw", "raw"), Arm("pretrained", "pretrained", "pretrain/regression_small.py")):
        with pytest.raises(InputError, match=message):
            run_arm(plan, arm, 0, prepared=log_copy / "prepared", out=tmp_path / "out")
    assert list((tmp_path / "out").rglob("*.pth")) == []
    with pytest.raises(InputError, match=message):
        run_quickstart(QuickstartOptions(out=tmp_path / "quick", data=log_copy / "log"))
    assert sorted(path.name for path in (tmp_path / "quick").iterdir()) == ["prepared", "seconds.json"]
    assert not (tmp_path / "quick" / "prepared" / "superpixels").exists()


def test_held_out_frames_of_a_plan_are_looked_at_too(log_copy, tmp_path):
    index = LogIndex.open(log_copy / "prepared")
    rows = index.rows(f"{TRAIN}[2:4]")
    for row in rows:
        path = index.label_path(int(row))
        np.zeros(path.stat().st_size, dtype=np.uint8).tofile(path)
    plan = replace(load_plan("quickstart"), train=[TRAIN], evaluate=[VAL], held_out=[f"{TRAIN}[2:4]"])
    with pytest.raises(InputError, match="none of the 2 held-out frames has a point of a class"):
        run_arm(plan, Arm("raw", "raw"), 0, prepared=log_copy / "prepared", out=tmp_path)
