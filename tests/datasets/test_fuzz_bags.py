"""Bags that are wrong in many ways: taken, or refused in one sentence, and what is taken can be used."""

from __future__ import annotations

import log_fuzz
import pytest
from bag_writer import KINDS, write_bag
from file_faults import TEXTS
from wrong_drives import refusals

from superflow.datasets.prepare import prepare

TRIES = 75  # of each kind, two of which are of one container
FEWEST = 200


def test_there_are_enough_of_them():
    assert TRIES * len(KINDS) >= FEWEST
    assert TRIES >= 70


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_bags_are_taken_or_refused(kind, tmp_path):
    root = tmp_path / "work/root"
    root.mkdir(parents=True)
    write_bag(root / "drive", kind, count=2)
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    texts = [path for path in files if path.suffix in TEXTS]
    bags = [path for path in files if path not in texts]
    told = refusals(
        lambda: prepare("ros", root, tmp_path / "work/out"),
        root,
        tmp_path,
        tries=TRIES,
        choose=lambda rng, seed: rng.choice(texts if texts and seed % 5 == 0 else bags),
        name=kind,
        deep=8,
    )
    assert [said for said in told if str(root) not in said] == [], "the file is named"
    assert len(told) >= 8, "the changes are of many kinds"


@pytest.mark.parametrize("suffix", [".bag", ".db3", ".mcap"])
def test_an_empty_file_is_one_sentence(suffix, tmp_path):
    root, out = tmp_path / "root", tmp_path / "work/out"
    root.mkdir()
    path = root / f"drive{suffix}"
    path.write_bytes(b"")
    said = log_fuzz.attempt(lambda: prepare("ros", root, out), out, tmp_path)
    assert said is not None
    assert said.startswith(f"{path}: ")
