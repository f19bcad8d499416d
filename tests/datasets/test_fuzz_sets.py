"""Drives of every set that are wrong in many ways: taken, or refused in one sentence, and what is taken can be used."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path
from types import FrameType

import log_fuzz
import pytest
from file_faults import FORBIDDEN, TEXTS, break_one
from small_drives import DRIVES

from superflow.datasets.prepare import DATASETS, prepare

TRIES = {"scribblekitti": 40, "semanticposs": 40, "semanticstf": 40, "synlidar": 40, "daps3d": 40}
FEWEST = 200  # of a family of readers; those above share that of semantickitti
OPTIONS = {"rellis3d": {"rescale_intrinsics": True}}
ELSEWHERE = {"nuscenes", "folder", "ros"}  # test_fuzz_nuscenes.py, test_fuzz_point_files.py, test_ros.py

forbidden = {Path(path).name for path in FORBIDDEN}
opened: list[str] = []  # what Python opened of these, but for the comparison of files before and after


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and isinstance(arguments[0], str) and Path(arguments[0]).name in forbidden:
        caller: FrameType | None = sys._getframe()
        while caller is not None and caller.f_code is not log_fuzz._content.__code__:
            caller = caller.f_back
        if caller is None:
            opened.append(arguments[0])


sys.addaudithook(_note)


class Whole:
    """The files of a drive that is whole, and a way back to them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
        self.facts = {path: log_fuzz.facts(path) for path in self.files}

    def restore(self) -> None:
        """Take away what is new, and write what is another file than before."""
        for folder, folders, names in os.walk(self.root):
            for path in (Path(folder, name) for name in (*folders, *names)):
                if path.is_symlink() or (path not in self.files and path.is_file()):
                    path.unlink()
        for path, data in self.files.items():
            if path.is_dir():
                path.rmdir()
            if not path.is_file() or log_fuzz.facts(path) != self.facts[path]:
                path.write_bytes(data)
                self.facts[path] = log_fuzz.facts(path)


def test_every_set_is_tried():
    assert set(DRIVES) | ELSEWHERE == set(DATASETS)
    assert sum(TRIES.values()) >= FEWEST


@pytest.mark.parametrize("name", DRIVES)
def test_wrong_drives_are_taken_or_refused(name, tmp_path):
    root, out = tmp_path / "work/root", tmp_path / "work/out"
    options = OPTIONS.get(name, {})
    DRIVES[name](root)
    (tmp_path / "secret.bin").write_bytes(b"\0" * 80)
    (tmp_path / "work/secret.bin").write_bytes(b"\0" * 80)
    opened.clear()
    assert log_fuzz.attempt(lambda: prepare(name, root, out, **options), out, tmp_path) is None, "it is well"
    whole = Whole(root)
    files = list(whole.files)
    once = [path for path in files if path.suffix in TEXTS] or files
    told: set[str] = set()
    for seed in range(TRIES.get(name, FEWEST)):
        rng = random.Random(f"{name} {seed}")
        # what stands once in a drive as often as what each scan has
        path = rng.choice(once if seed % 3 else files)
        did = break_one(rng, path)
        try:
            said = log_fuzz.attempt(
                lambda: prepare(name, root, out, **options), out, tmp_path, deep=seed % 4 == 0, told=told
            )
        except BaseException as error:
            error.add_note(f"seed {seed}: {did} of {path}")
            raise
        told |= {said} - {None}
        whole.restore()
    assert opened == []
    assert [said for said in told if str(root) not in said or "; " not in said] == [], "file and advice"
    assert len(told) >= 10, "the changes are of many kinds"
