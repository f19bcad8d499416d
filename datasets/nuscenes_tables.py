"""The JSON tables of the nuScenes schema, joined: what a log says, before it is sorted into columns.

Only LIDAR_TOP and the cameras are kept; each table is read once, row by row.
"""

from __future__ import annotations

import logging
import math
import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, MissingFileError
from ..geometry import Transform, make_transform
from .chains import check_samples, check_scans
from .selection import check_scene_name
from .tables import Progress, Row, read_rows

logger = logging.getLogger(__name__)

LIDAR = "LIDAR_TOP"
_NORM_TOLERANCE = 1e-3  # of a unit quaternion: room for three decimals, not for another kind of rotation
REQUIRED = ("scene", "sample", "sample_data", "ego_pose", "calibrated_sensor", "sensor")


@dataclass
class Scans:
    """The kept rows of sample_data, one list a field, and their poses (R, 7): quaternion w x y z, translation."""

    token: list[str] = field(default_factory=list)
    sample: list[str] = field(default_factory=list)
    channel: list[str] = field(default_factory=list)
    calibration: list[str] = field(default_factory=list)
    pose: list[str] = field(default_factory=list)
    path: list[str] = field(default_factory=list)
    prev: list[str] = field(default_factory=list)
    next: list[str] = field(default_factory=list)
    time_us: array = field(default_factory=lambda: array("q"))
    is_key: array = field(default_factory=lambda: array("b"))
    height: array = field(default_factory=lambda: array("i"))
    width: array = field(default_factory=lambda: array("i"))


@dataclass
class Log:
    """The joined tables."""

    folder: Path
    scenes: list[str]
    scene_of_sample: dict[str, int]
    channels: list[str]
    calibration: dict[str, tuple[str, Transform, NDArray[np.float64]]]  # token -> channel, to ego, intrinsics
    lidar: Scans
    cameras: Scans
    poses: dict[str, int]  # ego_pose token -> row of pose_values
    pose_values: NDArray[np.float64]  # (P, 7) rotation w x y z, translation
    label_paths: dict[str, str]  # LIDAR_TOP sample_data token -> path
    categories: dict[str, tuple[str, int | None]]  # category token -> name, index in the label files
    logfiles: list[str]
    warnings: list[str] = field(default_factory=list)


def read_log(root: Path, version: str, progress: Progress) -> Log:
    folder = root / version
    for name in REQUIRED:
        if not (folder / f"{name}.json").is_file():
            raise MissingFileError(
                f"{folder / name}.json: this table is missing; complete the metadata of the log "
                f"(needed: {', '.join(REQUIRED)}; docs/own_data.md says what they hold)"
            )
    scenes = list(read_rows(folder / "scene.json"))
    samples = list(read_rows(folder / "sample.json", progress))
    if not scenes or not samples:
        raise InputError(
            f"{folder}: scene.json or sample.json is empty; export the log again, it has no frames"
        )
    for scene in scenes:
        check_scene_name(scene["name"], folder / "scene.json")
    scene_of_sample = check_samples(folder, scenes, samples)
    calibration = _read_calibration(folder)
    lidar, cameras = _read_sample_data(folder, calibration, scene_of_sample, progress)
    warnings = check_scans(
        folder / "sample_data.json",
        token=lidar.token,
        prev=lidar.prev,
        next=lidar.next,
        time_us=np.asarray(lidar.time_us, dtype=np.int64),
        scene=np.array([scene_of_sample[s] for s in lidar.sample], dtype=np.int32),
        scenes=[scene["name"] for scene in scenes],
    )
    for warning in warnings:
        logger.warning("%s", warning)
    poses, values = _read_poses(folder, lidar.pose + cameras.pose, progress)
    return Log(
        folder=folder,
        scenes=[scene["name"] for scene in scenes],
        scene_of_sample=scene_of_sample,
        channels=sorted({channel for channel, _, _ in calibration.values() if channel != LIDAR}),
        calibration=calibration,
        lidar=lidar,
        cameras=cameras,
        poses=poses,
        pose_values=values,
        label_paths={row["sample_data_token"]: row["filename"] for row in read_optional(folder, "lidarseg")},
        categories={
            row["token"]: (row["name"], row.get("index")) for row in read_optional(folder, "category")
        },
        logfiles=[row["logfile"] for row in read_optional(folder, "log")],
        warnings=warnings,
    )


def read_optional(folder: Path, name: str) -> list[Row]:
    """Rows of a table that a log need not have."""
    path = folder / f"{name}.json"
    return list(read_rows(path)) if path.is_file() else []


def _read_calibration(folder: Path) -> dict[str, tuple[str, Transform, NDArray[np.float64]]]:
    """calibrated_sensor token -> channel, sensor_to_ego, intrinsics (9,), for LIDAR_TOP and the cameras."""
    sensors = {row["token"]: row for row in read_rows(folder / "sensor.json")}
    calibration = {}
    for row in read_rows(folder / "calibrated_sensor.json"):
        sensor = sensors.get(row["sensor_token"])
        if sensor is None:
            raise dangling(row, "sensor_token", "sensor.json")
        channel = sensor["channel"]
        if channel != LIDAR and sensor["modality"] != "camera":
            continue
        intrinsics = numbers(row, "camera_intrinsic") if channel != LIDAR else np.empty(0)
        if channel != LIDAR and intrinsics.size != 9:
            raise InputError(
                f"{row.table}: the camera {channel} ({row['token']}) needs a 3 x 3 camera_intrinsic; "
                "export the calibration again"
            )
        calibration[row["token"]] = (channel, _transform(row), intrinsics)
    if not any(channel == LIDAR for channel, _, _ in calibration.values()):
        raise InputError(
            f"{folder / 'sensor.json'}: no calibrated sensor has the channel {LIDAR}; rename the LiDAR so"
        )
    return calibration


def _read_sample_data(
    folder: Path, calibration: dict[str, Any], scene_of_sample: dict[str, int], progress: Progress
) -> tuple[Scans, Scans]:
    """All LIDAR_TOP rows and the cameras' key rows; radars and camera sweeps are passed over while reading."""
    others = {row["token"] for row in read_rows(folder / "calibrated_sensor.json")} - set(calibration)
    lidar, cameras = Scans(), Scans()
    for row in read_rows(folder / "sample_data.json", progress):
        known = calibration.get(row["calibrated_sensor_token"])
        if known is None:
            if row["calibrated_sensor_token"] not in others:
                raise dangling(row, "calibrated_sensor_token", "calibrated_sensor.json")
            continue
        if known[0] != LIDAR and not row["is_key_frame"]:
            continue
        if row["sample_token"] not in scene_of_sample:
            raise dangling(row, "sample_token", "sample.json")
        _check_token(row)
        scans = lidar if known[0] == LIDAR else cameras
        scans.token.append(row["token"])
        scans.sample.append(row["sample_token"])
        scans.channel.append(known[0])
        scans.calibration.append(row["calibrated_sensor_token"])
        scans.pose.append(row["ego_pose_token"])
        scans.path.append(row["filename"])
        if row["timestamp"] != int(row["timestamp"]):
            raise InputError(
                f"{row.table}: the timestamp {row['timestamp']} of the row {row['token']} is no whole number; "
                "times are in microseconds, convert them"
            )
        scans.time_us.append(int(row["timestamp"]))
        scans.is_key.append(bool(row["is_key_frame"]))
        if scans is lidar:
            scans.prev.append(row["prev"])
            scans.next.append(row["next"])
        else:
            scans.height.append(int(row.get("height") or 0))
            scans.width.append(int(row.get("width") or 0))
    return lidar, cameras


def _check_token(row: Row) -> None:
    """Superpixels, pseudo labels and pictures are files named by the token of their image or scan."""
    token = row["token"]
    plain = isinstance(token, str) and token.isprintable() and token == token.strip()
    if not plain or not re.fullmatch(r"[^./\\][^/\\]*", token):
        raise InputError(
            f"{row.table}: the token {token!r} cannot be used; it must be text without slashes and control characters, "
            "with no dot or blank at its beginning and no blank at its end, since files are named by it: rename it"
        )


def _read_poses(
    folder: Path, wanted: Sequence[str], progress: Progress
) -> tuple[dict[str, int], NDArray[np.float64]]:
    """Row of each wanted ego_pose token, and the poses (P, 7)."""
    missing = set(wanted)
    rows: dict[str, int] = {}
    values = array("d")
    path = folder / "ego_pose.json"
    for row in read_rows(path, progress):
        if row["token"] in missing:
            missing.discard(row["token"])
            rows[row["token"]] = len(rows)
            pose = [*row["rotation"], *row["translation"]]
            if len(pose) != 7 or not all(map(math.isfinite, pose)) or not _is_unit(pose[:4]):
                raise InputError(
                    f"{path}: the pose {row['token']} is no unit quaternion (w, x, y, z) with a finite translation; "
                    "export the poses again"
                )
            values.extend(pose)
    if missing:
        raise InputError(
            f"{path}: {len(missing)} poses that sample_data.json names are not in it (first: {min(missing)}); "
            "both tables must come from one version of the log"
        )
    return rows, np.frombuffer(values, dtype=np.float64).reshape(-1, 7).copy()


def numbers(row: Row, key: str) -> NDArray[np.float64]:
    """All numbers of a field, flat.

    Raises:
        InputError: some are no finite numbers.
    """
    try:
        values = np.asarray(row[key], dtype=np.float64).reshape(-1)
    except (ValueError, TypeError):
        values = np.array([np.nan])
    if not np.isfinite(values).all():
        raise InputError(
            f"{row.table}: {key} of the row {row['token']} holds something that is no finite number; export it again"
        )
    return values


def _transform(row: Row) -> Transform:
    """sensor_to_ego of a calibrated_sensor row."""
    rotation, translation = numbers(row, "rotation").tolist(), numbers(row, "translation").tolist()
    if len(rotation) != 4 or len(translation) != 3 or not _is_unit(rotation):
        raise InputError(
            f"{row.table}: the row {row['token']} holds no rigid transform: rotation must be a unit quaternion "
            f"(w, x, y, z), it is {rotation}, and translation three numbers, it is {translation}; export it again"
        )
    return make_transform(rotation, translation)


def _is_unit(quaternion: Sequence[float]) -> bool:
    return abs(math.hypot(*quaternion) - 1.0) <= _NORM_TOLERANCE


def dangling(row: Row, key: str, table: str) -> InputError:
    return InputError(
        f"{row.table}: the row {row['token']} names {key} {row[key]!r}, which {table} does not hold; "
        "both tables must come from one version of the log"
    )
