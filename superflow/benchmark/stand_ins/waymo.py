"""A stand-in of Waymo Open 2: parquet files of range images, label images, poses and JPEGs.

The upper LiDAR sees the street, the four others nothing. A range image has a row for each beam, and points lie in the
middle of their pixels, as there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from ...datasets.card import DatasetCard
from ...datasets.formats.waymo_points import LIDARS, TOP
from ...datasets.sets.waymo import CAMERAS
from ...files.writes import write_atomically
from ...geometry import OPTICAL, Transform, invert
from .recording import MOUNT, Street, Taken
from .words import raw_ids

_EDGE = 0.5  # pixel 0 begins where the image does
_SHORT = (8, 16)  # rows and columns of the images of the other LiDARs
_SHORT_RAD = (-1.57, 0.52)
_MOST = 0.999  # of an intensity: tanh never reaches 1

Columns = dict[str, Any]


def write_waymo(streets: Sequence[Street], root: Path, card: DatasetCard) -> None:
    """All streets but the last in ``training``, the last in ``validation``; every other frame has labels."""
    for street in streets:
        split = "training" if street is not streets[-1] else "validation"
        for component, columns in _components(street, list(street.taken()), card).items():
            path = root / split / component / f"{street.name}.parquet"
            with write_atomically(path, sync=False) as file:
                parquet.write_table(pa.table(columns), file)


def _components(street: Street, scans: Sequence[Taken], card: DatasetCard) -> dict[str, Columns]:
    ids = raw_ids(card)
    shape = (len(street.lidar.elevations), street.lidar.columns)
    seen = [_pixels(scan, shape) for scan in scans]
    images = [_range_image(scan, at, shape, card) for scan, at in zip(scans, seen)]
    empty = np.full((*_SHORT, 4), -1, np.float32)
    lasers = [(scan.time_us, laser) for scan in scans for laser in range(1, len(LIDARS) + 1)]
    ranges = [image if laser == TOP else empty for image in images for laser in range(1, len(LIDARS) + 1)]
    labelled = [number for number in range(len(scans)) if number % 2 == 0]
    classes = [_class_image(scans[number], seen[number], shape, ids) for number in labelled]
    vehicle = [scan.lidar_to_world @ invert(MOUNT) for scan in scans]
    moving = [np.tile(_roll_pitch_yaw(pose), (*shape, 1)) for pose in vehicle]
    times = [scan.time_us for scan in scans]
    found = {
        "lidar": _keys(street, lasers, "laser")
        | _images("LiDARComponent", 1, ranges, pa.float32())
        | _images("LiDARComponent", 2, [None] * len(ranges), pa.float32()),
        "lidar_calibration": _calibration(street),
        "lidar_pose": _keys(street, [(time, TOP) for time in times], "laser")
        | _images("LiDARPoseComponent", 1, moving, pa.float32()),
        "vehicle_pose": _keys(street, [(time, 0) for time in times], "")
        | {"[VehiclePoseComponent].world_from_vehicle.transform": _matrices(vehicle)},
        "lidar_segmentation": _keys(street, [(times[number], TOP) for number in labelled], "laser")
        | _images("LiDARSegmentationLabelComponent", 1, classes, pa.int32())
        | _images("LiDARSegmentationLabelComponent", 2, [None] * len(classes), pa.int32()),
    }
    return found | _cameras(street, scans, vehicle)


def _calibration(street: Street) -> Columns:
    part = "[LiDARCalibrationComponent]."
    return {
        "key.segment_context_name": [street.name] * len(LIDARS),
        "key.laser_name": pa.array(range(1, len(LIDARS) + 1), pa.int8()),
        f"{part}extrinsic.transform": _matrices([MOUNT] * len(LIDARS)),
        f"{part}beam_inclination.min": [_SHORT_RAD[0]] * len(LIDARS),
        f"{part}beam_inclination.max": [_SHORT_RAD[1]] * len(LIDARS),
        f"{part}beam_inclination.values": pa.array(
            [street.lidar.elevations.tolist(), *[None] * (len(LIDARS) - 1)], pa.list_(pa.float64())
        ),
    }


def _class_image(
    scan: Taken, seen: Sequence[NDArray[Any]], shape: tuple[int, int], ids: NDArray[Any]
) -> NDArray[np.int32]:
    """(H, W, 2) instance, class."""
    image = np.zeros((*shape, 2), np.int32)
    rows, columns, points = seen
    image[rows, columns, 1] = ids[scan.finer[points]]
    return image


def _pixels(scan: Taken, shape: tuple[int, int]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Row, column and number of the points that a range image holds: of several in a pixel the nearest."""
    height, width = shape
    azimuth = np.arctan2(scan.xyz[:, 1], scan.xyz[:, 0])
    rows = height - 1 - scan.ring.astype(np.int64)
    columns = np.rint(width - 0.5 - width * (azimuth / np.pi + 1) / 2).astype(np.int64) % width
    order = np.argsort(np.linalg.norm(scan.xyz, axis=1), kind="stable")
    _, first = np.unique(rows[order] * width + columns[order], return_index=True)
    points = order[first]
    return rows[points], columns[points], points


def _range_image(scan: Taken, seen: Sequence[NDArray[Any]], shape: tuple[int, int], card: DatasetCard) -> Any:
    """(H, W, 4) range, intensity, elongation, no-label zone; -1 without return."""
    rows, columns, points = seen
    image = np.full((*shape, 4), -1, np.float32)
    image[rows, columns] = 0
    image[rows, columns, 0] = np.linalg.norm(scan.xyz[points], axis=1)
    image[rows, columns, 1] = np.arctanh(np.minimum(scan.intensity[points], _MOST)) * card.intensity_max
    return image


def _roll_pitch_yaw(pose: Transform) -> NDArray[np.float32]:
    """(6,) of Rz(yaw) Ry(pitch) Rx(roll) and the position."""
    r = pose[:3, :3]
    angles = (np.arctan2(r[2, 1], r[2, 2]), -np.arcsin(np.clip(r[2, 0], -1, 1)), np.arctan2(r[1, 0], r[0, 0]))
    return np.array([*angles, *pose[:3, 3]], np.float32)


def _cameras(street: Street, scans: Sequence[Taken], vehicle: Sequence[Transform]) -> dict[str, Columns]:
    part, numbers = "[CameraCalibrationComponent].", range(1, len(CAMERAS) + 1)
    eyes = [street.eyes[channel] for channel in CAMERAS]
    lens = {
        "f_u": [eye.intrinsics[0, 0] for eye in eyes],
        "f_v": [eye.intrinsics[1, 1] for eye in eyes],
        "c_u": [eye.intrinsics[0, 2] + _EDGE for eye in eyes],
        "c_v": [eye.intrinsics[1, 2] + _EDGE for eye in eyes],
        **dict.fromkeys(("k1", "k2", "p1", "p2", "k3"), [0.0] * len(eyes)),
    }
    rows = [(scan.time_us, number) for scan in scans for number in numbers]
    pictures = [
        cv2.imencode(".jpg", scan.images[name][..., ::-1])[1].tobytes() for scan in scans for name in CAMERAS
    ]
    return {
        "camera_calibration": {
            "key.segment_context_name": [street.name] * len(eyes),
            "key.camera_name": pa.array(numbers, pa.int8()),
            **{f"{part}intrinsic.{name}": values for name, values in lens.items()},
            f"{part}extrinsic.transform": _matrices(
                [MOUNT @ eye.camera_to_lidar @ invert(OPTICAL) for eye in eyes]
            ),
            f"{part}width": pa.array([eye.size[1] for eye in eyes], pa.int32()),
            f"{part}height": pa.array([eye.size[0] for eye in eyes], pa.int32()),
        },
        "camera_image": _keys(street, rows, "camera")
        | {
            "[CameraImageComponent].image": pa.array(pictures, pa.binary()),
            "[CameraImageComponent].pose.transform": _matrices([pose for pose in vehicle for _ in CAMERAS]),
            "[CameraImageComponent].pose_timestamp": [time * 1e-6 for time, _ in rows],
        },
    }


def _keys(street: Street, rows: Sequence[tuple[int, int]], name: str) -> Columns:
    found: Columns = {
        "key.segment_context_name": [street.name] * len(rows),
        "key.frame_timestamp_micros": pa.array([time for time, _ in rows], pa.int64()),
    }
    return found | ({f"key.{name}_name": pa.array([number for _, number in rows], pa.int8())} if name else {})


def _images(component: str, echo: int, arrays: Sequence[NDArray[Any] | None], kind: Any) -> Columns:
    part = f"[{component}].range_image_return{echo}"
    flat = [None if array is None else array.ravel() for array in arrays]
    shapes = [None if array is None else list(array.shape) for array in arrays]
    return {
        f"{part}.values": pa.array(flat, pa.list_(kind)),
        f"{part}.shape": pa.array(shapes, pa.list_(pa.int32())),
    }


def _matrices(values: Sequence[Transform]) -> Any:
    return pa.array([value.ravel() for value in values], pa.list_(pa.float64()))
