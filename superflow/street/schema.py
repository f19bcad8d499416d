"""Rows of the nuScenes v1.0 tables. Tokens are hashes of what they name, so that shards need no counter."""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

import numpy as np

from ..geometry import to_quaternion
from .classes import CATEGORIES, FINER_CATEGORIES

Row = dict[str, Any]
VERSION = "v1.0-synthetic"
TABLES = (
    "attribute", "calibrated_sensor", "category", "category_fine", "ego_pose", "instance", "lidarseg", "lidarseg_fine",
    "log", "map", "sample", "sample_annotation", "sample_data", "scene", "sensor", "visibility",
)  # fmt: skip
ATTRIBUTES = (
    "vehicle.moving", "vehicle.stopped", "vehicle.parked", "cycle.with_rider", "cycle.without_rider",
    "pedestrian.sitting_lying_down", "pedestrian.standing", "pedestrian.moving",
)  # fmt: skip
VISIBILITIES = ("v0-40", "v40-60", "v60-80", "v80-100")


def token(*names: Any) -> str:
    """32 hexadecimal digits that depend on the names only."""
    return hashlib.md5("/".join(map(str, names)).encode(), usedforsecurity=False).hexdigest()


def pose_fields(a_to_b) -> Row:
    """Translation and rotation of a (4, 4) transform."""
    rotation = to_quaternion(a_to_b)
    return {"translation": [float(v) for v in a_to_b[:3, 3]], "rotation": [float(v) for v in rotation]}


def fixed_tables(seed: int, channels: dict[str, str], log_tokens: list[str]) -> dict[str, list[Row]]:
    """Tables that do not depend on a scene's content. ``channels``: channel -> modality."""
    return {
        "category": _categories(CATEGORIES),
        "category_fine": _categories(FINER_CATEGORIES),
        "attribute": [
            {"token": token("attribute", name), "name": name, "description": ""} for name in ATTRIBUTES
        ],
        "visibility": [
            {"token": str(number), "level": level, "description": f"seen by the cameras: {level[1:]} %"}
            for number, level in enumerate(VISIBILITIES, 1)
        ],
        "sensor": [
            {"token": token("sensor", channel), "channel": channel, "modality": modality}
            for channel, modality in channels.items()
        ],
        "map": [
            {
                "token": token(seed, "map"),
                "log_tokens": log_tokens,
                "category": "semantic_prior",
                "filename": f"maps/{token(seed, 'map')}.png",
            }
        ],
    }


def _categories(names: tuple[str, ...]) -> list[Row]:
    return [
        {"token": token("category", name), "name": name, "description": "", "index": index}
        for index, name in enumerate(names)
    ]


def link(rows: list[Row]) -> None:
    """Fill prev and next of rows in time order; the ends are ""."""
    for row, neighbour in itertools.pairwise(rows):
        row["next"], neighbour["prev"] = neighbour["token"], row["token"]


class SceneTables:
    """Collects the rows of one scene."""

    def __init__(self, seed: int, name: str, description: str, start_us: int) -> None:
        self.seed, self.name, self.start_us = seed, name, start_us
        self.logfile = f"synthetic-{seed}-{name}"
        self.rows: dict[str, list[Row]] = {table: [] for table in TABLES}
        self.log_token = token(seed, name, "log")
        self.rows["log"].append(
            {
                "token": self.log_token,
                "logfile": self.logfile,
                "vehicle": "synthetic",
                "date_captured": "2026-01-01",
                "location": "synthetic",
            }
        )
        self.description = description
        self._instances: dict[int, list[Row]] = {}
        self._categories: dict[int, int] = {}

    def time_us(self, t: float) -> int:
        """Scene time [s] as a timestamp."""
        return self.start_us + round(t * 1e6)

    def add_calibration(self, channel: str, sensor_to_ego, intrinsics) -> None:
        """A sensor's mounting."""
        matrix = [] if intrinsics is None else [[float(v) for v in row] for row in intrinsics]
        names = {"token": token(self.seed, self.name, channel), "sensor_token": token("sensor", channel)}
        self.rows["calibrated_sensor"].append(
            names | pose_fields(sensor_to_ego) | {"camera_intrinsic": matrix}
        )

    def add_sample(self, t: float) -> str:
        """A key frame; returns its token."""
        row = {"token": token(self.seed, self.name, "sample", self.time_us(t)), "timestamp": self.time_us(t)}
        row |= {"prev": "", "next": "", "scene_token": token(self.seed, self.name)}
        self.rows["sample"].append(row)
        return str(row["token"])

    def add_data(
        self, channel: str, t: float, sample: str, ego_to_world, *, key: bool, size: tuple[int, int] = (0, 0)
    ) -> Row:
        """A recording at its own time with its own pose; returns the row (its file name is set)."""
        time_us = self.time_us(t)
        own = token(self.seed, self.name, channel, time_us)
        ending, kind = (".pcd.bin", "pcd") if channel == "LIDAR_TOP" else (".jpg", "jpg")
        folder = "samples" if key else "sweeps"
        pose = {"token": token(own, "pose"), "timestamp": time_us} | pose_fields(ego_to_world)
        self.rows["ego_pose"].append(pose)
        row = {
            "token": own,
            "sample_token": sample,
            "ego_pose_token": pose["token"],
            "calibrated_sensor_token": token(self.seed, self.name, channel),
            "timestamp": time_us,
            "fileformat": kind,
            "is_key_frame": key,
            "height": size[0],
            "width": size[1],
            "filename": f"{folder}/{channel}/{self.logfile}__{channel}__{time_us}{ending}",
            "prev": "",
            "next": "",
        }
        self.rows["sample_data"].append(row)
        return row

    def add_labels(self, data: Row, table: str) -> str:
        """A row of ``table``, lidarseg or lidarseg_fine, for a key sweep; returns the file name."""
        name = f"{table}/{VERSION}/{data['token']}_lidarseg.bin"
        row = {"token": data["token"], "sample_data_token": data["token"], "filename": name}
        self.rows[table].append(row)
        return name

    def add_annotation(self, sample: str, found, attribute: str, label: int) -> None:
        """One box; ``found`` is a ``recorder.Annotation``."""
        row = {
            "token": token(self.seed, self.name, sample, found.placed),
            "sample_token": sample,
            "instance_token": token(self.seed, self.name, "instance", found.placed),
            "visibility_token": str(found.visibility),
            "attribute_tokens": [token("attribute", attribute)] if attribute else [],
            "translation": [float(v) for v in found.center],
            "size": [float(v) for v in found.size],
            "rotation": [float(v) for v in found.rotation],
            "prev": "",
            "next": "",
            "num_lidar_pts": found.points,
            "num_radar_pts": 0,
        }
        self.rows["sample_annotation"].append(row)
        self._instances.setdefault(found.placed, []).append(row)
        self._categories[found.placed] = label

    def finish(self) -> dict[str, list[Row]]:
        """All rows of the scene, chained in time."""
        samples = self.rows["sample"]
        link(samples)
        by_sensor: dict[str, list[Row]] = {}
        for row in self.rows["sample_data"]:
            by_sensor.setdefault(row["calibrated_sensor_token"], []).append(row)
        for rows in by_sensor.values():
            rows.sort(key=lambda row: row["timestamp"])
            link(rows)
        for placed, rows in sorted(self._instances.items()):
            link(rows)
            category = CATEGORIES[self._categories[placed]]
            self.rows["instance"].append(
                {
                    "token": rows[0]["instance_token"],
                    "category_token": token("category", category),
                    "nbr_annotations": len(rows),
                    "first_annotation_token": rows[0]["token"],
                    "last_annotation_token": rows[-1]["token"],
                }
            )
        self.rows["scene"].append(
            {
                "token": token(self.seed, self.name),
                "log_token": self.log_token,
                "nbr_samples": len(samples),
                "first_sample_token": samples[0]["token"],
                "last_sample_token": samples[-1]["token"],
                "name": self.name,
                "description": self.description,
            }
        )
        return self.rows


def nearest_key(times: np.ndarray, t: float) -> int:
    """Row of the key frame nearest in time: the sample that a sweep between key frames names."""
    return int(np.abs(times - t).argmin())
