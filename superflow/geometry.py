"""Rigid transforms, and the voxels that points lie in.

``a_to_b`` (4, 4) float64 takes points of frame a to frame b: ``p_b = a_to_b @ p_a``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import OutOfReachError

Transform = NDArray[np.float64]
_BITS = (24, 24, 15)  # of x, y, z of a packed voxel; 63 in all, so that a key is a non-negative int64


def make_transform(rotation: Sequence[float], translation: Sequence[float]) -> Transform:
    """(4, 4) from a unit quaternion (w, x, y, z) and a translation [m].

    Raises:
        ValueError: the quaternion is zero or not finite.
    """
    w, x, y, z = (float(value) for value in rotation)
    norm = w * w + x * x + y * y + z * z
    if not np.isfinite(norm) or norm < 1e-12:
        raise ValueError(f"rotation {list(rotation)} is no quaternion: its norm is {norm}")
    s = 2.0 / norm
    a_to_b = np.eye(4)
    a_to_b[:3, :3] = [
        [1 - s * (y * y + z * z), s * (x * y - z * w), s * (x * z + y * w)],
        [s * (x * y + z * w), 1 - s * (x * x + z * z), s * (y * z - x * w)],
        [s * (x * z - y * w), s * (y * z + x * w), 1 - s * (x * x + y * y)],
    ]
    a_to_b[:3, 3] = translation
    return a_to_b


def to_quaternion(a_to_b: ArrayLike) -> NDArray[np.float64]:
    """(4,) unit quaternion (w, x, y, z), w >= 0, of the rotation part of ``a_to_b``."""
    r = np.asarray(a_to_b, dtype=np.float64)[:3, :3]
    # Bar-Itzhack 2000: the eigenvector of the largest eigenvalue; no case distinction, stable everywhere
    k = np.array(
        [
            [r[0, 0] + r[1, 1] + r[2, 2], r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]],
            [r[2, 1] - r[1, 2], r[0, 0] - r[1, 1] - r[2, 2], r[0, 1] + r[1, 0], r[0, 2] + r[2, 0]],
            [r[0, 2] - r[2, 0], r[0, 1] + r[1, 0], r[1, 1] - r[0, 0] - r[2, 2], r[1, 2] + r[2, 1]],
            [r[1, 0] - r[0, 1], r[0, 2] + r[2, 0], r[1, 2] + r[2, 1], r[2, 2] - r[0, 0] - r[1, 1]],
        ]
    )
    quaternion = np.linalg.eigh(k)[1][:, -1]
    return quaternion if quaternion[0] >= 0 else -quaternion


def invert(a_to_b: ArrayLike) -> Transform:
    """``b_to_a`` of a rigid ``a_to_b``, exact in the rotation (transposed, not solved)."""
    a_to_b = np.asarray(a_to_b, dtype=np.float64)
    b_to_a = np.eye(4)
    b_to_a[:3, :3] = a_to_b[:3, :3].T
    b_to_a[:3, 3] = -a_to_b[:3, :3].T @ a_to_b[:3, 3]
    return b_to_a


def rotation_z(angle_rad: float) -> Transform:
    """(4, 4) rotation about z by ``angle_rad``, counter-clockwise seen from above."""
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    a_to_b = np.eye(4)
    a_to_b[:2, :2] = [[cos, -sin], [sin, cos]]
    return a_to_b


def transform_points(a_to_b: ArrayLike, points: NDArray) -> NDArray:
    """``points`` (N, 3+) with the first three columns moved from frame a to b; further columns are kept.

    Computed in float64 (world coordinates need it), returned in the dtype of ``points``; the input is not changed.
    """
    a_to_b = np.asarray(a_to_b, dtype=np.float64)
    moved = points.copy()
    moved[:, :3] = points[:, :3].astype(np.float64) @ a_to_b[:3, :3].T + a_to_b[:3, 3]
    return moved


def voxel_keys(xyz: NDArray, size_m: float) -> NDArray[np.int64]:
    """(N,) int64 key of the cubic voxel of each point; equal keys are equal voxels.

    Keys wrap around, so they tell voxels apart however far from the origin a log lies (UTM, ECEF), as long as all
    points that are compared lie within 2^24 voxels of each other sideways and 2^15 upwards: 3300 and 6.5 km at 0.2 m.

    Args:
        xyz: (N, 3) float [m]; voxel borders are multiples of ``size_m``.
        size_m: edge of a voxel [m].

    Raises:
        OutOfReachError: a coordinate is not finite, or the points lie further apart than that.
    """
    cells = np.floor(np.asarray(xyz, dtype=np.float64) / size_m)
    span = np.array([1 << bits for bits in _BITS], dtype=np.float64)
    extent = np.ptp(cells, axis=0) if len(cells) else np.zeros(3)
    if not bool((extent < span).all()) or not bool((np.abs(cells) < 2.0**52).all()):  # False also for NaN
        raise OutOfReachError(
            f"coordinates up to {np.abs(xyz).max():g} m, {(extent * size_m).max():g} m apart, "
            f"cannot be packed into voxels of {size_m} m; look for wrong poses or units"
        )
    # half the span is added so that logs near their origin have ascending keys
    x, y, z = (
        (column.astype(np.int64) + (1 << (bits - 1))) & ((1 << bits) - 1)
        for column, bits in zip(cells.T, _BITS)
    )
    return (x << (_BITS[1] + _BITS[2])) | (y << _BITS[2]) | z
