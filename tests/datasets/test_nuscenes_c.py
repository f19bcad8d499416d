"""nuScenes-C: corrupted copies of scans under the tables of nuScenes; the copies are written here byte by byte."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from superflow.camera.projection import project
from superflow.datasets.card import load_card
from superflow.datasets.check.log import check_log
from superflow.datasets.prepare import prepare
from superflow.datasets.sets.nuscenes import write_index
from superflow.errors import InputError, MissingFileError
from superflow.protocol import index_protocol
from superflow.tools import main as tools


def corrupted(small_log, copy: str, *, rows: int = 7, labels: bool = True) -> Path:
    """A copy of the key frames of the second scene, of other points than the clean scans, labelled 17, 24 and 41."""
    root = small_log.write()
    for row in small_log.tables["sample_data"]:
        if (
            not row["is_key_frame"]
            or "LIDAR" not in row["token"]
            or not row["token"].startswith("scene-0003")
        ):
            continue
        place = root / copy / row["filename"]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(
            b"".join(struct.pack("<5f", i + 1.0, 5.0, 0.5, 51.0 * i % 255, 2.0) for i in range(rows))
        )
        if labels:
            name = f"lidarseg/v1.0-trainval/{row['token']}_lidarseg.bin"
            (root / copy / name).parent.mkdir(parents=True, exist_ok=True)
            (root / copy / name).write_bytes(bytes(([17, 24, 41] * rows)[:rows]))
    return root


def test_a_copy_has_its_own_points_and_labels_and_says_what_it_is(small_log, tmp_path):
    clean = write_index(small_log.write(), tmp_path / "clean")
    root = corrupted(small_log, "fog/heavy")
    index = prepare("nuscenes_c", root, tmp_path / "fog")
    assert (index.dataset, index.card.name, index.variant) == ("nuscenes_c", "nuscenes_c", "fog/heavy")
    assert clean.variant == "clean"
    rows = clean.rows("scene-0003")
    assert index.tokens(range(len(index))) == clean.tokens(rows)
    assert index.is_key.all()
    for row, other in enumerate(rows.tolist()):
        ours, theirs = index.frame(row), clean.frame(other)
        np.testing.assert_allclose(ours.points[:, :3], [[5.0, -(i + 1.0), 0.5] for i in range(7)], atol=1e-6)
        names = [ours.variant, *(index.card.classes[i] if i < 255 else "" for i in ours.labels[:3])]
        assert names == ["fog/heavy", "car", "driveable_surface", ""]
        np.testing.assert_array_equal(ours.ego_to_world, theirs.ego_to_world)
        assert [camera.token for camera in ours.cameras] == [camera.token for camera in theirs.cameras]
    assert index_protocol(index, [0], [1])["variant"] == "fog/heavy"
    assert index.recordings([0]) == ("nuScenes scene-0003",)


def test_corrupted_points_are_ignored_and_known(small_log, tmp_path):
    index = prepare("nuscenes_c", corrupted(small_log, "fog/heavy"), tmp_path / "index")
    assert [index.card.categories[raw] for raw in (41, 42, 43)] == [
        "corruption.fog_return",
        "corruption.snow_return",
        "corruption.crosstalk_point",
    ]
    assert (index.card.label_map[[41, 42, 43]] == 255).all()
    report = check_log(index, project=project, workers=1)
    assert report.categories["corruption.fog_return"] == 4 * 2
    assert not [note for note in report.notes if "raw label ids" in note]
    assert index.card.classes == load_card("nuscenes").classes


def test_clean_labels_are_never_taken_for_those_of_a_copy(small_log, tmp_path):
    index = prepare(
        "nuscenes_c", corrupted(small_log, "beam_missing/light", labels=False), tmp_path / "index"
    )
    assert all(index.frame(row, images=False).labels is None for row in range(len(index)))
    assert any("4 of 4 scans have no labels of their own" in warning for warning in index.warnings)


def test_of_several_copies_one_is_chosen(small_log, tmp_path, capsys):
    for copy, rows in (("fog/light", 3), ("snow/moderate", 5)):
        root = corrupted(small_log, copy, rows=rows)
    with pytest.raises(
        InputError, match=r"holds several copies; choose one with --variant: fog/light, snow/moderate"
    ):
        prepare("nuscenes_c", root, tmp_path / "index")
    with pytest.raises(InputError, match=r"holds no copy 'fog/heavy'; choose one with --variant: fog/light"):
        prepare("nuscenes_c", root, tmp_path / "index", variant="fog/heavy")
    with pytest.raises(
        InputError, match=r"--variant chooses one of several corrupted copies; nuscenes has none"
    ):
        prepare("nuscenes", root, tmp_path / "index", variant="fog/light")
    command = ["prepare", "nuscenes_c", "--root", str(root), "--out", str(tmp_path / "index")]
    assert tools.main([*command, "--variant", "snow/moderate", "--limit", "2"]) == 0
    index = prepare("nuscenes_c", root, tmp_path / "index", variant="snow/moderate")
    assert len(index.frame(0).cloud) == 5
    assert index.card.columns[-1] == "snow", "the fifth column of snow is no ring"
    assert prepare("nuscenes_c", root, tmp_path / "other", variant="fog/light").hash != index.hash


def test_copies_of_other_scans_than_the_tables_are_told(small_log, tmp_path):
    root = corrupted(small_log, "fog/light")
    folder = root / "fog/light/samples/LIDAR_TOP"
    (folder / "stranger.pcd.bin").write_bytes(b"")
    warnings = prepare("nuscenes_c", root, tmp_path / "index").warnings
    assert any("fog/light: 1 of 5 files are no key frame of the tables" in warning for warning in warnings)
    for path in folder.iterdir():
        path.rename(path.with_name(f"n{path.name}"))
    with pytest.raises(InputError, match=r"none of its 5 files is a key frame of the tables in v1.0-mini"):
        prepare("nuscenes_c", root, tmp_path / "index")


def test_without_the_tables_of_nuscenes_it_says_which_are_needed(small_log, tmp_path):
    root = corrupted(small_log, "fog/light")
    (root / "v1.0-mini").rename(tmp_path / "tables")
    with pytest.raises(MissingFileError, match=r"no folder in it holds sample_data.json"):
        prepare("nuscenes_c", root, tmp_path / "index")
