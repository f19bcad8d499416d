"""What a reader returns: a scan with its cameras at one instant, and the scans around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..geometry import Transform, compose, invert
from .cloud import LIDAR, Cloud
from .formats.images import decode, file_state, named, stored_image
from .formats.readers import IMAGE_FILE
from .records import PINHOLE, Boxes, Lens

IGNORE_LABEL = 255  # train id of points that are neither trained on nor evaluated


@dataclass(frozen=True, slots=True)
class Camera:
    """One image and where it was taken from.

    Camera frame: x right, y down, z forward. Pixel frame: u right, v down, (0, 0) the centre of the first pixel.
    """

    token: str  # unique in the log; file name of superpixels and cached features
    channel: str  # CAM_FRONT, ...
    time_us: int | None  # of the exposure; not the scan's time; None where it is not known
    intrinsics: NDArray[np.float64]  # (3, 3), in pixels of the image as stored
    camera_to_ego: Transform  # (4, 4)
    ego_to_world: Transform | None  # (4, 4) at time_us
    path: str  # absolute path of the file that the image lies in, see ``read``
    size: tuple[int, int]  # height, width [pixel]
    image: NDArray[np.uint8] | None = None  # (H, W, 3) RGB; None when it was not asked for
    model: str = PINHOLE  # as in `Lens`
    distortion: tuple[float, ...] = ()  # parameters of the model
    key: str = ""  # which part of the file the image is; "" for the whole
    format: str = IMAGE_FILE  # of the file, see `formats.readers.IMAGE_READERS`

    def read(self, at_least: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB of the image, as it is stored; at half the size where that is enough.

        Args:
            at_least: height, width that are enough, see `images.decode`; None always gives the whole image.

        Raises:
            InputError: it is missing, cut off, no image, or of another size than ``size``.
        """
        return decode(self.stored(), named(self.path, self.key), self.size, at_least=at_least)

    def stored(self) -> bytes:
        """The bytes of the image, as they are stored: a whole JPEG or PNG.

        Raises:
            InputError: it is missing.
        """
        return stored_image(self.path, format=self.format, key=self.key)

    def file_state(self) -> tuple[int, int]:
        """Size [byte] and time of the last change [ns] of the file that the image lies in.

        Raises:
            InputError: it is missing.
        """
        return file_state(self.path)

    def decode(self, data: bytes) -> NDArray[np.uint8]:
        """What `read` returns, from the bytes that `stored` returned.

        Raises:
            InputError: they are cut off, no image, or of another size than ``size``.
        """
        return decode(data, named(self.path, self.key), self.size)

    @property
    def lens(self) -> Lens:
        """How its rays become pixels."""
        return Lens(self.intrinsics, self.size, self.model, self.distortion)


@dataclass(frozen=True, slots=True, eq=False)
class Lidar:
    """One of several LiDARs whose points are one cloud."""

    name: str
    to_cloud: Transform  # (4, 4) from x forward, y left, z up of the LiDAR to the frame of the cloud


@dataclass(frozen=True, slots=True)
class Frame:
    """One LiDAR scan with its cameras, poses and labels, at one instant.

    LiDAR frame: x forward, y left, z up, whatever the files use.
    """

    token: str
    scene: str
    time_us: int | None  # int64 microseconds; None where it is not known
    is_key: bool  # key frame, or sweep between key frames
    cloud: Cloud  # N points in the LiDAR frame
    lidar_to_ego: Transform  # (4, 4)
    ego_to_world: Transform | None  # (4, 4) at time_us; None where it is not known
    cameras: tuple[Camera, ...] = ()
    labels: NDArray[np.uint8] | None = None  # (N,) train ids, 255 = ignore; None without annotation
    boxes: Boxes | None = None
    dataset: str = ""  # name of the card
    variant: str = "clean"  # or how a copy was corrupted
    # by the numbers in the cloud's column ``lidar``; none where one LiDAR is the origin
    lidars: tuple[Lidar, ...] = ()

    @property
    def points(self) -> NDArray[np.float32]:
        """(N, 4+) float32 x, y, z [m, lidar], intensity [0, 1] or NaN, then further columns; see `Cloud.table`."""
        return self.cloud.table

    @property
    def by_lidar(self) -> list[tuple[NDArray[np.int64], Transform]]:
        """Rows of the points of each LiDAR, and (4, 4) from its frame to that of the cloud; none for a single one."""
        if not self.lidars or not len(self.cloud):
            return []
        of = self.cloud.extra[LIDAR]
        return [(np.flatnonzero(of == number), lidar.to_cloud) for number, lidar in enumerate(self.lidars)]

    @property
    def origins(self) -> NDArray[np.float64] | None:
        """(N, 3) where the ray of each point began; None where that is the origin."""
        if not self.lidars or not len(self.cloud):
            return None
        return np.array([lidar.to_cloud[:3, 3] for lidar in self.lidars])[self.cloud.extra[LIDAR]]

    @property
    def lidar_to_world(self) -> Transform:
        """(4, 4) at the time of the scan.

        Raises:
            InputError: the pose is not known.
        """
        if self.ego_to_world is None:
            raise InputError(
                f"the scan {self.token} of {self.scene} has no pose, and bringing its points into the world needs one; "
                "use single scans, or prepare the log with poses"
            )
        return compose(self.ego_to_world, self.lidar_to_ego)

    def lidar_to_camera(self, camera: Camera) -> Transform:
        """(4, 4) through both ego poses: the vehicle moves between the scan and the exposure.

        Where one of them is not known, scan and image are taken to be of one instant.
        """
        if self.ego_to_world is None or camera.ego_to_world is None:
            return compose(invert(camera.camera_to_ego), self.lidar_to_ego)
        return compose(invert(camera.camera_to_ego), invert(camera.ego_to_world), self.lidar_to_world)


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
