"""How a lens bends rays: one function for every camera model, after which all cameras are pinholes.

The models are those of OpenCV: ``calib3d`` (Brown-Conrady, ROS' plumb_bob) and ``calib3d/fisheye`` (Kannala and Brandt,
A Generic Camera Model, PAMI 2006). A polynomial turns back beyond the angles that it was fitted to and would put what
lies far outside of the image into it; rays from there on are nowhere on the image.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..datasets.records import CAMERA_MODELS, FISHEYE, PINHOLE, RADIAL_TANGENTIAL, Lens

_Array = NDArray[np.float64]


def bend(in_camera: _Array, lens: Lens) -> _Array:
    """(N, 3) where a pinhole camera of the same intrinsics would have to see each point to show it at the same pixel.

    Args:
        in_camera: (N, 3) x right, y down, z forward [m, camera frame]; z is kept.

    Returns:
        The points themselves for a pinhole; x and y NaN where z is not above 0 or the model is not valid.
    """
    if lens.model == PINHOLE:
        return in_camera
    distortion = (*lens.distortion, *[0.0] * (CAMERA_MODELS[lens.model] - len(lens.distortion)))
    x, y, z = in_camera.T
    with np.errstate(all="ignore"):
        bent = _BENDS[lens.model](x / z, y / z, distortion)
        found = np.column_stack([bent[0] * z, bent[1] * z, z])
    found[~(z > 0), :2] = np.nan
    return found


def _radial_tangential(x: _Array, y: _Array, distortion: tuple[float, ...]) -> tuple[_Array, _Array]:
    k1, k2, p1, p2, k3 = distortion
    square, xy = x * x + y * y, x * y
    radial = 1 + square * (k1 + square * (k2 + square * k3))
    slope = 2 * (k1 + square * (2 * k2 + square * 3 * k3))  # of ``radial`` along x, by x
    bent_x = x * radial + 2 * p1 * xy + p2 * (square + 2 * x * x)
    bent_y = y * radial + p1 * (square + 2 * y * y) + 2 * p2 * xy
    # the four derivatives: where their determinant is not above 0 the image is folded over
    by_x = radial + x * x * slope + 2 * p1 * y + 6 * p2 * x
    by_y = radial + y * y * slope + 6 * p1 * y + 2 * p2 * x
    across = xy * slope + 2 * p1 * x + 2 * p2 * y
    valid = (square < first_turn(k1, k2, k3)) & (by_x * by_y - across * across > 0)
    return np.where(valid, bent_x, np.nan), np.where(valid, bent_y, np.nan)


def _fisheye(x: _Array, y: _Array, distortion: tuple[float, ...]) -> tuple[_Array, _Array]:
    k1, k2, k3, k4 = distortion
    flat = np.hypot(x, y)
    angle = np.arctan(flat)
    square = angle * angle
    bent = angle * (1 + square * (k1 + square * (k2 + square * (k3 + square * k4))))
    scale = np.where(flat > 1e-12, bent / flat, 1.0)
    scale[~(square < first_turn(*distortion))] = np.nan
    return x * scale, y * scale


_BENDS = {RADIAL_TANGENTIAL: _radial_tangential, FISHEYE: _fisheye}


@lru_cache(maxsize=4096)
def first_turn(*k: float) -> float:
    """Square of the smallest a > 0 at which a (1 + k1 a^2 + k2 a^4 + ...) stops growing; infinity without one."""
    slope = [(2 * power + 1) * value for power, value in enumerate(k, start=1)]
    roots = np.roots([1.0, *slope])  # in 1 / a^2, so that the first coefficient is never small
    turns = roots.real[(np.abs(roots.imag) <= 1e-9 * np.abs(roots)) & (roots.real > 0)]
    return float(1 / turns.max()) if len(turns) else np.inf
