"""LiDAR points on images: which pixel a point falls on.

Pixels are positions (u, v), column first; (0, 0) is the *centre* of the first pixel, so pixel i covers
[i - 0.5, i + 0.5). ``nearest_pixels`` is the only place where a position becomes a row and a column.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..compiled import compiled
from ..datasets.records import PINHOLE, Lens
from ..geometry import checked_transform, point_rows
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
        places = np.flatnonzero(kept)  # masks are counted anew by each array that they choose of
        return Projection(self.rows[places], np.take(self.pixels, places, axis=0), self.depth[places])


def project(points: NDArray, lidar_to_camera: ArrayLike, lens: Lens) -> Projection:
    """Pixels of the points in front of a camera.

    Args:
        points: (N, 3+) x, y, z [m, lidar frame] of any numbers; rows that are not finite are left out.
        lidar_to_camera: (4, 4), through both ego poses (``Frame.lidar_to_camera``).
        lens: of the camera; rays that its model does not hold for, see `lens.bend`, fall nowhere.
    Returns:
        Points with depth > ``MIN_DEPTH_M`` and 0 < u < width - 1, 0 < v < height - 1, all strict, so that the
        four pixels around each position exist. A point may be in several cameras' projections.

    Raises:
        InputError: points or transform have another shape.
    """
    to_camera = checked_transform(lidar_to_camera)
    intrinsics = np.array(lens.intrinsics, dtype=np.float64)
    rows, in_camera = _in_front(
        point_rows(points), to_camera, MIN_DEPTH_M, intrinsics, *lens.size, lens.model != PINHOLE
    )
    # of the few that are left, by the matrix product: a compiled one would round otherwise
    on_image = bend(in_camera, lens) @ intrinsics.T
    return Projection(*_inside(on_image, rows, in_camera, *lens.size))


@compiled(error_model="numpy")
def _in_front(points, to_camera, min_depth, intrinsics, height, width, anywhere):
    """The points deeper than ``min_depth`` and finite that may lie on the image.

    Args:
        anywhere: also those that a pinhole camera would not have on its image, or within a pixel of it.

    Returns:
        (P,) their rows, and (P, 3) float64 their places in the camera frame.
    """
    rows = np.empty(len(points), np.int64)
    in_camera = np.empty((len(points), 3))
    m, k, count = to_camera, intrinsics, 0
    for n in range(len(points)):  # one pass: most points lie behind the camera, or beside the image
        x, y, z = np.float64(points[n, 0]), np.float64(points[n, 1]), np.float64(points[n, 2])
        depth = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]
        if not (depth > min_depth and np.isfinite(x) and np.isfinite(y) and np.isfinite(z)):
            continue
        right = m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]
        down = m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]
        if not anywhere:
            w = k[2, 0] * right + k[2, 1] * down + k[2, 2] * depth
            u = k[0, 0] * right + k[0, 1] * down + k[0, 2] * depth  # both times w: divisions take longer
            v = k[1, 0] * right + k[1, 1] * down + k[1, 2] * depth
            if w > 0 and not (-w < u < width * w and -w < v < height * w):
                continue
        rows[count] = n
        in_camera[count, 0], in_camera[count, 1], in_camera[count, 2] = right, down, depth
        count += 1
    return rows[:count], in_camera[:count]


@compiled(error_model="numpy")
def _inside(on_image, rows, in_camera, height, width):
    """Rows, pixels and depth of the points on the image; ``on_image`` (P, 3) are u and v times w, and w."""
    kept, count = np.empty(len(rows), np.int64), 0
    pixels, depth = np.empty((len(rows), 2), np.float32), np.empty(len(rows), np.float32)
    for n in range(len(rows)):
        u, v = on_image[n, 0] / on_image[n, 2], on_image[n, 1] / on_image[n, 2]
        if 0 < u < width - 1 and 0 < v < height - 1:
            kept[count], depth[count] = rows[n], in_camera[n, 2]
            pixels[count, 0], pixels[count, 1] = u, v
            count += 1
    return kept[:count], pixels[:count], depth[:count]


def nearest_pixels(pixels: NDArray, size: tuple[int, int]) -> NDArray[np.int64]:
    """(P, 2) int64 column, row of the pixel that holds each position (P, 2) u, v; halves go up.

    Positions outside the image, below 0 as well as above, get the nearest border pixel.
    """
    height, width = size
    whole = np.floor(np.asarray(pixels, dtype=np.float64) + 0.5).astype(np.int64)
    return np.minimum(np.maximum(whole, 0), (width - 1, height - 1))
