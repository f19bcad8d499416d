"""Waymo Open Dataset 2: points, labels and images of one frame out of parquet files, as `formats` wants them.

A segment has one file for each component, ``COMPONENT/SEGMENT.parquet``; the key of a frame is its time [microseconds],
of an image TIME/CAMERA. The rows of a frame's points are the pixels with a return: of the LiDARs 1 to 5 the first ones,
row by row, then the second ones. Geometry after the documentation of the dataset's own range images.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, MissingFileError
from ..geometry import Transform, invert
from .arrow_tables import BYTES, INTEGER, NUMBER, NUMBERS, read_parquet_table

TOP = 1  # the only LiDAR with labels, and with a pose for each pixel
LIDARS = ("TOP", "FRONT", "SIDE_LEFT", "SIDE_RIGHT", "REAR")  # 1 to 5
TIME, LASER, CAMERA = "key.frame_timestamp_micros", "key.laser_name", "key.camera_name"
_CHANNELS = {"range": 0, "intensity": 1, "elongation": 2}  # of a range image
_INSTANCE, _CLASS = 0, 1  # channels of a label image

Columns = Mapping[str, NDArray[Any]]


def read_waymo(path: Path, key: str, names: Sequence[str]) -> Columns:
    """The points of a frame in the frame of the vehicle at its time.

    Columns: x, y, z, intensity, elongation, ``lidar`` (0 to 4) and ``echo`` (1, 2).
    """
    frame_us = _number(path, key)
    mounts, inclinations = read_mounts(sibling(path, "lidar_calibration"))
    found: list[dict[str, NDArray[Any]]] = []
    for laser, echo, image in _range_images(path, frame_us):
        if laser not in mounts:
            raise InputError(
                f"{sibling(path, 'lidar_calibration')}: has no row of the LiDAR {laser}; copy it again"
            )
        row, column = np.nonzero(image[..., 0] > 0)
        xyz = _in_vehicle(path, image, row, column, mounts[laser], inclinations[laser])
        if laser == TOP:
            xyz = _to_frame(path, frame_us, image.shape[:2], row, column, xyz)
        values = dict(zip("xyz", xyz.astype(np.float32).T))
        values |= {name: image[row, column, place] for name, place in _CHANNELS.items()}
        values["lidar"] = np.full(len(row), laser - 1, np.uint8)
        values["echo"] = np.full(len(row), echo, np.uint8)
        found.append(values)
    if not found:
        raise InputError(f"{path}: has no frame {frame_us}; prepare the log again")
    unknown = sorted(set(names) - set(found[0]))
    if unknown:
        raise InputError(f"{path}: has no column {', '.join(unknown)}; mend the columns of the card")
    return {name: np.concatenate([values[name] for values in found]) for name in names}


def read_waymo_labels(path: Path, key: str, names: Sequence[str], *, channel: int = _CLASS) -> Columns:
    """A number for each point of ``read_waymo``, 0 for those of LiDARs without labels."""
    frame_us = _number(path, key)
    labels = {}
    for laser, echo, image in _images(path, frame_us, "LiDARSegmentationLabelComponent", 2):
        labels[laser, echo] = image[..., channel]
    if not labels:
        raise InputError(f"{path}: has no frame {frame_us}; prepare the log again")
    found = []
    for laser, echo, image in _range_images(sibling(path, "lidar"), frame_us):
        there = image[..., 0] > 0
        of_pixels = labels.get((laser, echo))
        if of_pixels is None:
            found.append(np.zeros(int(there.sum()), np.int32))
        elif of_pixels.shape != there.shape:
            raise InputError(
                f"{path}: frame {frame_us}: labels of {of_pixels.shape} for a range image of {there.shape}; copy both "
                "again"
            )
        else:
            found.append(of_pixels[there])
    return {names[0]: np.concatenate(found)}


def read_waymo_image(path: Path, key: str) -> bytes:
    """The JPEG of a camera."""
    time, _, camera = key.partition("/")
    frame_us, number = _number(path, time), _number(path, camera)
    image = "[CameraImageComponent].image"
    table = read_parquet_table(path, {image: BYTES}, {TIME: frame_us, CAMERA: number})
    if table.num_rows != 1:
        raise MissingFileError(
            f"{path}: has {table.num_rows} images of the camera {number} at {frame_us}; copy it again, or prepare the "
            "log again"
        )
    data: bytes = table[image][0].as_py()
    return data


def sibling(path: Path, component: str) -> Path:
    """The file of another component of the same segment."""
    return path.parent.parent / component / path.name


def read_mounts(path: Path) -> tuple[dict[int, Transform], dict[int, tuple[NDArray[np.float64], bool]]]:
    """LiDAR -> its transform to the vehicle, and its inclinations [rad] from below.

    These are a list of one a row (False), or the lower and upper end of what the rows share evenly (True).
    """
    part = "[LiDARCalibrationComponent]."
    mount, values = f"{part}extrinsic.transform", f"{part}beam_inclination.values"
    ends = [f"{part}beam_inclination.{end}" for end in ("min", "max")]
    kinds = {LASER: INTEGER, mount: NUMBERS, values: NUMBERS, **dict.fromkeys(ends, NUMBER)}
    mounts, inclinations = {}, {}
    for row in read_parquet_table(path, kinds).to_pylist():
        laser, listed = row[LASER], row[values]
        mounts[laser] = matrix(path, row[mount])
        inclinations[laser] = np.array(listed or [row[end] for end in ends], np.float64), not listed
        if not np.isfinite(inclinations[laser][0]).all():
            raise InputError(f"{path}: inclinations of the LiDAR {laser} are not finite; copy it again")
    return mounts, inclinations


def read_poses(path: Path, frame_us: int | None = None) -> dict[int, Transform]:
    """Time of a frame -> vehicle to world; of one frame alone, if it is given."""
    name = "[VehiclePoseComponent].world_from_vehicle.transform"
    kinds = {TIME: INTEGER, name: NUMBERS}
    table = read_parquet_table(path, kinds, None if frame_us is None else {TIME: frame_us})
    return {row[TIME]: matrix(path, row[name]) for row in table.to_pylist()}


def matrix(path: Path, values: Any) -> Transform:
    """(4, 4) of the sixteen numbers of a rigid transform."""
    found = np.array(values if values is not None else [], np.float64)
    if found.size != 16 or not np.isfinite(found).all():
        raise InputError(f"{path}: a transform is not sixteen finite numbers; copy it again")
    return found.reshape(4, 4)


def _number(path: Path, key: str) -> int:
    if not key.isdecimal():
        raise InputError(f"{path}: {key!r} is no frame of it; prepare the log again")
    return int(key)


def _range_images(path: Path, frame_us: int) -> Iterator[tuple[int, int, NDArray[Any]]]:
    """LiDAR, echo, (H, W, 4) image: the first echoes of all LiDARs, then the second ones."""
    images = {(laser, echo): image for laser, echo, image in _images(path, frame_us, "LiDARComponent", 4)}
    for echo in (1, 2):
        for laser in range(1, len(LIDARS) + 1):
            if (laser, echo) in images:
                yield laser, echo, images[laser, echo]


def _images(
    path: Path, frame_us: int, component: str, channels: int, echoes: Sequence[int] = (1, 2)
) -> Iterator[tuple[int, int, NDArray[Any]]]:
    """LiDAR, echo and (H, W, ``channels``) of every image of a frame in a file."""
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
            yield int(table[LASER][row].as_py()), echo, array.reshape(shape)


def _in_vehicle(
    path: Path,
    image: NDArray[Any],
    row: NDArray[np.int64],
    column: NDArray[np.int64],
    mount: Transform,
    inclination: tuple[NDArray[np.float64], bool],
) -> NDArray[np.float64]:
    """(N, 3) of pixels, in the vehicle at the time of each."""
    height, width = image.shape[:2]
    listed, is_range = inclination
    if is_range:
        low, high = listed
        listed = low + (np.arange(height) + 0.5) / height * (high - low)
    if len(listed) != height:
        raise InputError(
            f"{path}: a range image has {height} rows for {len(listed)} inclinations; copy it again"
        )
    upward = listed[::-1][row]
    azimuth = (2 * (width - column - 0.5) / width - 1) * np.pi - np.arctan2(mount[1, 0], mount[0, 0])
    distance = image[row, column, 0].astype(np.float64)
    flat = distance * np.cos(upward)
    xyz = np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), distance * np.sin(upward)], axis=1)
    return xyz @ mount[:3, :3].T + mount[:3, 3]


def _to_frame(
    path: Path,
    frame_us: int,
    shape: tuple[int, ...],
    row: NDArray[np.int64],
    column: NDArray[np.int64],
    xyz: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Points of the upper LiDAR, each in the vehicle at its own time, in the vehicle at the time of the frame."""
    poses = read_poses(sibling(path, "vehicle_pose"), frame_us)
    if frame_us not in poses:
        raise InputError(f"{sibling(path, 'vehicle_pose')}: has no frame {frame_us}; copy it again")
    world_to_vehicle = invert(poses[frame_us])
    world = _moved(_pixel_poses(sibling(path, "lidar_pose"), frame_us, shape)[row, column], xyz)
    return world @ world_to_vehicle[:3, :3].T + world_to_vehicle[:3, 3]


def _pixel_poses(path: Path, frame_us: int, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """(H, W, 6) roll, pitch, yaw [rad], x, y, z [m] of the vehicle in the world when the pixel was seen."""
    for laser, _, image in _images(path, frame_us, "LiDARPoseComponent", 6, echoes=(1,)):
        if laser == TOP and image.shape[:2] == shape:
            return image.astype(np.float64)
    raise InputError(f"{path}: has no poses of the frame {frame_us} for an image of {shape}; copy it again")


def _moved(poses: NDArray[np.float64], xyz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each point by its own pose: turned about x by roll, about y by pitch, about z by yaw, then shifted."""
    for angle, first, second in ((poses[:, 0], 1, 2), (poses[:, 1], 2, 0), (poses[:, 2], 0, 1)):
        cos, sin = np.cos(angle), np.sin(angle)
        turned = xyz.copy()
        turned[:, first] = cos * xyz[:, first] - sin * xyz[:, second]
        turned[:, second] = sin * xyz[:, first] + cos * xyz[:, second]
        xyz = turned
    return xyz + poses[:, 3:]
