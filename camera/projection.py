"""LiDAR points on images: which pixel a point falls on, and whether something nearer hides it there.

Pixels are positions (u, v), column first; (0, 0) is the *centre* of the first pixel, so pixel i covers
[i - 0.5, i + 0.5). ``nearest_pixels`` is the only place where a position becomes a row and a column.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..geometry import transform_points


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
    intrinsics: ArrayLike,
    size: tuple[int, int],
    *,
    min_depth: float = 1.0,
) -> Projection:
    """Pixels of the points in front of a camera.

    Args:
        points: (N, 3+) x, y, z [m, lidar frame]; rows that are not finite are left out.
        lidar_to_camera: (4, 4), through both ego poses (``Frame.lidar_to_camera``).
        intrinsics: (3, 3) [pixel].
        size: height, width of the image [pixel].
        min_depth: points nearer than this are left out [m]; they lie on the vehicle itself.

    Returns:
        Points with depth > ``min_depth`` and 0 < u < width - 1, 0 < v < height - 1, all strict, so that the
        four pixels around each position exist. A point may be in several cameras' projections.
    """
    height, width = size
    xyz = np.asarray(points)[:, :3].astype(np.float64)
    rows = np.flatnonzero(np.isfinite(xyz).all(axis=1))
    in_camera = transform_points(lidar_to_camera, xyz[rows])
    front = in_camera[:, 2] > min_depth
    rows, in_camera = rows[front], in_camera[front]
    homogeneous = in_camera @ np.asarray(intrinsics, dtype=np.float64).T
    pixels = homogeneous[:, :2] / homogeneous[:, 2:]
    inside = ((pixels > 0) & (pixels < (width - 1, height - 1))).all(axis=1)
    return Projection(
        rows[inside], pixels[inside].astype(np.float32), in_camera[inside, 2].astype(np.float32)
    )


def nearest_pixels(pixels: NDArray, size: tuple[int, int]) -> NDArray[np.int64]:
    """(P, 2) int64 column, row of the pixel that holds each position (P, 2) u, v; halves go up.

    Positions outside the image, below 0 as well as above, get the nearest border pixel.
    """
    height, width = size
    whole = np.floor(np.asarray(pixels, dtype=np.float64) + 0.5).astype(np.int64)
    return np.minimum(np.maximum(whole, 0), (width - 1, height - 1))


def unoccluded(
    projection: Projection,
    size: tuple[int, int],
    *,
    cell_px: int = 4,
    slack_ratio: float = 0.2,
    slack_m: float = 0.5,
) -> NDArray[np.bool_]:
    """(P,) true where no point in the same cell of the image is clearly nearer to the camera.

    The LiDAR sits higher than the cameras and sees over objects that hide what lies behind them; such a
    point would be paired with the pixel of the object before it.

    Args:
        projection: points of one cloud on one image.
        size: height, width of that image [pixel].
        cell_px: side of the square cells [pixel]; about the distance of neighbouring returns on the image.
        slack_ratio, slack_m: a point stays if its depth is at most nearest * (1 + ratio) + slack, with the
            nearest depth of its cell, so that slanted surfaces such as the road stay whole.
    """
    columns = -(-size[1] // cell_px)
    cells = nearest_pixels(projection.pixels, size) // cell_px
    cell = cells[:, 1] * columns + cells[:, 0]
    nearest = np.full(columns * -(-size[0] // cell_px), np.inf, dtype=np.float32)
    np.minimum.at(nearest, cell, projection.depth)
    return projection.depth <= nearest[cell] * (1 + slack_ratio) + slack_m
