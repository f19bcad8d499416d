"""RELLIS-3D: off-road drives with an Ouster LiDAR and one colour camera.

Ego and LiDAR frame are the same, with the camera in front. calib.txt of the archives is the identity, and is not read;
transforms.yaml has the pose of the camera in the frame of the sensor. Scans carry no times: images are matched by time
where a ``times.txt`` gives those of the scans, else by their numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...files.access import file_names, folder_names, read_text
from ...geometry import Transform, compose, invert, make_transform, matrix_of
from ..card import DatasetCard
from ..formats.yaml_files import read_yaml
from ..records import CameraRow, Place, ScanRow
from ..split_lists import split_of_paths
from ..trajectory import LONGEST_GAP_US, Trajectory
from .kitti_family import counted, number_lines, stems

SOURCES = {"times": "SSSSS/times.txt", "poses": "SSSSS/poses.txt", "calibration": "SSSSS/transforms.yaml"}
POINTS, LABELS, CAMERA = (
    "os1_cloud_node_kitti_bin",
    "os1_cloud_node_semantickitti_label_id",
    "pylon_camera_node",
)
SPLITS = ("train", "val", "test")
IMAGE_SIZE = (1200, 1920)  # that camera_info.txt belongs to
_LATEST_IMAGE_US = 50_000  # a scan takes 100 ms
_IMAGE = re.compile(r"frame(\d{6})-(\d{1,12})_(\d{3})\.jpg")


def scans(root: Path, card: DatasetCard, report: list[str]) -> Iterator[ScanRow]:
    """Every scan of every sequence below ``root``."""
    names = folder_names(root, POINTS)
    there = {f"{name}/{POINTS}/{file}" for name in names for file in file_names(root / name / POINTS, ".bin")}
    lists = {split: root / f"pt_{split}.lst" for split in SPLITS} if names else {}
    split_of = split_of_paths(lists, there, report, lambda split: f"; there is no split {split!r}")
    for name in names:
        yield from _sequence(root, card, name, split_of, report)


def _sequence(
    root: Path, card: DatasetCard, name: str, split_of: Mapping[str, str], report: list[str]
) -> Iterator[ScanRow]:
    folder = root / name
    names = counted(stems(folder / POINTS, ".bin"), re.compile("[0-9]{6}"), folder / POINTS, report)
    numbers = [int(stem) for stem in names]
    labelled = set(stems(folder / LABELS, ".label"))
    times = number_lines(folder / "times.txt", 1, numbers, report)
    times_us = {} if times is None else {n: round(float(times[n, 0]) * 1e6) for n in numbers}
    poses = number_lines(folder / "poses.txt", 12, numbers, report)
    to_lidar = card.file_to_lidar
    camera = _Camera.read(folder, name, to_lidar, report)
    if camera and times is None:
        report.append(
            f"{folder}: scans have no times, so images belong to scans of their number; where the two drift apart, "
            "write the scans' times from the rosbag to times.txt, one a line in seconds"
        )
    pose_of = {}
    if poses is not None:
        pose_of = {n: compose(matrix_of(poses[n]), invert(to_lidar)) for n in numbers}
    way = None
    if pose_of and len(set(times_us.values())) > 1:
        way = Trajectory.of(np.array([times_us[n] for n in numbers]), np.array([pose_of[n] for n in numbers]))
    for number in numbers:
        path = f"{name}/{POINTS}/{number:06d}.bin"
        pose = pose_of.get(number)
        yield ScanRow(
            scene=name,
            token=f"{name}_{number:06d}",
            order=number,
            points=Place(path),
            lidar_to_ego=np.eye(4),
            labels=Place(f"{name}/{LABELS}/{number:06d}.label") if f"{number:06d}" in labelled else None,
            time_us=times_us.get(number),
            ego_to_world=pose,
            cameras=() if camera is None else camera.rows(number, times_us.get(number), pose, way),
            split=split_of.get(path, ""),
        )


@dataclass(frozen=True, slots=True)
class _Camera:
    folder: str  # of the images, below the root
    files: tuple[str, ...]
    numbers: NDArray[np.int64]  # of each of these
    times_us: NDArray[np.int64]  # of each of these
    intrinsics: NDArray[np.float64]
    camera_to_ego: Transform

    @classmethod
    def read(cls, folder: Path, name: str, to_lidar: Transform, report: list[str]) -> _Camera | None:
        """The camera of a sequence; None without images, or where nothing says how it sees."""
        found = [match for match in map(_IMAGE.fullmatch, file_names(folder / CAMERA, ".jpg")) if match]
        lacks = [file for file in ("transforms.yaml", "camera_info.txt") if not (folder / file).is_file()]
        if not found or lacks:
            if found:
                report.append(f"{folder / lacks[0]}: is not there; the images of this sequence are left out")
            return None
        times_us = [int(match[2]) * 1_000_000 + int(match[3]) * 1000 for match in found]
        return cls(
            folder=f"{name}/{CAMERA}",
            files=tuple(match[0] for match in found),
            numbers=np.array([int(match[1]) for match in found]),
            times_us=np.array(times_us),
            intrinsics=_intrinsics(folder / "camera_info.txt"),
            camera_to_ego=compose(to_lidar, _camera_to_sensor(folder / "transforms.yaml")),
        )

    def rows(
        self, number: int, time_us: int | None, pose: Transform | None, way: Trajectory | None
    ) -> tuple[CameraRow, ...]:
        """The image of a scan, if there is one, seen from where the car is at its own time as far as that is known."""
        if time_us is None:
            at = np.flatnonzero(self.numbers == number)
        else:
            away_us = np.abs(self.times_us - time_us)
            at = np.flatnonzero((away_us == away_us.min()) & (away_us <= _LATEST_IMAGE_US))[:1]
        return tuple(
            CameraRow(
                channel=CAMERA,
                token=f"{self.folder.partition('/')[0]}_{number:06d}_{CAMERA}",
                image=Place(f"{self.folder}/{self.files[i]}"),
                intrinsics=self.intrinsics,
                camera_to_ego=self.camera_to_ego,
                size=IMAGE_SIZE,
                time_us=int(self.times_us[i]),
                ego_to_world=pose
                if way is None
                else way.around(self.times_us[i : i + 1], max_gap_us=LONGEST_GAP_US)[0],
            )
            for i in at[:1]
        )


def _intrinsics(path: Path) -> NDArray[np.float64]:
    try:
        fx, fy, cx, cy = map(float, read_text(path).split())
    except ValueError as error:
        raise InputError(f"{path}: must hold four numbers, fx fy cx cy; copy it again") from error
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])


def _camera_to_sensor(path: Path) -> Transform:
    """The pose of the camera in the frame of the Ouster."""
    values: Any = read_yaml(path).get("os1_cloud_node-pylon_camera_node")
    try:
        return make_transform([values["q"][axis] for axis in "wxyz"], [values["t"][axis] for axis in "xyz"])
    except (TypeError, KeyError, ValueError) as error:
        raise InputError(
            f"{path}: needs os1_cloud_node-pylon_camera_node with q (w, x, y, z) and t (x, y, z); copy it again"
        ) from error
