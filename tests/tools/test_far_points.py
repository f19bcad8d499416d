"""One point a million metres away: every command that makes voxels names the scan that it is in."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from superflow.benchmark.one_log.arms import run_arm
from superflow.benchmark.one_log.plan import Arm, Plan
from superflow.errors import InputError
from superflow.tools.main import main

TRAINED, EVALUATED, OTHER = "scene-0001[0:1]", "scene-0003[0:1]", "scene-0003[1:2]"
AWAY = {"sideways": (1e6, 0, 0), "up": (0, 0, 1e6)}
NO_LIMITS = "train_dataloader.dataset.limits=None"


def put_point(log: Path, scan: str, place: tuple[float, float, float]) -> str:
    """Move a point of the scan ``scene-N-LIDAR_TOP-I``; returns the file."""
    scene, _, number = scan.rpartition("-LIDAR_TOP-")
    files = sorted(log.rglob(f"{scene}__*.pcd.bin"), key=lambda path: path.name)
    points = np.fromfile(files[int(number)], dtype="<f4").reshape(-1, 5)
    points[7, :3] = place
    points.tofile(files[int(number)])
    return str(files[int(number)])


def pretrain(place: Path, config: str, *options: str) -> list[str]:
    cache = f"{place}/prepared/features/filter_bank"
    given = [f"model.features={cache}", f"train_dataloader.dataset.views.features={cache}"]
    given += ["model.student.backbone.width=0.5", "train_dataloader.batch_size=1", "train_cfg.max_iters=2"]
    given += ["train_dataloader.dataset.views.size=(36,64)", f"train_dataloader.dataset.frames={TRAINED}"]
    run = ["--data-root", str(place / "prepared"), "--work-dir", str(place / "work"), "--cfg-options"]
    return ["train", f"pretrain/{config}.py", *run, *given, *options]


def finetune(place: Path, *options: str, command: str = "train", more: tuple[str, ...] = ()) -> list[str]:
    given = ["downstream/finetune_small.py", *([str(place / "work")] if command == "test" else []), *more]
    run = ["--data-root", str(place / "prepared"), "--cfg-options", "model.encoder.backbone.width=0.5"]
    run += ["train_dataloader.batch_size=1", "train_cfg.max_iters=2", *options]
    if command == "train":
        given += ["--work-dir", str(place / "work")]
    frames = {"train": TRAINED, "val": EVALUATED, "test": EVALUATED}
    run += [f"{stage}_dataloader.dataset.frames={terms}" for stage, terms in frames.items()]
    return [command, *given, *run]


def assert_named(command: list[str], scan: str, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    # augmentation has moved it a little
    where = rf"{re.escape(file)}: scan {scan} has a point about (1(\.\d+)?e\+06|9\.\d+e\+05) m away"
    what = r"which no voxel can hold; remove .* --check .* limits"
    assert re.match(f"superflow {command[0]}: {where}, {what}", said.splitlines()[-1]), said


@pytest.mark.parametrize("away", AWAY)
@pytest.mark.parametrize("config", ["slidr_small", "superflowpp_small"])
@pytest.mark.parametrize("scan", ["scene-0001-LIDAR_TOP-0", "scene-0001-LIDAR_TOP-1"], ids=["key", "sweep"])
def test_pretraining_names_the_scan(log_copy, capsys, scan, config, away):
    file = put_point(log_copy / "log", scan, AWAY[away])
    around = ["train_dataloader.dataset.clouds.sweeps=0", "train_dataloader.dataset.clouds.sweeps_after=1"]
    assert_named(pretrain(log_copy, config, NO_LIMITS, *around), scan, file, capsys)


@pytest.mark.parametrize("workers", [0, 1])
def test_so_do_workers_whose_regions_are_cells_of_the_world(log_copy, capsys, workers):
    scan = "scene-0001-LIDAR_TOP-0"
    file = put_point(log_copy / "log", scan, (0, 1e6, 0.2e6))  # ahead, where the camera sees it: file axes
    options = [NO_LIMITS, f"train_dataloader.num_workers={workers}"]
    assert_named(pretrain(log_copy, "superflowpp_small", *options), scan, file, capsys)


def test_limits_leave_it_out(log_copy):
    put_point(log_copy / "log", "scene-0001-LIDAR_TOP-0", AWAY["up"])
    assert main(pretrain(log_copy, "slidr_small")) == 0


@pytest.mark.parametrize("away", AWAY)
def test_training_on_labels_and_its_validation_name_the_scan(log_copy, capsys, away):
    scans = {"training": "scene-0001-LIDAR_TOP-0", "validation": "scene-0003-LIDAR_TOP-0"}
    judged = put_point(log_copy / "log", scans["validation"], AWAY[away])
    assert_named(finetune(log_copy), scans["validation"], judged, capsys)
    learned = put_point(log_copy / "log", scans["training"], AWAY[away])
    assert_named(finetune(log_copy, NO_LIMITS), scans["training"], learned, capsys)


@pytest.mark.parametrize("away", AWAY)
@pytest.mark.parametrize("vote", [False, True])
def test_a_test_names_the_scan(log_copy, capsys, vote, away):
    assert main(finetune(log_copy)) == 0
    # of a voting neighbour, which is not evaluated itself, or of the evaluated scan
    scan = f"scene-0003-LIDAR_TOP-{10 if vote else 0}"
    file = put_point(log_copy / "log", scan, AWAY[away])
    command = finetune(log_copy, command="test", more=("--vote",) if vote else ())
    assert_named(command, scan, file, capsys)
    # with limits, the model is not given it
    limits = ["model.limits.range_m=(0,100)", "model.limits.height_m=(-30,30)"]
    assert main(finetune(log_copy, *limits, command="test")) == 0


@pytest.mark.parametrize("away", AWAY)
def test_recalibration_and_pictures_name_the_scan(log_copy, capsys, away):
    assert main(pretrain(log_copy, "slidr_small", NO_LIMITS)) == 0
    scan = "scene-0001-LIDAR_TOP-0"
    file = put_point(log_copy / "log", scan, AWAY[away])
    index, out = str(log_copy / "prepared"), str(log_copy / "b.safetensors")
    export = ["export", str(log_copy / "work"), "--out", out, "--recalibrate", index, "--frames", TRAINED]
    assert_named(export, scan, file, capsys)
    assert main(export[:4]) == 0
    look = [
        "visualize",
        "--index",
        index,
        "--frame",
        scan,
        "--backbone",
        out,
        "--out",
        str(log_copy / "pictures"),
    ]
    assert_named([*look, "--what", "features"], scan, file, capsys)


@pytest.mark.parametrize("away", AWAY)
@pytest.mark.parametrize(
    "scan", ["scene-0001-LIDAR_TOP-0", "scene-0003-LIDAR_TOP-0"], ids=["fitted", "judged"]
)
@pytest.mark.parametrize(
    "arm", [Arm("random", "random", "pretrain/slidr_small.py"), Arm("raw", "raw")], ids=["random", "raw"]
)
def test_the_probes_of_a_benchmark_name_the_scan(log_copy, tmp_path, arm, scan, away):
    file = put_point(log_copy / "log", scan, AWAY[away])
    plan = Plan(
        arms=(), train=["scene-0001"], evaluate=["scene-0003"], new_places_m=0.5, teacher="filter_bank"
    )
    if arm.kind == "raw" and away == "sideways":
        return  # coordinates need no grid, and world cells reach that far sideways
    with pytest.raises(InputError, match=rf"^{re.escape(file)}: scan {scan} has a point about"):
        run_arm(plan, arm, 0, prepared=log_copy / "prepared", out=tmp_path)
