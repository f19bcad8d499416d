"""A small log in nuScenes schema whose every number is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from superflow.geometry import invert, make_transform, rotation_z, to_quaternion, transform_points

CATEGORIES = {"vehicle.car": 17, "flat.driveable_surface": 24, "static.manmade": 28, "noise": 0}
SIZE = (36, 64)


class SmallLog:
    """Two scenes (one train, one val of nuScenes) of four key frames at 2 Hz with nine sweeps between them.

    The vehicle drives at 8 m/s and turns at 0.3 rad/s through a world of fixed landmarks, and every scan sees every
    landmark, in the file's axes (x right, y forward). ``tables`` can be changed before ``write``.
    """

    version = "v1.0-mini"

    def __init__(self, root: Path) -> None:
        self.root = root
        self.landmarks = np.random.default_rng(7).uniform([-40, -40, 0], [60, 40, 6], (50, 3))
        self.raw_labels = np.random.default_rng(8).choice(sorted(CATEGORIES.values()), 50).astype(np.uint8)
        self.files: dict[str, bytes] = {}
        self.tables: dict[str, list[dict[str, Any]]] = {
            name: []
            for name in (
                "scene",
                "sample",
                "sample_data",
                "ego_pose",
                "sample_annotation",
                "instance",
                "lidarseg",
            )
        }
        self.tables["log"] = [{"token": "log", "logfile": "n001-2020-01-02-03-04-05+0000"}]
        # only the devkit reads these
        self.tables["map"] = [
            {"token": "map", "log_tokens": ["log"], "category": "", "filename": "maps/blank.png"}
        ]
        self.files["maps/blank.png"] = cv2.imencode(".png", np.zeros((4, 4), dtype=np.uint8))[1].tobytes()
        self.tables["attribute"] = [{"token": "moving", "name": "vehicle.moving", "description": ""}]
        self.tables |= {"visibility": [{"token": "4", "level": "", "description": ""}]}
        self.tables["category"] = [
            {"token": f"category-{name}", "name": name, "description": "", "index": index}
            for name, index in CATEGORIES.items()
        ]
        self.lidar_to_ego = make_transform([0.7, 0.01, 0.02, -0.714], [0.9, 0.1, 1.8])
        camera = make_transform([0.5, -0.5, 0.5, -0.5], [1.6, 0.0, 1.5])
        self.sensors = {
            "LIDAR_TOP": self.lidar_to_ego,
            "CAM_FRONT": camera,
            "CAM_BACK": rotation_z(np.pi) @ camera,
            "RADAR_FRONT": np.eye(4),
        }
        intrinsics = [[40.0, 0.0, 31.5], [0.0, 40.0, 17.5], [0.0, 0.0, 1.0]]
        kinds = {"L": "lidar", "C": "camera", "R": "radar"}
        self.tables["sensor"] = [
            {"token": f"sensor-{c}", "channel": c, "modality": kinds[c[0]]} for c in self.sensors
        ]
        self.tables["calibrated_sensor"] = [
            {
                "token": f"calibrated-{channel}",
                "sensor_token": f"sensor-{channel}",
                "translation": matrix[:3, 3].tolist(),
                "rotation": to_quaternion(matrix).tolist(),
                "camera_intrinsic": intrinsics if channel[0] == "C" else [],
            }
            for channel, matrix in self.sensors.items()
        ]
        for number, name in enumerate(("scene-0003", "scene-0001")):
            self._drive(name, 1_500_000_000_000_000 + 100_000_000 * number)

    @staticmethod
    def ego_to_world(seconds: float) -> np.ndarray:
        """Where the vehicle is: a circle through (900, 1200) in world coordinates."""
        yaw = 0.3 * seconds
        radius = 8 / 0.3
        pose = rotation_z(yaw)
        pose[:3, 3] = [900 + radius * np.sin(yaw), 1200 + radius * (1 - np.cos(yaw)), 0.0]
        return pose

    def _drive(self, scene: str, start_us: int) -> None:
        samples = [f"{scene}-sample-{i}" for i in range(4)]
        self.tables["scene"].append(
            {
                "token": scene.upper(),
                "name": scene,
                "log_token": "log",
                "description": "",
                "nbr_samples": 4,
                "first_sample_token": samples[0],
                "last_sample_token": samples[-1],
            }
        )
        for i, token in enumerate(samples):
            links = {"prev": samples[i - 1] if i else "", "next": samples[i + 1] if i < 3 else ""}
            self.tables["sample"].append(
                {"token": token, "timestamp": start_us + 500_000 * i, "scene_token": scene.upper(), **links}
            )
            for channel in ("CAM_FRONT", "CAM_BACK", "RADAR_FRONT"):
                delay_us = {"CAM_FRONT": -20_000, "CAM_BACK": -45_000, "RADAR_FRONT": 0}[channel]
                self._scan(scene, channel, i, 3, token, start_us + 500_000 * i + delay_us, start_us, True)
            self.tables["sample_annotation"].append(
                {
                    "token": f"{token}-box",
                    "sample_token": token,
                    "instance_token": f"{scene}-car",
                    "translation": [920.0 + i, 1205.0, 0.9],
                    "size": [1.9, 4.6, 1.7],
                    "rotation": [1.0, 0.0, 0.0, 0.0],
                    "visibility_token": "4",
                    "attribute_tokens": ["moving"],
                    "num_lidar_pts": 9,
                    "num_radar_pts": 0,
                    "prev": f"{samples[i - 1]}-box" if i else "",
                    "next": f"{samples[i + 1]}-box" if i < 3 else "",
                }
            )
        self.tables["instance"].append(
            {
                "token": f"{scene}-car",
                "category_token": "category-vehicle.car",
                "nbr_annotations": 4,
                "first_annotation_token": f"{samples[0]}-box",
                "last_annotation_token": f"{samples[3]}-box",
            }
        )
        for j in range(31):
            key = j % 10 == 0
            # as in nuScenes: a sweep carries the sample token of the key frame after it
            self._scan(scene, "LIDAR_TOP", j, 30, samples[-(-j // 10)], start_us + 50_000 * j, start_us, key)

    def _scan(
        self, scene: str, channel: str, i: int, last: int, sample: str, time_us: int, start_us: int, key: bool
    ) -> None:
        token = f"{scene}-{channel}-{i}"
        pose = self.ego_to_world((time_us - start_us) * 1e-6)
        kind = "samples" if key else "sweeps"
        name = f"{kind}/{channel}/{scene}__{time_us}" + (".jpg" if channel[0] == "C" else ".pcd.bin")
        self.tables["ego_pose"].append(
            {
                "token": f"pose-{token}",
                "timestamp": time_us,
                "rotation": to_quaternion(pose).tolist(),
                "translation": pose[:3, 3].tolist(),
            }
        )
        self.tables["sample_data"].append(
            {
                "token": token,
                "sample_token": sample,
                "ego_pose_token": f"pose-{token}",
                "calibrated_sensor_token": f"calibrated-{channel}",
                "timestamp": time_us,
                "fileformat": "jpg" if channel[0] == "C" else "pcd",
                "is_key_frame": key,
                "height": SIZE[0] if channel[0] == "C" else 0,
                "width": SIZE[1] if channel[0] == "C" else 0,
                "filename": name,
                "prev": f"{scene}-{channel}-{i - 1}" if i else "",
                "next": f"{scene}-{channel}-{i + 1}" if i < last else "",
            }
        )
        if channel[0] == "C":
            shade = np.full((*SIZE, 3), (10, 100, 200), dtype=np.uint8)  # BGR
            shade[:16] = np.random.default_rng(len(self.files)).integers(0, 256, (SIZE[1], 3))  # no two alike
            self.files[name] = cv2.imencode(".jpg", shade)[1].tobytes()
        elif channel == "LIDAR_TOP":
            world = self.landmarks + [900.0, 1200.0, 0.0]
            xyz = transform_points(invert(pose @ self.lidar_to_ego), world)
            extra = [np.linspace(0, 255, 50), np.arange(50) % 32]
            self.files[name] = np.column_stack([xyz, *extra]).astype("<f4").tobytes()
            if key:
                label_name = f"lidarseg/{self.version}/{token}_lidarseg.bin"
                self.files[label_name] = self.raw_labels.tobytes()
                self.tables["lidarseg"].append(
                    {"token": token, "sample_data_token": token, "filename": label_name}
                )

    def row(self, table: str, token: str) -> dict[str, Any]:
        """The row of a table, to be changed."""
        return next(row for row in self.tables[table] if row["token"] == token)

    def write(self) -> Path:
        """Write tables and files; returns the root."""
        folder = self.root / self.version
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in self.tables.items():
            (folder / f"{name}.json").write_text(json.dumps(rows, indent=0))
        for name, data in self.files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return self.root
