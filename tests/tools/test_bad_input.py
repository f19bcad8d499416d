"""What a user reads when the input is bad: one sentence that names the file or key, and nothing half-written.

Each case makes one fault in a small log (or beside it), runs the command as a user would, and looks at what was said
and at what lies on the disk afterwards.
"""

from __future__ import annotations

import json
import re
import resource
import shutil
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from superflow.tools.main import main

# the first key frame of a scene, which is trained on, and its scan and one of its images
FRAME, SCAN, CAMERA = "scene-0001[0:1]", "scene-0001-LIDAR_TOP-0", "scene-0001-CAM_FRONT-0"


@dataclass(frozen=True)
class Place:
    """A log, its preparation and an empty folder for results, all of one case."""

    root: Path

    @property
    def log(self) -> Path:
        return self.root / "log"

    @property
    def prepared(self) -> Path:
        return self.root / "prepared"

    @property
    def work(self) -> Path:
        return self.root / "work"

    def file(self, token: str) -> Path:
        """The file of a scan or an image."""
        rows = json.loads((self.log / "v1.0-mini" / "sample_data.json").read_text())
        return self.log / next(row["filename"] for row in rows if row["token"] == token)

    def change(self, table: str, token: str, **values: object) -> None:
        """Change a row of a table of the log."""
        path = self.log / "v1.0-mini" / f"{table}.json"
        rows = json.loads(path.read_text())
        next(row for row in rows if row["token"] == token).update(values)
        path.write_text(json.dumps(rows))

    def files(self) -> dict[str, tuple[int, bytes]]:
        """Every file with its size and first bytes."""
        found = sorted(path for path in self.root.rglob("*") if path.is_file())
        return {
            path.relative_to(self.root).as_posix(): (path.stat().st_size, path.read_bytes()[:4096])
            for path in found
        }


@pytest.fixture
def place(prepared_log, tmp_path) -> Place:
    """A copy of the prepared log that a case may break."""
    shutil.copytree(prepared_log, tmp_path / "case")
    place = Place(tmp_path / "case")
    header = json.loads((place.prepared / "index.json").read_text())
    header["root"] = str(place.log)
    (place.prepared / "index.json").write_text(json.dumps(header))
    return place


# --- commands


def prepare(place: Place, *options: str) -> list[str]:
    return ["prepare", "nuscenes", "--root", str(place.log), "--out", str(place.root / "new"), *options]


def check(place: Place) -> list[str]:
    return prepare(place, "--check", "--workers", "1")


def superpixels(place: Place) -> list[str]:
    target = str(place.root / "new")
    return ["prepare", "superpixels", "--index", str(place.prepared), "--out", target, "--workers", "1"]


def features(place: Place) -> list[str]:
    size = ["--size", "32", "64", "--components", "8", "--out", str(place.root / "new")]
    return ["prepare", "features", "--index", str(place.prepared), "--teacher", "filter_bank", *size]


def train(place: Place, config: str = "pretrain/slidr_small.py", *options: str) -> list[str]:
    run = ["--data-root", str(place.prepared), "--work-dir", str(place.work), "--cfg-options", *options]
    run += ["train_cfg.max_iters=2", "train_dataloader.batch_size=1"]
    if config.startswith("pretrain"):
        cache = f"{place.prepared}/features/filter_bank"
        run += [f"train_dataloader.dataset.views.features={cache}"]
        run += [f"train_dataloader.dataset.frames={FRAME}", "model.student.backbone.width=0.5"]
        run += ["train_dataloader.dataset.views.size=(36,64)"]
    else:
        run += [
            f"train_dataloader.dataset.frames={FRAME}",
            "val_dataloader=None",
            "test_dataloader=None",
        ]
    return ["train", config, *run]


def train_labels(place: Place, *options: str) -> list[str]:
    return train(place, "downstream/finetune_small.py", *options)


# --- faults


def cut_scan(place: Place) -> None:
    path = place.file(SCAN)
    path.write_bytes(path.read_bytes()[:-7])


def nan_in_scan(place: Place) -> None:
    path = place.file(SCAN)
    points = np.fromfile(path, dtype="<f4")
    points[8] = np.nan
    points.tofile(path)


def empty_all_scans(place: Place) -> None:
    for path in (place.log / "samples" / "LIDAR_TOP").iterdir():
        path.write_bytes(b"")
    for path in (place.log / "lidarseg").rglob("*.bin"):
        path.write_bytes(b"")


def empty_scan(place: Place) -> None:
    place.file(SCAN).write_bytes(b"")
    (place.log / "lidarseg" / "v1.0-mini" / f"{SCAN}_lidarseg.bin").write_bytes(b"")


def labels_too_short(place: Place) -> None:
    path = place.log / "lidarseg" / "v1.0-mini" / f"{SCAN}_lidarseg.bin"
    path.write_bytes(path.read_bytes()[:-1])


def no_image(place: Place) -> None:
    place.file(CAMERA).unlink()


def cut_image(place: Place) -> None:
    path = place.file(CAMERA)
    path.write_bytes(path.read_bytes()[:-40])


def smaller_image(place: Place) -> None:
    cv2.imwrite(str(place.file(CAMERA)), np.zeros((18, 32, 3), dtype=np.uint8))


def no_table(place: Place) -> None:
    (place.log / "v1.0-mini" / "ego_pose.json").unlink()


def cut_table(place: Place) -> None:
    path = place.log / "v1.0-mini" / "sample.json"
    path.write_text(path.read_text()[:-20])


def broken_chain(place: Place) -> None:
    place.change("sample_data", "scene-0001-LIDAR_TOP-5", next="nowhere")


def smaller_superpixels(place: Place) -> None:
    cv2.imwrite(
        str(place.prepared / "superpixels" / "slic" / f"{CAMERA}.png"), np.zeros((18, 32), dtype=np.uint16)
    )


def no_camera_at_all(place: Place) -> None:
    path = place.log / "v1.0-mini" / "sample_data.json"
    rows = [row for row in json.loads(path.read_text()) if "-CAM_" not in row["token"]]
    path.write_text(json.dumps(rows))
    assert main(["prepare", "nuscenes", "--root", str(place.log), "--out", str(place.prepared)]) == 0


def other_student(place: Place) -> None:
    from superflow.hub.backbone import BackboneCard, save_backbone
    from superflow.lidar.encoder import LidarEncoder

    encoder = LidarEncoder(grid={"type": "cubic", "size_m": 0.5}, backbone={"depth": 18, "width": 0.25})
    save_backbone(encoder, place.root / "other.safetensors", BackboneCard("other"))


def trained_run(place: Place) -> None:
    assert main([*train_labels(place), "model.encoder.backbone.width=0.5"]) == 0


def evaluate_wider(place: Place) -> list[str]:
    evaluate = ["test_dataloader.dataset.frames=scene-0001", "model.encoder.backbone.width=1.0"]
    run = ["--data-root", str(place.prepared), "--work-dir", str(place.root / "tested"), "--cfg-options"]
    return ["test", "downstream/finetune_small.py", str(place.work), *run, *evaluate]


def no_checkpoint(place: Place) -> None:
    (place.root / "broken.pth").write_bytes(b"PK\x03\x04 cut off")


def misspelt_config(place: Place) -> None:
    (place.root / "mine.py").write_text("data_root = 'x'\ntrain_dataloder = dict(batch_size=2)\n")


def nothing(place: Place) -> None:
    pass


@dataclass(frozen=True)
class Case:
    """A fault, the command that meets it, and what must be said; ``kept`` matches files that may be new."""

    fault: Callable[[Place], None]
    command: Callable[[Place], list[str]]
    message: str
    code: int = 2
    kept: str | None = None
    said_on: str = "err"
    limits: dict[str, int] = field(default_factory=dict)


# what a run that did not start leaves: its log and the config as it was understood
LOGS = r"work/(config\.py|\d+_\d+/.*|.*\.log|vis_data/.*|events\..*|.*/events\..*)"
# complete, and says the faults
REPORT = r"new/(index\.json|frames\.arrow|cameras\.arrow|boxes\.arrow|lidars\.arrow|check/.*)"

CASES = {
    "truncated scan, training": Case(
        cut_scan,
        train,
        r"LIDAR_TOP/scene-0001__\d+\.pcd\.bin: 993 bytes are not whole points .*copy it again",
        kept=LOGS,
    ),
    "truncated scan, check": Case(
        cut_scan, check, r"scene-0001__\d+\.pcd\.bin", code=1, kept=REPORT, said_on="out"
    ),
    "labels unlike points": Case(
        labels_too_short,
        train_labels,
        rf"{SCAN}_lidarseg\.bin: 49 labels for a scan of 50 points; .* copy both again",
        kept=LOGS,
    ),
    "labels unlike points, check": Case(
        labels_too_short, check, rf"{SCAN}_lidarseg\.bin", code=1, kept=REPORT, said_on="out"
    ),
    "missing image, superpixels": Case(
        no_image,
        superpixels,
        r"CAM_FRONT/scene-0001__\d+\.jpg: this file is named in the log.s tables but is not there",
        kept=r"new/.*\.(png|json)",
    ),
    "missing image, features": Case(
        no_image,
        features,
        r"CAM_FRONT/scene-0001__\d+\.jpg: this file is named in the log.s tables but is not there",
        kept=r"new/(features\.(json|f16)|done\.bin|tokens\.txt|reduction\.safetensors)",
    ),
    "missing image, check": Case(
        no_image, check, r"CAM_FRONT/scene-0001__\d+\.jpg", code=1, kept=REPORT, said_on="out"
    ),
    "image cut off": Case(
        cut_image,
        superpixels,
        r"CAM_FRONT/scene-0001__\d+\.jpg: the JPEG is cut off .* copy it again",
        kept=r"new/.*\.(png|json)",
    ),
    "missing table": Case(no_table, prepare, r"ego_pose\.json: .*"),
    "table cut off": Case(cut_table, prepare, r"sample\.json: .*"),
    "broken chain": Case(
        broken_chain, prepare, r"sample_data\.json: broken chain in scene-0001: .*'nowhere'.*"
    ),
    "NaN": Case(
        nan_in_scan,
        train,
        r"LIDAR_TOP/scene-0001__\d+\.pcd\.bin: 1 of 50 points hold NaN or infinity; remove these rows",
        kept=LOGS,
    ),
    "no points at all": Case(
        empty_all_scans, check, r"pcd\.bin.*(no point|empty|0 points)", code=1, kept=REPORT, said_on="out"
    ),
    "image of another size than its intrinsics": Case(
        smaller_image,
        superpixels,
        r"scene-0001__\d+\.jpg: the image is 32 x 18 .* 64 x 36; .*--rescale-intrinsics",
        kept=r"new/.*\.(png|json)",
    ),
    "superpixel map of another size": Case(
        smaller_superpixels, train, rf"{CAMERA}\.png: .*18.*32.*36.*64", kept=LOGS
    ),
    "frames without images": Case(
        no_camera_at_all,
        train,
        r"none of the \d+ chosen frames has a camera image.*; take a log with cameras, or set images=False",
        kept=LOGS,
    ),
    "pretrained weights of another architecture": Case(
        other_student,
        lambda place: train_labels(place, f"model.pretrained={place.root}/other.safetensors"),
        r"other\.safetensors: does not fit this model: .*; use the config",
        kept=LOGS,
    ),
    "checkpoint of another architecture": Case(
        trained_run,
        evaluate_wider,
        r"iter_2\.pth: does not fit this model: .* use the config that it was trained with",
        kept=r"tested/.*",
    ),
    "checkpoint cut off": Case(
        no_checkpoint,
        lambda place: ["export", str(place.root / "broken.pth"), "--out", str(place.root / "b.safetensors")],
        r"broken\.pth: .*",
    ),
    "features without images": Case(
        no_camera_at_all,
        features,
        r"there is no image to make features of: the chosen frames have no cameras",
    ),
    "projection fitted on frames without features": Case(
        nothing,
        lambda place: [*features(place), "--frames", "scene-0001", "--fit-frames", "scene-0003[:2]"],
        r"--fit-frames: 2 of 2 frames are not among --frames \(first: scene-0003-LIDAR_TOP-0 of scene-0003\)",
    ),
    "features on a device that there is not": Case(
        nothing,
        lambda place: [*features(place), "--device", "gpu"],
        r"device 'gpu' cannot be used \(.*\); there (is|are) cpu",
    ),
    "superpixels of no segment": Case(
        nothing,
        lambda place: [*superpixels(place), "--option", "segments=0"],
        r"superpixel provider slic: segments: is 0; give a whole number from 1 to 20000",
    ),
    "superpixels of a compactness that is no number": Case(
        nothing,
        lambda place: [*superpixels(place), "--option", "compactness=nan"],
        r"superpixel provider slic: compactness: is 'nan'; give a whole number or a number",
    ),
    "more clusters than there is to cluster": Case(
        nothing,
        lambda place: [
            *(*superpixels(place), "--provider", "clusters", "--option", "teacher=filter_bank"),
            *("--option", "fit_images=1", "--option", "clusters=9000"),
        ],
        r"\d+ rows cannot make 9000 clusters; fit on more images or ask for fewer",
    ),
    "images that the teacher cannot take": Case(
        nothing,
        lambda place: [
            *(
                *train(place),
                "model.teacher.name=filter_bank",
                "train_dataloader.dataset.views.features=None",
            ),
            "train_dataloader.dataset.views.size=(36,62)",
        ],
        r"filter_bank: image sides must be multiples of 8, not 36 x 62; .*\(32, 64\).*train_dataloader\.dataset\.views",
        kept=LOGS,
    ),
    "option that is no YAML": Case(
        nothing,
        lambda place: [*superpixels(place), "--option", "segments=["],
        r"--option segments=\[: '\[' cannot be read as YAML",
    ),
    "unknown option": Case(
        nothing,
        lambda place: train(place, "pretrain/slidr_small.py", "train_cfg.max_iter=3"),
        r"train_cfg\.max_iter: .*'max_iters'",
    ),
    "unknown key in a config file": Case(
        misspelt_config,
        lambda place: ["train", str(place.root / "mine.py"), "--work-dir", str(place.work)],
        r"mine\.py:2: nothing reads 'train_dataloder'; .*'train_dataloader'",
    ),
    "no such config": Case(
        nothing, lambda place: ["train", "pretrain/slidr_smal.py"], r"slidr_smal\.py: .*slidr_small\.py"
    ),
    "disk full at a checkpoint": Case(
        nothing,
        train,
        r"iter_2\.pth: cannot be written .*free some space .*--resume",
        kept=LOGS,
        limits={"bytes": 60_000},
    ),
}


@contextmanager
def room_for(limit: int | None):
    """Files of this process may not grow beyond ``limit`` bytes: a full disk, as far as a writer can see."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit or before[0], before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_named_in_one_sentence_and_leaves_nothing_half_written(name, place, capsys):
    case = CASES[name]
    case.fault(place)
    command = case.command(place)
    before = place.files()
    capsys.readouterr()

    with room_for(case.limits.get("bytes")):
        code = main(command)

    said = getattr(capsys.readouterr(), case.said_on)
    assert code == case.code, said
    assert "Traceback" not in said
    sentences = [line for line in said.splitlines() if re.search(case.message, line)]
    flat = re.sub(r"\s+", " ", said)
    assert sentences or re.search(case.message, flat), f"{name}: nothing says {case.message}\n{said}"
    if case.said_on == "err":
        last = said.strip().splitlines()[-1]
        assert re.match(rf"superflow {command[0]}: ", last), "the last line is the sentence"
        assert last.count("\n") == 0

    after = place.files()
    changed = {path for path in after if after[path] != before.get(path)}
    allowed = re.compile(case.kept or r"(?!)")
    assert {path for path in changed if not allowed.fullmatch(path)} == set()
    assert set(before) <= set(after)
    assert [path for path in after if path.endswith((".part", ".tmp", ".pth")) and path not in before] == []


@pytest.mark.parametrize("command", [train, train_labels])
def test_a_scan_without_points_does_not_end_a_training(command, place, capsys):
    """It teaches nothing, and the log names its file, once. Another frame does teach."""
    empty_scan(place)
    both = f"['{FRAME}','scene-0001[1:2]']"
    further = [f"train_dataloader.dataset.frames={both}", "train_cfg.max_iters=4"]
    assert main([*command(place), *further]) == 0
    said = [
        line for line in capsys.readouterr().out.splitlines() if "holds no points; leave this frame" in line
    ]
    files = [line.split(": holds")[0] for line in said]
    assert files
    assert len(files) == len(set(files))
    assert all(file.endswith("pcd.bin") for file in files)
    weights = torch.load(place.work / "iter_4.pth", weights_only=True)["state_dict"]
    assert all(value.isfinite().all() for value in weights.values())


def test_the_commands_work_when_nothing_is_wrong(place, capsys):
    """Else the cases above might fail for another reason."""
    for command in (check(place), superpixels(place), train(place), train_labels(place)):
        shutil.rmtree(place.root / "new", ignore_errors=True)
        shutil.rmtree(place.work, ignore_errors=True)
        assert main(command) == 0, capsys.readouterr().err
    assert torch.load(place.work / "iter_2.pth", weights_only=True)["meta"]["iter"] == 2
    shutil.rmtree(place.root / "new", ignore_errors=True)
    assert main(features(place)) == 0
