"""Made streets as a dataset's sensors record them, in x forward, y left, z up, before they are written in its form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ...geometry import OPTICAL, Transform, make_transform, rotation_z, transform_points
from ...street.lidar import Lidar
from ...street.recorder import Recorder
from ...street.rig import Rig, Sensor, as_stored
from ...street.scene import make_scene

STEP_S = 0.5  # between scans
START_US = 1_700_000_000_000_000
SCENE_US = 120_000_000  # from one scene's start to the next one's
# LiDAR of the street (x right, y forward) to x forward, y left
_OF_STREET = np.array([[0.0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
MOUNT = make_transform([1.0, 0.0, 0.0, 0.0], [0.9, 0.0, 1.8])  # LiDAR to vehicle [m]


@dataclass(frozen=True, slots=True)
class Eye:
    """A camera of a stand-in: where it is from the LiDAR [m], where it looks [deg], and its lens."""

    position: tuple[float, float, float]
    yaw_deg: float = 0.0
    size: tuple[int, int] = (120, 400)  # height, width
    focal: float = 0.6  # in widths of the image

    @property
    def intrinsics(self) -> NDArray[np.float64]:
        """(3, 3) [pixel]."""
        height, width = self.size
        f = self.focal * width
        return np.array([[f, 0, (width - 1) / 2], [0, f, (height - 1) / 2], [0, 0, 1]])

    @property
    def camera_to_lidar(self) -> Transform:
        """(4, 4) to x forward, y left, z up of the LiDAR."""
        pose = rotation_z(np.deg2rad(self.yaw_deg)) @ OPTICAL
        pose[:3, 3] = self.position
        return pose


@dataclass(frozen=True, slots=True)
class Taken:
    """A scan of a street with its images, all of one instant."""

    number: int
    time_us: int
    xyz: NDArray[np.float64]  # (N, 3) [m]
    intensity: NDArray[np.float32]  # (N,) 0 to 1
    ring: NDArray[np.float32]  # (N,) 0 looks down
    finer: NDArray[np.uint8]  # (N,) row of FINER_CATEGORIES
    lidar_to_world: Transform
    images: Mapping[str, NDArray[np.uint8]]  # channel -> (H, W, 3) RGB


@dataclass(frozen=True)
class Street:
    """One scene: street ``number`` of a seed, ``scans`` long.

    name: of the scene in the set. eyes: channel -> camera.
    """

    name: str
    number: int
    seed: int
    scans: int
    lidar: Lidar
    eyes: Mapping[str, Eye] = field(default_factory=dict)

    @property
    def start_us(self) -> int:
        """When it begins."""
        return START_US + self.number * SCENE_US

    def taken(self) -> Iterator[Taken]:
        """Every scan, in time."""
        mount = Sensor("LIDAR_TOP", as_stored(MOUNT @ _OF_STREET), None, self.lidar.turn_s)
        cameras = {
            channel: Sensor(channel, as_stored(MOUNT @ eye.camera_to_lidar), eye.intrinsics, 0.0)
            for channel, eye in self.eyes.items()
        }
        scene = make_scene(self.seed, self.number, self.scans * STEP_S)
        rig = Rig(self.lidar, mount, tuple(cameras.values()))
        recorder = Recorder(scene, rig, seed=self.seed, number=self.number)
        for number in range(self.scans):
            t = self.lidar.turn_s + number * STEP_S
            sweep = recorder.sweep(t)
            yield Taken(
                number=number,
                time_us=self.start_us + round(t * 1e6),
                xyz=transform_points(_OF_STREET, sweep.points[:, :3].astype(np.float64)),
                intensity=sweep.points[:, 3] / np.float32(255),
                ring=sweep.points[:, 4],
                finer=sweep.finer,
                lidar_to_world=recorder.ego_to_world(t) @ MOUNT,
                images={
                    channel: recorder.exposure(camera, t, *self.eyes[channel].size).image
                    for channel, camera in cameras.items()
                },
            )
