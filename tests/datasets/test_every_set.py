"""The contract of a dataset, over the whole table of them: no test here names one."""

from __future__ import annotations

import json
import shutil
from importlib import import_module
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
from small_drives import EVERY

from superflow.datasets.card import load_card
from superflow.datasets.catalogue import facts_of
from superflow.datasets.index import LogIndex
from superflow.datasets.prepare import DATASETS, prepare
from superflow.errors import MissingFileError
from superflow.tools import main as tools

every_set = pytest.mark.parametrize("name", DATASETS)


@every_set
def test_a_set_is_one_module_and_one_card(name):
    module = import_module(DATASETS[name])
    assert hasattr(module, "scans") != hasattr(module, "open_log")
    if hasattr(module, "scans"):
        assert list(signature(module.scans).parameters)[-3:] == ["root", "card", "report"]
    assert set(getattr(module, "SOURCES", {})) <= {"times", "poses", "calibration"}
    facts = facts_of(name)
    unknown = () if getattr(module, "OWN", False) else (facts.disk_gb, facts.unverified)
    for said in (facts.licence, facts.source, facts.ask, facts.tree, *unknown):
        assert said, "what a user must know before a download"
    assert facts.classes == len(load_card(name).classes)
    for label_set in facts.label_sets:
        card = load_card(name, label_set=label_set)
        assert set(card.class_of) <= set(card.categories.values())
        assert set(card.class_of.values()) == set(range(len(card.classes)))


@every_set
@pytest.mark.parametrize("other", ["nothing", "unlike"])
def test_a_wrong_tree_is_shown_beside_the_expected_one(name, other, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    if other == "unlike":
        (root / "pictures").mkdir()
        (root / "pictures/cat\x1b[31m.jpg").write_bytes(b"")
        (root / "notes.txt").write_text("")
    with pytest.raises(MissingFileError) as told:
        prepare(name, root, tmp_path / "out")
    said = str(told.value)
    first = facts_of(name).tree.splitlines()[0]
    assert f"expected:\n  {first}\n" in said
    want = ["  nothing"] if other == "nothing" else ["  notes.txt", r"  pictures/: cat\x1b[31m.jpg"]
    assert said.endswith(f"found in {root}:\n" + "\n".join(want))
    assert not (tmp_path / "out").exists()
    assert tools.main(["prepare", name, "--root", str(root), "--out", str(tmp_path / "out")]) == 2


def test_every_set_and_no_other_is_listed(capsys):
    assert tools.main(["prepare", "--list"]) == 0
    said = capsys.readouterr().out
    heads = [line.split(":")[0] for line in said.splitlines() if line and not line.startswith(" ")]
    assert heads == list(DATASETS)
    for name in DATASETS:
        facts = facts_of(name)
        cameras = ("those of your log",) if facts.cameras is None else facts.cameras
        assert all(part in said for part in (facts.licence, facts.ask, *cameras, *facts.unverified))
        assert ("disk space unknown" if facts.disk_gb is None else f"{facts.disk_gb:g} GB") in said


def test_every_set_stands_in_the_table_of_the_page(repository: Path):
    page = (repository / "docs/datasets.md").read_text(encoding="utf-8")
    missing = [name for name in DATASETS if f"| `{name}` |" not in page]
    assert not missing


def test_there_is_a_small_drive_of_every_set():
    assert set(EVERY) == set(DATASETS)


@every_set
def test_scenes_limit_check_and_pictures_work(name, tmp_path, capsys):
    """What the command takes of every set: one scan of one scene, read, reported and drawn."""
    root, out = tmp_path / "root", tmp_path / "out"
    EVERY[name](root)
    fitting = {"rescale_intrinsics": True} if facts_of(name).cameras else {}
    # a scan alone does not know how it moved
    whole = prepare(name, root, tmp_path / "whole", sweep_compensation=False, **fitting)
    scene = whole.scenes[-1]
    command = ["prepare", name, "--root", str(root), "--out", str(out), "--scenes", scene, "--limit", "1"]
    command += ["--no-sweep-compensation", "--check", "--pictures", "--workers", "1"]
    command += ["--rescale-intrinsics"] if fitting else []
    assert tools.main(command) in (0, 1), "1: five points are a problem of some of them"
    said = capsys.readouterr().out
    part = LogIndex.open(out)
    assert (part.scenes, len(part.rows())) == ((scene,), 1)
    row = int(whole.rows(scene)[0])
    assert part.tokens(part.rows()) == whole.tokens([row])
    np.testing.assert_array_equal(part.frame(int(part.rows()[0])).cloud.xyz, whole.frame(row).cloud.xyz)
    report = json.loads((out / "check/report.json").read_text())
    assert report["counts"]["key_frames"] == 1
    drawn = {Path(picture).name for picture in report["pictures"]}
    assert drawn == {path.name for path in (out / "check").iterdir() if path.suffix in (".png", ".jpg")}
    assert len(drawn) >= 2 + len(part.frame(int(part.rows()[0])).cameras), "from above, spread, each image"
    assert all(name in said for name in drawn)


@every_set
def test_files_that_systems_leave_behind_are_no_part_of_a_log(name, tmp_path):
    """As ._000000.bin, which a Mac writes beside 000000.bin, and folders of editors."""
    EVERY[name](tmp_path / "log")
    before = prepare(name, tmp_path / "log", tmp_path / "out").hash
    for path in list((tmp_path / "log").rglob("*")):
        if path.is_file():
            path.with_name(f"._{path.name}").write_bytes(b"Mac OS X" * 5)
        else:
            shutil.copytree(path, path.with_name(f".{path.name}"), dirs_exist_ok=True)
    assert prepare(name, tmp_path / "log", tmp_path / "out").hash == before
