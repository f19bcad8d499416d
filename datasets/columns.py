"""The scans of a log as columns of numbers and text, which is what an index stores, and back."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..geometry import Transform, matrix_of
from .records import CAMERA_MODELS, Boxes, CameraRow, LidarRow, Place, ScanRow
from .store import Columns, text_column
from .trajectory import Trajectory

NO_TIME = np.iinfo(np.int64).min  # in columns of times; a pose that is not known is NaN
MOST_DISTORTION = max(CAMERA_MODELS.values())
_MOST_NAMES = 2**15  # codes of channels and categories are int16
_NO_POSE = np.full(12, np.nan).tobytes()


class Names:
    """Code of every scene, channel and box category; channels and categories by the alphabet in the end."""

    def __init__(self, scenes: Sequence[str], channels: Sequence[str], categories: Sequence[str]) -> None:
        self.lidars: dict[str, int] = {}
        self.scenes = {name: code for code, name in enumerate(scenes)}
        self.channels = {name: code for code, name in enumerate(channels)}
        self.categories = {name: code for code, name in enumerate(categories)}


def _code(codes: dict[str, int], name: str) -> int:
    return codes.setdefault(name, len(codes))


def _sort_names(codes: dict[str, int]) -> NDArray[np.int16]:
    """(old code) -> new code by the alphabet; ``codes`` is brought to it."""
    if len(codes) > _MOST_NAMES:
        raise InputError(
            f"the log holds {len(codes)} different names of cameras or of box categories; an index can tell "
            f"{_MOST_NAMES} apart, use fewer"
        )
    ordered = sorted(codes)
    new = {name: code for code, name in enumerate(ordered)}
    table = np.zeros(max(1, len(codes)), dtype=np.int16)
    for name, old in codes.items():
        table[old] = new[name]
    codes.clear()
    codes.update(new)
    return table


class Rows:
    """Columns that grow by a scan at a time."""

    def __init__(self) -> None:
        self.scene, self.order, self.time_us = array("q"), array("q"), array("q")
        self.is_key, self.has_boxes = bytearray(), bytearray()
        self.text: dict[str, list[str]] = {name: [] for name in _FRAME_TEXT}
        self.lidar_to_ego, self.ego_to_world = bytearray(), bytearray()
        self.cameras = _CameraRows()
        self.boxes: list[tuple[int, Boxes]] = []
        self.lidars: list[tuple[int, LidarRow]] = []

    def add(self, scan: ScanRow, names: Names) -> None:
        number = len(self.scene)
        self.scene.append(_code(names.scenes, scan.scene))
        self.order.append(scan.order)
        self.time_us.append(NO_TIME if scan.time_us is None else scan.time_us)
        self.is_key.append(scan.is_key)
        self.has_boxes.append(scan.boxes is not None)
        places = (scan.points, scan.labels, scan.instances)
        values = [scan.token, scan.sample, scan.split]
        for place in places:
            values += _texts(place)
        for name, value in zip(_FRAME_TEXT, values):
            self.text[name].append(value)
        self.lidar_to_ego += _flat(scan.lidar_to_ego)
        self.ego_to_world += _flat(scan.ego_to_world)
        for camera in scan.cameras:
            self.cameras.add(number, camera, names)
        if scan.boxes is not None:
            self.boxes.append((number, scan.boxes))
        if scan.lidars and all(lidar.points not in (None, scan.points) for lidar in scan.lidars):
            raise InputError(
                f"the scan {scan.token} of {scan.scene} lists LiDARs that all have files of their own; let its points "
                "be those of one of them"
            )
        self.lidars += [(number, lidar) for lidar in scan.lidars]

    def columns(self, names: Names) -> dict[str, Columns]:
        """Frames by scene and order, cameras by frame and channel, boxes and LiDARs by frame."""
        scene, place = np.array(self.scene, np.int32), np.array(self.order, np.int64)
        order = np.lexsort((place, scene))
        row_of = np.empty(len(order), np.int64)
        row_of[order] = np.arange(len(order))
        frames: Columns = {
            "scene": scene[order],
            "order": place[order],
            "time_us": np.array(self.time_us, np.int64)[order],
            "is_key": np.frombuffer(bytes(self.is_key), np.bool_)[order],
            "has_boxes": np.frombuffer(bytes(self.has_boxes), np.bool_)[order],
            **{name: text_column(values)[order] for name, values in self.text.items()},
            "lidar_to_ego": np.frombuffer(self.lidar_to_ego).reshape(-1, 12)[order],
            "ego_to_world": np.frombuffer(self.ego_to_world).reshape(-1, 12)[order],
        }
        return {
            "frames": frames,
            "cameras": self.cameras.columns(row_of, names),
            "boxes": _box_columns(self.boxes, row_of, names),
            "lidars": _lidar_columns(self.lidars, row_of, names),
        }


_FRAME_TEXT = (
    *("token", "sample", "split", "path", "key"),
    *("label_path", "label_key", "instance_path", "instance_key"),
)
_CAMERA_TEXT = ("token", "path", "key", "model")


class _CameraRows:
    def __init__(self) -> None:
        self.frame, self.channel, self.time_us = array("q"), array("h"), array("q")
        self.height, self.width = array("i"), array("i")
        self.text: dict[str, list[str]] = {name: [] for name in _CAMERA_TEXT}
        self.intrinsics, self.distortion = bytearray(), bytearray()
        self.camera_to_ego, self.ego_to_world = bytearray(), bytearray()

    def add(self, frame: int, camera: CameraRow, names: Names) -> None:
        if camera.model not in CAMERA_MODELS:
            raise InputError(
                f"the image {camera.token} of {camera.channel} is of a camera of the model {camera.model!r}, and "
                f"points are projected with {', '.join(CAMERA_MODELS)} alone; undistort the images first"
            )
        most = CAMERA_MODELS[camera.model]
        if len(camera.distortion) > most or not np.isfinite(camera.distortion).all():
            raise InputError(
                f"the image {camera.token} of {camera.channel} has the distortion {camera.distortion}, but the model "
                f"{camera.model} has {most} finite numbers; mend the calibration"
            )
        self.frame.append(frame)
        self.channel.append(_code(names.channels, camera.channel))
        self.time_us.append(NO_TIME if camera.time_us is None else camera.time_us)
        self.height.append(camera.size[0])
        self.width.append(camera.size[1])
        for name, value in zip(
            _CAMERA_TEXT, (camera.token, camera.image.path, camera.image.key, camera.model)
        ):
            self.text[name].append(value)
        self.intrinsics += np.asarray(camera.intrinsics, np.float64).tobytes()
        distortion = np.zeros(MOST_DISTORTION)
        distortion[: len(camera.distortion)] = camera.distortion
        self.distortion += distortion.tobytes()
        self.camera_to_ego += _flat(camera.camera_to_ego)
        self.ego_to_world += _flat(camera.ego_to_world)

    def columns(self, row_of: NDArray[np.int64], names: Names) -> Columns:
        channel = _sort_names(names.channels)[np.array(self.channel, np.int16)]
        frame = row_of[np.array(self.frame, np.int64)]
        order = np.lexsort((channel, frame))
        numbers = {"intrinsics": 9, "distortion": MOST_DISTORTION, "camera_to_ego": 12, "ego_to_world": 12}
        return {
            "frame": frame[order],
            "channel": channel[order],
            "time_us": np.array(self.time_us, np.int64)[order],
            "height": np.array(self.height, np.int32)[order],
            "width": np.array(self.width, np.int32)[order],
            **{name: text_column(values)[order] for name, values in self.text.items()},
            **{
                name: np.frombuffer(getattr(self, name), np.float64).reshape(-1, width)[order]
                for name, width in numbers.items()
            },
        }


def _box_columns(listed: list[tuple[int, Boxes]], row_of: NDArray[np.int64], names: Names) -> Columns:
    listed = sorted(((int(row_of[number]), boxes) for number, boxes in listed), key=lambda pair: pair[0])
    category = array("q")
    for _, boxes in listed:
        category.extend(_code(names.categories, name) for name in boxes.categories)

    def joined(name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        return np.concatenate([np.zeros((0, *shape), dtype), *(getattr(boxes, name) for _, boxes in listed)])

    counts = [len(boxes) for _, boxes in listed]
    return {
        "frame": np.repeat(np.array([row for row, _ in listed], np.int64), counts),
        "category": _sort_names(names.categories)[np.array(category, np.int64)],
        "track": text_column([track for _, boxes in listed for track in boxes.tracks]),
        "status": text_column([word for _, boxes in listed for word in boxes.status]),
        "center": joined("centers", (3,), np.float64),
        "size": joined("sizes", (3,), np.float64),
        "rotation": joined("rotations", (4,), np.float64),
        "velocity": joined("velocities", (3,), np.float64),
        "points": joined("points", (), np.int32),
    }


_LIDAR_TEXT = ("path", "key", "label_path", "label_key")


def _lidar_columns(listed: list[tuple[int, LidarRow]], row_of: NDArray[np.int64], names: Names) -> Columns:
    listed = sorted(((int(row_of[number]), lidar) for number, lidar in listed), key=lambda pair: pair[0])
    places = [(_texts(lidar.points) + _texts(lidar.labels)) for _, lidar in listed]
    return {
        "frame": np.array([row for row, _ in listed], np.int64),
        "name": np.array([_code(names.lidars, lidar.name) for _, lidar in listed], np.int16),
        **{name: text_column([place[i] for place in places]) for i, name in enumerate(_LIDAR_TEXT)},
        "lidar_to_ego": np.frombuffer(b"".join(_flat(lidar.lidar_to_ego) for _, lidar in listed)).reshape(
            -1, 12
        ),
    }


def lidar_rows(table: Columns, row: int, names: Sequence[str]) -> tuple[LidarRow, ...]:
    """The LiDARs that the scan ``row`` is merged from; none where it is of a single one."""
    start, stop = np.searchsorted(table["frame"], [row, row + 1]).tolist()
    found = []
    for i in range(start, stop):
        path, key, label_path, label_key = (table[name][i].decode() for name in _LIDAR_TEXT)
        points, labels = (
            Place(*pair) if pair[0] else None for pair in ((path, key), (label_path, label_key))
        )
        found.append(LidarRow(names[table["name"][i]], matrix_of(table["lidar_to_ego"][i]), points, labels))
    return tuple(found)


def _texts(place: Place | None) -> list[str]:
    return ["", ""] if place is None else [place.path, place.key]


def _flat(transform: Transform | None) -> bytes:
    """The upper rows of a transform; NaN where it is not known."""
    return _NO_POSE if transform is None else np.asarray(transform, np.float64)[:3].tobytes()


def boxes_of(table: Columns, row: int, categories: Sequence[str]) -> Boxes:
    """The boxes of the scan ``row``."""
    start, stop = np.searchsorted(table["frame"], [row, row + 1])
    return Boxes(
        centers=table["center"][start:stop].copy(),
        sizes=table["size"][start:stop].copy(),
        rotations=table["rotation"][start:stop].copy(),
        categories=tuple(categories[i] for i in table["category"][start:stop]),
        tracks=tuple(value.decode() for value in table["track"][start:stop].tolist()),
        velocities=table["velocity"][start:stop].copy(),
        status=tuple(value.decode() for value in table["status"][start:stop].tolist()),
        points=table["points"][start:stop].copy(),
    )


def pose_of(values: NDArray[np.float64]) -> Transform | None:
    """(4, 4) from the 12 numbers of its upper rows; None where it is not known."""
    return None if np.isnan(values[0]) else matrix_of(values)


def trajectory_of(times_us: NDArray[np.int64], poses: NDArray[np.float64]) -> Trajectory | None:
    """The scans of one scene whose time and pose are both known; None where these are fewer than two.

    Args:
        times_us: (S,) and poses: (S, 12), as stored.
    """
    known = (times_us != NO_TIME) & ~np.isnan(poses).any(axis=1)
    if len(np.unique(times_us[known])) < 2:
        return None
    return Trajectory.of(times_us[known], matrix_of(poses[known]))


def time_of(value: np.int64) -> int | None:
    """A time in microseconds; None where it is not known."""
    return None if value == NO_TIME else int(value)
