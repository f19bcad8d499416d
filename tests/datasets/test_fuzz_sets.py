"""Drives of every set that are wrong in many ways: taken, or refused in one sentence, and what is taken can be used."""

from __future__ import annotations

import pytest
from file_faults import TEXTS
from small_drives import DRIVES
from wrong_drives import refusals

from superflow.datasets.prepare import DATASETS, prepare

TRIES = {"scribblekitti": 40, "semanticposs": 40, "semanticstf": 40, "synlidar": 40, "daps3d": 40}
FEWEST = 200  # of a family of readers; those above share that of semantickitti
OPTIONS = {"rellis3d": {"rescale_intrinsics": True}}
ELSEWHERE = {"nuscenes", "folder", "ros"}  # test_fuzz_nuscenes.py, test_fuzz_point_files.py, test_ros.py


def test_every_set_is_tried():
    assert set(DRIVES) | ELSEWHERE == set(DATASETS)
    assert sum(TRIES.values()) >= FEWEST


@pytest.mark.parametrize("name", DRIVES)
def test_wrong_drives_are_taken_or_refused(name, tmp_path):
    root, options = tmp_path / "work/root", OPTIONS.get(name, {})
    DRIVES[name](root)
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    once = [path for path in files if path.suffix in TEXTS] or files
    told = refusals(
        lambda: prepare(name, root, tmp_path / "work/out", **options),
        root,
        tmp_path,
        tries=TRIES.get(name, FEWEST),
        choose=lambda rng, seed: rng.choice(
            once if seed % 3 else files
        ),  # text as often as what each scan has
        name=name,
        deep=4,
    )
    assert [said for said in told if str(root) not in said or "; " not in said] == [], "file and advice"
    assert len(told) >= 10, "the changes are of many kinds"
