"""Folders and rights: what the system refuses is one sentence that names the file, in every command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from superflow.tools.main import main

TINY = ["--scenes", "2", "--seconds", "1", "--image-size", "32", "48", "--lidar-hz", "2", "--workers", "1"]


def prepare(case: Path, out: Path) -> list[str]:
    return ["prepare", "nuscenes", "--root", str(case / "log"), "--out", str(out)]


def superpixels(case: Path, out: Path) -> list[str]:
    return ["prepare", "superpixels", "--index", str(case / "prepared"), "--out", str(out), "--workers", "0"]


def features(case: Path, out: Path) -> list[str]:
    made = ["--teacher", "filter_bank", "--size", "32", "64", "--components", "8"]
    return ["prepare", "features", "--index", str(case / "prepared"), "--out", str(out), *made]


def tokens(case: Path, out: Path) -> list[str]:
    return [
        "prepare",
        "tokens",
        "--index",
        str(case / "prepared"),
        "--out",
        str(out / "list.txt"),
        "--percent",
        "50",
    ]


def make_drive(case: Path, out: Path) -> list[str]:
    return ["make-drive", "--out", str(out), *TINY]


def train(case: Path, out: Path) -> list[str]:
    run = [
        "--data-root",
        str(case / "prepared"),
        "--work-dir",
        str(out),
        "--cfg-options",
        "train_cfg.max_iters=2",
    ]
    run += ["train_dataloader.dataset.frames=scene-0001", "val_dataloader=None", "test_dataloader=None"]
    return ["train", "downstream/finetune_small.py", *run]


def export(case: Path, out: Path) -> list[str]:
    return ["export", str(case / "backbone.safetensors"), "--out", str(out / "b.safetensors")]


def visualize(case: Path, out: Path) -> list[str]:
    return ["visualize", "--index", str(case / "prepared"), "--frame", "0", "--out", str(out)]


def benchmark(case: Path, out: Path) -> list[str]:
    return [
        "benchmark",
        "quickstart",
        "--data",
        str(case / "log"),
        "--out",
        str(out),
        "--teacher",
        "filter_bank",
    ]


def quickstart(case: Path, out: Path) -> list[str]:
    return ["quickstart", "--data", str(case / "log"), "--out", str(out), "--teacher", "filter_bank"]


def speed(case: Path, out: Path) -> list[str]:
    return [
        "benchmark-speed",
        "networks",
        "--voxels",
        "100",
        "--rounds",
        "1",
        "--json",
        str(out / "speed.json"),
    ]


COMMANDS = (
    prepare,
    superpixels,
    features,
    tokens,
    make_drive,
    train,
    export,
    visualize,
    benchmark,
    quickstart,
    speed,
)


@pytest.fixture(scope="module")
def shared_case(prepared_log, tmp_path_factory) -> Path:
    """The prepared log with an exported backbone; commands here end before they write into it."""
    from superflow.hub.backbone import BackboneCard, save_backbone
    from superflow.lidar.encoder import LidarEncoder

    case = tmp_path_factory.mktemp("rights") / "case"
    shutil.copytree(prepared_log, case)
    move_root(case)
    encoder = LidarEncoder(grid={"type": "cubic", "size_m": 0.5}, backbone={"depth": 18, "width": 0.25})
    save_backbone(encoder, case / "backbone.safetensors", BackboneCard("small"))
    return case


def move_root(case: Path) -> None:
    """Let the index name the copy of the log."""
    path = case / "prepared" / "index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "root": str(case / "log")}))


def said(command: list[str], capsys) -> str:
    """What the command says last; it must be its one sentence."""
    capsys.readouterr()
    code = main(command)
    err = capsys.readouterr().err
    assert code == 2, err
    assert "Traceback" not in err
    last = err.strip().splitlines()[-1]
    assert last.startswith(f"superflow {command[0]}: ")
    return last


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
@pytest.mark.parametrize(
    "place", ["a file", "below a file", "a folder without rights", "below one without rights"]
)
def test_a_place_that_cannot_be_written_is_named_before_the_work(
    command, place, shared_case, tmp_path, ordinary_rights, capsys
):
    blocked = tmp_path / "blocked"
    if place.endswith("file"):
        blocked.write_text("mine")
        message = f"{blocked} is a file, not a folder"
    else:
        blocked.mkdir(mode=0o500)
        message = "Permission denied"
    out = blocked / "results" if place.startswith("below") else blocked
    line = said(command(shared_case, out), capsys)
    assert message in line
    assert str(out) in line
    assert "cannot be written" in line or "cannot be made" in line
    assert line.count("; ") >= 1, "what to do is said"
    assert (blocked.read_text() == "mine") if place.endswith("file") else not list(blocked.iterdir())


INPUTS = {
    "a table": ("log/v1.0-mini/sample_data.json", prepare),
    "an optional table": ("log/v1.0-mini/category.json", prepare),
    "the folder of tables": ("log/v1.0-mini", prepare),
    "the root": ("log", prepare),
    "a folder of images": ("log/samples/CAM_FRONT", prepare),
    "the folder of all scans and images": ("log/samples", prepare),
    "index.json": ("prepared/index.json", superpixels),
    "a table of the index": ("prepared/frames.arrow", superpixels),
    "the prepared folder": ("prepared", visualize),
    "a folder of images, superpixels": ("log/samples/CAM_FRONT", superpixels),
    "a folder of images, features": ("log/samples/CAM_FRONT", features),
    "a folder of scans, pictures": ("log/samples/LIDAR_TOP", visualize),
    "a folder of scans, training": ("log/samples/LIDAR_TOP", train),
    "labels, training": ("log/lidarseg/v1.0-mini", train),
    "a backbone": ("backbone.safetensors", export),
}


@pytest.fixture
def own_case(shared_case, tmp_path) -> Path:
    shutil.copytree(shared_case, tmp_path / "case")
    move_root(tmp_path / "case")
    return tmp_path / "case"


@pytest.mark.parametrize("name", INPUTS)
def test_an_input_that_cannot_be_read_is_named(name, own_case, tmp_path, ordinary_rights, capsys):
    relative, command = INPUTS[name]
    blocked = own_case / relative
    rights = blocked.stat().st_mode
    blocked.chmod(0)
    try:
        line = said(command(own_case, tmp_path / "out"), capsys)
    finally:
        blocked.chmod(rights)
    assert str(blocked) in line
    assert "Permission denied" in line
    assert "; check" in line


@pytest.mark.parametrize("kind", ["without rights", "a link to itself", "a folder"])
def test_a_dataset_json_that_cannot_be_read_is_named(kind, own_case, tmp_path, ordinary_rights, capsys):
    path = own_case / "log" / "dataset.json"
    if kind == "a link to itself":
        path.symlink_to(path)
    elif kind == "a folder":
        path.mkdir()
    else:
        path.write_text("{}")
        path.chmod(0)
    line = said(prepare(own_case, tmp_path / "out"), capsys)
    assert f"{path}: cannot be read (" in line
    assert line.endswith("; check the disk and its rights")


def test_what_nobody_foresaw_is_a_sentence_when_it_is_about_a_file_and_a_traceback_else(capsys):
    from superflow.tools.command import run_command

    def stop(error: Exception):
        def work() -> int:
            raise error

        return work

    error = PermissionError(13, "Permission denied", "/etc/secret")
    assert run_command("superflow prepare", stop(error)) == 2
    assert capsys.readouterr().err == (
        "superflow prepare: /etc/secret: cannot be used (Permission denied); "
        "check that it exists, the rights to it and the disk\n"
    )
    with pytest.raises(OSError, match="no route"):
        run_command("superflow prepare", stop(OSError(113, "no route to host")))
