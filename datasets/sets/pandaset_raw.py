"""PandaSet as it is downloaded: pickled tables of points of two LiDARs in the world, six cameras, poses in JSON.

The poses of lidar/poses.json are those of the car near its rear axle at the end of each scan, not of a LiDAR; where the
Pandar64 is in that frame stands in the card. Each image has a pose of its own; the mount of a camera is that of its
first image between two scans, and where the car is at an image follows from the two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...files.access import folder_names, read_json
from ...geometry import Transform, compose, invert
from ..card import DatasetCard
from ..formats.images import image_size
from ..formats.pandaset_files import read_json_list, read_poses, table_files
from ..records import CameraRow, Place, ScanRow
from ..trajectory import LONGEST_GAP_US, Trajectory
from .kitti_family import counted, stems

SOURCES = {"times": "SEQUENCE/lidar/timestamps.json", "poses": "SEQUENCE/lidar/poses.json"}
# from x right, y forward, z up, as the poses have it
_TO_EGO = np.array([[0.0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
_NUMBER = re.compile("[0-9]{2,4}")  # of a scan and its images
CAMERAS = (
    "front_camera",
    "front_left_camera",
    "front_right_camera",
    "left_camera",
    "right_camera",
    "back_camera",
)


def scans(root: Path, card: DatasetCard, report: list[str]) -> Iterator[ScanRow]:
    """Every scan of every sequence below ``root``."""
    for name in folder_names(root, "lidar"):
        yield from _sequence(root, card, name, report)


def _sequence(root: Path, card: DatasetCard, name: str, report: list[str]) -> Iterator[ScanRow]:
    folder = root / name
    files = table_files(folder / "lidar")
    numbers = {int(stem): stem for stem in counted(sorted(files), _NUMBER, folder / "lidar", report)}
    if not numbers:
        return
    count = max(numbers) + 1
    poses = compose(read_poses(folder / "lidar/poses.json", count)[:count], invert(_TO_EGO))
    times_us = _times_us(folder / "lidar/timestamps.json", count)[:count]
    way = Trajectory.of(times_us, poses)
    lidar_to_ego = compose(_TO_EGO, invert(card.file_to_lidar))
    labelled = table_files(folder / "annotations/semseg")
    if not labelled:
        report.append(f"{folder}: has no labels of points; its scans go without")
    cameras = [_Camera.read(folder / "camera" / channel, way, poses, list(numbers)) for channel in CAMERAS]
    for number, stem in numbers.items():
        token = f"{name}_{number:02d}"
        yield ScanRow(
            scene=name,
            token=token,
            order=number,
            points=Place(f"{name}/lidar/{files[stem]}"),
            lidar_to_ego=lidar_to_ego,
            labels=Place(f"{name}/annotations/semseg/{labelled[stem]}") if stem in labelled else None,
            time_us=int(times_us[number]),
            ego_to_world=poses[number],
            cameras=tuple(row for camera in cameras if camera for row in camera.rows(name, number, token)),
        )


def _times_us(path: Path, count: int) -> NDArray[np.int64]:
    seconds = np.array([_number(path, value, "time in seconds") for value in read_json_list(path, count)])
    return np.round(seconds * 1e6).astype(np.int64)


def _number(path: Path, value: Any, meaning: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        raise InputError(f"{path}: {value!r} is no {meaning}; copy it again")
    return float(value)


@dataclass(frozen=True, slots=True)
class _Camera:
    channel: str
    numbers: frozenset[int]
    intrinsics: NDArray[np.float64]
    size: tuple[int, int]
    mount: Transform
    poses: NDArray[np.float64]  # of the camera
    times_us: NDArray[np.int64]

    @classmethod
    def read(
        cls, folder: Path, way: Trajectory, egos: NDArray[np.float64], scans: list[int]
    ) -> _Camera | None:
        """The camera of a sequence; None without images of its scans.

        Args:
            way: of the car. egos: (M, 4, 4) its poses at the scans by number. scans: the numbers of those there.
        """
        there = {int(stem) for stem in stems(folder, ".jpg") if _NUMBER.fullmatch(stem)}
        numbers = sorted(there.intersection(scans))
        if not numbers:
            return None
        count = max(numbers) + 1
        poses = read_poses(folder / "poses.json", count)
        times_us = _times_us(folder / "timestamps.json", count)
        between = ((n, way.at(int(times_us[n]), max_gap_us=LONGEST_GAP_US)) for n in numbers)
        # images are taken while the scanner turns, before the pose of their scan, by which a fast car moves metres
        known = ((n, ego) for n, ego in between if ego is not None)
        first, ego = next(known, (numbers[0], egos[numbers[0]]))
        return cls(
            channel=folder.name,
            numbers=frozenset(numbers),
            intrinsics=_intrinsics(folder / "intrinsics.json"),
            size=image_size(folder / f"{numbers[0]:02d}.jpg"),
            mount=compose(invert(ego), poses[first]),
            poses=poses,
            times_us=times_us,
        )

    def rows(self, sequence: str, number: int, token: str) -> Iterator[CameraRow]:
        """The image of a scan, if there is one."""
        if number in self.numbers:
            yield CameraRow(
                channel=self.channel,
                token=f"{token}_{self.channel}",
                image=Place(f"{sequence}/camera/{self.channel}/{number:02d}.jpg"),
                intrinsics=self.intrinsics,
                camera_to_ego=self.mount,
                size=self.size,
                time_us=int(self.times_us[number]),
                ego_to_world=compose(self.poses[number], invert(self.mount)),
            )


def _intrinsics(path: Path) -> NDArray[np.float64]:
    values = read_json(path, "copy it again")
    try:
        fx, fy, cx, cy = (
            _number(path, values[name], f"{name} in pixels") for name in ("fx", "fy", "cx", "cy")
        )
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: must hold fx, fy, cx and cy; copy it again") from error
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
