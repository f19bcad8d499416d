"""Synth4D on files of NumPy's format that are written here byte by byte."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import yaml

from superflow.datasets.card import load_card
from superflow.datasets.prepare import prepare
from superflow.errors import InputError


def npy(path: Path, descr: str, shape: tuple[int, ...], data: bytes) -> None:
    """Version 1.0 of the format: magic, length of the header, header, numbers."""
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data)


def town(root: Path, inside: str, names: list[str], raw: list[int], columns: int = 4) -> Path:
    for name in names:
        points = b"".join(
            struct.pack(f"<{columns}f", i + 1.0, -2.0, 0.25, *[1.0] * (columns - 3)) for i in range(len(raw))
        )
        npy(root / inside / f"velodyne/{name}.npy", "<f4", (len(raw), columns), points)
        npy(
            root / inside / f"labels/{name}.npy",
            "<i4",
            (len(raw), 1),
            b"".join(struct.pack("<i", i) for i in raw),
        )
    return root


@pytest.mark.parametrize("columns", [3, 4, 6])
def test_points_of_any_width_and_two_maps(tmp_path, shared_data, columns):
    raw = list(range(23))
    root = town(tmp_path / "log", "kitti_synth/Town03", ["000000", "000007"], raw, columns)
    town(root, "nuscenes_synth/Town10HD", ["000001"], [7, 10])
    index = prepare("synth4d", root, tmp_path / "index")
    assert index.scenes == ("kitti_synth_Town03", "nuscenes_synth_Town10HD")
    assert index.order.tolist() == [0, 7, 1]
    frame = index.frame(1)
    np.testing.assert_array_equal(frame.cloud.xyz, [[i + 1.0, -2.0, 0.25] for i in raw])
    assert frame.cloud.intensity is None
    facts = yaml.safe_load((shared_data / "label_maps/synth4d.yaml").read_text())
    assert frame.labels.tolist() == [facts["raw_to_train"][i] for i in raw]
    assert list(index.card.classes) == facts["class_names"]
    native = prepare("synth4d", root, tmp_path / "native", label_set="native").frame(1)
    assert native.labels.tolist() == [facts["native22"][i] for i in raw]
    assert len(load_card("synth4d", label_set="native").classes) == 22


@pytest.mark.parametrize("place", ["", "splits/kitti_synth"])
def test_the_pickled_splits_are_not_opened_and_text_beside_them_is(place, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path(tmp_path / "opened").touch, ())

    root = town(tmp_path / "log", "kitti_synth/Town03", ["000000", "000001", "000002"], [7])
    (root / place).mkdir(parents=True, exist_ok=True)
    (root / place / "training_split.pkl").write_bytes(pickle.dumps(Bomb()))
    (root / "validation_split.txt").write_text("kitti_synth/Town03/velodyne/000001.npy\n")
    index = prepare("synth4d", root, tmp_path / "index")
    assert not (tmp_path / "opened").exists()
    assert index.rows("val").tolist() == [1]
    assert any(
        "training_split.txt: is not there, only the pickle that is not read; write it" in w
        for w in index.warnings
    )
    (root / "validation_split.txt").write_text("Synth4D/kitti_synth/Town03/velodyne/000001.npy\n")
    index = prepare("synth4d", root, tmp_path / "index")
    assert any("validation_split.txt: 1 of 1 lines name no scan of this log" in w for w in index.warnings)


def test_a_scan_without_labels_has_none_rather_than_zeros(tmp_path):
    root = town(tmp_path / "log", "kitti_synth/Town03", ["000000", "000001"], [7, 10])
    (root / "kitti_synth/Town03/labels/000001.npy").unlink()
    index = prepare("synth4d", root, tmp_path / "index")
    assert index.frame(1).labels is None
    assert any("some scans have no label file" in warning for warning in index.warnings)


def test_arrays_of_objects_are_refused(tmp_path):
    root = town(tmp_path / "log", "kitti_synth/Town03", ["000000"], [7])
    np.save(
        root / "kitti_synth/Town03/velodyne/000000.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True
    )
    with pytest.raises(InputError, match="is no NumPy file of plain numbers"):
        prepare("synth4d", root, tmp_path / "index").frame(0)
    npy(root / "kitti_synth/Town03/velodyne/000000.npy", "<f4", (1, 2), struct.pack("<2f", 1, 2))
    with pytest.raises(InputError, match=r"holds an array of shape \(1, 2\) where its card says 3 columns"):
        prepare("synth4d", root, tmp_path / "index").frame(0)
