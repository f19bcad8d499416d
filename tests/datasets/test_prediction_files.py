"""Predictions come back in the form of the log: a PCD with a column more, or a number for each row of the file."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from bag_writer import write_bag
from predicted import write_predictions
from test_point_files import FILES, HEAD, INTENSITY, LABEL, XYZ, lzf_of_literals

from superflow.datasets.card import load_card
from superflow.datasets.formats.readers import read_labels, read_points
from superflow.datasets.index import LogIndex
from superflow.datasets.predictions.files import raw_ids, write_prediction
from superflow.datasets.prepare import prepare
from superflow.errors import InputError

CLASSES = ("near", "far")


def predict(scan):
    """Near or far; nothing of what lies high."""
    scores = torch.zeros(len(scan.points), 2)
    far = (scan.points[:, 0] > 0).long()
    scores[torch.arange(len(far)), far] = 1
    scores[scan.points[:, 2] > 40] = 0
    return scores


def own_log(root: Path, name: str, **keys: object) -> LogIndex:
    (root / "scans").mkdir(parents=True)
    (root / "scans" / name).write_bytes(FILES[name]() if name in FILES else XYZ.tobytes())
    layout = {"points": {"files": f"scans/*{Path(name).suffix}"}} | keys
    (root / "folder.yaml").write_text(yaml.safe_dump(layout))
    return prepare("folder", root, root.parent / "out")


@pytest.mark.parametrize("name", ["binary.pcd", "ascii.pcd", "compressed.pcd"])
def test_a_pcd_comes_back_with_a_class_column(name, tmp_path):
    index = own_log(tmp_path / "log", name)
    made = write_predictions(index, [0], predict, CLASSES, tmp_path / "made")
    path = tmp_path / "made/scans" / name
    read = read_points(path, ("x", "y", "z", "intensity", "label", "class"), format="pcd").columns
    for i, axis in enumerate("xyz"):
        np.testing.assert_array_equal(read[axis], XYZ[:, i])
    np.testing.assert_array_equal(read["intensity"], INTENSITY)
    np.testing.assert_array_equal(read["label"], LABEL)
    np.testing.assert_array_equal(read["class"], np.where(XYZ[:, 2] > 40, 0, 1 + (XYZ[:, 0] > 0)))
    assert made == json.loads((tmp_path / "made/predictions.json").read_text())
    assert made["numbers"] == {"near": 1, "far": 2}
    assert made["none"] == 0


def test_padding_and_fields_of_several_values_come_back(tmp_path):
    index = own_log(tmp_path / "log", "binary.pcd")
    path = write_prediction(index, 0, np.arange(40, dtype=np.uint32), tmp_path / "made")
    head, body = path.read_bytes().split(b"DATA binary\n")
    assert (
        b"FIELDS x y z _ _ intensity label class\nSIZE 4 4 4 1 1 1 2 4\nTYPE F F F U U U U U\nCOUNT 1 1 1 4 12 1 1 1"
        in head
    )
    assert len(body) == 40 * (12 + 16 + 3 + 4)
    assert body[12:28] == b"\xee" * 16
    assert body[31:35] == bytes(4)


def test_fields_of_several_values_come_back_from_a_compressed_file(tmp_path):
    """PCL packs them point by point: all values of the first point's normal, then those of the second."""
    normals = np.arange(120, dtype="<f4").reshape(40, 3)
    held = XYZ.T.tobytes() + normals.tobytes()
    packed = lzf_of_literals(held)
    head = (
        HEAD.format("x y z normal", "4 4 4 4", "F F F F", "1 1 1 3") + "POINTS 40\nDATA binary_compressed\n"
    )
    index = own_log(tmp_path / "log", "compressed.pcd")
    (index.root / "scans/compressed.pcd").write_bytes(
        head.encode() + struct.pack("<II", len(packed), len(held)) + packed
    )
    path = write_prediction(index, 0, np.arange(40, dtype=np.uint32), tmp_path / "made")
    body = path.read_bytes().split(b"DATA binary\n")[1]
    rows = np.frombuffer(body, [("xyz", "<f4", 3), ("normal", "<f4", 3), ("class", "<u4")])
    np.testing.assert_array_equal(rows["xyz"], XYZ)
    np.testing.assert_array_equal(rows["normal"], normals)
    np.testing.assert_array_equal(rows["class"], np.arange(40))


def test_other_files_get_a_number_a_row_in_the_logs_own_ids(tmp_path):
    root = tmp_path / "log"
    (root / "labels").mkdir(parents=True)
    np.zeros(40, "<u2").tofile(root / "labels/a.label")
    index = own_log(
        root,
        "a.bin",
        labels={"files": "labels/*.label", "format": "u2"},
        classes=[
            {"name": "near", "colour": [0, 0, 0], "categories": ["curb", "kerb"]},
            {"name": "far", "colour": [9, 9, 9], "categories": ["hill"]},
        ],
        categories={0: "hill", 7: "kerb", 9: "curb"},
    )
    made = write_predictions(index, [0], predict, CLASSES, tmp_path / "made")
    assert made["numbers"] == {"near": 7, "far": 0}
    got = np.fromfile(tmp_path / "made/scans/a.label", "<u2")
    np.testing.assert_array_equal(got, np.where(XYZ[:, 2] > 40, made["none"], np.where(XYZ[:, 0] > 0, 0, 7)))
    assert made["none"] not in (0, 7, 9)


NIBBLES = {"files": "labels/*.label", "format": "u1", "mask": 0xF0, "shift": 4}


def nibble_log(root: Path, ids: range) -> LogIndex:
    """Classes in the upper half of a byte."""
    (root / "labels").mkdir(parents=True)
    np.zeros(40, "u1").tofile(root / "labels/a.label")
    categories = {i: f"kind {i}" for i in ids}
    names = {"near": [f"kind {i}" for i in ids if i != 9], "far": ["kind 9"]}
    classes = [{"name": n, "colour": [0, 0, i], "categories": c} for i, (n, c) in enumerate(names.items())]
    return own_log(root, "a.bin", labels=NIBBLES, classes=classes, categories=categories)


def test_numbers_stand_in_the_bits_in_which_the_logs_labels_do(tmp_path):
    index = nibble_log(tmp_path / "log", range(12))
    made = write_predictions(index, [0], predict, CLASSES, tmp_path / "made")
    assert (made["numbers"], made["none"]) == ({"near": 0, "far": 9 << 4}, 12 << 4)
    path = tmp_path / "made/scans/a.label"
    got = index.card.label_map[read_labels(path, 40, format="u1", mask=0xF0, shift=4)]
    np.testing.assert_array_equal(got, np.where(XYZ[:, 2] > 40, 255, XYZ[:, 0] > 0))


def test_files_without_a_number_for_points_of_no_class_are_refused(tmp_path):
    index = nibble_log(tmp_path / "log", range(16))
    with pytest.raises(
        InputError, match=r"a category for each number that their files can hold, and none is left"
    ):
        write_predictions(index, [0], predict, CLASSES, tmp_path / "made")


def test_scans_of_a_bag_get_a_file_each_with_rows_for_what_is_no_point(tmp_path):
    (tmp_path / "bags").mkdir()
    write_bag(tmp_path / "bags/drive", "ros2_mcap")
    index = prepare("ros", tmp_path / "bags", tmp_path / "out")
    write_predictions(index, index.rows().tolist(), predict, CLASSES, tmp_path / "made")
    for row, token in enumerate(index.tokens(index.rows())):
        got = np.fromfile(tmp_path / f"made/drive/{token}.label", np.uint8)
        assert len(got) == 120
        assert got[:2].tolist() == [0, 0], "these rows are no points"
        np.testing.assert_array_equal(got[2:], 1 + (index.frame(row).cloud.xyz[:, 0] > 0))


def test_numbers_of_known_sets_are_their_own():
    for name in ("semantickitti", "nuscenes"):
        card = load_card(name)
        numbers = raw_ids(card, card.classes)
        np.testing.assert_array_equal(
            card.label_map[numbers[: len(card.classes)]], np.arange(len(card.classes))
        )
        assert card.label_map[numbers[255]] == 255


def test_scans_are_never_written_over(tmp_path):
    index = own_log(tmp_path / "log", "binary.pcd")
    before = (tmp_path / "log/scans/binary.pcd").read_bytes()
    with pytest.raises(InputError, match=r"binary.pcd: is the scan itself; choose another folder"):
        write_predictions(index, [0], predict, CLASSES, index.root)
    assert (tmp_path / "log/scans/binary.pcd").read_bytes() == before
