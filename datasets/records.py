"""What a dataset's reader lists: the scans of a log, where their files lie, and what is known of them beforehand."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..geometry import Transform, compose, make_transform, to_quaternion

PINHOLE = "pinhole"  # of images that are undistorted
RADIAL_TANGENTIAL = "radial_tangential"  # k1, k2, p1, p2, k3 as in OpenCV; ROS' plumb_bob
FISHEYE = "fisheye"  # equidistant, k1 to k4 as in OpenCV's fisheye module
# model -> number of parameters, see `camera.lens`
CAMERA_MODELS = {PINHOLE: 0, RADIAL_TANGENTIAL: 5, FISHEYE: 4}

APART = 1 << 32  # a step of ``ScanRow.order`` between scans that no recording joins: they are no neighbours


@dataclass(frozen=True, slots=True)
class Place:
    """Where an array lies: a file, or a part of one."""

    path: str  # from the log's root, with slashes
    key: str = ""  # which row, message or member of the file; "" for the whole file


@dataclass(frozen=True, slots=True, eq=False)
class Lens:
    """How the rays of one camera become pixels of its images."""

    intrinsics: NDArray[np.float64]  # (3, 3) [pixel]
    size: tuple[int, int]  # height, width [pixel]
    model: str = PINHOLE  # of ``CAMERA_MODELS``
    distortion: tuple[float, ...] = ()  # its parameters

    def __post_init__(self) -> None:
        """Looks at what compiled code would read beyond, and what no ray could be bent by.

        Raises:
            InputError: another shape or model, a parameter beyond those that it has, or one that is not finite.
        """
        if np.shape(self.intrinsics) != (3, 3) or len(self.size) != 2:
            raise InputError(
                f"a lens has intrinsics of shape {np.shape(self.intrinsics)} and the size {self.size}; give (3, 3) in "
                "pixels, and height, width"
            )
        most = CAMERA_MODELS.get(self.model)
        if most is None or any(self.distortion[most:]) or not all(map(math.isfinite, self.distortion)):
            raise InputError(
                f"a lens has the parameters {self.distortion} of the model {self.model!r}; models, and how many finite "
                f"ones they have, are {', '.join(f'{name} {count}' for name, count in CAMERA_MODELS.items())}"
            )


@dataclass(frozen=True, slots=True)
class CameraRow:
    """An image of a scan and where it was taken from; frames as in `frame.Camera`."""

    channel: str
    token: str  # unique in the log
    image: Place
    intrinsics: NDArray[np.float64]  # (3, 3) [pixel]
    camera_to_ego: Transform  # (4, 4)
    size: tuple[int, int] = (0, 0)  # height, width; (0, 0) is taken from the file
    time_us: int | None = None  # of the exposure
    ego_to_world: Transform | None = None  # (4, 4) at the exposure
    model: str = PINHOLE  # as in `Lens`
    distortion: tuple[float, ...] = ()  # parameters of the model; those that are left out are 0


@dataclass(frozen=True, slots=True)
class LidarRow:
    """One of several LiDARs whose points are one scan."""

    name: str
    lidar_to_ego: Transform  # (4, 4) from x forward, y left, z up of the LiDAR; where its rays begin
    points: Place | None = (
        None  # None: in the file of the scan; with several there, its column ``lidar`` tells whose
    )
    labels: Place | None = None  # of its own file


@dataclass(frozen=True, slots=True)
class Boxes:
    """Annotated objects of one scan, in the world frame."""

    centers: NDArray[np.float64]  # (B, 3) [m]
    sizes: NDArray[np.float64]  # (B, 3) length, width, height [m]
    rotations: NDArray[np.float64]  # (B, 4) quaternion w, x, y, z: box to world
    categories: tuple[str, ...]  # B names as in the dataset
    tracks: tuple[str, ...]  # B instance tokens, equal over time
    velocities: NDArray[np.float64]  # (B, 3) [m/s, world]; NaN where it is not known
    # B: attributes as the dataset words them, as vehicle.parked, joined by spaces; "" for none
    status: tuple[str, ...]
    points: NDArray[np.int32]  # (B,) LiDAR points inside; -1 where they were not counted

    def __len__(self) -> int:
        return len(self.centers)

    def part(self, start: int, stop: int) -> Boxes:
        """The boxes from ``start`` to before ``stop``."""
        return Boxes(*(getattr(self, f.name)[start:stop] for f in fields(self)))

    def moved(self, world_to_other: Transform) -> Boxes:
        """The boxes in another world."""
        turn = world_to_other[:3, :3]
        placed = compose(world_to_other, make_transform(self.rotations, self.centers))
        return replace(
            self,
            centers=placed[:, :3, 3],
            rotations=to_quaternion(placed).reshape(-1, 4) if len(self) else self.rotations,
            velocities=compose(self.velocities, turn.T),
        )

    @classmethod
    def placed(
        cls,
        centers: NDArray[np.float64],
        sizes: NDArray[np.float64],
        rotations: NDArray[np.float64],
        categories: tuple[str, ...],
        tracks: tuple[str, ...],
        points: NDArray[np.int32] | None = None,
    ) -> Boxes:
        """Boxes of which only these things are known."""
        count = len(centers)
        return cls(
            *(centers, sizes, rotations, categories, tracks),
            velocities=np.full((count, 3), np.nan),
            status=("",) * count,
            points=np.full(count, -1, np.int32) if points is None else points,
        )


@dataclass(frozen=True, slots=True)
class ScanRow:
    """One scan of a log. What the log does not know is None; nothing is made up for it.

    Attributes:
        scene: name of the drive; scans of one scene share a world, if they have poses.
        token: unique in the log; pictures and pseudo labels are files of this name.
        order: place within the scene, ascending with time; gaps are gaps in the recording, see ``APART``.
        points, labels, instances: in the formats that the card states.
        lidar_to_ego: (4, 4) from x forward, y left, z up of the LiDAR, whatever axes the files have.
        time_us: of the scan [microseconds]. ego_to_world: (4, 4) at that time.
        boxes: None without annotation; with none inside it is empty.
        is_key: key frame, or sweep between key frames.
        lidars: where the scan is merged from several; the first of them is 0 in the column ``lidar``. Points of the
            scan's own file lie in the frame of ``lidar_to_ego``, those of other files in that of their LiDAR.
        split: of the scan, where splits are not those of whole scenes; a card can name lists of scans, too.
        sample: the log's own name of a key frame, where that is another one than the scan's.
    """

    scene: str
    token: str
    order: int
    points: Place
    lidar_to_ego: Transform
    labels: Place | None = None
    instances: Place | None = None
    boxes: Boxes | None = None
    time_us: int | None = None
    ego_to_world: Transform | None = None
    is_key: bool = True
    split: str = ""
    cameras: tuple[CameraRow, ...] = ()
    lidars: tuple[LidarRow, ...] = ()
    sample: str = ""
