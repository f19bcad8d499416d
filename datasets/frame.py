"""What a reader returns: a scan with its cameras at one instant, and the scans around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..geometry import Transform, invert

IGNORE_LABEL = 255  # train id of points that are neither trained on nor evaluated


@dataclass(frozen=True, slots=True)
class Camera:
    """One image and where it was taken from.

    Camera frame: x right, y down, z forward. Pixel frame: u right, v down, (0, 0) the centre of the first pixel.
    """

    token: str  # unique in the log; file name of superpixels and cached features
    channel: str  # CAM_FRONT, ...
    time_us: int  # of the exposure; not the scan's time
    intrinsics: NDArray[np.float64]  # (3, 3), in pixels of the image as stored
    camera_to_ego: Transform  # (4, 4)
    ego_to_world: Transform  # (4, 4) at time_us
    path: str  # absolute path of the image file
    size: tuple[int, int]  # height, width [pixel]
    image: NDArray[np.uint8] | None = None  # (H, W, 3) RGB; None when it was not asked for


@dataclass(frozen=True, slots=True)
class Boxes:
    """Annotated objects of one scan, in the world frame."""

    centers: NDArray[np.float64]  # (B, 3) [m]
    sizes: NDArray[np.float64]  # (B, 3) length, width, height [m]
    rotations: NDArray[np.float64]  # (B, 4) quaternion w, x, y, z: box to world
    categories: tuple[str, ...]  # B names as in the dataset
    tracks: tuple[str, ...]  # B instance tokens, equal over time

    def __len__(self) -> int:
        return len(self.centers)


@dataclass(frozen=True, slots=True)
class Frame:
    """One LiDAR scan with its cameras, poses and labels, at one instant.

    LiDAR frame: x forward, y left, z up, whatever the files use.
    """

    token: str
    scene: str
    time_us: int  # int64 microseconds
    is_key: bool  # key frame, or sweep between key frames
    points: NDArray[
        np.float32
    ]  # (N, 4+) x, y, z [m, lidar], intensity [0, 1], then columns named in the card
    lidar_to_ego: Transform  # (4, 4)
    ego_to_world: Transform  # (4, 4) at time_us
    cameras: tuple[Camera, ...] = ()
    labels: NDArray[np.uint8] | None = None  # (N,) train ids, 255 = ignore; None without annotation
    boxes: Boxes | None = None

    @property
    def lidar_to_world(self) -> Transform:
        """(4, 4) at the time of the scan."""
        return self.ego_to_world @ self.lidar_to_ego

    def lidar_to_camera(self, camera: Camera) -> Transform:
        """(4, 4) through both ego poses: the vehicle moves between the scan and the exposure."""
        return invert(camera.camera_to_ego) @ invert(camera.ego_to_world) @ self.lidar_to_world


@dataclass(frozen=True, slots=True)
class Clip:
    """A frame and its neighbours in time. A neighbour that does not exist is absent, never a repeat.

    ``frames`` maps the offset in key frames to the frame: always 0, and those of the asked offsets that exist.
    ``sweeps`` are the scans around frame 0 that make its cloud dense: those just before (newest first), then those
    just after (oldest first).
    """

    frames: dict[int, Frame]
    sweeps: tuple[Frame, ...] = ()

    @property
    def center(self) -> Frame:
        return self.frames[0]
