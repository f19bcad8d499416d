"""What a scan's points look like, in a few numbers."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

SECTORS = 36  # of azimuth, 10 degrees each
_SEEN = 2048  # points of a scan that percentiles and images are looked at with
_COMPARED = 16384  # points of a scan among which identical ones are counted
_PERCENT = (1, 50, 99)

_ORIGIN_M = 1e-3  # points nearer than this stand for "no return"
FAR_M = 2000.0  # no LiDAR on a vehicle measures further

# what is kept of a scan; heights, centre and sectors without the points at the origin
CLOUD = np.dtype(
    [
        ("row", "i8"),
        ("points", "i8"),
        ("origin", "f8"),  # share of points at (0, 0, 0)
        ("copies", "f8"),  # share of the other points that repeat one of them
        ("far", "i8"),  # points beyond FAR_M, the first of them and the range of the farthest [m]
        ("first_far", "i8"),
        ("range_m", "f8", 5),  # smallest, 1 %, median, 99 %, largest
        ("height_m", "f8", 5),  # above the sensor
        ("intensity", "f8", 5),
        ("centre_m", "f8", 3),  # median of each coordinate, in the axes of the file
        ("spread_m", "f8"),  # median distance from the centre
        ("layer_m", "f8"),  # height of the densest layer near the sensor: the ground, nearly always
        ("layer", "f8"),  # share of the near points in it; 0 where there are too few to say
        ("sectors", "i4", SECTORS),  # points by azimuth, from -180 degrees, counter-clockwise
        ("digest", "u4"),  # equal for scans of the same points
    ]
)


def measure_cloud(
    row: int, points: NDArray[np.float32], to_lidar: NDArray[np.float64], intensity: tuple[float, float]
) -> tuple[NDArray[np.void], NDArray[np.float32]]:
    """A record of ``CLOUD`` of a scan, and (M, 3) some of its points [m, lidar frame], none at the origin.

    Args:
        points: (N, 4+) as in the file, N > 0.
        to_lidar: (3, 3) from the axes of the file to x forward, y left, z up.
        intensity: the smallest and the largest.
    """
    cloud = np.zeros((), CLOUD)
    xyz = np.ascontiguousarray(points[:, :3])
    square = np.einsum("ij,ij->i", xyz, xyz)  # infinite where float32 overflows: far all the same
    there = np.flatnonzero(square >= _ORIGIN_M**2)
    far = square > FAR_M**2
    cloud["row"], cloud["points"] = row, len(points)
    cloud["origin"] = 1 - len(there) / len(points)
    cloud["far"], cloud["first_far"] = far.sum(), far.argmax()
    if not len(there):
        return cloud, np.empty((0, 3), np.float32)
    cloud["copies"] = _copies(xyz if len(there) == len(xyz) else xyz[there])
    rows = there[spread_rows(len(there), _SEEN)]
    some = xyz[rows]
    cloud["digest"] = zlib.crc32(some.tobytes())
    cloud["centre_m"] = np.median(some, axis=0)
    cloud["spread_m"] = np.median(np.linalg.norm(some - cloud["centre_m"], axis=1))
    some = some @ to_lidar.T.astype(np.float32)
    ends = [int(there[square[there].argmin()]), int(square.argmax())]
    nearest, farthest = np.linalg.norm(xyz[ends].astype(np.float64), axis=1)
    cloud["range_m"] = _spread(np.linalg.norm(some.astype(np.float64), axis=1), nearest, farthest)
    heights = xyz @ to_lidar[2].astype(np.float32)
    cloud["height_m"] = _spread(some[:, 2], heights.min(), heights.max())
    cloud["intensity"] = _spread(points[rows, 3], *intensity)
    cloud["layer_m"], cloud["layer"] = _densest_layer(some)
    turn = (np.arctan2(some[:, 1], some[:, 0]) / (2 * np.pi) + 0.5) % 1.0
    cloud["sectors"] = np.bincount((turn * SECTORS).astype(int) % SECTORS, minlength=SECTORS)
    return cloud, some


def spread_rows(count: int, most: int) -> NDArray[np.int64]:
    """Up to ``most`` rows of ``count``, spread evenly but in step with no pattern of beams and columns."""
    if count <= most:
        return np.arange(count)
    golden = (np.sqrt(5) - 1) / 2
    return (np.arange(most) * golden % 1.0 * count).astype(np.int64)


def _spread(values: NDArray[np.floating], low: float, high: float) -> list[float]:
    return [low, *np.percentile(values, _PERCENT).tolist(), high]


def _copies(xyz: NDArray[np.float32]) -> float:
    """Share of points (N, 3) that repeat another one.

    Of many points those are compared whose coordinates, mixed, are a small number, so that copies stay together.
    """
    some, expected = xyz, float(len(xyz))
    if len(xyz) > _COMPARED:
        axes = (xyz[:, axis] + np.float32(0) for axis in range(3))
        # all three: points of a grid, of a wall or of whole centimetres share one
        parts = zip(axes, (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D))
        mixed = np.bitwise_xor.reduce([axis.view(np.uint32) * np.uint32(odd) for axis, odd in parts])
        some, expected = xyz[mixed < 2**32 * (_COMPARED / 2) / len(xyz)], _COMPARED / 2
    places = _count_places(some)
    if abs(len(some) - expected) < 5 * np.sqrt(expected):
        return 1 - places / len(some)
    return max(0.0, 1 - places / expected)  # a few places have so many points that being drawn or not decides


def _count_places(xyz: NDArray[np.float32]) -> int:
    padded = np.zeros((len(xyz), 4), np.float32)
    padded[:, :3] = xyz + np.float32(0)  # makes -0 to 0
    bits, odd = padded.view(np.uint64), np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], np.uint64)
    place = np.sort(bits[:, 0] * odd[0] + bits[:, 1] * odd[1])  # two places share a number once in 2^64
    return len(place) and 1 + int((place[1:] != place[:-1]).sum())


def _densest_layer(points: NDArray[np.float32]) -> tuple[float, float]:
    """Height of the fullest quarter of a metre among points within 30 m, and its share of them."""
    near = points[(np.abs(points[:, :2]) < 30).all(axis=1) & (np.abs(points[:, 2]) < 30), 2]
    if len(near) < 500:
        return 0.0, 0.0
    counts = np.bincount(((near + 30) * 4).astype(int))
    return float(counts.argmax() / 4 - 30 + 0.125), float(counts.max() / len(near))
