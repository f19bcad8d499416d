"""What the sensors record of a scene: sweeps with labels, images, annotations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..geometry import Transform, compose, to_quaternion
from .classes import COARSE
from .render import VIEW_RANGE, develop, render
from .rig import Rig, Sensor, as_stored
from .scanner import add_noise, scan
from .scene import Scene
from .trace import Caster
from .tracks import track_poses
from .visibility import seen_shares
from .world import Stage, make_stage

ANNOTATION_RANGE = 75.0  # m
BOX_MARGIN = 0.03  # m between an object's surface and its box, a side: range noise stays inside


@dataclass(frozen=True, slots=True)
class Sweep:
    """One turn of the LiDAR, moved to the pose at its end (the vehicle's motion is compensated, others' is not)."""

    points: NDArray[np.float32]  # (N, 5) x right, y forward, z up [m], intensity 0..255, ring
    labels: NDArray[np.uint8]  # (N,) raw class of nuScenes
    finer: NDArray[np.uint8]  # (N,) raw class of FINER_CATEGORIES
    prims: NDArray[np.int32]  # (N,) row of the world's primitives, or trace.GROUND


@dataclass(frozen=True, slots=True)
class Exposure:
    """One image and what each pixel shows."""

    image: NDArray[np.uint8]  # (H, W, 3) RGB
    labels: NDArray[np.uint8]  # (H, W) raw class of nuScenes, 255 = sky
    distances: NDArray[np.float64]  # (H, W) along the ray [m], inf = sky


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
    """Casts scene ``number`` of the drive with this ``seed``; a recording's noise depends on its time alone."""

    def __init__(self, scene: Scene, rig: Rig, *, seed: int, number: int) -> None:
        self.scene, self.rig = scene, rig
        self.seed, self.number = seed, number
        self.stage: Stage = make_stage(scene)
        self._seen = self.stage.scratch

    def ego_to_world(self, t: float) -> Transform:
        """(4, 4) as a reader of the tables gets it."""
        return as_stored(self.scene.ego.pose(self.scene.street, t))

    def sweep(self, t: float) -> Sweep:
        """The turn that ends at time ``t`` [s]."""
        times = t + self.rig.lidar.times
        lidar_to_ego = self.rig.mount.sensor_to_ego
        poses = compose(track_poses(self.scene.street, [self.scene.ego], times)[:, 0], lidar_to_ego)
        turn = scan(self._caster(float(times[0]), t), poses, self.rig.lidar)
        measured, intensity, back = add_noise(turn, self.rig.lidar, self._rng(1, t))
        kept = np.flatnonzero(back)
        column, ring = np.divmod(kept, back.shape[1])
        hits = measured.take(kept)[:, None] * turn.directions.reshape(-1, 3).take(kept, axis=0)
        hits += turn.origins.take(column, axis=0)
        end = compose(self.ego_to_world(t), lidar_to_ego)
        points = np.empty((len(hits), 5), dtype=np.float32)
        points[:, :3] = (hits - end[:3, 3]) @ end[:3, :3]
        points[:, 3], points[:, 4] = intensity.take(kept), ring
        finer = turn.labels.take(kept)
        return Sweep(points, COARSE.take(finer), finer, turn.prims.take(kept))

    def exposure_time(self, sensor: Sensor, t: float) -> float:
        """When a camera fires during the turn that ends at ``t`` [s]."""
        return t - self.rig.lidar.turn_s + sensor.delay_s

    def exposure(self, sensor: Sensor, t: float, height: int, width: int) -> Exposure:
        """The image that a camera takes at its own time ``t`` [s]."""
        assert sensor.intrinsics is not None, "the LiDAR takes no images"
        pose = compose(self.ego_to_world(t), sensor.sensor_to_ego)
        light = self.scene.light
        image, labels, distances = render(self._caster(t), light, pose, sensor.intrinsics, height, width)
        return Exposure(develop(image, light.film, sensor.gain, self._rng(2, t)), COARSE[labels], distances)

    def sight(self, sensor: Sensor, t: float, points: NDArray) -> NDArray[np.float64]:
        """(N,) distance from a camera at its own time ``t`` to what it sees in the directions of points [m].

        Args:
            points: (N, 3) x, y, z [m, world]. Where a distance is less than that of the point, something hides it.
        """
        pose = compose(self.ego_to_world(t), sensor.sensor_to_ego)
        rays = np.asarray(points, dtype=np.float64) - pose[:3, 3]
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        caster = self._caster(t)
        return caster.cast(pose[None, :3, 3], rays, skip=0, t_min=0.05, t_max=VIEW_RANGE)[0]

    def annotations(self, sweep: Sweep, t: float, size: tuple[int, int]) -> list[Annotation]:
        """Boxes of the things with points in ``sweep``, which ended at ``t`` [s]; ``size`` of the images."""
        instances = self.stage.world.instance[sweep.prims[sweep.prims >= 0]]
        counts = np.bincount(instances[instances >= 0], minlength=len(self.scene.placed))
        ego = self.ego_to_world(t)
        caster = self._caster(t)
        cameras = [
            (
                compose(self.ego_to_world(self.exposure_time(sensor, t)), sensor.sensor_to_ego),
                sensor.intrinsics,
            )
            for sensor in self.rig.cameras
            if sensor.intrinsics is not None
        ]
        rows = [row for row in np.flatnonzero(counts).tolist() if row > 0]
        poses = np.array([self.scene.placed[row].pose_at(self.scene.street, t) for row in rows]).reshape(
            -1, 4, 4
        )
        low = np.array([self.scene.placed[row].low for row in rows]).reshape(-1, 3)
        high = np.array([self.scene.placed[row].high for row in rows]).reshape(-1, 3)
        middle, half = (low + high) / 2, (high - low) / 2 + BOX_MARGIN
        centers = np.einsum("nij,nj->ni", poses[:, :3, :3], middle) + poses[:, :3, 3]
        near = np.flatnonzero(np.hypot(*(centers - ego[:3, 3])[:, :2].T) <= ANNOTATION_RANGE)
        instance = np.array(rows, dtype=np.int64)
        shares = seen_shares(caster, poses[near], middle[near], half[near], instance[near], cameras, size)
        levels = 1 + np.searchsorted((0.4, 0.6, 0.8), shares)
        return [
            Annotation(
                rows[n],
                centers[n],
                2 * half[n, [1, 0, 2]],
                to_quaternion(poses[n]),
                int(counts[rows[n]]),
                int(level),
            )
            for n, level in zip(near, levels)
        ]

    def _caster(self, start: float, stop: float | None = None) -> Caster:
        return Caster(self.stage.world, self.stage.movers_at(start, stop), self._seen)

    def _rng(self, purpose: int, t: float) -> np.random.Generator:
        return np.random.default_rng([self.seed, self.number, purpose, round(t * 1e6)])
