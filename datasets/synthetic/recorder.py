"""What the sensors record of a scene: sweeps with labels, images, annotations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...geometry import Transform, invert, make_transform, to_quaternion
from .render import develop, label_image, render
from .rig import ELEVATIONS, TURN_S, Sensor, column_azimuths, column_times
from .scanner import add_noise, scan
from .scene import Scene
from .visibility import seen_share
from .world import Stage, make_stage

ANNOTATION_RANGE = 75.0  # m
BOX_MARGIN = 0.03  # m between an object's surface and its box, a side: range noise stays inside


@dataclass(frozen=True, slots=True)
class Sweep:
    """One turn of the LiDAR, moved to the pose at its end (the vehicle's motion is compensated, others' is not)."""

    points: NDArray[np.float32]  # (N, 5) x right, y forward, z up [m], intensity 0..255, ring
    labels: NDArray[np.uint8]  # (N,) raw class
    instances: NDArray[np.int32]  # (N,) row of scene.placed, -1 = scenery


@dataclass(frozen=True, slots=True)
class Exposure:
    """One image and what each pixel shows."""

    image: NDArray[np.uint8]  # (H, W, 3) RGB
    labels: NDArray[np.uint8]  # (H, W) raw class, 255 = sky
    depth: NDArray[np.float32]  # (H, W) along the ray [m], 0 = sky


@dataclass(frozen=True, slots=True)
class Annotation:
    """One box at one time."""

    placed: int  # row of scene.placed
    center: NDArray[np.float64]  # (3,) world
    size: NDArray[np.float64]  # (3,) width, length, height
    rotation: NDArray[np.float64]  # (4,) w, x, y, z
    points: int
    visibility: int  # 1 .. 4: up to 40, 60, 80, 100 % of it seen by the cameras


class Recorder:
    """Casts one scene. ``seed`` and ``number`` fix the sensors' noise of each recording by its time alone."""

    def __init__(self, scene: Scene, rig: list[Sensor], seed: int, number: int) -> None:
        self.scene, self.rig = scene, rig
        self.seed, self.number = seed, number
        self.stage: Stage = make_stage(scene)
        self._seen, self._ray = self.stage.scratch, 0
        lidar = rig[0].sensor_to_ego
        self._lidar = lidar

    def ego_to_world(self, t: float) -> Transform:
        """(4, 4) as a reader of the tables gets it."""
        pose = self.scene.ego.pose(self.scene.street, t)
        return make_transform(to_quaternion(pose), pose[:3, 3])

    def sweep(self, t: float) -> Sweep:
        """The turn that ends at time ``t`` [s]."""
        times = t + column_times()
        poses = np.array([self.ego_to_world(time) @ self._lidar for time in times])
        movers = self.stage.movers_at(float(times[0]), float(times[-1]))
        ranges, directions, strength, labels, instances, self._ray = scan(
            self.stage.world, movers, poses, column_azimuths(), ELEVATIONS, self._seen, self._ray
        )
        rng = np.random.default_rng([self.seed, self.number, 1, round(t * 1e6)])
        measured, intensity, back = add_noise(ranges, strength, rng)
        local = directions * measured[..., None]
        to_end = invert(self.ego_to_world(t) @ self._lidar) @ poses
        moved = np.einsum("aij,abj->abi", to_end[:, :3, :3], local) + to_end[:, None, :3, 3]
        ring = np.broadcast_to(np.arange(len(ELEVATIONS), dtype=np.float32), ranges.shape)
        points = np.concatenate([moved, intensity[..., None], ring[..., None]], axis=-1).astype(np.float32)
        return Sweep(points[back], labels[back], instances[back])

    def exposure_time(self, sensor: Sensor, t: float) -> float:
        """When a camera fires during the turn that ends at ``t`` [s]."""
        return t - TURN_S + sensor.delay_s

    def exposure(self, sensor: Sensor, t: float, height: int, width: int) -> Exposure:
        """The image that ``sensor`` takes at its own time ``t`` [s]."""
        light = self.scene.light
        pose = self.ego_to_world(t) @ sensor.sensor_to_ego
        image, prims, depth, self._ray = render(
            self.stage.world, self.stage.movers_at(t), 0, pose, sensor.intrinsics, height, width, light.levels,
            light.haze, self._seen, self._ray,
        )  # fmt: skip
        labels = label_image(self.stage.world, prims, depth, pose, sensor.intrinsics)
        rng = np.random.default_rng([self.seed, self.number, 2, round(t * 1e6)])
        return Exposure(develop(image, light.exposure, rng), labels, depth)

    def annotations(self, sweep: Sweep, t: float, size: tuple[int, int]) -> list[Annotation]:
        """Boxes of the things with points in ``sweep``, which ended at ``t`` [s]; ``size`` of the images."""
        counts = np.bincount(sweep.instances[sweep.instances >= 0], minlength=len(self.scene.placed))
        ego = self.ego_to_world(t)
        movers = self.stage.movers_at(t)
        poses = [
            (self.ego_to_world(self.exposure_time(s, t)) @ s.sensor_to_ego, s.intrinsics)
            for s in self.rig[1:]
        ]
        found = []
        for row in np.flatnonzero(counts):
            thing = self.scene.placed[row]
            if row == 0 or not thing.annotated:
                continue
            pose = thing.pose_at(self.scene.street, t)
            middle, half = (thing.low + thing.high) / 2, (thing.high - thing.low) / 2 + BOX_MARGIN
            center = pose[:3, :3] @ middle + pose[:3, 3]
            if np.hypot(*(center - ego[:3, 3])[:2]) > ANNOTATION_RANGE:
                continue
            share, self._ray = seen_share(
                self.stage.world, movers, pose, middle, half, int(row), poses, size, self._seen, self._ray
            )
            level = 1 + int(np.searchsorted((0.4, 0.6, 0.8), share))
            extent = 2 * half[[1, 0, 2]]
            found.append(Annotation(int(row), center, extent, to_quaternion(pose), int(counts[row]), level))
        return found
