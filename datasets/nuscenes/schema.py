"""The fields of the nuScenes schema that are read, and what each must be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ...progress import Progress, silent
from ..kinds import (
    COUNT,
    FLAG,
    INTRINSICS,
    KEY,
    LABEL,
    LINK,
    OPTIONAL_KEY,
    OPTIONAL_PATH,
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
    "scene": {"token": KEY, "name": TEXT, "first_sample_token": LINK},
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


def read_schema_table(
    folder: Path, name: str, progress: Progress = silent, only: Only | None = None
) -> Iterator[Row]:
    """The rows of the table ``name``, all or some; none where it is no required table and not there.

    Raises:
        InputError: see ``typed_tables.read_table``.
    """
    path = table_path(folder, name)
    if name in REQUIRED or path.is_file():
        yield from read_table(path, TABLES[name], progress, only)
