"""LiDAR points on images: which pixel a point falls on.

Pixels are positions (u, v), column first; (0, 0) is the *centre* of the first pixel, so pixel i covers
[i - 0.5, i + 0.5). ``nearest_pixels`` is the only place where a position becomes a row and a column.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..datasets.records import Lens
from .lens import bend

MIN_DEPTH_M = 1.0  # what lies nearer to a camera is the vehicle itself


@dataclass(frozen=True, slots=True)
class Projection:
    """The points that fall on one image; P of N. Points behind the camera or outside the image are absent."""

    rows: NDArray[np.int64]  # (P,) row of the cloud, ascending
    pixels: NDArray[np.float32]  # (P, 2) u, v [pixel of the image as given by its intrinsics]
    depth: NDArray[np.float32]  # (P,) z in the camera frame [m]

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, kept: NDArray[np.bool_]) -> Projection:
        """The points where ``kept`` (P,) is true."""
        return Projection(self.rows[kept], self.pixels[kept], self.depth[kept])


def project(
    points: NDArray,
    lidar_to_camera: ArrayLike,
    lens: Lens,
    *,
    min_depth: float = MIN_DEPTH_M,
) -> Projection:
    """Pixels of the points in front of a camera.

    Args:
        points: (N, 3+) x, y, z [m, lidar frame]; rows that are not finite are left out.
        lidar_to_camera: (4, 4), through both ego poses (``Frame.lidar_to_camera``).
        lens: of the camera; rays that its model does not hold for, see `lens.bend`, fall nowhere.
        min_depth: points nearer than this are left out [m]; they lie on the vehicle itself.

    Returns:
        Points with depth > ``min_depth`` and 0 < u < width - 1, 0 < v < height - 1, all strict, so that the
        four pixels around each position exist. A point may be in several cameras' projections.
    """
    height, width = lens.size
    to_camera = np.asarray(lidar_to_camera, dtype=np.float64)
    # column by column, and no copy that is not needed: what strides over rows of three takes several times as long
    xyz = np.asarray(points)[:, :3].astype(np.float64)
    finite = np.isfinite(xyz)
    rows = np.flatnonzero(finite[:, 0] & finite[:, 1] & finite[:, 2])
    if len(rows) < len(xyz):
        xyz = np.take(xyz, rows, axis=0)
    in_camera = xyz @ to_camera[:3, :3].T
    in_camera += to_camera[:3, 3]
    front = np.flatnonzero(in_camera[:, 2] > min_depth)
    rows, in_camera = rows[front], np.take(in_camera, front, axis=0)
    x, y, z = (bend(in_camera, lens) @ np.asarray(lens.intrinsics, dtype=np.float64).T).T
    u, v = x / z, y / z
    inside = np.flatnonzero((u > 0) & (v > 0) & (u < width - 1) & (v < height - 1))
    pixels = np.empty((len(inside), 2), dtype=np.float32)
    pixels[:, 0], pixels[:, 1] = u[inside], v[inside]
    return Projection(rows[inside], pixels, in_camera[inside, 2].astype(np.float32))


def nearest_pixels(pixels: NDArray, size: tuple[int, int]) -> NDArray[np.int64]:
    """(P, 2) int64 column, row of the pixel that holds each position (P, 2) u, v; halves go up.

    Positions outside the image, below 0 as well as above, get the nearest border pixel.
    """
    height, width = size
    whole = np.floor(np.asarray(pixels, dtype=np.float64) + 0.5).astype(np.int64)
    return np.minimum(np.maximum(whole, 0), (width - 1, height - 1))
