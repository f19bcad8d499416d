"""The recording vehicle's sensors: where they sit, when they fire."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..geometry import OPTICAL, Transform, compose, make_transform, rotation_z, to_quaternion
from .lidar import START_DEG, STREET_LIDAR, Lidar, draw_lidar

FIRST_S = 0.05  # first key frame: the end of a turn
KEY_S = 0.5  # key frames

# channel -> position [m] on the vehicle, yaw [deg], focal length / image width
CAMERAS = {
    "CAM_FRONT": ((1.72, 0.0, 1.50), 0.0, 0.79),
    "CAM_FRONT_RIGHT": ((1.58, -0.48, 1.50), -55.0, 0.79),
    "CAM_BACK_RIGHT": ((1.02, -0.47, 1.56), -110.0, 0.79),
    "CAM_BACK": ((0.02, 0.0, 1.56), 180.0, 0.505),
    "CAM_BACK_LEFT": ((1.02, 0.47, 1.56), 110.0, 0.79),
    "CAM_FRONT_LEFT": ((1.58, 0.48, 1.50), 55.0, 0.79),
}
SEVENTH = {"CAM_FRONT_NARROW": ((1.70, 0.10, 1.50), 0.0, 1.6)}


@dataclass(frozen=True, slots=True)
class Sensor:
    """A sensor of one scene."""

    channel: str
    sensor_to_ego: Transform  # (4, 4)
    intrinsics: NDArray[np.float64] | None  # (3, 3), None for the LiDAR
    delay_s: float  # of its exposure after the start of the turn
    gain: float = 1.0  # of its exposure beside the scene's


@dataclass(frozen=True, slots=True)
class Rig:
    """The sensors of one scene: the LiDAR and, after it, the cameras."""

    lidar: Lidar
    mount: Sensor
    cameras: tuple[Sensor, ...]

    @property
    def sensors(self) -> tuple[Sensor, ...]:
        """The LiDAR first."""
        return (self.mount, *self.cameras)


def make_rig(rng: np.random.Generator, height: int, width: int) -> Rig:
    """The LiDAR and six cameras of ``height`` x ``width``, mounted a little differently in every scene."""
    lidar = rotation_z(np.deg2rad(-90.0 + rng.normal(0, 0.3)))
    lidar[:3, 3] = (0.95, 0.0, 1.84)
    mount = Sensor("LIDAR_TOP", as_stored(lidar), None, STREET_LIDAR.turn_s)
    cameras = tuple(
        _camera(rng, channel, *CAMERAS[channel], height, width, STREET_LIDAR.turn_s) for channel in CAMERAS
    )
    return Rig(STREET_LIDAR, mount, cameras)


def draw_rig(rng: np.random.Generator, height: int, width: int) -> Rig:
    """Another LiDAR at another place, and one to seven cameras with lenses and places of their own."""
    lidar = draw_lidar(rng)
    turn = rotation_z(np.deg2rad(-90.0 + rng.normal(0, 0.5)))
    pose = compose(turn, _small_rotation(rng.normal(0, np.deg2rad(0.5), 3)))
    # m: cars, then vans and lorries
    top = rng.uniform(1.6, 2.2) if rng.random() < 0.8 else rng.uniform(2.2, 3.2)
    pose[:3, 3] = (rng.uniform(0.3, 1.4), rng.normal(0, 0.05), top)
    every = CAMERAS | SEVENTH
    count = int(rng.integers(1, len(every) + 1))
    others = rng.permutation([channel for channel in every if channel != "CAM_FRONT"])[: count - 1]
    lens = math.exp(rng.uniform(math.log(0.6), math.log(1.4)))  # a rig's lenses are of a kind
    cameras = []
    for channel in every:  # in the table's order
        if channel != "CAM_FRONT" and channel not in others:
            continue
        position, yaw, focal = every[channel]
        where = np.add(position, rng.uniform((-0.3, -0.1, -0.2), (0.2, 0.1, 0.5)))
        focal *= lens * math.exp(rng.normal(0, 0.08))
        gain = math.exp(rng.normal(0, 0.15))
        cameras.append(
            _camera(rng, channel, where, yaw + rng.normal(0, 3.0), focal, height, width, lidar.turn_s, gain)
        )
    return Rig(lidar, Sensor("LIDAR_TOP", as_stored(pose), None, lidar.turn_s), tuple(cameras))


def _camera(rng, channel, position, yaw, focal, height, width, turn_s, gain=1.0) -> Sensor:
    """A camera at ``position`` (3,) [m] that looks to ``yaw`` [deg], ``focal`` image widths long."""
    tilt = _small_rotation(rng.normal(0, np.deg2rad(0.4), 3))
    pose = compose(rotation_z(np.deg2rad(yaw)), tilt, OPTICAL)
    pose[:3, 3] = position
    f = focal * width * (1 + rng.normal(0, 0.003))
    center = ((width - 1) / 2 + rng.normal(0, 0.01) * width, (height - 1) / 2 + 0.04 * height)
    intrinsics = np.array([[f, 0.0, center[0]], [0.0, f, center[1]], [0.0, 0.0, 1.0]])
    delay = ((START_DEG - yaw) % 360.0 or 360.0) / 360.0 * turn_s  # when the beam passes its middle
    return Sensor(channel, as_stored(pose), intrinsics, delay, gain)


def _small_rotation(angles: NDArray[np.float64]) -> Transform:
    return make_transform([1.0, *(angles / 2).tolist()], [0.0, 0.0, 0.0])


def as_stored(pose: Transform) -> Transform:
    """The pose that a reader of the tables gets, so that everything stands exactly where they say."""
    return make_transform(to_quaternion(pose).tolist(), pose[:3, 3].tolist())
