"""The JSON tables of the nuScenes schema, joined: what a log says, before it is sorted into columns.

Only LIDAR_TOP and the cameras are kept; each table is read once, row by row.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ....errors import InputError, MissingFileError
from ....geometry import Transform, make_transform
from ....progress import Progress
from ...formats.kinds import shorten
from ...names import check_file_names, check_picture_names, check_scene_name, with_slashes
from .chains import check_samples, check_scans
from .schema import REQUIRED, label_tables, read_schema_batches, read_schema_table, table_path
from .typed_tables import Only, Row, dangling

logger = logging.getLogger(__name__)

LIDAR = "LIDAR_TOP"
# channel, sensor_to_ego, intrinsics (9,), (0,) of the LiDAR
Calibration = tuple[str, Transform, NDArray[np.float64]]


_COLUMNS = {
    "token": "token",
    "sample": "sample_token",
    "calibration": "calibrated_sensor_token",
    "pose": "ego_pose_token",
    "path": "filename",
    "time_us": "timestamp",
    "is_key": "is_key_frame",
}
_SENSOR = itemgetter("calibrated_sensor_token")


@dataclass
class Scans:
    """Rows of sample_data, one list a field."""

    token: list[str] = field(default_factory=list)
    sample: list[str] = field(default_factory=list)
    calibration: list[str] = field(default_factory=list)
    pose: list[str] = field(default_factory=list)
    path: list[str] = field(default_factory=list)
    prev: list[str] = field(default_factory=list)
    next: list[str] = field(default_factory=list)
    time_us: array = field(default_factory=lambda: array("q"))
    is_key: array = field(default_factory=lambda: array("b"))
    height: array = field(default_factory=lambda: array("i"))
    width: array = field(default_factory=lambda: array("i"))

    def add(self, rows: list[Row], more: Sequence[str]) -> None:
        """Append rows; of the fields that only some sensors need, ``more``."""
        for name, key in (*_COLUMNS.items(), *zip(more, more)):
            getattr(self, name).extend(map(itemgetter(key), rows))


@dataclass
class Log:
    """The joined tables."""

    folder: Path
    scenes: list[str]
    scene_of_sample: dict[str, int]
    time_of_sample: dict[str, int]  # [microseconds]
    channels: list[str]
    calibration: dict[str, Calibration]  # of each calibrated_sensor token
    lidar: Scans
    cameras: Scans
    poses: dict[str, int]  # ego_pose token -> row of pose_values
    pose_values: NDArray[np.float64]  # (P, 7) rotation w x y z, translation
    label_paths: dict[str, str]  # LIDAR_TOP sample_data token -> path
    categories: dict[str, tuple[str, int | None]]  # category token -> name, index in the label files
    logfiles: list[str]
    drives: dict[str, str]  # scene -> field ``logfile`` of the log that it was cut from, where there is one
    label_tables: tuple[str, str]  # names of the tables of categories and of label files
    warnings: list[str] = field(default_factory=list)


def read_log(root: Path, version: str, progress: Progress, label_set: str = "") -> Log:
    """The tables in the folder ``version`` of ``root``, joined; labels are those of ``label_set``, see `label_tables`.

    Raises:
        InputError: a table is missing or damaged, a field is wrong, a chain is broken, a reference leads nowhere.
    """
    folder = root / version
    scenes, scene_of_sample, time_of_sample, log_of_scene = _read_scenes(folder, progress)
    calibration, others = _read_calibration(folder)
    lidar, cameras = _read_sample_data(folder, calibration, others, scene_of_sample, progress)
    channels = sorted({channel for channel, _, _ in calibration.values() if channel != LIDAR})
    check_picture_names(folder, scenes, lidar.token, channels)
    warnings = check_scans(
        table_path(folder, "sample_data"),
        token=lidar.token,
        prev=lidar.prev,
        next=lidar.next,
        time_us=np.asarray(lidar.time_us, dtype=np.int64),
        scene=np.array([scene_of_sample[s] for s in lidar.sample], dtype=np.int32),
        scenes=scenes,
    )
    tables = label_tables(folder, label_set)
    labels, about_labels = _read_label_paths(folder, tables[1], lidar)
    label_paths = list(labels.values())
    warnings += about_labels
    warnings += with_slashes(root, table_path(folder, "sample_data"), lidar.path)
    warnings += with_slashes(root, table_path(folder, "sample_data"), cameras.path)
    warnings += with_slashes(root, table_path(folder, tables[1]), label_paths)
    for warning in warnings:
        logger.warning("%s", warning)
    poses, values = _read_poses(folder, {*lidar.pose, *cameras.pose}, progress)
    logs = list(read_schema_table(folder, "log"))
    drives = {row["token"]: row["logfile"] for row in logs}
    return Log(
        folder=folder,
        scenes=scenes,
        scene_of_sample=scene_of_sample,
        time_of_sample=time_of_sample,
        channels=channels,
        calibration=calibration,
        lidar=lidar,
        cameras=cameras,
        poses=poses,
        pose_values=values,
        label_paths=dict(zip(labels, label_paths)),
        categories={
            row["token"]: (row["name"], row["index"])
            for row in read_schema_table(folder, tables[0], like="category")
        },
        logfiles=[row["logfile"] for row in logs],
        drives={scene: drives[token] for scene, token in log_of_scene.items() if drives.get(token)},
        label_tables=tables,
        warnings=warnings,
    )


def _read_scenes(
    folder: Path, progress: Progress
) -> tuple[list[str], dict[str, int], dict[str, int], dict[str, str]]:
    """Names of the scenes, of each sample token the position of its scene and its time, and the log of each scene."""
    for name in REQUIRED:
        if not table_path(folder, name).is_file():
            raise MissingFileError(
                f"{table_path(folder, name)}: this table is missing; complete the metadata of the log "
                f"(needed: {', '.join(REQUIRED)}; docs/own_data.md says what they hold)"
            )
    scenes = list(read_schema_table(folder, "scene"))
    samples = list(read_schema_table(folder, "sample", progress))
    if not scenes or not samples:
        raise InputError(
            f"{folder}: scene.json or sample.json is empty; export the log again, it has no frames"
        )
    for scene in scenes:
        check_scene_name(scene["name"], table_path(folder, "scene"))
    names, times_us = [scene["name"] for scene in scenes], {row["token"]: row["timestamp"] for row in samples}
    logs = {scene["name"]: scene["log_token"] for scene in scenes}
    return names, check_samples(folder, scenes, samples), times_us, logs


def _read_calibration(folder: Path) -> tuple[dict[str, Calibration], set[str]]:
    """calibrated_sensor token -> its calibration, for LIDAR_TOP and the cameras, and the tokens of other sensors."""
    path = table_path(folder, "calibrated_sensor")
    sensors = {row["token"]: row for row in read_schema_table(folder, "sensor")}
    calibration, others = dict[str, Calibration](), set[str]()
    for row in read_schema_table(folder, "calibrated_sensor"):
        sensor = sensors.get(row["sensor_token"])
        if sensor is None:
            raise dangling(path, row, "sensor_token", "sensor.json")
        channel = sensor["channel"]
        if channel != LIDAR and sensor["modality"] != "camera":
            others.add(row["token"])
            continue
        if channel != LIDAR and not row["camera_intrinsic"]:
            raise InputError(
                f"{path}: the camera {channel} ({row['token']}) needs a 3 x 3 camera_intrinsic; "
                "export the calibration again"
            )
        intrinsics = np.array([] if channel == LIDAR else row["camera_intrinsic"], dtype=np.float64)
        to_ego = make_transform(row["rotation"], row["translation"])
        calibration[row["token"]] = (channel, to_ego, intrinsics)
    channels = {channel for channel, _, _ in calibration.values()}
    if LIDAR not in channels:
        raise InputError(
            f"{folder / 'sensor.json'}: no calibrated sensor has the channel {LIDAR}; rename the LiDAR so"
        )
    check_file_names(sorted(channels), "channel", table_path(folder, "sensor"))
    return calibration, others


def _read_sample_data(
    folder: Path,
    calibration: dict[str, Calibration],
    others: set[str],
    scene_of_sample: dict[str, int],
    progress: Progress,
) -> tuple[Scans, Scans]:
    """All LIDAR_TOP rows and the cameras' key rows; radars and camera sweeps are passed over while reading."""
    path = table_path(folder, "sample_data")
    lidar, cameras = Scans(), Scans()
    known = calibration.keys() | others
    lidars = {token for token, (channel, _, _) in calibration.items() if channel == LIDAR}
    seeing = calibration.keys() - lidars

    def keep(rows: list[Row]) -> list[Row]:
        _check_names(path, rows, "calibrated_sensor_token", known, "calibrated_sensor.json")
        used = map(_SENSOR, rows)
        return [
            r for r, token in zip(rows, used) if token in lidars or (r["is_key_frame"] and token in seeing)
        ]

    only = Only(keep, ("calibrated_sensor_token", "is_key_frame"))
    for rows in read_schema_batches(folder, "sample_data", progress, only):
        _check_names(path, rows, "sample_token", scene_of_sample.keys(), "sample.json")
        lidar.add([row for row in rows if _SENSOR(row) in lidars], ("prev", "next"))
        cameras.add([row for row in rows if _SENSOR(row) not in lidars], ("height", "width"))
    # superpixels, pseudo labels and pictures are files named by the token of their image or scan
    check_file_names(lidar.token, "token", path)
    check_file_names(cameras.token, "token", path)
    return lidar, cameras


def _read_label_paths(folder: Path, table: str, lidar: Scans) -> tuple[dict[str, str], list[str]]:
    """LIDAR_TOP sample_data token -> path of its label file, and a sentence where the table names other scans, too.

    Raises:
        InputError: the table has rows, and all are of other scans.
    """
    path = table_path(folder, table)
    rows = read_schema_table(folder, table, like="lidarseg")
    labels = {row["sample_data_token"]: row["filename"] for row in rows}
    strangers = len(labels.keys() - set(lidar.token))
    if strangers and strangers == len(labels):
        raise InputError(
            f"{path}: none of its {strangers} rows names a {LIDAR} scan of this log (first: "
            f"{shorten(next(iter(labels)))}); take the {path.name} of this version of the log, or remove it "
            "if no labels are needed"
        )
    if not strangers:
        return labels, []
    return labels, [
        f"{path.name}: {strangers} of {len(labels)} rows name no {LIDAR} scan of this log; their labels are not used"
    ]


def _check_names(path: Path, rows: list[Row], key: str, there: Set[str], table: str) -> None:
    """Every row names by ``key`` one that is ``there``, in ``table``."""
    if not there >= set(map(itemgetter(key), rows)):
        raise dangling(path, next(row for row in rows if row[key] not in there), key, table)


def _read_poses(
    folder: Path, names: Set[str], progress: Progress
) -> tuple[dict[str, int], NDArray[np.float64]]:
    """Row of each of these ego_pose tokens, and the poses (P, 7)."""
    tokens, values = list[str](), array("d")
    only = Only(lambda rows: [row for row in rows if row["token"] in names])
    for rows in read_schema_batches(folder, "ego_pose", progress, only):
        tokens += map(itemgetter("token"), rows)
        for row in rows:
            values.extend(row["rotation"])
            values.extend(row["translation"])
    missing = names - set(tokens)
    if missing:
        raise InputError(
            f"{table_path(folder, 'ego_pose')}: {len(missing)} poses that sample_data.json names are not in it "
            f"(first: {shorten(min(missing))}); both tables must come from one version of the log"
        )
    rows_of = {token: row for row, token in enumerate(tokens)}
    return rows_of, np.frombuffer(values, dtype=np.float64).reshape(-1, 7).copy()
