"""The fields of the nuScenes schema that are read, and what each must be."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from ....errors import MissingFileError
from ....progress import Progress, silent
from ...formats.kinds import (
    COUNT,
    FLAG,
    INTRINSICS,
    KEY,
    LABEL,
    LINK,
    OPTIONAL_KEY,
    OPTIONAL_PATH,
    OPTIONAL_REFERENCE,
    PATH,
    PIXELS,
    POSITION,
    REFERENCE,
    REFERENCES,
    ROTATION,
    SIZE,
    TEXT,
    TIME_US,
    UNIT_ROTATION,
)
from .typed_tables import Fields, Only, Row, read_table

TABLES: dict[str, Fields] = {
    "scene": {"token": KEY, "name": TEXT, "first_sample_token": LINK, "log_token": OPTIONAL_REFERENCE},
    "sample": {"token": KEY, "timestamp": TIME_US, "scene_token": REFERENCE, "prev": LINK, "next": LINK},
    "sensor": {"token": KEY, "channel": TEXT, "modality": TEXT},
    "calibrated_sensor": {
        "token": KEY,
        "sensor_token": REFERENCE,
        "translation": POSITION,
        "rotation": UNIT_ROTATION,
        "camera_intrinsic": INTRINSICS,
    },
    "ego_pose": {"token": KEY, "translation": POSITION, "rotation": UNIT_ROTATION},
    "sample_data": {
        "token": KEY,
        "sample_token": REFERENCE,
        "ego_pose_token": REFERENCE,
        "calibrated_sensor_token": REFERENCE,
        "timestamp": TIME_US,
        "filename": PATH,
        "is_key_frame": FLAG,
        "height": PIXELS,
        "width": PIXELS,
        "prev": LINK,
        "next": LINK,
    },
    "lidarseg": {"token": OPTIONAL_KEY, "sample_data_token": KEY, "filename": OPTIONAL_PATH},
    "category": {"token": KEY, "name": TEXT, "index": LABEL},
    "instance": {"token": KEY, "category_token": REFERENCE},
    "sample_annotation": {
        "token": KEY,
        "sample_token": REFERENCE,
        "instance_token": REFERENCE,
        "translation": POSITION,
        "size": SIZE,
        "rotation": ROTATION,
        "num_lidar_pts": COUNT,
        "attribute_tokens": REFERENCES,
    },
    "attribute": {"token": KEY, "name": TEXT},
    "log": {"token": OPTIONAL_KEY, "logfile": TEXT},
}
REQUIRED = ("scene", "sample", "sample_data", "ego_pose", "calibrated_sensor", "sensor")


def table_path(folder: Path, name: str) -> Path:
    """Where a table of the log lies."""
    return folder / f"{name}.json"


def label_tables(folder: Path, label_set: str) -> tuple[str, str]:
    """Names of the tables of categories and of label files: those of a label set where the log brings them.

    Raises:
        MissingFileError: it brings one of the two.
    """
    own = (f"category_{label_set}", f"lidarseg_{label_set}")
    there = [bool(label_set) and table_path(folder, name).is_file() for name in own]
    if any(there) and not all(there):
        raise MissingFileError(
            f"{table_path(folder, own[there.index(False)])}: this table is missing; the label set {label_set!r} needs "
            "it, download or export it again"
        )
    return own if all(there) else ("category", "lidarseg")


def read_schema_table(
    folder: Path, name: str, progress: Progress = silent, *, like: str = ""
) -> Iterator[Row]:
    """The rows of the table ``name``; none where it is no required table and not there.

    Args:
        like: the table whose fields it has, if it is none of ``TABLES``.

    Raises:
        InputError: see ``typed_tables.read_table``.
    """
    return chain.from_iterable(read_schema_batches(folder, name, progress, like=like))


def read_schema_batches(
    folder: Path, name: str, progress: Progress = silent, only: Only | None = None, *, like: str = ""
) -> Iterator[list[Row]]:
    """As ``read_schema_table``, some rows at a time, and only those that are wanted."""
    path = table_path(folder, name)
    if name in REQUIRED or path.is_file():
        yield from read_table(path, TABLES[like or name], progress, only)
