"""Made images and frames, and real frames read straight from the JSON tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from superflow.datasets.cloud import Cloud
from superflow.datasets.frame import Camera, Frame
from superflow.geometry import make_transform

IDENTITY = np.eye(4)


def draw_scene(height: int = 64, width: int = 96, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 3) uint8 picture of blobs in well separated colours, and the (H, W) number of each pixel's blob."""
    generator = np.random.default_rng(seed)
    seeds = generator.uniform(0, 1, (7, 2)) * (height, width)
    y, x = np.mgrid[:height, :width]
    blob = ((y[..., None] - seeds[:, 0]) ** 2 + (x[..., None] - seeds[:, 1]) ** 2).argmin(axis=2)
    colours = np.array(
        [
            [220, 40, 40],
            [40, 200, 60],
            [50, 60, 220],
            [230, 220, 60],
            [30, 30, 30],
            [240, 240, 240],
            [160, 60, 200],
        ]
    )
    noise = generator.integers(-8, 9, (height, width, 3))
    return np.clip(colours[blob] + noise, 0, 255).astype(np.uint8), blob


@pytest.fixture
def scene() -> tuple[np.ndarray, np.ndarray]:
    return draw_scene()


def write_cameras(folder: Path, count: int, size: tuple[int, int]) -> list[Camera]:
    """Cameras with image files of made scenes in ``folder``."""
    folder.mkdir(exist_ok=True)
    cameras = []
    for i in range(count):
        path = folder / f"image{i}.png"
        cv2.imwrite(str(path), draw_scene(*size, seed=i)[0][:, :, ::-1])
        cameras.append(Camera(f"token{i}", "CAM", 0, np.eye(3), IDENTITY, IDENTITY, str(path), size))
    return cameras


@pytest.fixture
def make_cameras(tmp_path: Path) -> Callable[..., list[Camera]]:
    """Cameras with image files of made scenes."""

    def make(count: int, *, size: tuple[int, int] = (64, 96)) -> list[Camera]:
        return write_cameras(tmp_path / "images", count, size)

    return make


@pytest.fixture(scope="session")
def four_cameras(tmp_path_factory: pytest.TempPathFactory) -> list[Camera]:
    """Four images of 32 x 48 that tests share; not to be changed."""
    return write_cameras(tmp_path_factory.mktemp("cameras") / "images", 4, (32, 48))


class Tables:
    """A nuScenes tree read without the reader under test; points stay in the file's own axes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rows = {
            name: {row["token"]: row for row in json.loads((root / "v1.0-mini" / f"{name}.json").read_text())}
            for name in ("sample", "sample_data", "calibrated_sensor", "ego_pose", "sensor", "lidarseg")
        }
        self.of_sample: dict[str, dict[str, dict]] = {}
        for row in self.rows["sample_data"].values():
            sensor = self.rows["calibrated_sensor"][row["calibrated_sensor_token"]]["sensor_token"]
            channel = self.rows["sensor"][sensor]["channel"]
            self.of_sample.setdefault(row["sample_token"], {})[channel] = row

    def frame(self, place: int) -> Frame:
        """The frame at this place in time order, with all cameras, no images and raw label ids."""
        sample = sorted(self.rows["sample"].values(), key=lambda row: row["timestamp"])[place]
        data = dict(self.of_sample[sample["token"]])
        lidar = data.pop("LIDAR_TOP")
        points = np.fromfile(self.root / lidar["filename"], dtype=np.float32).reshape(-1, 5)
        labels = self.rows["lidarseg"]
        file = next(row["filename"] for row in labels.values() if row["sample_data_token"] == lidar["token"])
        return Frame(
            token=lidar["token"],
            scene=sample["scene_token"],
            time_us=lidar["timestamp"],
            is_key=True,
            cloud=Cloud.from_table(points),
            lidar_to_ego=self._pose("calibrated_sensor", lidar["calibrated_sensor_token"]),
            ego_to_world=self._pose("ego_pose", lidar["ego_pose_token"]),
            cameras=tuple(self._camera(channel, row) for channel, row in sorted(data.items())),
            labels=np.fromfile(self.root / file, dtype=np.uint8),
        )

    def _camera(self, channel: str, row: dict) -> Camera:
        sensor = self.rows["calibrated_sensor"][row["calibrated_sensor_token"]]
        return Camera(
            token=row["token"],
            channel=channel,
            time_us=row["timestamp"],
            intrinsics=np.array(sensor["camera_intrinsic"]),
            camera_to_ego=self._pose("calibrated_sensor", row["calibrated_sensor_token"]),
            ego_to_world=self._pose("ego_pose", row["ego_pose_token"]),
            path=str(self.root / row["filename"]),
            size=(row["height"], row["width"]),
        )

    def _pose(self, table: str, token: str) -> np.ndarray:
        row = self.rows[table][token]
        return make_transform(row["rotation"], row["translation"])


@pytest.fixture(scope="session")
def pandaset(pandaset_root: Path) -> Tables:
    return Tables(pandaset_root)
