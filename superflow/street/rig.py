"""The recording vehicle's sensors: where they sit, when they fire."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..geometry import Transform, make_transform, rotation_z, to_quaternion
from .scanner import BEAMS, COLUMNS

TURN_S = 0.05  # one turn of the LiDAR
KEY_S = 0.5  # key frames
START_DEG = (
    110.0  # where a turn starts and ends, from the vehicle's x axis; it goes clockwise, as in nuScenes
)
ELEVATIONS = np.deg2rad(np.linspace(-30.67, 10.67, BEAMS))  # ring 0 looks down

# channel -> position [m] on the vehicle, yaw [deg], focal length / image width
CAMERAS = {
    "CAM_FRONT": ((1.72, 0.0, 1.50), 0.0, 0.79),
    "CAM_FRONT_RIGHT": ((1.58, -0.48, 1.50), -55.0, 0.79),
    "CAM_BACK_RIGHT": ((1.02, -0.47, 1.56), -110.0, 0.79),
    "CAM_BACK": ((0.02, 0.0, 1.56), 180.0, 0.505),
    "CAM_BACK_LEFT": ((1.02, 0.47, 1.56), 110.0, 0.79),
    "CAM_FRONT_LEFT": ((1.58, 0.48, 1.50), 55.0, 0.79),
}
# camera frame (x right, y down, z forward) to a frame with x forward, y left, z up
_OPTICAL = np.array(
    [[0.0, 0.0, 1.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)


@dataclass(frozen=True, slots=True)
class Sensor:
    """A sensor of one scene."""

    channel: str
    sensor_to_ego: Transform  # (4, 4)
    intrinsics: NDArray[np.float64] | None  # (3, 3), None for the LiDAR
    delay_s: float  # of its exposure after the start of the turn


def make_rig(rng: np.random.Generator, height: int, width: int) -> list[Sensor]:
    """The LiDAR and six cameras of ``height`` x ``width``, mounted a little differently in every scene."""
    lidar = rotation_z(np.deg2rad(-90.0 + rng.normal(0, 0.3)))
    lidar[:3, 3] = (0.95, 0.0, 1.84)
    sensors = [Sensor("LIDAR_TOP", as_stored(lidar), None, TURN_S)]
    for channel, (position, yaw, focal) in CAMERAS.items():
        tilt = _small_rotation(rng.normal(0, np.deg2rad(0.4), 3))
        pose = rotation_z(np.deg2rad(yaw)) @ tilt @ _OPTICAL
        pose[:3, 3] = position
        f = focal * width * (1 + rng.normal(0, 0.003))
        center = ((width - 1) / 2 + rng.normal(0, 0.01) * width, (height - 1) / 2 + 0.04 * height)
        intrinsics = np.array([[f, 0.0, center[0]], [0.0, f, center[1]], [0.0, 0.0, 1.0]])
        delay = ((START_DEG - yaw) % 360.0 or 360.0) / 360.0 * TURN_S  # when the beam passes its middle
        sensors.append(Sensor(channel, as_stored(pose), intrinsics, delay))
    return sensors


def _small_rotation(angles: NDArray[np.float64]) -> Transform:
    return make_transform([1.0, *(angles / 2).tolist()], [0.0, 0.0, 0.0])


def as_stored(pose: Transform) -> Transform:
    """The pose that a reader of the tables gets, so that everything stands exactly where they say."""
    return make_transform(to_quaternion(pose).tolist(), pose[:3, 3].tolist())


def column_azimuths() -> NDArray[np.float64]:
    """(A,) azimuth of each column of a turn, clockwise from the LiDAR's y axis [rad]; y is the vehicle's x."""
    return np.deg2rad(-START_DEG) + np.arange(1, COLUMNS + 1) / COLUMNS * 2 * np.pi


def column_times() -> NDArray[np.float64]:
    """(A,) time of each column before the end of the turn [s], <= 0."""
    return (np.arange(1, COLUMNS + 1) / COLUMNS - 1.0) * TURN_S
