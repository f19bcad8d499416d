"""Which point lies on which pixel: the geometric half of a pretraining sample, before any augmentation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..camera.occlusion import ScanSurface
from ..camera.projection import nearest_pixels, project
from ..compiled import compiled
from ..datasets.frame import Camera, Frame
from ..geometry import voxel_keys

# beyond the nearest point of its superpixel, so that slanted surfaces such as the road stay whole
_SLACK_RATIO, _SLACK_M = 0.2, 0.5


@dataclass(frozen=True, slots=True)
class FramePairs:
    """Pairs of one cloud with the images of one frame. A point seen by two cameras has two."""

    point: NDArray[np.int64]  # (P,) row of the cloud
    camera: NDArray[np.int64]  # (P,) place in the list of cameras
    pixel: NDArray[np.float32]  # (P, 2) u, v in the image as stored
    depth: NDArray[np.float32]  # (P,) z in the camera frame [m]

    @classmethod
    def none(cls) -> FramePairs:
        """No pairs."""
        nothing = np.zeros(0, np.int64)
        return cls(nothing, nothing, np.zeros((0, 2), np.float32), np.zeros(0, np.float32))

    def of(self, points: NDArray[np.int64], cameras: Sequence[int]) -> FramePairs:
        """The pairs whose point and camera were chosen, counted from 0 within the choice.

        Args:
            points: (M,) rows of the cloud that stay, in their new order; cameras: places that stay.
        """
        new_camera = np.full(max(int(self.camera.max(initial=-1)), *cameras, -1) + 1, -1)
        new_camera[list(cameras)] = np.arange(len(cameras))
        rows = int(max(points.max(initial=-1), self.point.max(initial=-1))) + 1
        kept, point, camera = _chosen(self.point, self.camera, points, rows, new_camera)
        if len(kept) == len(self.point):  # of a whole cloud
            return FramePairs(point, camera, self.pixel, self.depth)
        return FramePairs(point, camera, np.take(self.pixel, kept, axis=0), self.depth[kept])


@compiled()
def _chosen(point, camera, points, rows, new_camera):
    """Rows of the pairs whose point is one of ``points`` and whose camera has a new number; and both new numbers."""
    new_point = np.full(rows, -1)
    for n in range(len(points)):
        new_point[points[n]] = n
    kept, count = np.empty(len(point), np.int64), 0
    points, cameras = np.empty(len(point), np.int64), np.empty(len(point), np.int64)
    for n in range(len(point)):
        points[count], cameras[count] = new_point[point[n]], new_camera[camera[n]]
        kept[count] = n
        count += points[count] >= 0 and cameras[count] >= 0
    return kept[:count], points[:count], cameras[:count]


def pair(
    frame: Frame,
    points: NDArray,
    cameras: Sequence[Camera],
    *,
    surface: ScanSurface | None,
) -> FramePairs:
    """Pairs of ``points`` (N, 3+), given in the LiDAR frame of ``frame``, with its cameras.

    Args:
        surface: of the whole scan of ``frame``: points that it hides are left out. None keeps them, as published.
    """
    found = []
    for place, camera in enumerate(cameras):
        view = (frame.lidar_to_camera(camera), camera.lens)
        projection = project(points, *view)
        if surface is not None:
            projection = projection.select(~surface.hides(projection, *view))
        camera_of = np.full(len(projection), place)
        found.append(FramePairs(projection.rows, camera_of, projection.pixels, projection.depth))
    return concatenate(found)


def join(pairs: FramePairs, further: FramePairs, *, first: int) -> FramePairs:
    """The pairs of two clouds with the same cameras as those of one cloud.

    Args:
        first: row of the joint cloud at which the second one begins.
    """
    return concatenate([pairs, replace(further, point=further.point + first)])


def concatenate(parts: Sequence[FramePairs]) -> FramePairs:
    """The pairs of all parts, one after the other; none of no part."""
    if len(parts) == 1:
        return parts[0]
    parts = [FramePairs.none(), *parts]
    return FramePairs(
        np.concatenate([part.point for part in parts]),
        np.concatenate([part.camera for part in parts]),
        np.concatenate([part.pixel for part in parts]),
        np.concatenate([part.depth for part in parts]),
    )


def nearest_of_region(region: NDArray[np.int64], depth: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(P,) true where no point of the same superpixel of the image is clearly nearer to the camera.

    A superpixel that is one thing has one depth; what lies behind it was seen over it or through it. Regions that
    reach far into the image, such as the road, lose their far points.

    Args:
        region: (P,) superpixel id of each pair of one image, -1 for none; those pairs stay.
        depth: (P,) depth of its point [m].
    """
    nearest = np.full(int(region.max(initial=-1)) + 1, np.inf, dtype=np.float32)
    named = region >= 0
    np.minimum.at(nearest, region[named], depth[named])
    kept = ~named
    kept[named] = depth[named] <= nearest[region[named]] * (1 + _SLACK_RATIO) + _SLACK_M
    return kept


def resized_pixels(size: tuple[int, int], view_size: tuple[int, int]) -> NDArray[np.float64]:
    """(3, 3) that takes pixels of an image of ``size`` to those of its copy at ``view_size`` (both height, width)."""
    across, down = view_size[1] / size[1], view_size[0] / size[0]
    return np.array([[across, 0, (across - 1) / 2], [0, down, (down - 1) / 2], [0, 0, 1]])


def ids_under(ids: NDArray, pixels: NDArray) -> NDArray[np.int64]:
    """(P,) int64 superpixel id under each position, -1 for the ignore id of the files."""
    columns, rows = nearest_pixels(pixels, ids.shape).T
    found = ids[rows, columns].astype(np.int64)
    found[found == np.iinfo(np.uint16).max] = -1
    return found


def world_cells(frame: Frame, points: NDArray, size_m: float) -> NDArray[np.int64]:
    """(N,) int64 key of the cubic world cell of each point: the same cell at all times and in all views.

    The world of a scan without a pose is its ego frame.

    Poses only: the keys serve as region ids and are never seen by the student.
    """
    to_world = frame.lidar_to_ego if frame.ego_to_world is None else frame.lidar_to_world
    return voxel_keys(points[:, :3].astype(np.float64) @ to_world[:3, :3].T + to_world[:3, 3], size_m)


def id_space(*words: str) -> int:
    """63-bit number of what ``words`` name: the same in every process and run, and for other words another one.

    Region ids that are counted anew in each image or scene are told apart by that of their image or scene.
    """
    digest = hashlib.blake2b("\0".join(words).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
