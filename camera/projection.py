"""LiDAR points on images: which pixel a point falls on.

Pixels are positions (u, v), column first; (0, 0) is the *centre* of the first pixel, so pixel i covers
[i - 0.5, i + 0.5). ``nearest_pixels`` is the only place where a position becomes a row and a column.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..compiled import compiled
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
    rows, in_camera = _in_front(np.asarray(points)[:, :3], to_camera, float(min_depth))
    x, y, z = (bend(in_camera, lens) @ np.asarray(lens.intrinsics, dtype=np.float64).T).T
    u, v = x / z, y / z
    inside = np.flatnonzero((u > 0) & (v > 0) & (u < width - 1) & (v < height - 1))
    pixels = np.empty((len(inside), 2), dtype=np.float32)
    pixels[:, 0], pixels[:, 1] = u[inside], v[inside]
    return Projection(rows[inside], pixels, in_camera[inside, 2].astype(np.float32))


@compiled(error_model="numpy")
def _in_front(points, to_camera, min_depth):
    """Rows of the points deeper than ``min_depth`` and finite, and their (P, 3) float64 places in the camera frame."""
    rows = np.empty(len(points), np.int64)
    in_camera = np.empty((len(points), 3))
    m, count = to_camera, 0
    for n in range(len(points)):  # one pass: most points lie behind the camera
        x, y, z = np.float64(points[n, 0]), np.float64(points[n, 1]), np.float64(points[n, 2])
        depth = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]
        if depth > min_depth and np.isfinite(x) and np.isfinite(y) and np.isfinite(z):
            rows[count] = n
            in_camera[count, 0] = m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]
            in_camera[count, 1] = m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]
            in_camera[count, 2] = depth
            count += 1
    return rows[:count], in_camera[:count]


def nearest_pixels(pixels: NDArray, size: tuple[int, int]) -> NDArray[np.int64]:
    """(P, 2) int64 column, row of the pixel that holds each position (P, 2) u, v; halves go up.

    Positions outside the image, below 0 as well as above, get the nearest border pixel.
    """
    height, width = size
    whole = np.floor(np.asarray(pixels, dtype=np.float64) + 0.5).astype(np.int64)
    return np.minimum(np.maximum(whole, 0), (width - 1, height - 1))
