"""Drafts of layouts for folders as people keep them: blanks, capitals and fractions in names, labels beside points."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from superflow.datasets.formats.yaml_files import load_yaml
from superflow.datasets.index import LogIndex
from superflow.datasets.own_logs.folder_guess import draft_layout
from superflow.datasets.own_logs.guess_columns import time_of_values
from superflow.datasets.prepare import prepare
from superflow.datasets.sets.nuscenes import find_version
from superflow.errors import InputError, MissingFileError

ANSWERS = {
    'licence: "?"': "licence: mine",
    'compensated: "?"': "compensated: true",
    'axes: "?"': "axes: forward-left-up",
    'intrinsics: "?"': "intrinsics: [40, 40, 30, 20]",
    'lidar_to_camera: "?"': "lidar_to_camera: [[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0]]",
    'classes: "?"': "classes: [{name: a, colour: [1, 2, 3], categories: [one]}]\ncategories: {1: one}",
}


def points(number: int, columns: int = 4) -> np.ndarray:
    rng = np.random.default_rng(number)
    rest = [rng.integers(0, 256, 60), *(rng.uniform(0, 0.1, 60) for _ in range(columns - 4))]
    return np.column_stack([rng.uniform(-30, 30, (60, 2)), rng.uniform(-2, 3, 60), *rest]).astype("<f4")


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def npy(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


def prepared(root: Path, out: Path) -> LogIndex:
    """The index by the draft, with every question answered."""
    draft = draft_layout(root)
    for question, answer in ANSWERS.items():
        draft = draft.replace(question, answer)
    (root / "folder.yaml").write_text(draft)
    return prepare("folder", root, out)


def test_blanks_and_capitals_in_names(tmp_path):
    root = tmp_path / "log"
    for i in range(3):
        put(root / f"Lidar/Scan {i:03d}.BIN", points(i).tobytes())
        put(
            root / f"Camera Front/Scan {i:03d}.JPG",
            cv2.imencode(".jpg", np.zeros((40, 60, 3), "u1"))[1].tobytes(),
        )
    index = prepared(root, tmp_path / "out")
    assert (len(index), index.channels) == (3, ("Camera Front",))
    for i in range(3):
        np.testing.assert_array_equal(index.frame(i).cloud.xyz, points(i)[:, :3])
        assert index.frame(i).cameras[0].image.shape == (40, 60, 3)


@pytest.mark.parametrize(
    "seconds", [("1700000000.000000", "1700000000.100000"), ("1700000000.9", "1700000001.0")]
)
def test_names_that_are_seconds_with_a_fraction_are_times(seconds, tmp_path):
    for name in seconds:
        for drive in ("one", "two"):
            put(tmp_path / f"log/{drive}/lidar/{name}.bin", points(1).tobytes())
    draft = yaml.safe_load(draft_layout(tmp_path / "log"))
    assert draft["points"]["files"] == "{scene}/lidar/*.bin"
    assert draft["times"] == {"name": 1.0}
    assert "# one, two are taken for drives, each of its own" in draft_layout(tmp_path / "log")
    index = prepared(tmp_path / "log", tmp_path / "out")
    assert index.time_us.tolist() == [round(float(name) * 1e6) for name in seconds] * 2


def test_labels_beside_points_are_no_drive(tmp_path):
    for i in range(3):
        npy(tmp_path / f"log/points/{i:06d}.npy", points(i, 6))
        npy(tmp_path / f"log/labels/{i:06d}.npy", np.arange(60, dtype="i4") % 3)
    index = prepared(tmp_path / "log", tmp_path / "out")
    assert index.scenes == ("log",)
    frame = index.frame(2)
    np.testing.assert_array_equal(frame.cloud.xyz, points(2, 6)[:, :3])
    np.testing.assert_array_equal(frame.labels, np.where(np.arange(60) % 3 == 1, 0, 255))


@pytest.mark.parametrize("name", ['a"b', "a: b", "#1", "a\\tb", "ä", "{x}", "- x"])
def test_whatever_a_folder_is_called_is_read_back(name, tmp_path):
    for i in range(2):
        put(tmp_path / f"log/{name}/{i}.bin", points(i).tobytes())
        put(
            tmp_path / f"log/cam/{name}/{i}.png", cv2.imencode(".png", np.zeros((4, 6, 3), "u1"))[1].tobytes()
        )
    draft = yaml.safe_load(draft_layout(tmp_path / "log"))
    assert draft["points"]["files"] == f"{name}/*.bin"
    assert [camera["images"] for camera in draft["cameras"].values()] == [f"cam/{name}/*.png"]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(MissingFileError, match="gone: there is no such folder; check the path"):
        draft_layout(tmp_path / "gone")
    (tmp_path / "scan.txt").touch()
    for refuse in (draft_layout, find_version, lambda root: prepare("semantickitti", root, tmp_path / "out")):
        with pytest.raises(MissingFileError, match=r"scan\.txt: is a file, not a folder; "):
            refuse(tmp_path / "scan.txt")
    (tmp_path / "bags").mkdir()
    with pytest.raises(MissingFileError, match=r"ends with \.bin, .*; give the folder that does"):
        draft_layout(tmp_path)
    (tmp_path / "bags" / "a.mcap").touch()
    with pytest.raises(
        MissingFileError, match=r"read its bags \(bags/a\.mcap\) with `superflow prepare ros`"
    ):
        draft_layout(tmp_path)


def test_columns_of_nothing_but_zeros_are_no_times_and_no_intensities(tmp_path):
    """As converters fill what they do not know; the others of the same names are."""
    names = ("x", "y", "z", "intensity", "gps_time")
    for filled in (False, True):
        folder = tmp_path / f"{filled}"
        columns = dict(zip(names, (*points(1)[:, :3].T, *(np.arange(60) * filled for _ in range(2)))))
        folder.mkdir()
        np.savez(folder / "0.npz", **columns)
        draft = draft_layout(folder)
        values = yaml.safe_load(draft)
        assert ("time" in values["points"]) == ("intensity" in values) == filled
        assert ("also there: intensity, gps_time" in draft) != filled
        assert (prepared(folder, tmp_path / f"out {filled}").frame(0).cloud.intensity is not None) == filled


def test_a_fourth_column_of_zeros_is_no_intensity(tmp_path):
    rows = points(1)
    rows[:, 3] = 0
    put(tmp_path / "log/0.bin", rows.tobytes())
    index = prepared(tmp_path / "log", tmp_path / "out")
    assert index.frame(0).cloud.intensity is None
    np.testing.assert_array_equal(index.frame(0).cloud.xyz, rows[:, :3])


def test_every_camera_has_a_name_of_its_own(tmp_path):
    put(tmp_path / "lidar/0.bin", points(1).tobytes())
    for place in ("left/image/0.png", "left/rgb/0.png", "right/0.png"):
        put(tmp_path / "cameras" / place, b"")
    drafted = load_yaml(draft_layout(tmp_path))["cameras"]
    assert list(drafted) == ["cameras_left_image_png", "cameras_left_rgb_png", "right"]


def test_names_with_signs_of_yaml_are_quoted(tmp_path):
    put(tmp_path / "lidar/0.bin", points(1).tobytes())
    put(tmp_path / "front/0.png", b"")
    put(tmp_path / "front #1: new.yaml", b"camera_matrix: {}")
    put(tmp_path / "it's #2: odometry.txt", b"0 1 2 3 0 0 0 1\n" * 3)
    values = load_yaml(draft_layout(tmp_path))
    assert values["cameras"]["front"]["camera_info"] == "front #1: new.yaml"
    assert values["poses"]["file"] == "it's #2: odometry.txt"


def test_numbers_that_are_no_poses_are_not_drafted_as_such(tmp_path):
    """A log of an inertial unit comes first by name; of two that can be poses, the other is named."""
    put(tmp_path / "lidar/0.bin", points(1).tobytes())
    put(tmp_path / "imu.txt", b"0 9.8 0 0 0.1 0.2 0 35.5\n" * 3)
    for name in ("odometry.txt", "slam.txt"):
        put(tmp_path / name, b"0 1 2 3 0 0 0 1\n" * 3)
    draft = draft_layout(tmp_path)
    assert 'poses: {file: "odometry.txt", form: tum}' in draft
    assert "slam.txt could be, too" in draft


@pytest.mark.parametrize("name", ["t", "time", "timestamp", "offset_time"])
@pytest.mark.parametrize("unit_s", [1.0, 1e-3, 1e-6, 1e-9])
def test_the_unit_of_times_is_that_in_which_a_scan_takes_as_long_as_scans_do(name, unit_s):
    """Drivers call seconds, parts of them and what a clock says by the same names."""
    for begin_s, since in ((0.0, "scan"), (-0.1, "scan"), (1.7e9, "epoch")):
        values = (begin_s + np.linspace(0.0, 0.1, 60)) / unit_s
        values = values.astype(np.int64) if unit_s < 1e-3 else values
        assert time_of_values({name: values}) == {"column": name, "unit_s": unit_s, "since": since}
    of_the_week = (345_600 + np.linspace(0.0, 0.1, 60)) / unit_s
    assert time_of_values({name: of_the_week}) is None


def test_links_to_folders_are_followed_and_circles_end(tmp_path):
    disk, root = tmp_path / "disk", tmp_path / "log"
    for i in range(3):
        put(disk / f"top/{i}.bin", points(i).tobytes())
    root.mkdir()
    (root / "lidar").symlink_to(disk / "top")
    (disk / "top/round").symlink_to(root)
    assert yaml.safe_load(draft_layout(root))["points"]["files"] == "lidar/*.bin"
    assert len(prepared(root, tmp_path / "out")) == 3


@pytest.mark.parametrize("names", ["XYZ", "//XYZ"])
def test_names_in_capitals_and_those_of_an_editor_are_known(names, tmp_path):
    stored = {"x": names[:-2], "y": "Y", "z": "Z", "intensity": "scalar_Intensity"}
    rows = points(1)
    head = "".join(f"property float {name}\n" for name in stored.values())
    text = f"ply\nformat binary_little_endian 1.0\nelement vertex 60\n{head}end_header\n"
    put(tmp_path / "log/1.ply", text.encode() + rows.tobytes())
    assert yaml.safe_load(draft_layout(tmp_path / "log"))["points"]["columns"] == stored
    frame = prepared(tmp_path / "log", tmp_path / "out").frame(0)
    np.testing.assert_array_equal(frame.cloud.xyz, rows[:, :3])
    np.testing.assert_allclose(frame.cloud.intensity, rows[:, 3] / 255, rtol=1e-6)


def test_a_table_beside_other_arrays_is_drafted_and_strange_names_are_told(tmp_path):
    (tmp_path / "log").mkdir()
    np.savez(tmp_path / "log/1.npz", points=points(1), labels=np.zeros(60, np.int64))
    assert yaml.safe_load(draft_layout(tmp_path / "log"))["points"]["columns"] == [*"xyz", "intensity"]
    np.savez(tmp_path / "log/1.npz", east=np.zeros(9), north=np.zeros(9))
    with pytest.raises(
        InputError, match=r"1.npz: holds east, north, and nothing that is called x, y and z; write"
    ):
        draft_layout(tmp_path / "log")


@pytest.mark.parametrize(("digits", "unit_s"), [(0, None), (3, 1e-3), (6, 1e-6), (9, 1e-9)])
def test_the_unit_of_poses_is_that_of_a_clock(digits, unit_s, tmp_path):
    root = tmp_path / "log"
    start = 1_700_000_000
    lines = [f"{(start + i) * 10**digits} {3 * i} 0 0 0 0 0 1" for i in range(4)]
    put(root / "way.txt", "\n".join(lines).encode())
    for i in range(4):
        put(root / f"lidar/{start + i}.bin", points(i).tobytes())
    draft = yaml.safe_load(draft_layout(root))
    assert draft["poses"].get("unit_s") == unit_s
    index = prepared(root, tmp_path / "out")
    assert index.ego_positions()[:, 0].tolist() == [0, 3, 6, 9]
    for i in range(4):
        (root / f"lidar/{start + i}.bin").rename(root / f"lidar/{i}.bin")
    put(root / "stamps.csv", "\n".join(["stamp", *(line.split()[0] for line in lines)]).encode())
    assert yaml.safe_load(draft_layout(root))["times"] == {"file": "stamps.csv", "unit_s": unit_s or 1}
    index = prepared(root, tmp_path / "out")
    assert index.ego_positions()[:, 0].tolist() == [0, 3, 6, 9]
