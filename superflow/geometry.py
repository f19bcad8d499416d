"""Rigid transforms, and the voxels that points lie in.

``a_to_b`` (4, 4) float64 takes points of frame a to frame b: ``p_b = a_to_b @ p_a``.

The index of a log has to be equal on every machine, since its features and benchmarks know it by the hash. BLAS and
LAPACK round differently from CPU to CPU, so that what enters an index is computed by `compose`, `invert` and
`nearest_rotation`, which do not call them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from .errors import InputError, OutOfReachError

Transform = NDArray[np.float64]
# from a camera's axes (x right, y down, z forward) to those of a sensor or vehicle that looks the same way
OPTICAL: Transform = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
KEY_BITS = (24, 24, 15)  # of x, y, z of a packed voxel; 63 in all, so that a key is a non-negative int64


def point_rows(points: ArrayLike) -> NDArray[np.floating]:
    """``points`` (N, 3+) as compiled code takes them, which would read beyond rows of another shape.

    float32 and float64 stay as they are; other numbers, and those of another byte order, become float64.

    Raises:
        InputError: another shape, or no numbers.
    """
    rows = np.asarray(points)
    if rows.ndim != 2 or rows.shape[1] < 3:
        raise InputError(f"points have the shape {rows.shape}; give (N, 3+): x, y, z")
    if rows.dtype in (np.float32, np.float64):
        return rows
    try:
        return rows.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"points are {rows.dtype}; give numbers ({error})") from error


def checked_transform(a_to_b: ArrayLike) -> Transform:
    """``a_to_b`` in float64, for compiled code.

    Raises:
        InputError: it is neither (4, 4) nor its first three rows.
    """
    checked = np.asarray(a_to_b, dtype=np.float64)
    if checked.shape not in ((4, 4), (3, 4)):
        raise InputError(f"a transform has the shape {checked.shape}; give (4, 4): rotation and translation")
    return checked


def make_transform(rotation: ArrayLike, translation: ArrayLike) -> Transform:
    """(4, 4) from a unit quaternion (w, x, y, z) and a translation [m]; (N, 4, 4) from (N, 4) and (N, 3).

    Raises:
        ValueError: a quaternion is zero or not finite.
    """
    wxyz = np.asarray(rotation, dtype=np.float64)
    norm = np.linalg.norm(wxyz, axis=-1)
    if (wrong := ~(np.isfinite(norm) & (norm > 1e-6))).any():
        raise ValueError(
            f"rotation {wxyz[wrong].ravel()[:4].tolist()} is no quaternion: it is zero or not finite"
        )
    a_to_b = np.zeros((*wxyz.shape[:-1], 4, 4))
    if wxyz.size:  # scipy before 1.15 takes no empty list
        a_to_b[..., :3, :3] = Rotation.from_quat(np.roll(wxyz, -1, axis=-1)).as_matrix()
    a_to_b[..., :3, 3] = translation
    a_to_b[..., 3, 3] = 1
    return a_to_b


def matrix_of(rows: ArrayLike) -> Transform:
    """(4, 4) from its upper rows (3, 4), or their 12 numbers; (N, 4, 4) from (N, 3, 4) or (N, 12)."""
    upper = np.asarray(rows, dtype=np.float64)
    a_to_b = np.zeros((*upper.shape[: -1 if upper.shape[-1] == 12 else -2], 4, 4))
    a_to_b[..., :3, :] = upper.reshape(*a_to_b.shape[:-2], 3, 4)
    a_to_b[..., 3, 3] = 1
    return a_to_b


def to_quaternion(a_to_b: ArrayLike) -> NDArray[np.float64]:
    """(4,) unit quaternion (w, x, y, z), w >= 0, of the rotation part of ``a_to_b``; (N, 4) of (N, 4, 4)."""
    turn = np.asarray(a_to_b, dtype=np.float64)[..., :3, :3]
    rotation = Rotation.from_matrix(nearest_rotation(turn))  # scipy's own way there calls LAPACK
    return np.roll(rotation.as_quat(canonical=True), 1, axis=-1)


def compose(*steps: ArrayLike) -> Transform:
    """Product of matrices (..., n, m), as ``a_to_c`` of ``b_to_c, a_to_b``; to the last bit equal on every machine."""
    first, *others = (np.asarray(step, dtype=np.float64) for step in steps)
    for other in others:
        terms = [first[..., k, None] * other[..., None, k, :] for k in range(other.shape[-2])]
        first = sum(terms[1:], terms[0])
    return first


def invert(a_to_b: ArrayLike) -> Transform:
    """``b_to_a`` of a rigid ``a_to_b`` (..., 4, 4), exact in the rotation (transposed, not solved)."""
    a_to_b = np.asarray(a_to_b, dtype=np.float64)
    b_to_a = np.zeros(a_to_b.shape)
    b_to_a[..., :3, :3] = np.swapaxes(a_to_b[..., :3, :3], -2, -1)
    b_to_a[..., :3, 3:] = -compose(b_to_a[..., :3, :3], a_to_b[..., :3, 3:])
    b_to_a[..., 3, 3] = 1
    return b_to_a


def nearest_rotation(matrix: ArrayLike) -> NDArray[np.float64]:
    """(..., 3, 3) the orthogonal matrix nearest to ``matrix`` (..., 3, 3), which is a rotation but for rounding.

    Newton's iteration for the polar decomposition (Higham, SIAM J. Sci. Stat. Comput. 7(4), 1986), which doubles the
    right digits at each step. What is singular becomes NaN.
    """
    turn = np.asarray(matrix, dtype=np.float64)
    for _ in range(8):
        x, y, z = (turn[..., row, :] for row in range(3))
        cofactors = np.stack([np.cross(y, z), np.cross(z, x), np.cross(x, y)], axis=-2)
        determinant = (x * cofactors[..., 0, :]).sum(-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            turn = (turn + cofactors / determinant[..., None, None]) / 2  # the inverse, transposed
    return turn


def rotation_z(angle_rad: float) -> Transform:
    """(4, 4) rotation about z by ``angle_rad``, counter-clockwise seen from above."""
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    a_to_b = np.eye(4)
    a_to_b[:2, :2] = [[cos, -sin], [sin, cos]]
    return a_to_b


def transform_points(a_to_b: ArrayLike, points: NDArray) -> NDArray:
    """``points`` (N, 3+) with the first three columns moved from frame a to b; further columns are kept.

    Computed in float64 (world coordinates need it), returned in the dtype of ``points``, of whole numbers in float64;
    the input is not changed.
    """
    a_to_b = np.asarray(a_to_b, dtype=np.float64)
    moved = points.copy() if np.issubdtype(points.dtype, np.floating) else points.astype(np.float64)
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
    # column by column: what strides over rows of three takes several times as long
    cells = np.floor(np.ascontiguousarray(np.asarray(xyz, dtype=np.float64).T) / size_m)
    span = np.array([1 << bits for bits in KEY_BITS], dtype=np.float64)
    low, high = (cells.min(1), cells.max(1)) if len(xyz) else (np.zeros(3), np.zeros(3))
    with np.errstate(invalid="ignore"):  # of two that are infinite
        extent = high - low
    within = (extent < span) & (np.maximum(np.abs(low), np.abs(high)) < 2.0**52)  # False also for NaN
    if not within.all():
        raise OutOfReachError(
            f"coordinates up to {np.abs(xyz).max():g} m, {(extent * size_m).max():g} m apart, "
            f"cannot be packed into voxels of {size_m} m; look for wrong poses or units"
        )
    # half the span is added so that logs near their origin have ascending keys
    x, y, z = (
        (column.astype(np.int64) + (1 << (bits - 1))) & ((1 << bits) - 1)
        for column, bits in zip(cells, KEY_BITS)
    )
    return (x << (KEY_BITS[1] + KEY_BITS[2])) | (y << KEY_BITS[2]) | z
