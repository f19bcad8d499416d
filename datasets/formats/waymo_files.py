"""Waymo Open Dataset: points, labels and images of one frame, as `formats` wants them, in either form of the download;
and what belongs to the points as range images again.

``SEGMENT.parquet`` are files of version 2, ``segment-*.tfrecord`` of version 1; both give the same.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ...errors import InputError
from .waymo_parquet import COMPONENTS, ParquetFrame, read_parquet_image, sibling
from .waymo_points import CLASS, Columns, WaymoFrame, frame_labels, frame_points, images_of_rows
from .waymo_tfrecord import SUFFIX, TfrecordFrame


def read_waymo(path: Path, key: str, names: Sequence[str]) -> Columns:
    """The points of a frame in the frame of the vehicle at its time: columns of `frame_points`."""
    return frame_points(_frame(path, key), names)


def read_waymo_labels(path: Path, key: str, names: Sequence[str], *, channel: int = CLASS) -> Columns:
    """A number for each point of ``read_waymo``, 0 for those of LiDARs without labels."""
    return {names[0]: frame_labels(_frame(path, key), channel)}


def waymo_images_of_rows(path: Path, key: str, values: NDArray[Any]) -> dict[tuple[int, int], NDArray[Any]]:
    """(LiDAR, echo) -> (H, W) of (N,) values, one for each point of ``read_waymo``; 0 where nothing came back."""
    return images_of_rows(_frame(path, key), values)


def read_waymo_image(path: Path, key: str) -> bytes:
    """The JPEG of a camera."""
    frame, _, camera = key.partition("/")
    number = _number(path, camera)
    if path.suffix == SUFFIX:
        return TfrecordFrame.at(path, frame).image(number)
    return read_parquet_image(path, _number(path, frame), number)


def _frame(path: Path, key: str) -> WaymoFrame:
    """The frame of a key; ``path`` is any file of its segment."""
    if path.suffix == SUFFIX:
        return TfrecordFrame.at(path, key)
    return _kept(sibling(path, "lidar"), _number(path, key), tuple(_state(path, part) for part in COMPONENTS))


@lru_cache(maxsize=2)  # points, classes and instances are of the same images
def _kept(path: Path, time_us: int, states: tuple[tuple[int, ...], ...]) -> ParquetFrame:
    return ParquetFrame(path, time_us)


def _state(path: Path, component: str) -> tuple[int, ...]:
    """What changes with a file; nothing of one that is not there, which is for its reader to say."""
    try:
        found = os.stat(sibling(path, component))
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _number(path: Path, key: str) -> int:
    if not key.isdecimal():
        raise InputError(f"{path}: {key!r} is no frame of it; prepare the log again")
    return int(key)
