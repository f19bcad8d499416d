"""KITTI raw: eight frames of a real drive against a plain read, and lines of timestamps that are blank."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import small_drives

from superflow.camera.projection import project
from superflow.clips.dataset import PretrainDataset
from superflow.datasets.index import LogIndex
from superflow.datasets.prepare import prepare
from superflow.errors import InputError

DRIVE = "2011_09_26/2011_09_26_drive_0009_sync"


@pytest.fixture(scope="session")
def raw_root(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("kitti_raw")
    subprocess.run([sys.executable, shared_data / "kitti" / "unpack.py", target], check=True)
    return target / "kitti_raw"


@pytest.fixture(scope="session")
def raw(raw_root: Path, tmp_path_factory: pytest.TempPathFactory) -> LogIndex:
    return prepare("kitti_raw", raw_root, tmp_path_factory.mktemp("prepared"))


def keys(path: Path) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in path.read_text().splitlines() if ": " in line)


def by_hand(path: Path, *names: str) -> list[np.ndarray]:
    return [np.array(keys(path)[name].split(), float) for name in names]


def test_points_and_projection_are_those_of_the_published_chain(raw, raw_root):
    date = raw_root / "2011_09_26"
    projection, rectify = by_hand(date / "calib_cam_to_cam.txt", "P_rect_02", "R_rect_00")
    turn, shift = by_hand(date / "calib_velo_to_cam.txt", "R", "T")
    chain = np.eye(4)
    chain[:3, :3] = rectify.reshape(3, 3)
    velo = np.eye(4)
    velo[:3, :3], velo[:3, 3] = turn.reshape(3, 3), shift
    assert len(raw) == 8
    for row in (0, 7):
        points = np.fromfile(raw_root / DRIVE / f"velodyne_points/data/{row:010d}.bin", "<f4").reshape(-1, 4)
        frame = raw.frame(row)
        np.testing.assert_array_equal(frame.points, points)
        assert frame.labels is None
        (camera,) = frame.cameras
        seen = project(frame.points, frame.lidar_to_camera(camera), camera.lens)
        uvw = (
            np.column_stack([points[:, :3], np.ones(len(points))])
            @ (projection.reshape(3, 4) @ chain @ velo).T
        )
        np.testing.assert_allclose(seen.pixels, uvw[seen.rows, :2] / uvw[seen.rows, 2:], atol=0.01)
        height, width = camera.image.shape[:2]
        with np.errstate(divide="ignore", invalid="ignore"):
            u, v = uvw[:, 0] / uvw[:, 2], uvw[:, 1] / uvw[:, 2]
        inside = (uvw[:, 2] > 1) & (u > 0) & (v > 0) & (u < width - 1) & (v < height - 1)
        assert abs(int(inside.sum()) - len(seen)) <= 3
        assert 0.1 < len(seen) / len(points) < 0.2


def test_poses_are_mercators_and_the_car_moves_as_fast_as_its_unit_says(raw, raw_root):
    def imu(number: int, scale: float) -> np.ndarray:
        packet = (raw_root / DRIVE / f"oxts/data/{number:010d}.txt").read_text().split()
        lat, lon, alt, roll, pitch, yaw = map(float, packet[:6])
        c, s = math.cos, math.sin
        rz = np.array([[c(yaw), -s(yaw), 0], [s(yaw), c(yaw), 0], [0, 0, 1]])
        ry = np.array([[c(pitch), 0, s(pitch)], [0, 1, 0], [-s(pitch), 0, c(pitch)]])
        rx = np.array([[1, 0, 0], [0, c(roll), -s(roll)], [0, s(roll), c(roll)]])
        pose = np.eye(4)
        pose[:3, :3] = rz @ ry @ rx
        radius = 6378137.0
        pose[:3, 3] = (
            scale * lon * math.pi * radius / 180,
            scale * radius * math.log(math.tan((90 + lat) * math.pi / 360)),
            alt,
        )
        return pose

    turn, shift = by_hand(raw_root / "2011_09_26/calib_imu_to_velo.txt", "R", "T")
    imu_to_velo = np.eye(4)
    imu_to_velo[:3, :3], imu_to_velo[:3, 3] = turn.reshape(3, 3), shift
    first = (raw_root / DRIVE / "oxts/data/0000000000.txt").read_text().split()
    scale = math.cos(float(first[0]) * math.pi / 180)
    begin = imu(0, scale)
    for row in range(8):
        want = imu(row, scale)
        want[:3, 3] -= begin[:3, 3]
        np.testing.assert_allclose(
            raw.frame(row, points=False, images=False).ego_to_world,
            want @ np.linalg.inv(imu_to_velo),
            atol=1e-6,
        )
    moved = np.linalg.norm(raw.ego_positions()[7] - raw.ego_positions()[0])
    seconds = (raw.time_us[7] - raw.time_us[0]) * 1e-6
    assert moved / seconds == pytest.approx(math.hypot(float(first[6]), float(first[7])), rel=0.03)


def test_images_come_ten_milliseconds_after_the_scan_and_clips_are_made_of_them(raw):
    assert raw.camera_delays()["image_02"] * 1e3 == pytest.approx(np.full(8, 10.5), abs=2)
    dataset = PretrainDataset(
        raw,
        region="world_cell",
        times={"offsets": [-1, 0, 1]},
        clouds={"sweeps": 1, "max_points": 4000},
        views={"size": (96, 320), "flip": 0.0},
    )
    batch = dataset[3]
    assert len(batch.images) == 3
    assert len(batch.pair_point) > 100


def cut(raw_root: Path, target: Path) -> Path:
    """The drive without the points of scan 3, whose line of the timestamps is blank."""
    shutil.copytree(raw_root, target)
    (target / DRIVE / "velodyne_points/data/0000000003.bin").unlink()
    path = target / DRIVE / "velodyne_points/timestamps.txt"
    lines = path.read_text().splitlines()
    lines[3] = ""
    path.write_text("\n".join(lines) + "\n")
    return target


def test_times_belong_to_lines_where_some_are_blank(raw, raw_root, tmp_path):
    index = prepare("kitti_raw", cut(raw_root, tmp_path / "log"), tmp_path / "out")
    assert index.order.tolist() == [0, 1, 2, 4, 5, 6, 7]
    assert index.time_us.tolist() == np.delete(raw.time_us, 3).tolist()
    assert any("scans are missing" in warning for warning in index.warnings)
    path = tmp_path / "log" / DRIVE / "velodyne_points/timestamps.txt"
    path.write_text("2011-09-26 13:08:24.9\nyesterday\n")
    with pytest.raises(InputError, match=r"timestamps.txt: line 2 is 'yesterday' and no time"):
        prepare("kitti_raw", tmp_path / "log", tmp_path / "out")


def test_a_drive_of_one_scan_without_times_poses_and_most_of_the_calibration(shared_data, tmp_path):
    root = shared_data / "fragments/kitti_raw"
    index = prepare("kitti_raw", root, tmp_path / "out")
    frame = index.frame(0)
    folder = root / "2011_09_26/2011_09_26_drive_unknown_sync"
    want = np.fromfile(folder / "velodyne_points/data/0000000000.bin", "<f4").reshape(-1, 4)
    np.testing.assert_array_equal(frame.points, want)
    assert (frame.time_us, frame.ego_to_world, len(frame.cameras)) == (None, None, 1)
    assert any("calib_imu_to_velo.txt: is not there" in warning for warning in index.warnings)


@pytest.mark.parametrize("size", ["0 32", "-48 32", "1e300 32"])
def test_a_size_that_no_image_has_is_refused(size, tmp_path):
    small_drives.kitti_raw(tmp_path / "log")
    path = tmp_path / "log/2011_09_26/calib_cam_to_cam.txt"
    path.write_text(path.read_text().replace("S_rect_02: 48 32", f"S_rect_02: {size}"))
    with pytest.raises(
        InputError, match=r"calib_cam_to_cam\.txt: S_rect_02 is .* pixels; copy the calibration"
    ):
        prepare("kitti_raw", tmp_path / "log", tmp_path / "index")


def test_images_of_another_size_than_the_calibration_is_for(tmp_path):
    """A copy with smaller images would be paired with the pixels of the whole ones; KITTI states the size of those."""
    log = tmp_path / "log"
    small_drives.kitti_raw(log)
    images = sorted((log / DRIVE / "image_02/data").iterdir())
    assert len(images) > 1
    whole = prepare("kitti_raw", log, tmp_path / "whole").frame(0).cameras[0]
    assert whole.size == whole.image.shape[:2] == (32, 48)
    for image in images:
        cv2.imwrite(str(image), cv2.resize(cv2.imread(str(image)), (24, 16)))
    index = prepare("kitti_raw", log, tmp_path / "smaller")
    with pytest.raises(
        InputError, match=r"is 24 x 16 pixels but its intrinsics are for 48 x 32; prepare .* --rescale-intrin"
    ):
        index.frame(0)
    half = prepare("kitti_raw", log, tmp_path / "rescaled", rescale_intrinsics=True).frame(0).cameras[0]
    assert half.size == half.image.shape[:2] == (16, 24)
    ray = np.array([0.2, -0.1, 1.0])
    u, v, _ = whole.intrinsics @ ray
    np.testing.assert_allclose(half.intrinsics @ ray, [(u + 0.5) / 2 - 0.5, (v + 0.5) / 2 - 0.5, 1])


@pytest.mark.parametrize("latitude", ["90", "-90.0", "1e3", "nan"])
def test_a_place_that_is_not_on_earth_is_refused(raw_root, tmp_path, latitude):
    shutil.copytree(raw_root, tmp_path / "log")
    path = tmp_path / "log" / DRIVE / "oxts/data/0000000002.txt"
    path.write_text(" ".join([latitude, *path.read_text().split()[1:]]))
    with pytest.raises(
        InputError, match=r"0000000002\.txt: must begin with six numbers, latitude \(below 90\)"
    ):
        prepare("kitti_raw", tmp_path / "log", tmp_path / "out")
