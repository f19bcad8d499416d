"""Waymo Open Dataset, version 2: parquet files as they are downloaded, five LiDARs in one scan and five cameras.

Labels are of the upper LiDAR and of some frames. Points are brought to the time of their frame; images have the pose of
the vehicle at their own. Their distortion is in the calibration, their rolling shutter is left aside.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..files.access import reading
from ..geometry import Transform
from .arrow_tables import INTEGER, NUMBER, NUMBERS, read_parquet_table
from .card import DatasetCard
from .records import RADIAL_TANGENTIAL, CameraRow, LidarRow, Place, ScanRow
from .waymo_files import CAMERA, LIDARS, TIME, matrix, read_mounts, read_poses, sibling

SOURCES = {"poses": "vehicle_pose/SEGMENT.parquet", "calibration": "lidar_calibration/SEGMENT.parquet"}
FOLDERS = {"training": "train", "validation": "val", "testing": "test", "": ""}  # of the download -> split
CAMERAS = ("FRONT", "FRONT_LEFT", "FRONT_RIGHT", "SIDE_LEFT", "SIDE_RIGHT")  # 1 to 5
# x forward, y left, z up of a camera of the dataset from x right, y down, z forward
_FROM_OPTICAL = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
_EDGE = 0.5  # its pixel 0 begins where the image does, ours is the centre of the first pixel
_LENS = "[CameraCalibrationComponent]."
_IMAGE = "[CameraImageComponent]."


def scans(root: Path, card: DatasetCard, report: list[str]) -> Iterator[ScanRow]:
    """Every frame of every segment below ``root``, or below its folders training, validation and testing."""
    for folder, split in FOLDERS.items():
        inside = f"{folder}/lidar".lstrip("/")
        with reading(root / inside):
            names = sorted(os.listdir(root / inside)) if (root / inside).is_dir() else []
        for name in names:
            if name.endswith(".parquet"):
                yield from _Segment(root, folder, name.removesuffix(".parquet"), split, report).frames()


@dataclass
class _Segment:
    root: Path
    folder: str
    name: str
    split: str
    report: list[str]

    def _inside(self, component: str) -> str:
        return f"{self.folder}/{component}/{self.name}.parquet".lstrip("/")

    def frames(self) -> Iterator[ScanRow]:
        path = self.root / self._inside("lidar")
        times = _times(path)
        mounts, _ = read_mounts(sibling(path, "lidar_calibration"))
        lidars = tuple(LidarRow(name, mounts[i]) for i, name in enumerate(LIDARS, start=1) if i in mounts)
        if len(lidars) < len(LIDARS):
            raise InputError(
                f"{sibling(path, 'lidar_calibration')}: has {len(lidars)} of {len(LIDARS)} LiDARs; copy it again"
            )
        poses = read_poses(sibling(path, "vehicle_pose"))
        segmentation = self.root / self._inside("lidar_segmentation")
        labelled = set(_times(segmentation)) if segmentation.is_file() else set()
        cameras = self._cameras()
        for order, time_us in enumerate(times):
            labels = Place(self._inside("lidar_segmentation"), str(time_us)) if time_us in labelled else None
            yield ScanRow(
                scene=self.name,
                token=f"{self.name}_{time_us}",
                order=order,
                points=Place(self._inside("lidar"), str(time_us)),
                lidar_to_ego=np.eye(4),
                labels=labels,
                instances=labels,
                time_us=time_us,
                ego_to_world=poses.get(time_us),
                lidars=lidars,
                split=self.split,
                cameras=tuple(cameras.get(time_us, ())),
            )

    def _cameras(self) -> dict[int, list[CameraRow]]:
        """Time of a frame -> its images; none where the segment was downloaded without them."""
        path = self.root / self._inside("camera_image")
        if not path.is_file():
            return {}
        lenses = _lenses(sibling(path, "camera_calibration"))
        pose, pose_time = f"{_IMAGE}pose.transform", f"{_IMAGE}pose_timestamp"
        kinds = {TIME: INTEGER, CAMERA: INTEGER, pose: NUMBERS, pose_time: NUMBER}
        found: dict[int, list[CameraRow]] = {}
        for row in read_parquet_table(path, kinds).to_pylist():
            number, time_us = row[CAMERA], row[TIME]
            if number not in lenses or not 1 <= number <= len(CAMERAS):
                raise InputError(
                    f"{sibling(path, 'camera_calibration')}: has no row of the camera {number}; copy it again"
                )
            channel = CAMERAS[number - 1]
            if not math.isfinite(row[pose_time]):
                raise InputError(f"{path}: a time of an image is not finite; copy it again")
            found.setdefault(time_us, []).append(
                CameraRow(
                    channel=channel,
                    token=f"{self.name}_{time_us}_{channel}",
                    image=Place(self._inside("camera_image"), f"{time_us}/{number}"),
                    time_us=round(row[pose_time] * 1e6),
                    ego_to_world=matrix(path, row[pose]),
                    **lenses[number],
                )
            )
        return found


def _times(path: Path) -> list[int]:
    """Times of the frames in a file, ascending."""
    return sorted(set(read_parquet_table(path, {TIME: INTEGER})[TIME].to_pylist()))


def _lenses(path: Path) -> dict[int, dict[str, Any]]:
    """Camera -> how it sees, as `CameraRow` has it."""
    lens = [f"{_LENS}intrinsic.{name}" for name in ("f_u", "f_v", "c_u", "c_v")]
    distortion = [f"{_LENS}intrinsic.{name}" for name in ("k1", "k2", "p1", "p2", "k3")]
    height, width, mount = (f"{_LENS}{name}" for name in ("height", "width", "extrinsic.transform"))
    kinds = {**dict.fromkeys((CAMERA, height, width), INTEGER), mount: NUMBERS}
    found = {}
    for row in read_parquet_table(path, {**kinds, **dict.fromkeys((*lens, *distortion), NUMBER)}).to_pylist():
        if not all(math.isfinite(row[name]) for name in (*lens, *distortion)):
            raise InputError(f"{path}: the lens of the camera {row[CAMERA]} is not finite; copy it again")
        fx, fy, cx, cy = (row[name] for name in lens)
        camera_to_vehicle: Transform = matrix(path, row[mount]) @ _FROM_OPTICAL
        found[row[CAMERA]] = {
            "intrinsics": np.array([[fx, 0, cx - _EDGE], [0, fy, cy - _EDGE], [0, 0, 1]]),
            "camera_to_ego": camera_to_vehicle,
            "size": (row[height], row[width]),
            "model": RADIAL_TANGENTIAL,
            "distortion": tuple(float(row[name]) for name in distortion),
        }
    return found
