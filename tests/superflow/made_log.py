"""A made log of two scenes, small enough to reason about, and encoders small enough to run at once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from superflow.datasets.cloud import Cloud
from superflow.datasets.frame import Boxes, Frame
from superflow.datasets.index import LogIndex
from superflow.geometry import make_transform
from superflow.lidar.encoder import LidarEncoder

CLASSES = ("road", "wall", "car", "tree")  # no frame shows a tree
ROAD, WALL, CAR = 0, 1, 2
FRAMES = 6  # of each scene
STEP_M = 1.0  # the vehicle moves this far between frames


class MadeLog:
    """Behaves as ``LogIndex``: a street along x with a wall at y = 6, and a car that drives away from the vehicle.

    Scene "b" lies 1000 m from scene "a". Every frame scans the same static points of the world, so that places can be
    compared exactly; one point in ten is unlabelled. Boxes are around the car and around a piece of the wall.
    """

    hash = "0123abcd"
    variant = "clean"
    version = "v1.0-made"

    def __init__(self) -> None:
        self.card = SimpleNamespace(
            hash="4567cdef",
            name="made",
            real=False,
            licence="none",
            source="a test",
            fractions={},
            classes=CLASSES,
            palette=np.array([[255, 0, 255], [200, 200, 200], [0, 150, 245], [0, 175, 0]], dtype=np.uint8),
        )
        self.scenes = ("a", "b")
        self.scene_of = np.repeat([0, 1], FRAMES).astype(np.int32)
        self.time_us = np.tile(np.arange(FRAMES) * 500_000, 2).astype(np.int64)
        self.is_key = np.ones(2 * FRAMES, dtype=bool)
        random = np.random.default_rng(7)
        road = np.column_stack(
            [random.uniform(-20, 25, 500), random.uniform(-5, 5, 500), random.normal(0, 0.02, 500)]
        )
        wall = np.column_stack([random.uniform(-20, 25, 300), np.full(300, 6.0), random.uniform(0, 3, 300)])
        self.static = np.concatenate([road, wall])
        self.car = np.column_stack(
            [random.uniform(0, 4, 80), random.uniform(-3.5, -1.7, 80), random.uniform(0.3, 1.6, 80)]
        )

    def rows(self, selection=None, *, keys_only=True):
        if selection is None:
            return np.arange(len(self.scene_of))
        names = [selection] if isinstance(selection, str) else selection
        return np.flatnonzero(np.isin(np.array(self.scenes)[self.scene_of], names))

    def require(self, what: str, purpose: str, **needed: bool) -> None:
        """Times and poses are known."""

    def has_labels(self, row: int) -> bool:
        return True

    root = Path("made")

    def labels(self, row):
        return self.frame(row).labels

    def point_path(self, row: int) -> Path:
        return Path(f"scans/{int(row)}.bin")

    def scene(self, row: int) -> str:
        return self.scenes[self.scene_of[row]]

    def tokens(self, rows):
        return [f"token{row}" for row in np.asarray(rows, dtype=np.int64).tolist()]

    poses, sweep_compensation = "", False  # nothing was estimated, nothing compensated

    def recordings(self, rows):
        return ()

    def neighbour(self, row: int, offset: int, *, max_gap_s=None):
        other = int(row) + offset
        inside = 0 <= other < len(self.scene_of) and self.scene_of[other] == self.scene_of[row]
        return other if inside else None

    def is_unbroken(self, row: int, other: int) -> bool:
        return bool(self.scene_of[row] == self.scene_of[other])

    def sweeps(self, row: int, count: int, *, after: int = 0) -> list[int]:
        of_scene = np.flatnonzero(self.scene_of == self.scene_of[row]).tolist()
        place = of_scene.index(row)
        return [
            *reversed(of_scene[max(0, place - count) : place]),
            *of_scene[place + 1 : place + 1 + after],
        ]

    def boxes(self, row) -> Boxes:
        time, origin = int(row) % FRAMES, [1000.0 * self.scene_of[int(row)], 0.0, 0.0]
        half = np.sqrt(0.5)
        return Boxes.placed(
            centers=np.array([[3.0 * time + 7.0, -2.6, 0.9], [10.0, 6.0, 1.5]]) + origin,
            sizes=np.array([[4.2, 2.0, 1.6], [0.4, 6.0, 3.2]]),
            rotations=np.array(
                [[1.0, 0.0, 0.0, 0.0], [half, 0.0, 0.0, half]]
            ),  # the wall's is turned: 6 m along x
            categories=("vehicle.car", "static.wall"),
            tracks=("car", "wall"),
        )

    def frame(
        self, row, *, cameras=None, images=True, labels=True, boxes=False, raw_intensity=False
    ) -> Frame:
        time = int(row) % FRAMES
        heading = 0.1 * time
        rotation = (np.cos(heading / 2), 0.0, 0.0, np.sin(heading / 2))
        ego_to_world = make_transform(rotation, (STEP_M * time + 1000.0 * self.scene_of[row], 0.0, 0.0))
        lidar_to_ego = make_transform((1, 0, 0, 0), (0.0, 0.0, 1.8))
        car = self.car + [3.0 * time + 5.0, 0.0, 0.0]
        world = np.concatenate([self.static, car]) + [1000.0 * self.scene_of[row], 0.0, 0.0]
        lidar_to_world = ego_to_world @ lidar_to_ego
        xyz = (world - lidar_to_world[:3, 3]) @ lidar_to_world[:3, :3]
        train_ids = np.repeat([ROAD, WALL, CAR], [500, 300, 80]).astype(np.uint8)
        intensity = np.random.default_rng(int(row)).uniform(0, 1, len(xyz)) * 0.5 + 0.1 * train_ids
        order = np.random.default_rng(100 + int(row)).permutation(len(xyz))
        train_ids[np.arange(len(train_ids)) % 10 == 3] = 255
        scale = 255.0 if raw_intensity else 1.0
        points = np.column_stack([xyz, intensity * scale]).astype(np.float32)[order]
        return Frame(
            token=f"token{int(row)}",
            scene=self.scene(row),
            time_us=int(self.time_us[row]),
            is_key=True,
            cloud=Cloud.from_table(points),
            lidar_to_ego=lidar_to_ego,
            ego_to_world=ego_to_world,
            labels=train_ids[order] if labels else None,
        )


@pytest.fixture
def log() -> MadeLog:
    """A made log of two scenes with six key frames each."""
    return MadeLog()


@pytest.fixture
def make_encoder():
    """Maker of small encoders: same seed, same weights."""

    def make(seed: int = 0, *, size_m: float = 0.5, width: float = 0.5) -> LidarEncoder:
        torch.manual_seed(seed)
        return LidarEncoder(
            grid={"type": "cubic", "size_m": size_m},
            backbone={"depth": "tiny", "width": width},
            inputs=("intensity", "height", "range", "one"),
        )

    return make


@pytest.fixture
def encoder(make_encoder) -> LidarEncoder:
    """One small encoder with random weights."""
    return make_encoder()


@pytest.fixture(scope="session")
def prepared_scans(small_index) -> LogIndex:
    """Four key frames a scene, nine sweeps between them."""
    return small_index
