"""Transforms and lenses that no rig has are refused while a log is prepared, whichever dataset it is of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from superflow.datasets.card import load_card
from superflow.datasets.formats import transforms
from superflow.datasets.formats.transforms import FAULTS, faults
from superflow.datasets.formats.waymo_points import matrix
from superflow.datasets.index import LogIndex
from superflow.datasets.prepare import prepare
from superflow.datasets.records import CameraRow, LidarRow, Place, ScanRow
from superflow.datasets.write import ListedLog, write_rows
from superflow.errors import InputError

K = np.array([[300.0, 0, 32], [0, 300, 24], [0, 0, 1]])
SOURCES = {"poses": "poses.txt", "calibration": "calib.txt"}


def turned(seed: int, shift: float = 5.0) -> np.ndarray:
    a_to_b = np.eye(4)
    a_to_b[:3, :3] = Rotation.random(random_state=seed).as_matrix()
    a_to_b[:3, 3] = np.random.default_rng(seed).normal(size=3) * shift
    return a_to_b


def scaled(a_to_b: np.ndarray) -> np.ndarray:
    return a_to_b * [[1.1, 1.1, 1.1, 1]]


def mirrored(a_to_b: np.ndarray) -> np.ndarray:
    return np.diag([1, -1, 1, 1.0]) @ a_to_b


def sheared(a_to_b: np.ndarray) -> np.ndarray:
    return a_to_b + np.eye(4, k=1) * [[0.2], [0], [0], [0]]


def with_nan(a_to_b: np.ndarray) -> np.ndarray:
    a_to_b = a_to_b.copy()
    a_to_b[1, 3] = np.nan
    return a_to_b


WRONG: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "scaled": (scaled, FAULTS[3]),
    "sheared": (sheared, FAULTS[3]),
    "zero": (lambda a_to_b: a_to_b * 0, FAULTS[3]),
    "mirrored": (mirrored, FAULTS[2]),
    "partly unknown": (with_nan, FAULTS[1]),
    "infinite": (lambda a_to_b: a_to_b + [[0, 0, 0, np.inf]], FAULTS[1]),
}


def test_rigid_transforms_are_told_from_others_as_by_a_plain_count(monkeypatch):
    monkeypatch.setattr(transforms, "_ROWS", 7)
    good = [turned(seed) for seed in range(20)]
    good += [np.round(one, 3) for one in good]  # as files have them
    bad = [change(one) for one in good for change, _ in WRONG.values()]
    found = faults(np.array([one[:3].ravel() for one in good + bad]))
    assert not found[: len(good)].any()
    for one, fault in zip(bad, found[len(good) :]):
        turn = one[:3, :3]
        if not np.isfinite(one[:3]).all():
            assert FAULTS[fault] == FAULTS[1]
        elif np.abs(turn @ turn.T - np.eye(3)).max() > 0.03:
            assert FAULTS[fault] == FAULTS[3]
        else:
            assert np.linalg.det(turn) < 0
            assert FAULTS[fault] == FAULTS[2]


def scan(**changed) -> ScanRow:
    camera = CameraRow("c", "image", Place("0.png"), K, turned(1), (48, 64), 0, turned(2))
    row = ScanRow("s", "scan", 0, Place("0.bin"), turned(3), time_us=0, ego_to_world=turned(4))
    camera = replace(
        camera, **{key[7:]: value for key, value in changed.items() if key.startswith("camera.")}
    )
    row = replace(row, **{key: value for key, value in changed.items() if "." not in key})
    return replace(row, cameras=(camera,))


def write(folder: Path, row: ScanRow) -> None:
    (folder / "0.bin").write_bytes(np.zeros((1, 4), "<f4").tobytes())
    cv2.imwrite(str(folder / "0.png"), np.zeros((48, 64, 3), np.uint8))
    listed = ListedLog("made", load_card("semantickitti"), [row], sources=SOURCES)
    write_rows(folder, folder / "index", listed)


PLACES = {
    "lidar_to_ego": ("calib.txt", "the place of the LiDAR of the scan scan"),
    "ego_to_world": ("poses.txt", "the pose of the scan scan"),
    "camera.camera_to_ego": ("calib.txt", "the place of the camera of the image image"),
    "camera.ego_to_world": ("poses.txt", "the pose of the image image"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", WRONG)
def test_no_index_holds_a_transform_that_is_not_rigid(place, kind, tmp_path):
    change, fault = WRONG[kind]
    file, what = PLACES[place]
    with pytest.raises(InputError) as told:
        write(tmp_path, scan(**{place: change(turned(7))}))
    assert str(told.value) == f"{tmp_path / file}: {what} {fault}, so it is no rigid transform; mend it"
    assert not (tmp_path / "index").exists()


def test_one_of_several_lidars_is_looked_at_too(tmp_path):
    lidars = (LidarRow("a", turned(1)), LidarRow("b", scaled(turned(2))))
    with pytest.raises(
        InputError, match=r"calib.txt: the place of a LiDAR of the scan scan is not only turned"
    ):
        write(tmp_path, scan(lidars=lidars))


def test_unknown_poses_are_none_and_no_fault(tmp_path):
    write(tmp_path, scan(**{"ego_to_world": None, "camera.ego_to_world": None}))
    frame = LogIndex.open(tmp_path / "index").frame(0)
    assert frame.ego_to_world is None


@pytest.mark.parametrize(
    "intrinsics",
    [
        K * 0,
        K * [[-1], [1], [1]],
        K * [[1], [-1], [1]],
        K * np.nan,
        K * [[1], [1], [0]],
        K.T,
        K + [[0, 0, np.inf], [0] * 3, [0] * 3],
    ],
)
def test_no_index_holds_a_lens_that_shows_nothing(intrinsics, tmp_path):
    with pytest.raises(
        InputError, match=r"calib\.txt: the intrinsics of the image image are \[.*; mend them"
    ):
        write(tmp_path, scan(**{"camera.intrinsics": intrinsics}))


def kitti(folder: Path, *, lidar_to_camera: np.ndarray, pose: np.ndarray) -> None:
    sequence = folder / "sequences" / "00"
    (sequence / "velodyne").mkdir(parents=True)
    (sequence / "velodyne" / "000000.bin").write_bytes(np.zeros((3, 4), "<f4").tobytes())
    words = {
        name: " ".join(map(str, one[:3].ravel())) for name, one in (("Tr", lidar_to_camera), ("pose", pose))
    }
    projection = " ".join(map(str, np.hstack([K, np.zeros((3, 1))]).ravel()))
    (sequence / "calib.txt").write_text(f"P2: {projection}\nP3: {projection}\nTr: {words['Tr']}\n")
    (sequence / "poses.txt").write_text(words["pose"] + "\n")
    (sequence / "times.txt").write_text("0.0\n")


@pytest.mark.parametrize("change", [scaled, mirrored])
def test_a_mirrored_calibration_is_named_though_its_poses_look_sound(change, tmp_path):
    """Poses go from the camera to the LiDAR and back by it: mirrored twice, they are turned like any other."""
    good = {"lidar_to_camera": turned(1), "pose": turned(2)}
    kitti(tmp_path / "calib", **{**good, "lidar_to_camera": change(turned(1))})
    with pytest.raises(
        InputError, match=r"sequences/00/calib\.txt: Tr is (mirrored|not only turned).*; copy it again"
    ):
        prepare("semantickitti", tmp_path / "calib", tmp_path / "index")
    kitti(tmp_path / "poses", **{**good, "pose": change(turned(2))})
    with pytest.raises(
        InputError, match=r"poses\.txt: the pose of the scan 00_000000 is (mirrored|not only turned)"
    ):
        prepare("semantickitti", tmp_path / "poses", tmp_path / "index")
    kitti(tmp_path / "log", **good)
    prepare("semantickitti", tmp_path / "log", tmp_path / "index")
    assert LogIndex.open(tmp_path / "index").frame(0).ego_to_world is not None


@pytest.mark.parametrize("change", [scaled, mirrored])
def test_transforms_of_waymo_are_looked_at_where_points_are_made_by_them(change, tmp_path):
    assert np.array_equal(matrix(tmp_path, turned(1).ravel()), turned(1))
    with pytest.raises(InputError, match=r"a transform is .*, so it is no rigid transform; copy it again"):
        matrix(tmp_path, change(turned(1)).ravel())
