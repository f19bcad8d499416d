"""`superflow test --predictions`: files for the log that is judged, and for a log of one's own without labels."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest

from superflow.datasets.formats.readers import read_points
from superflow.datasets.index import LogIndex
from superflow.datasets.prepare import prepare
from superflow.tools.main import main

CONFIG = "downstream/supervised_small.py"


@pytest.fixture(scope="module")
def test_command(prepared_log, tmp_path_factory) -> list[str]:
    """Words of the command that tests a trained run."""
    work = tmp_path_factory.mktemp("run")
    where = ["--data-root", str(prepared_log / "prepared")]
    options = ["--cfg-options", "model.encoder.backbone.width=0.25"]
    assert main(["train", CONFIG, "--work-dir", str(work), *where, *options, "train_cfg.max_iters=1"]) == 0
    return ["test", CONFIG, str(work), *where, *options]


def test_every_row_of_every_scan_has_a_number_of_the_log(test_command, prepared_log, tmp_path, capsys):
    index = LogIndex.open(prepared_log / "prepared")
    row = int(index.rows("val")[0])
    frames = ["--prediction-frames", f"{index.scene(row)}[0:1]"]
    assert main([*test_command, "--predictions", str(tmp_path / "made"), *frames, "--zip"]) == 0
    packed = tmp_path / "made.zip"
    assert f"{tmp_path / 'made'}: predictions of 1 scans, packed as {packed}" in capsys.readouterr().out
    assert [name.rpartition(".")[2] for name in ZipFile(packed).namelist()] == ["label"]
    said = json.loads((tmp_path / "made/predictions.json").read_text())
    files = [path for path in (tmp_path / "made").rglob("*") if path.suffix == ".label"]
    assert len(files) == said["scans"] == 1
    raw = np.fromfile(files[0], np.uint8)
    assert len(raw) == index.file_points(row).rows
    classes = {number: index.card.classes.index(name) for name, number in said["numbers"].items()}
    for number in np.unique(raw).tolist():
        is_the_logs = number in index.card.categories  # of 16 classes, its own table names three
        assert index.card.label_map[number] == (classes.get(number, 255) if is_the_logs else 255)
        assert number in {*said["numbers"].values(), said["none"]}


KILLED = """
import os, signal, sys
from superflow.downstream.done_scans import DoneScans
from superflow.tools.main import main
add = DoneScans.add
def kill(self, token, *rest):
    if len(self._entries) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    add(self, token, *rest)
DoneScans.add = kill
main(sys.argv[1:])
"""


def test_predictions_that_were_killed_end_like_those_that_were_not(test_command, tmp_path, capsys):
    def made(name: str) -> dict[str, bytes]:
        files = (tmp_path / name).rglob("*")
        return {str(path.relative_to(tmp_path / name)): path.read_bytes() for path in files if path.is_file()}

    command = [*test_command, "--predictions", str(tmp_path / "killed")]
    ended = subprocess.run([sys.executable, "-c", KILLED, *command], capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    left = made("killed")
    assert len([name for name in left if name.endswith(".label")]) == 4, "one whose line is not written"
    assert "predictions.json" not in left
    assert main(command) == 0
    assert main([*test_command, "--predictions", str(tmp_path / "whole")]) == 0
    assert made("killed") == made("whole")
    capsys.readouterr()
    assert main([*command, "--test-time-augmentation", "1"]) == 2
    out, err = capsys.readouterr()
    assert "killed: holds predictions made with other test_time_augmentation (null instead of 1); ch" in err
    assert "miou" not in out, "before the work"


def test_a_log_of_ones_own_without_labels_comes_back_as_pcd(test_command, shared_data: Path, tmp_path):
    name = "vlp16_1673400472138016708.pcd"
    (tmp_path / "log").mkdir()
    shutil.copyfile(shared_data / "fragments/vehicle_drivers" / name, tmp_path / "log" / name)
    (tmp_path / "log/folder.yaml").write_text(
        'points: {files: "*.pcd", columns: [x, y, z, intensity]}\nintensity: {raw_max: 255}\n'
    )
    prepare("folder", tmp_path / "log", tmp_path / "index")
    own = ["--predictions", str(tmp_path / "made"), "--prediction-index", str(tmp_path / "index")]
    assert main([*test_command, *own]) == 0
    said = json.loads((tmp_path / "made/predictions.json").read_text())
    names = ("x", "y", "z", "azimuth", "time_stamp")
    before = read_points(tmp_path / "log" / name, names, format="pcd").columns
    after = read_points(tmp_path / "made" / name, (*names, "class"), format="pcd").columns
    for column in names:
        np.testing.assert_array_equal(after[column], before[column])
    assert set(np.unique(after["class"]).tolist()) <= {said["none"], *said["numbers"].values()}
    assert len(set(np.unique(after["class"]).tolist()) - {said["none"]}) >= 1


@pytest.mark.parametrize("option", ["--prediction-index", "--prediction-frames"])
def test_what_to_predict_without_where_to_write_is_refused(option, capsys):
    assert main(["test", CONFIG, "nowhere.pth", option, "val"]) == 2
    assert "give the folder, --predictions, too" in capsys.readouterr().err


def test_the_frames_that_a_result_rests_on_stand_beside_it(test_command, prepared_log):
    work = Path(test_command[2])
    trained = json.loads((work / "result.json").read_text())["data"]["train"]
    lines = (work / "train_frames.txt").read_text().splitlines()
    assert lines[0].endswith(f"tokens_hash {trained['tokens_hash']}")
    index = LogIndex.open(prepared_log / "prepared")
    labelled = [row for row in index.rows("train") if index.has_labels(row)]
    assert lines[1:] == index.tokens(labelled)
    assert hashlib.sha256("\n".join(sorted(lines[1:])).encode()).hexdigest() == trained["tokens_hash"]


def test_test_time_augmentation_stands_in_every_result(test_command, prepared_log, tmp_path, capsys):
    index = LogIndex.open(prepared_log / "prepared")
    frames = ["--prediction-frames", f"{index.scene(int(index.rows('val')[0]))}[0:1]"]
    work = ["--work-dir", str(tmp_path / "work"), "--predictions", str(tmp_path / "made"), *frames]
    assert main([*test_command, *work, "--test-time-augmentation", "2"]) == 0
    result = json.loads((tmp_path / "work/test_result.json").read_text())
    assert result["superflow"]["test_time_augmentation"] == 2
    assert json.loads((tmp_path / "made/predictions.json").read_text())["test_time_augmentation"] == 2
    with pytest.raises(SystemExit):
        main([*test_command, "--test-time-augmentation", "0"])
    assert "--test-time-augmentation: is '0'; give a whole number from 1 on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--server-fields", "account_name=me"],
            "--server-fields is for an evaluation server; give --server with",
        ),
        (["--server", "--server-fields", "me"], "--server-fields me: give KEY=VALUE"),
        (["--server", "--server-fields", "=me"], "--server-fields =me: give KEY=VALUE"),
    ],
)
def test_fields_of_no_server_or_no_form_are_refused(words, said, tmp_path, capsys):
    assert main(["test", CONFIG, "nowhere.pth", "--predictions", str(tmp_path / "made"), *words]) == 2
    assert said in capsys.readouterr().err


def test_what_no_server_takes_is_refused_before_the_work(test_command, tmp_path, capsys):
    assert main([*test_command, "--predictions", str(tmp_path / "made"), "--server"]) == 2
    out, err = capsys.readouterr()
    assert "the 8 scans are not all of one of the splits test, val, train" in err
    assert "miou" not in out
