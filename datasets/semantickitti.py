"""SemanticKITTI: KITTI's odometry sequences with a class and an instance for each point.

Ego and LiDAR frame are the same. An image belongs to the scan of its number; the camera is triggered when the scanner
faces forward, and the scan is brought to that instant, so both have one pose.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, MissingFileError
from ..files.access import read_text, reading
from ..geometry import Transform, invert
from .card import DatasetCard
from .records import CameraRow, Place, ScanRow

CAMERAS = {"image_2": "P2", "image_3": "P3"}  # colour cameras, left and right, and their rows of calib.txt
SOURCES = {
    "times": "sequences/SS/times.txt",
    "poses": "sequences/SS/poses.txt",
    "calibration": "sequences/SS/calib.txt",
}
_COUNTED = re.compile(r"\d{6}")


def scans(root: Path, card: DatasetCard, report: list[str]) -> Iterator[ScanRow]:
    """Every scan of every sequence below ``root``, which holds sequences/ or dataset/sequences/."""
    inside = next((name for name in ("sequences", "dataset/sequences") if (root / name).is_dir()), None)
    if inside is None:
        raise MissingFileError(
            f"{root}: holds neither sequences/ nor dataset/sequences/; give the folder that does, with "
            "sequences/SS/velodyne/NNNNNN.bin in it"
        )
    with reading(root):
        names = sorted(
            name for name in os.listdir(root / inside) if (root / inside / name / "velodyne").is_dir()
        )
    holes: list[str] = []
    for name in names:
        rows = list(_sequence(root, f"{inside}/{name}", name, report))
        if any(after.order - before.order > 1 for before, after in pairwise(rows)):
            holes.append(name)
        yield from rows
    if holes:
        report.append(
            f"the numbers of the scans have gaps in {len(holes)} of {len(names)} sequences (first: {holes[0]}); scans "
            "on both sides of one are no neighbours"
        )


def _sequence(root: Path, inside: str, name: str, report: list[str]) -> Iterator[ScanRow]:
    folder = root / inside
    numbers = _numbers(folder / "velodyne", ".bin")
    labelled = set(_numbers(folder / "labels", ".label"))
    images = {channel: set(_numbers(folder / channel, ".png")) for channel in CAMERAS}
    cameras = _cameras(folder / "calib.txt", any(images.values()) or (folder / "poses.txt").is_file())
    times = _lines(folder / "times.txt", 1, numbers, report)
    poses = _lines(folder / "poses.txt", 12, numbers, report)
    for number in numbers:
        file = f"{number:06d}"
        time_us = None if times is None else round(float(times[number, 0]) * 1e6)
        pose = None if poses is None else _lidar_pose(poses[number], cameras["Tr"])
        labels = Place(f"{inside}/labels/{file}.label") if number in labelled else None
        yield ScanRow(
            scene=name,
            token=f"{name}_{file}",
            order=number,
            points=Place(f"{inside}/velodyne/{file}.bin"),
            lidar_to_ego=np.eye(4),
            labels=labels,
            instances=labels,
            time_us=time_us,
            ego_to_world=pose,
            cameras=tuple(
                CameraRow(
                    channel=channel,
                    token=f"{name}_{file}_{channel}",
                    image=Place(f"{inside}/{channel}/{file}.png"),
                    intrinsics=cameras[row][:, :3],
                    camera_to_ego=_camera_to_lidar(cameras[row], cameras["Tr"]),
                    time_us=time_us,
                    ego_to_world=pose,
                )
                for channel, row in CAMERAS.items()
                if number in images[channel]
            ),
        )


def _numbers(folder: Path, ending: str) -> list[int]:
    """Numbers of the files NNNNNN``ending`` in a folder, ascending; none where there is no such folder."""
    with reading(folder):
        names = os.listdir(folder) if folder.is_dir() else []
    return sorted(int(name[:6]) for name in names if name[6:] == ending and _COUNTED.fullmatch(name[:6]))


def _cameras(path: Path, needed: bool) -> dict[str, NDArray[np.float64]]:
    """(3, 4) matrices of calib.txt by name: P2, P3, and Tr from the LiDAR to the left grey camera."""
    if not path.is_file() and not needed:
        return {}
    found = {}
    for line in read_text(path).splitlines():
        name, _, values = line.partition(":")
        try:
            numbers = np.array(values.split(), dtype=np.float64)
        except ValueError:
            continue
        if len(numbers) == 12 and np.isfinite(numbers).all():
            found[name.strip()] = numbers.reshape(3, 4)
    for name in (*CAMERAS.values(), "Tr"):
        if name not in found:
            raise InputError(
                f"{path}: has no {name} of 12 numbers, without which points, poses and images do not meet; take the "
                "calib.txt of KITTI's odometry calibration archive (the one of the colour images has no Tr)"
            )
    return found


def _lines(path: Path, width: int, numbers: list[int], report: list[str]) -> NDArray[np.float64] | None:
    """(lines, ``width``) numbers of a text file of one line a scan, by number; None where there is no such file."""
    if not path.is_file():
        report.append(f"{path}: is not there; the scans go without")
        return None
    rows = [line.split() for line in read_text(path).splitlines()]
    try:
        values = np.array([row for row in rows if row], dtype=np.float64).reshape(-1, width)
    except ValueError as error:
        raise InputError(f"{path}: must hold {width} numbers a line; copy it again") from error
    if not np.isfinite(values).all() or (numbers and len(values) <= numbers[-1]):
        raise InputError(
            f"{path}: has {len(values)} lines of numbers for scans up to number {numbers[-1]}; copy it again"
        )
    return values


def _lidar_pose(line: NDArray[np.float64], lidar_to_camera: NDArray[np.float64]) -> Transform:
    """LiDAR to world: the line is the pose of the left grey camera, in a world of its first frame."""
    camera_to_world, to_camera = _square(line.reshape(3, 4)), _square(lidar_to_camera)
    return invert(to_camera) @ camera_to_world @ to_camera


def _camera_to_lidar(projection: NDArray[np.float64], lidar_to_gray: NDArray[np.float64]) -> Transform:
    """The projection is K [I | b]: the camera stands beside the left grey one, turned alike."""
    gray_to_camera = np.eye(4)
    gray_to_camera[:3, 3] = np.linalg.solve(projection[:, :3], projection[:, 3])
    return invert(gray_to_camera @ _square(lidar_to_gray))


def _square(upper: NDArray[np.float64]) -> Transform:
    return np.vstack([upper, [0.0, 0.0, 0.0, 1.0]])
