"""Waymo Open Dataset, version 2: one frame out of parquet files, as `waymo_points` wants it.

A segment has one file for each component, ``COMPONENT/SEGMENT.parquet``; the key of a frame is its time [microseconds],
of an image TIME/CAMERA.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError, MissingFileError
from ...geometry import Transform
from .arrow_tables import BYTES, INTEGER, NUMBER, NUMBERS, read_parquet_table
from .waymo_points import LABEL_CHANNELS, POSE_CHANNELS, RANGE_CHANNELS, TOP, Beams, matrix

# that a frame reads
COMPONENTS = ("lidar", "lidar_segmentation", "lidar_calibration", "vehicle_pose", "lidar_pose")
TIME, LASER, CAMERA = "key.frame_timestamp_micros", "key.laser_name", "key.camera_name"

_Images = dict[tuple[int, int], NDArray[Any]]


class ParquetFrame:
    """A `WaymoFrame`; ``path`` is the file of the component ``lidar``. What was read once is kept."""

    def __init__(self, path: Path, time_us: int) -> None:
        self.path, self.time_us = path, time_us
        self.labels_path = sibling(path, "lidar_segmentation")

    def beams(self, laser: int) -> Beams:
        """Of a LiDAR that has range images."""
        if laser not in self._beams:
            path = sibling(self.path, "lidar_calibration")
            raise InputError(f"{path}: has no row of the LiDAR {laser}; copy it again")
        return self._beams[laser]

    @cached_property
    def _beams(self) -> dict[int, Beams]:
        return read_beams(sibling(self.path, "lidar_calibration"))

    def range_images(self) -> _Images:
        """(LiDAR, echo) -> (H, W, 4)."""
        return self._range_images

    @cached_property
    def _range_images(self) -> _Images:
        return dict(_images(self.path, self.time_us, "LiDARComponent", RANGE_CHANNELS))

    def label_images(self) -> _Images:
        """(LiDAR, echo) -> (H, W, 2)."""
        return self._label_images

    @cached_property
    def _label_images(self) -> _Images:
        path = self.labels_path
        found = dict(_images(path, self.time_us, "LiDARSegmentationLabelComponent", LABEL_CHANNELS))
        if not found:
            raise InputError(f"{path}: has no frame {self.time_us}; prepare the log again")
        return found

    def vehicle_pose(self) -> Transform:
        """(4, 4) vehicle to world of the frame."""
        return self._vehicle_pose

    @cached_property
    def _vehicle_pose(self) -> Transform:
        path = sibling(self.path, "vehicle_pose")
        poses = read_poses(path, self.time_us)
        if self.time_us not in poses:
            raise InputError(f"{path}: has no frame {self.time_us}; copy it again")
        return poses[self.time_us]

    def pixel_poses(self, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """(H, W, 6) of the upper LiDAR."""
        if self._pixel_poses.shape[:2] != shape:
            raise InputError(
                f"{sibling(self.path, 'lidar_pose')}: has no poses of the frame {self.time_us} for an image of "
                f"{shape}; copy it again"
            )
        return self._pixel_poses

    @cached_property
    def _pixel_poses(self) -> NDArray[np.float64]:
        path = sibling(self.path, "lidar_pose")
        for (laser, _), image in _images(
            path, self.time_us, "LiDARPoseComponent", POSE_CHANNELS, echoes=(1,)
        ):
            if laser == TOP:
                return image.astype(np.float64)
        raise InputError(f"{path}: has no poses of the frame {self.time_us}; copy it again")


def read_parquet_image(path: Path, time_us: int, camera: int) -> bytes:
    """The JPEG of a camera."""
    image = "[CameraImageComponent].image"
    table = read_parquet_table(path, {image: BYTES}, {TIME: time_us, CAMERA: camera})
    if table.num_rows != 1:
        raise MissingFileError(
            f"{path}: has {table.num_rows} images of the camera {camera} at {time_us}; copy it again, or prepare the "
            "log again"
        )
    data: bytes = table[image][0].as_py()
    return data


def sibling(path: Path, component: str) -> Path:
    """The file of another component of the same segment."""
    return path.parent.parent / component / path.name


def read_lidars(path: Path) -> dict[int, set[int]]:
    """Time of each frame in a file of the component ``lidar`` -> the LiDARs that have a range image of it."""
    shape = "[LiDARComponent].range_image_return1.shape"
    seeing: dict[int, set[int]] = {}
    for row in read_parquet_table(path, {TIME: INTEGER, LASER: INTEGER, shape: NUMBERS}).to_pylist():
        seeing.setdefault(row[TIME], set()).update([row[LASER]] if row[shape] else [])
    return seeing


def read_beams(path: Path) -> dict[int, Beams]:
    """LiDAR -> how it sees."""
    part = "[LiDARCalibrationComponent]."
    mount, values = f"{part}extrinsic.transform", f"{part}beam_inclination.values"
    ends = [f"{part}beam_inclination.{end}" for end in ("min", "max")]
    kinds = {LASER: INTEGER, mount: NUMBERS, values: NUMBERS, **dict.fromkeys(ends, NUMBER)}
    beams = {}
    for row in read_parquet_table(path, kinds).to_pylist():
        laser, listed = row[LASER], row[values]
        inclinations = np.array(listed or [row[end] for end in ends], np.float64)
        if not np.isfinite(inclinations).all():
            raise InputError(f"{path}: inclinations of the LiDAR {laser} are not finite; copy it again")
        beams[laser] = Beams(matrix(path, row[mount]), inclinations, not listed)
    return beams


def read_poses(path: Path, frame_us: int | None = None) -> dict[int, Transform]:
    """Time of a frame -> vehicle to world; of one frame alone, if it is given."""
    name = "[VehiclePoseComponent].world_from_vehicle.transform"
    kinds = {TIME: INTEGER, name: NUMBERS}
    table = read_parquet_table(path, kinds, None if frame_us is None else {TIME: frame_us})
    return {row[TIME]: matrix(path, row[name]) for row in table.to_pylist()}


def _images(
    path: Path, frame_us: int, component: str, channels: int, echoes: Sequence[int] = (1, 2)
) -> Iterator[tuple[tuple[int, int], NDArray[Any]]]:
    """(LiDAR, echo) and (H, W, ``channels``) of every image of a frame in a file."""
    parts = {echo: f"[{component}].range_image_return{echo}" for echo in echoes}
    lists = [f"{part}.{what}" for part in parts.values() for what in ("values", "shape")]
    table = read_parquet_table(path, {LASER: INTEGER, **dict.fromkeys(lists, NUMBERS)}, {TIME: frame_us})
    for row in range(table.num_rows):
        for echo, part in parts.items():
            values, shape = table[f"{part}.values"][row].values, table[f"{part}.shape"][row].as_py()
            if values is None or not shape:
                continue
            array = values.to_numpy(zero_copy_only=False)
            is_whole = not values.null_count and all(isinstance(side, int) and side >= 0 for side in shape)
            if not is_whole or len(shape) != 3 or shape[2] != channels or math.prod(shape) != array.size:
                raise InputError(
                    f"{path}: frame {frame_us}: {array.size} numbers are no image of {tuple(shape)} with {channels} "
                    "channels; copy it again"
                )
            yield (int(table[LASER][row].as_py()), echo), array.reshape(shape)
