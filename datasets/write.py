"""An index from the scans that a dataset's reader lists: one writer for every dataset."""

from __future__ import annotations

import logging
import os
from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..files.access import check_place
from ..geometry import Transform
from ..progress import Progress, silent
from .card import DatasetCard
from .complete import KEY_FRAMES_ONLY, keep_frames, keep_scenes, whole_scenes
from .names import check_file_names, check_picture_names
from .read import image_size
from .records import CAMERA_MODELS, Boxes, CameraRow, ScanRow
from .store import Columns, text_column, write_tables

logger = logging.getLogger(__name__)

NO_TIME = np.iinfo(np.int64).min  # in columns of times; a pose that is not known is NaN
MOST_DISTORTION = 8  # parameters of a camera model
_MOST_NAMES = 2**15  # codes of channels and categories are int16
_NO_POSE = np.full(12, np.nan).tobytes()


@dataclass
class ListedLog:
    """What a dataset's reader says of a log: its scans, and what they are to be read with.

    Attributes:
        dataset: name in the table of datasets. scans: in any order, each scene's together.
        warnings: sentences for the user; a reader may add some while it lists.
        version: which of several tables of the log was read. variant: ``clean``, or the corruption of a copy.
        sources: what is wrong in ``times``, ``poses`` or ``calibration`` stands in these files, below the root.
        scenes, channels, categories: names beyond those that occur in the scans, in the order of their codes.
    """

    dataset: str
    card: DatasetCard
    scans: Iterable[ScanRow]
    warnings: list[str] = field(default_factory=list)
    version: str = ""
    variant: str = "clean"
    sources: dict[str, str] = field(default_factory=dict)
    scenes: list[str] = field(default_factory=list)
    channels: list[str] = field(default_factory=list)
    categories: list[str] = field(default_factory=list)


def write_rows(
    root: Path,
    out: Path,
    listed: ListedLog,
    *,
    rescale_intrinsics: bool = False,
    complete_scenes: bool = False,
    key_frames_only: bool = False,
    progress: Progress = silent,
) -> None:
    """Write the index of a listed log under ``root`` into the folder ``out``, replacing an older one in one step.

    Args:
        rescale_intrinsics: take every image's size from its file and scale the intrinsics by the ratio to the size
            that was listed: for a copy of a log whose images were made smaller.
        complete_scenes: leave out scenes of which files are missing: for a log that was downloaded in part.
        key_frames_only: leave out the sweeps between key frames: for a log that comes without their files.

    Raises:
        InputError: nothing is listed, names or times contradict each other; nothing is written.
    """
    check_place(out)
    names = _Names(listed)
    rows = _Rows()
    for scan in listed.scans:
        rows.add(scan, names)
    if not len(rows.scene):
        raise InputError(f"{root}: holds no scan of {listed.dataset}; check the log's root")
    frames, cameras, boxes = rows.columns(names)
    scenes = list(names.scenes)
    _check(root, listed, frames, cameras, names)
    if key_frames_only:
        keep_frames(frames["is_key"], frames, cameras, boxes)
    whole = whole_scenes(root, frames, cameras, len(scenes))
    if complete_scenes:
        keep_scenes(whole, frames, cameras, boxes)
        scenes = [scene for scene, kept in zip(scenes, whole) if kept]
        if not scenes:
            raise InputError(
                f"{root}: no scene has all the files that its tables name; complete the download, or leave out the "
                f"sweeps with {KEY_FRAMES_ONLY} if only those are missing"
            )
    if rescale_intrinsics or (cameras["width"] <= 0).any() or (cameras["height"] <= 0).any():
        _sizes_from_images(cameras, root, progress)
    header = {
        "dataset": listed.dataset,
        "version": listed.version,
        "variant": listed.variant,
        "sources": listed.sources,
        "card": listed.card.to_dict(),
        "card_hash": listed.card.hash,
        "scenes": scenes,
        "channels": list(names.channels),
        "box_categories": list(names.categories),
        "warnings": listed.warnings,
        "counts": {
            "key_frames": int(frames["is_key"].sum()),
            "sweeps": int((~frames["is_key"]).sum()),
            "images": len(cameras["frame"]),
            "boxes": len(boxes["frame"]),
        },
    }
    place = {
        "root": str(root.absolute()),
        "root_from_index": os.path.relpath(root.absolute(), out.absolute()),
    }
    write_tables(out, header, place, {"frames": frames, "cameras": cameras, "boxes": boxes})


class _Names:
    """Code of every scene, channel and box category; channels and categories by the alphabet in the end."""

    def __init__(self, listed: ListedLog) -> None:
        self.scenes = {name: code for code, name in enumerate(listed.scenes)}
        self.channels = {name: code for code, name in enumerate(listed.channels)}
        self.categories = {name: code for code, name in enumerate(listed.categories)}


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


class _Rows:
    """Columns that grow by a scan at a time."""

    def __init__(self) -> None:
        self.scene, self.order, self.time_us = array("q"), array("q"), array("q")
        self.is_key, self.has_boxes = bytearray(), bytearray()
        self.text: dict[str, list[str]] = {name: [] for name in _FRAME_TEXT}
        self.lidar_to_ego, self.ego_to_world = bytearray(), bytearray()
        self.cameras = _CameraRows()
        self.boxes: list[tuple[int, Boxes]] = []

    def add(self, scan: ScanRow, names: _Names) -> None:
        number = len(self.scene)
        self.scene.append(_code(names.scenes, scan.scene))
        self.order.append(scan.order)
        self.time_us.append(NO_TIME if scan.time_us is None else scan.time_us)
        self.is_key.append(scan.is_key)
        self.has_boxes.append(scan.boxes is not None)
        places = (scan.points, scan.labels, scan.instances)
        values = [scan.token, scan.sample, scan.split]
        for place in places:
            values += ["", ""] if place is None else [place.path, place.key]
        for name, value in zip(_FRAME_TEXT, values):
            self.text[name].append(value)
        self.lidar_to_ego += _flat(scan.lidar_to_ego)
        self.ego_to_world += _flat(scan.ego_to_world)
        for camera in scan.cameras:
            self.cameras.add(number, camera, names)
        if scan.boxes is not None:
            self.boxes.append((number, scan.boxes))

    def columns(self, names: _Names) -> tuple[Columns, Columns, Columns]:
        """Frames by scene and order, cameras by frame and channel, boxes by frame."""
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
        return frames, self.cameras.columns(row_of, names), _box_columns(self.boxes, row_of, names)


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

    def add(self, frame: int, camera: CameraRow, names: _Names) -> None:
        if camera.model not in CAMERA_MODELS:
            raise InputError(
                f"the image {camera.token} of {camera.channel} is of a camera of the model {camera.model!r}, and "
                f"points are projected with {', '.join(CAMERA_MODELS)} alone; undistort the images first"
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

    def columns(self, row_of: NDArray[np.int64], names: _Names) -> Columns:
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


def _box_columns(listed: list[tuple[int, Boxes]], row_of: NDArray[np.int64], names: _Names) -> Columns:
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


def _flat(transform: Transform | None) -> bytes:
    """The upper rows of a transform; NaN where it is not known."""
    return _NO_POSE if transform is None else np.asarray(transform, np.float64)[:3].tobytes()


def _check(root: Path, listed: ListedLog, frames: Columns, cameras: Columns, names: _Names) -> None:
    """What every index relies on: names that are files and occur once, places that ascend with time."""
    tokens = [token.decode() for token in frames["token"].tolist()]
    images = [token.decode() for token in cameras["token"].tolist()]
    check_file_names(tokens, "token", root)
    check_file_names(images, "token", root)
    check_file_names(list(names.channels), "channel", root)
    check_picture_names(root, list(names.scenes), tokens, list(names.channels))
    for kind, listed_names in (("scans", tokens), ("images", images)):
        if len(set(listed_names)) < len(listed_names):
            twice = Counter(listed_names).most_common(1)[0][0]
            raise InputError(f"{root}: two {kind} have the name {twice}; list each once")
    same = np.diff(frames["scene"]) == 0
    scenes = list(names.scenes)
    for i in np.flatnonzero(same & (np.diff(frames["order"]) == 0))[:1].tolist():
        raise InputError(
            f"{root}: the scans {tokens[i]} and {tokens[i + 1]} have the same place in {scenes[frames['scene'][i]]}"
        )
    known = (frames["time_us"][1:] != NO_TIME) & (frames["time_us"][:-1] != NO_TIME)
    for i in np.flatnonzero(same & known & (np.diff(frames["time_us"]) < 0))[:1].tolist():
        raise InputError(
            f"{root / listed.sources.get('times', '')}: the time of the scan {tokens[i + 1]} lies before that of "
            f"{tokens[i]}, which comes first in {scenes[frames['scene'][i]]}; mend the times"
        )


def _sizes_from_images(cameras: Columns, root: Path, progress: Progress) -> None:
    """Put each image's own size into the columns; intrinsics follow where another size was listed."""
    total = len(cameras["frame"])
    progress("reading image sizes", 0, total)
    for i in range(total):
        height, width = image_size(root / cameras["path"][i].decode())
        stated_height, stated_width = cameras["height"][i], cameras["width"][i]
        if stated_width > 0 and stated_height > 0:
            # pixel (0, 0) is the centre of the first pixel, so the image starts at -0.5
            scale = np.diag([width / stated_width, height / stated_height, 1.0])
            scale[:2, 2] = (np.diag(scale)[:2] - 1) / 2
            cameras["intrinsics"][i] = (scale @ cameras["intrinsics"][i].reshape(3, 3)).reshape(-1)
        cameras["height"][i], cameras["width"][i] = height, width
        if i % 100 == 0 or i + 1 == total:
            progress("reading image sizes", i + 1, total)
