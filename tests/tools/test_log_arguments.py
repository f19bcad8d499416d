"""Every command that indexes a log takes the options that its errors recommend."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from superflow.datasets.index import LogIndex
from superflow.tools import benchmark, prepare, quickstart
from superflow.tools.log_arguments import log_options

READ = ["--version", "v1.0-mine", "--card", "pandaset", "--rescale-intrinsics", "--complete-scenes"]
READ += ["--key-frames-only", "--posed-only"]


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        (prepare, ["nuscenes", "--root", "log", "--out", "out"]),
        (quickstart, ["--data", "log"]),
        (benchmark, ["quickstart", "--data", "log", "--out", "out"]),
    ],
)
def test_all_take_every_one(tool, arguments):
    assert log_options(tool.parse_args(arguments)) == {}
    given = log_options(tool.parse_args([*arguments, *READ]))
    assert given.pop("card").name == "pandaset"
    assert given.pop("version") == "v1.0-mine"
    assert given == dict.fromkeys(
        ("rescale_intrinsics", "complete_scenes", "key_frames_only", "posed_only"), True
    )


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [(quickstart, []), (benchmark, ["quickstart", "--prepared", "prepared", "--out", "out"])],
)
def test_without_a_log_to_read_they_are_refused(tool, arguments, capsys):
    with pytest.raises(SystemExit):
        tool.parse_args([*arguments, "--complete-scenes"])
    assert "--complete-scenes says how a log is read; give the log with --data" in capsys.readouterr().err


def test_a_card_file_lies_where_the_script_was_called():
    called = ["--cwd", "/home/me", "--data", "log", "--card"]
    assert quickstart.parse_args([*called, "mine.yaml"]).card == "/home/me/mine.yaml"
    assert quickstart.parse_args([*called, "pandaset"]).card == "pandaset"


def test_what_the_script_prints_is_found_from_where_it_was_called(tmp_path, monkeypatch):
    (tmp_path / "checkout").mkdir()
    monkeypatch.chdir(tmp_path / "checkout")
    made = Path("work_dirs/quickstart")
    assert quickstart.parse_args(["--cwd", str(tmp_path / "checkout")]).out == made
    assert quickstart.parse_args(["--cwd", str(tmp_path)]).out == tmp_path / "checkout" / made


@pytest.fixture
def partial_log(write_small_log, tmp_path) -> Path:
    """A log with two folders of tables, neither of the preferred name, and a scan missing in one of two scenes."""
    root = write_small_log(tmp_path / "log")
    (root / "v1.0-mini").rename(root / "v1.0-mine")
    (root / "v1.0-other").mkdir()
    (root / "v1.0-other" / "sample_data.json").write_text("[]")
    rows = json.loads((root / "v1.0-mine" / "sample_data.json").read_text())
    (root / next(row["filename"] for row in rows if row["token"] == "scene-0003-LIDAR_TOP-0")).unlink()
    return root


@pytest.mark.parametrize("command", ["quickstart", "benchmark"])
def test_they_reach_the_index(command, partial_log, tmp_path, capsys):
    """The log cannot be used to the end (four key frames, and a teacher that does not exist), but it is indexed."""
    tool, first = (quickstart, []) if command == "quickstart" else (benchmark, ["quickstart"])
    run = [*first, "--data", str(partial_log), "--out", str(tmp_path / "out"), "--jobs", "1"]
    run += ["--teacher", "nobody"]
    assert tool.main(run) == 2
    assert "choose one with --version" in capsys.readouterr().err
    assert tool.main([*run, "--version", "v1.0-mine", "--complete-scenes"]) == 2
    index = LogIndex.open(tmp_path / "out" / "prepared")
    assert (index.version, index.scenes) == ("v1.0-mine", ("scene-0001",))
