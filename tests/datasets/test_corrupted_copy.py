"""Corrupted copies on disk: read again they are what is corrupted while it is read, and never filed as clean."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from superflow.datasets.card import load_card
from superflow.datasets.corruptions.copy_mark import MARK, variant_of
from superflow.datasets.corruptions.corrupted_copy import write_copy
from superflow.datasets.corruptions.corrupted_index import CorruptedIndex
from superflow.datasets.corruptions.models import Variant
from superflow.datasets.index import LogIndex
from superflow.datasets.prepare import prepare
from superflow.errors import InputError
from superflow.tools.main import main

RAW = (10, 40, 48, 50, 70, 11, 52)


@pytest.fixture(scope="module")
def kitti(tmp_path_factory) -> LogIndex:
    """Two scans of a half-turn each over wide ground with cars on it, with labels and instances."""
    root = tmp_path_factory.mktemp("kitti")
    folder = root / "log/sequences/08"
    for sub in ("velodyne", "labels"):
        (folder / sub).mkdir(parents=True)
    rng = np.random.default_rng(3)
    for number in range(2):
        angle, radius = rng.uniform(-3, 3, 3000), rng.uniform(3, 40, 3000)
        z = np.where(np.arange(3000) < 2200, -1.7, rng.uniform(-1.7, 2, 3000))
        rows = np.stack([radius * np.cos(angle), radius * np.sin(angle), z, rng.uniform(0, 1, 3000)], 1)
        rows.astype("<f4").tofile(folder / f"velodyne/{number:06d}.bin")
        raw = np.where(np.arange(3000) < 2200, 40, rng.choice(RAW, 3000)) | rng.integers(0, 9, 3000) << 16
        raw.astype("<u4").tofile(folder / f"labels/{number:06d}.label")
    return prepare("semantickitti", root / "log", root / "index")


@pytest.mark.parametrize(
    "name", ["fog/heavy", "snow/moderate", "beam_missing/light", "wet_ground/heavy/corrected"]
)
def test_a_copy_read_again_is_the_scan_corrupted_while_it_is_read(kitti, name, tmp_path):
    folder, written = write_copy(kitti, [0, 1], Variant.parse(name), tmp_path / "out")
    assert (folder, written) == (tmp_path / "out" / name, 2)
    copy = prepare("semantickitti", folder, tmp_path / "index")
    assert copy.variant == name
    assert copy.hash != kitti.hash
    live = CorruptedIndex(kitti.folder, name)
    for row in range(2):
        ours, twin = copy.frame(row), live.frame(row)
        assert ours.variant == name
        np.testing.assert_array_equal(ours.cloud.xyz, twin.cloud.xyz)
        # fog sends back more than the full scale: the file has it, and its reader ends at 1, as with published copies
        seen = np.minimum(twin.cloud.intensity, 1)
        np.testing.assert_allclose(ours.cloud.intensity, seen, atol=1e-6)
        np.testing.assert_array_equal(ours.labels, twin.labels)
        raw = np.fromfile(folder / f"sequences/08/labels/{row:06d}.label", "<u4")
        is_noise = np.isin(raw, (21, 22, 23))
        assert is_noise.any() == name.startswith(("fog", "snow"))
        assert (ours.labels[is_noise] == 255).all()


def test_files_of_nuscenes_are_those_of_its_published_copies(small_index, tmp_path):
    index = small_index
    rows = index.rows("val").tolist()
    for name in ("snow/heavy", "crosstalk/light"):
        write_copy(index, rows, Variant.parse(name), tmp_path / "out")
    shutil.copytree(index.root / index.version, tmp_path / "out" / index.version)
    copy = prepare("nuscenes_c", tmp_path / "out", tmp_path / "index", variant="snow/heavy")
    assert (copy.variant, copy.tokens(copy.rows())) == ("snow/heavy", index.tokens(rows))
    live = CorruptedIndex(index.folder, "snow/heavy")
    for ours, theirs in zip(copy.rows().tolist(), rows):
        read, twin = copy.frame(ours, images=False), live.frame(theirs, images=False)
        np.testing.assert_array_equal(read.cloud.xyz, twin.cloud.xyz)
        np.testing.assert_array_equal(read.labels, twin.labels)
        assert set(read.cloud.extra["snow"].tolist()) <= {0, 1, 2}
        raw = np.fromfile(copy.label_path(ours), np.uint8)
        assert ((raw == 42) == (read.cloud.extra["snow"] == 2)).all()


def test_labels_of_a_form_that_no_copy_has_are_refused_before_anything_is_written(kitti, tmp_path):
    index = LogIndex.open(kitti.folder)
    index.card = replace(index.card, labels={"format": "npy"})
    with pytest.raises(InputError, match="only rows of float32 and labels of bare numbers can"):
        write_copy(index, [0], Variant.parse("fog/light"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_copy_goes_on_where_it_was_stopped(kitti, tmp_path):
    variant = Variant.parse("fog/light")
    folder, _ = write_copy(kitti, [0], variant, tmp_path)
    first = folder / "sequences/08/velodyne/000000.bin"
    before = first.read_bytes(), first.stat().st_mtime_ns
    assert write_copy(kitti, [0, 1], variant, tmp_path) == (folder, 1)
    assert (first.read_bytes(), first.stat().st_mtime_ns) == before
    assert write_copy(kitti, [1], variant, tmp_path / "again")[1] == 1
    one = "sequences/08/velodyne/000001.bin"
    assert (folder / one).read_bytes() == (tmp_path / "again/fog/light" / one).read_bytes()


def test_one_folder_holds_one_copy_and_none_is_corrupted_twice(kitti, small_index, tmp_path):
    folder, _ = write_copy(kitti, [0], Variant.parse("fog/light"), tmp_path / "out")
    with pytest.raises(InputError, match="holds a copy whose dataset is 'semantickitti', not 'nuscenes'"):
        write_copy(small_index, [0], Variant.parse("fog/light"), tmp_path / "out")
    assert variant_of(folder / "sequences/08") == "fog/light", "the mark counts for what lies below it, too"
    assert variant_of(tmp_path / "out") is None
    copy = prepare("semantickitti", folder, tmp_path / "index")
    with pytest.raises(InputError, match="holds the corrupted copy fog/light"):
        write_copy(copy, [0], Variant.parse("fog/light"), tmp_path / "twice")
    (folder / MARK).write_text("{}")
    with pytest.raises(InputError, match="names no variant"):
        prepare("semantickitti", folder, tmp_path / "index")


def test_the_command_writes_all_levels_of_a_corruption(kitti, tmp_path, capsys):
    words = ["prepare", "corrupted", "--index", str(kitti.folder), "--out", str(tmp_path), "--variant"]
    assert main([*words, "motion_blur", "--frames", "val[:1]"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert (
        said[0]
        == f"{tmp_path}/motion_blur/light: 1 scans of semantickitti in motion_blur/light, 1 written now"
    )
    assert sorted(path.name for path in (tmp_path / "motion_blur").iterdir()) == [
        "heavy",
        "light",
        "moderate",
    ]
    assert main([*words, "rain"]) == 2


def test_labels_that_are_classes_are_never_given_to_noise():
    for name in ("nuscenes", "semantickitti", "scribblekitti"):
        ids = (41, 42, 43) if name == "nuscenes" else (21, 22, 23)
        assert (load_card(name).label_map[list(ids)] == 255).all()
