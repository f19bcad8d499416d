"""A log whose scans are a street of walls, and ways to make it wrong, for the tests of the check."""

from __future__ import annotations

import json
from collections.abc import Callable

import cv2
import numpy as np

from superflow.camera.projection import project
from superflow.datasets.check.log import check_log
from superflow.datasets.sets.nuscenes import write_index
from superflow.geometry import invert, make_transform, rotation_z, to_quaternion

FRONT = make_transform([0.5, -0.5, 0.5, -0.5], [1.6, 0.0, 1.5])  # camera to vehicle
TURNED = {"CAM_FRONT": 0, "CAM_LEFT": 80, "CAM_BACK": 180, "CAM_RIGHT": -75}


def scan(
    seed: int,
    *,
    beams: int = 32,
    columns: int = 100,
    azimuths: tuple[float, float] = (-180, 180),
    elevations: tuple[float, float] = (-25, 12),
    walls_m: tuple[float, float] = (30, 8),
    ceiling_m: float = 60.0,
    rough_m: float = 0.01,
) -> np.ndarray:
    """(N, 5) rows of a file (x right, y forward, z up): a street of walls around a sensor 1.8 m above the ground."""
    generator = np.random.default_rng(seed)
    up = np.radians(np.linspace(*elevations, beams))[:, None]
    turn = np.radians(np.linspace(*azimuths, columns, endpoint=False))[None] + generator.normal(0, 1e-3)
    way = np.stack([np.cos(up) * np.sin(turn), np.cos(up) * np.cos(turn), np.sin(up) + 0 * turn], -1).reshape(
        -1, 3
    )
    reach = np.array([walls_m[1], walls_m[0], 0]) + np.where(way[:, 2:] > 0, ceiling_m, 1.8) * [0, 0, 1]
    with np.errstate(divide="ignore"):
        range_m = (reach / np.abs(way)).min(axis=1) + generator.normal(0, rough_m, len(way))
    extra = [generator.integers(0, 256, len(way)), np.repeat(np.arange(beams), columns)]
    return np.column_stack([way * range_m[:, None], *extra]).astype(np.float32)


class Street:
    """The reader's small log with four cameras and scans of a street; files and tables of ``log`` can be changed."""

    def __init__(self, log) -> None:
        self.log = log
        generator = np.random.default_rng(0)
        for channel, degrees in TURNED.items():
            if channel not in ("CAM_FRONT", "CAM_BACK"):
                self._add_camera(channel)
            row = log.row("calibrated_sensor", f"calibrated-{channel}")
            self.mount(row, rotation_z(np.radians(degrees)) @ FRONT)
        for name in [name for name in log.files if name.endswith(".jpg")]:
            log.files[name] = cv2.imencode(".jpg", generator.integers(0, 256, (36, 64, 3), np.uint8))[
                1
            ].tobytes()
        log.tables["lidarseg"] = []
        self.scans(scan)

    def _add_camera(self, channel: str) -> None:
        for rows in self.log.tables.values():
            texts = [json.dumps(row) for row in rows]
            rows += [json.loads(text.replace("CAM_FRONT", channel)) for text in texts if "CAM_FRONT" in text]
        copies = {name: data for name, data in self.log.files.items() if "CAM_FRONT" in name}
        self.log.files |= {name.replace("CAM_FRONT", channel): data for name, data in copies.items()}

    @staticmethod
    def mount(row: dict, camera_to_ego: np.ndarray) -> None:
        row["translation"], row["rotation"] = (
            camera_to_ego[:3, 3].tolist(),
            to_quaternion(camera_to_ego).tolist(),
        )

    def scans(self, make: Callable[..., np.ndarray], **options) -> None:
        for seed, name in enumerate(name for name in self.log.files if name.endswith(".pcd.bin")):
            self.log.files[name] = make(seed, **options).astype("<f4").tobytes()

    def points(self, change: Callable[[np.ndarray], np.ndarray]) -> None:
        """Change the rows (N, 5) of every point file."""
        for name in [name for name in self.log.files if name.endswith(".pcd.bin")]:
            rows = np.frombuffer(self.log.files[name], "<f4").reshape(-1, 5).copy()
            self.log.files[name] = change(rows).astype("<f4").tobytes()

    def cameras(self, change: Callable[[dict], None], *channels: str) -> None:
        """Change the calibration of the cameras."""
        for row in self.log.tables["calibrated_sensor"]:
            if "CAM" in row["token"] and (not channels or row["token"].split("-")[1] in channels):
                change(row)

    def lidar(self, change: Callable[[dict], None]) -> None:
        """Change the calibration of the LiDAR."""
        change(self.log.row("calibrated_sensor", "calibrated-LIDAR_TOP"))

    def images(self, channel: str, make: Callable[[np.ndarray], np.ndarray]) -> None:
        for name in [name for name in self.log.files if f"/{channel}/" in name]:
            image = cv2.imdecode(np.frombuffer(self.log.files[name], np.uint8), cv2.IMREAD_COLOR)
            self.log.files[name] = cv2.imencode(".png", make(image))[1].tobytes()

    def drop_cameras(self, *channels: str) -> None:
        rows = self.log.tables["sample_data"]
        self.log.tables["sample_data"] = [r for r in rows if not any(c in r["token"] for c in channels)]

    def check(self, folder, **options):
        return check_log(write_index(self.log.write(), folder / "index"), project=project, **options)


def invert_mount(row: dict) -> None:
    Street.mount(row, invert(make_transform(row["rotation"], row["translation"])))


def moved(offset) -> Callable[[np.ndarray], np.ndarray]:
    return lambda rows: rows + np.array([*offset, 0, 0], np.float64)


def scaled(factor: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda rows: rows * np.array([factor] * 3 + [1, 1])


def placed(row: int, place) -> Callable[[np.ndarray], np.ndarray]:
    """One point elsewhere."""

    def change(rows: np.ndarray) -> np.ndarray:
        rows[row, :3] = place
        return rows

    return change


def as_the_first(keep: int) -> Callable[[np.ndarray], np.ndarray]:
    """All points but ``keep`` where the first is."""

    def change(rows: np.ndarray) -> np.ndarray:
        rows[keep:, :3] = rows[0, :3]
        return rows

    return change
