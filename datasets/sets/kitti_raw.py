"""KITTI raw: drives of the synchronised and rectified form, with the poses of a GPS and inertial unit, without labels.

Ego and LiDAR frame are the same. The number of a file, not its time, says which scan, image and pose belong together;
where a scan is missing, its line of timestamps.txt is blank.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from ...errors import InputError
from ...files.access import folder_names, read_text
from ...geometry import Transform, compose, invert
from ..card import DatasetCard
from ..formats.transforms import check_rigid
from ..records import CameraRow, Place, ScanRow
from .kitti_family import beside, counted, key_lines, stems

SOURCES = {
    "times": "DATE/DRIVE/velodyne_points/timestamps.txt",
    "poses": "DATE/DRIVE/oxts/data",
    "calibration": "DATE/calib_velo_to_cam.txt",
}
CAMERAS = ("image_02", "image_03")  # colour, left and right
_EARTH_RADIUS_M = 6378137.0
_MOST_PIXELS = 1e5  # of a side
_IMAGE_ENDINGS = (".png", ".jpg")


def scans(root: Path, card: DatasetCard, report: list[str]) -> Iterator[ScanRow]:
    """Every scan of every drive below ``root``, which holds one folder a date."""
    for date in _folders(root, "20"):
        calibration = None
        for drive in _folders(root / date, f"{date}_drive_"):
            if (root / date / drive / "velodyne_points" / "data").is_dir():
                calibration = calibration or _Calibration.read(root / date, report)
                yield from _drive(root, f"{date}/{drive}", drive, calibration, report)


def _folders(folder: Path, beginning: str) -> list[str]:
    return [name for name in folder_names(folder) if name.startswith(beginning)]


@dataclass(frozen=True, slots=True)
class _Calibration:
    """Of one date: what projects on each camera, and where the inertial unit is; None where its file is missing."""

    # intrinsics (3, 3), height and width of the images that they are for, camera to LiDAR
    cameras: Mapping[str, tuple[NDArray[np.float64], tuple[int, int], Transform]]
    lidar_to_imu: Transform | None

    @classmethod
    def read(cls, folder: Path, report: list[str]) -> _Calibration:
        imu, to_gray = folder / "calib_imu_to_velo.txt", folder / "calib_velo_to_cam.txt"
        lidar_to_imu = None
        if imu.is_file():
            lidar_to_imu = invert(_rigid(imu))
        else:
            report.append(f"{imu}: is not there; the scans of this date have no poses")
        path = folder / "calib_cam_to_cam.txt"
        if not path.is_file():
            report.append(f"{path}: is not there; the scans of this date have no images")
            return cls({}, lidar_to_imu)
        rows, lidar_to_gray = key_lines(path), _rigid(to_gray)
        rectified = np.eye(4)
        rectified[:3, :3] = _row(rows, "R_rect_00", 9, path).reshape(3, 3)
        check_rigid(path, "R_rect_00", rectified)
        cameras = {}
        for channel in CAMERAS:
            if f"P_rect_{channel[-2:]}" in rows:
                projection = _row(rows, f"P_rect_{channel[-2:]}", 12, path).reshape(3, 4)
                to_camera = compose(beside(path, projection), rectified, lidar_to_gray)
                size = _size(rows, f"S_rect_{channel[-2:]}", path)
                cameras[channel] = (projection[:, :3], size, invert(to_camera))
        return cls(cameras, lidar_to_imu)


def _row(rows: Mapping[str, NDArray[np.float64]], name: str, width: int, path: Path) -> NDArray[np.float64]:
    if len(rows.get(name, ())) != width:
        raise InputError(f"{path}: has no {name} of {width} numbers; copy the calibration of this date again")
    return rows[name]


def _size(rows: Mapping[str, NDArray[np.float64]], name: str, path: Path) -> tuple[int, int]:
    """Height and width [pixel] that the file states; (0, 0) where it does not, to take those of the images."""
    if name not in rows:
        return 0, 0
    width, height = _row(rows, name, 2, path).round().tolist()
    if not (1 <= width <= _MOST_PIXELS and 1 <= height <= _MOST_PIXELS):
        raise InputError(
            f"{path}: {name} is {width:g} x {height:g} pixels; copy the calibration of this date again"
        )
    return int(height), int(width)


def _rigid(path: Path) -> Transform:
    """The transform of the rows R and T of a calibration file."""
    rows = key_lines(path)
    a_to_b = np.eye(4)
    a_to_b[:3, :3] = _row(rows, "R", 9, path).reshape(3, 3)
    a_to_b[:3, 3] = _row(rows, "T", 3, path)
    check_rigid(path, "R", a_to_b)
    return a_to_b


def _drive(
    root: Path, inside: str, scene: str, calibration: _Calibration, report: list[str]
) -> Iterator[ScanRow]:
    folder = root / inside
    place = folder / "velodyne_points/data"
    numbers = counted(stems(place, ".bin"), re.compile("[0-9]+"), place, report)
    times = _times(folder / "velodyne_points/timestamps.txt", report)
    image_times = {channel: _times(folder / channel / "timestamps.txt", None) for channel in CAMERAS}
    images = {channel: _images(folder, channel) for channel in CAMERAS}
    for channel in CAMERAS:
        if images[channel] and channel not in calibration.cameras:
            report.append(
                f"{folder / channel}: its camera is in no calib_cam_to_cam.txt; its images are left out"
            )
    poses = _poses(folder / "oxts/data", calibration.lidar_to_imu, numbers)
    if any(int(after) - int(before) > 1 for before, after in pairwise(numbers)):
        report.append(f"{folder}: scans are missing; those on both sides of a gap are no neighbours")
    for stem in numbers:
        pose = poses.get(stem)
        token = f"{scene}_{stem}"
        yield ScanRow(
            scene=scene,
            token=token,
            order=int(stem),
            points=Place(f"{inside}/velodyne_points/data/{stem}.bin"),
            lidar_to_ego=np.eye(4),
            time_us=times.get(int(stem)),
            ego_to_world=pose,
            cameras=tuple(
                CameraRow(
                    channel=channel,
                    token=f"{token}_{channel}",
                    image=Place(f"{inside}/{channel}/data/{images[channel][stem]}"),
                    intrinsics=intrinsics,
                    camera_to_ego=camera_to_lidar,
                    size=size,
                    time_us=image_times[channel].get(int(stem)),
                    ego_to_world=pose,
                )
                for channel, (intrinsics, size, camera_to_lidar) in calibration.cameras.items()
                if stem in images[channel]
            ),
        )


def _images(folder: Path, channel: str) -> dict[str, str]:
    """Stem of each image of a camera -> its file name."""
    return {
        stem: stem + ending for ending in _IMAGE_ENDINGS for stem in stems(folder / channel / "data", ending)
    }


def _times(path: Path, report: list[str] | None) -> dict[int, int]:
    """Number of a line -> its time [microseconds]; blank lines belong to scans that are missing."""
    if not path.is_file():
        if report is not None:
            report.append(f"{path}: is not there; the scans go without times")
        return {}
    times = {}
    for number, line in enumerate(read_text(path).splitlines()):
        text = line.strip()
        if not text:
            continue
        try:
            seconds, _, fraction = text.partition(".")
            whole = datetime.strptime(seconds, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
            times[number] = int(whole.timestamp()) * 1_000_000 + round(float(f"0.{fraction or 0}") * 1e6)
        except ValueError as error:
            raise InputError(
                f"{path}: line {number + 1} is {text[:60]!r} and no time such as 2011-09-26 13:02:25.964389445; "
                "copy the file again"
            ) from error
    return times


def _poses(folder: Path, lidar_to_imu: Transform | None, numbers: list[str]) -> dict[str, Transform]:
    """Stem of each scan that has a packet -> LiDAR to world: metres east, north and up of the drive's first packet."""
    packets = stems(folder, ".txt")
    if lidar_to_imu is None or not packets:
        return {}
    first = _imu_to_earth(folder / f"{packets[0]}.txt", None)
    scale = first[1]
    wanted = set(numbers)
    poses = {}
    for stem in (stem for stem in packets if stem in wanted):
        pose = _imu_to_earth(folder / f"{stem}.txt", scale)[0]
        pose[:3, 3] -= first[0][:3, 3]
        poses[stem] = compose(pose, lidar_to_imu)
    return poses


def _imu_to_earth(path: Path, scale: float | None) -> tuple[Transform, float]:
    """Pose of the inertial unit by Mercator's projection, whose scale the first packet of a drive sets."""
    try:
        values = np.array(read_text(path).split(), dtype=np.float64)
    except ValueError:
        values = np.empty(0)
    if len(values) < 6 or not np.isfinite(values[:6]).all() or abs(values[0]) >= 90:
        raise InputError(f"{path}: must begin with six numbers, latitude (below 90) to yaw; copy it again")
    latitude, longitude, altitude, roll, pitch, yaw = values[:6].tolist()
    north = math.radians(latitude)  # numpy's logarithm and tangent differ from CPU to CPU
    scale = math.cos(north) if scale is None else scale
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("ZYX", [yaw, pitch, roll]).as_matrix()
    pose[0, 3] = scale * _EARTH_RADIUS_M * math.radians(longitude)
    pose[1, 3] = scale * _EARTH_RADIUS_M * math.log(math.tan(math.pi / 4 + north / 2))
    pose[2, 3] = altitude
    return pose, scale
