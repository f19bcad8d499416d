"""Argoverse 2, sensor data: two LiDARs above each other in one file, seven ring cameras, boxes; no point labels.

Points are in the ego frame and brought to the time of the sweep; images are undistorted. A sweep has the image of each
camera that is nearest in time, with the pose of the car at that image.
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
from ...files.access import folder_names
from ...geometry import Transform, compose, make_transform, to_quaternion
from ..card import DatasetCard
from ..formats.arrow_tables import INTEGER, NUMBER, TEXT, read_feather_table
from ..records import Boxes, CameraRow, LidarRow, Place, ScanRow
from .kitti_family import counted, stems

SOURCES = {
    "poses": "LOG/city_SE3_egovehicle.feather",
    "calibration": "LOG/calibration/egovehicle_SE3_sensor.feather",
}
SPLITS = ("train", "val", "test")  # folders of logs, where they are kept apart
LIDARS = ("up_lidar", "down_lidar")  # in the order of their lasers
_LATEST_IMAGE_NS = 50_000_000  # one turn of a LiDAR takes 100 ms, and a ring camera sees every 50 ms
_POSE = ("qw", "qx", "qy", "qz", "tx_m", "ty_m", "tz_m")
_LENS = ("fx_px", "fy_px", "cx_px", "cy_px", "height_px", "width_px")
_SIZE = ("length_m", "width_m", "height_m")
_BOX = {
    **dict.fromkeys((*_SIZE, *_POSE), NUMBER),
    **dict.fromkeys(("timestamp_ns", "num_interior_pts"), INTEGER),
    **dict.fromkeys(("track_uuid", "category"), TEXT),
}


def scans(root: Path, card: DatasetCard, report: list[str]) -> Iterator[ScanRow]:
    """Every sweep of every log below ``root``, or below its folders train, val and test."""
    for split in ("", *SPLITS):
        folder = root / split
        for log in folder_names(folder, "sensors/lidar"):
            yield from _Log(root, f"{split}/{log}".lstrip("/"), log, split, report).sweeps()


@dataclass
class _Log:
    root: Path
    inside: str
    scene: str
    split: str
    report: list[str]

    def sweeps(self) -> Iterator[ScanRow]:
        folder = self.root / self.inside
        mounts = _mounts(folder / "calibration/egovehicle_SE3_sensor.feather")
        missing = [name for name in LIDARS if name not in mounts]
        if missing:
            path = folder / SOURCES["calibration"].partition("/")[2]
            raise InputError(f"{path}: has no row {missing[0]}; copy the calibration again")
        lidars = tuple(LidarRow(name, mounts[name]) for name in LIDARS)
        poses = _poses(folder / "city_SE3_egovehicle.feather")
        cameras = self._cameras(mounts)
        boxes = _annotations(folder / "annotations.feather")
        place = folder / "sensors/lidar"
        times = sorted(
            int(stem) for stem in counted(stems(place, ".feather"), re.compile("[0-9]+"), place, self.report)
        )
        without = 0
        for order, time_ns in enumerate(times):
            pose = poses.get(time_ns)
            without += pose is None
            yield ScanRow(
                scene=self.scene,
                token=f"{self.scene}_{time_ns}",
                order=order,
                points=Place(f"{self.inside}/sensors/lidar/{time_ns}.feather"),
                lidar_to_ego=np.eye(4),
                time_us=time_ns // 1000,
                ego_to_world=pose,
                boxes=None if boxes is None or pose is None else _in_world(boxes, time_ns, pose),
                lidars=lidars,
                split=self.split,
                cameras=tuple(_nearest(cameras, time_ns, poses, f"{self.scene}_{time_ns}", self.inside)),
            )
        if without:
            self.report.append(f"{folder}: {without} of {len(times)} sweeps have no pose; they go without")

    def _cameras(self, mounts: Mapping[str, Transform]) -> dict[str, _Camera]:
        """The ring cameras of which there are images, by name."""
        folder = self.root / self.inside
        found = {}
        lenses = None
        for name in folder_names(folder / "sensors/cameras"):
            times = [
                int(stem) for stem in stems(folder / "sensors/cameras" / name, ".jpg") if stem.isdecimal()
            ]
            if not name.startswith("ring_") or not times:
                continue
            path = folder / "calibration/intrinsics.feather"
            lenses = _rows(path, _LENS, "sensor_name", TEXT) if lenses is None else lenses
            if name not in lenses or name not in mounts:
                raise InputError(
                    f"{path.parent}: has no calibration of the camera {name}; copy the calibration again"
                )
            fx, fy, cx, cy, height, width = lenses[name]
            intrinsics = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
            found[name] = _Camera(
                np.array(sorted(times)), intrinsics, (int(height), int(width)), mounts[name]
            )
        return found


@dataclass(frozen=True, slots=True)
class _Camera:
    times_ns: NDArray[np.int64]  # ascending, of its images
    intrinsics: NDArray[np.float64]
    size: tuple[int, int]
    mount: Transform


def _nearest(
    cameras: Mapping[str, _Camera], time_ns: int, poses: Mapping[int, Transform], token: str, inside: str
) -> Iterator[CameraRow]:
    for name, camera in cameras.items():
        image_ns = int(camera.times_ns[np.abs(camera.times_ns - time_ns).argmin()])
        if abs(image_ns - time_ns) <= _LATEST_IMAGE_NS:
            yield CameraRow(
                channel=name,
                token=f"{token}_{name}",
                image=Place(f"{inside}/sensors/cameras/{name}/{image_ns}.jpg"),
                intrinsics=camera.intrinsics,
                camera_to_ego=camera.mount,
                size=camera.size,
                time_us=image_ns // 1000,
                ego_to_world=poses.get(image_ns),
            )


def _rows(path: Path, names: tuple[str, ...], key: str, kind: str) -> dict[Any, NDArray[np.float64]]:
    """The numbers ``names`` of each row of a table by its ``key``."""
    table = read_feather_table(path, {key: kind, **dict.fromkeys(names, NUMBER)})
    return dict(zip(table[key].to_pylist(), _numbers(path, table, names)))


def _numbers(path: Path, table: Any, names: tuple[str, ...]) -> NDArray[np.float64]:
    """(rows, names) of a table."""
    values = np.stack([table[name].to_numpy().astype(np.float64) for name in names], axis=1)
    if not np.isfinite(values).all():
        raise InputError(f"{path}: holds numbers that are not finite; copy it again")
    return values


def _transforms(path: Path, rows: NDArray[np.float64]) -> Transform:
    """(N, 4, 4) of rows of ``_POSE``."""
    try:
        return make_transform(rows[:, :4], rows[:, 4:])
    except ValueError as error:
        raise InputError(f"{path}: {error}; copy it again") from error


def _mounts(path: Path) -> dict[str, Transform]:
    """Sensor -> its transform to the ego frame."""
    rows = _rows(path, _POSE, "sensor_name", TEXT)
    return dict(zip(rows, _transforms(path, np.array(list(rows.values())).reshape(-1, len(_POSE)))))


def _poses(path: Path) -> dict[int, Transform]:
    """Time [ns] -> ego to city."""
    if not path.is_file():
        return {}
    rows = _rows(path, _POSE, "timestamp_ns", INTEGER)
    return dict(zip(rows, _transforms(path, np.array(list(rows.values())).reshape(-1, len(_POSE)))))


@dataclass(frozen=True, slots=True)
class _Annotations:
    """The boxes of a log, in the ego frame of their sweep."""

    times_ns: NDArray[np.int64]
    box_to_ego: Transform  # (N, 4, 4)
    sizes: NDArray[np.float64]
    categories: list[str]
    tracks: list[str]
    points: NDArray[np.int64]


def _annotations(path: Path) -> _Annotations | None:
    """None without the file."""
    if not path.is_file():
        return None
    table = read_feather_table(path, _BOX)
    return _Annotations(
        times_ns=table["timestamp_ns"].to_numpy(),
        box_to_ego=_transforms(path, _numbers(path, table, _POSE)),
        sizes=_numbers(path, table, _SIZE),
        categories=table["category"].to_pylist(),
        tracks=table["track_uuid"].to_pylist(),
        points=table["num_interior_pts"].to_numpy(),
    )


def _in_world(boxes: _Annotations, time_ns: int, ego_to_world: Transform) -> Boxes | None:
    """The boxes of one sweep; None before the first and after the last one that was annotated."""
    if not len(boxes.times_ns) or not boxes.times_ns.min() <= time_ns <= boxes.times_ns.max():
        return None
    rows = np.flatnonzero(boxes.times_ns == time_ns)
    to_world = compose(ego_to_world, boxes.box_to_ego[rows])
    return Boxes.placed(
        centers=to_world[:, :3, 3],
        sizes=boxes.sizes[rows],
        rotations=to_quaternion(to_world).reshape(-1, 4) if len(rows) else np.zeros((0, 4)),
        categories=tuple(boxes.categories[row] for row in rows),
        tracks=tuple(boxes.tracks[row] for row in rows),
        points=boxes.points[rows].astype(np.int32),
    )
