"""How much of an object the cameras see."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .trace import Caster

# 27 points in a box, in half sizes
_LATTICE = np.stack(np.meshgrid(*[(-0.7, 0.0, 0.7)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)


def seen_shares(
    caster: Caster,
    poses: NDArray,
    middle: NDArray,
    half: NDArray,
    instance: NDArray,
    cameras: Sequence[tuple[NDArray, NDArray]],
    size: tuple[int, int],
) -> NDArray[np.float64]:
    """(N,) share of 27 points in each object's box that the camera with the best view of it sees.

    Args:
        poses: (N, 4, 4) objects to world; middle, half: (N, 3) of their boxes in their own frames [m].
        instance: (N,) as in ``world.instance``; an object does not hide itself.
        cameras: camera to world (4, 4) and intrinsics (3, 3) of each.
        size: height, width of the images.
    """
    lattice = middle[:, None] + _LATTICE * half[:, None]
    targets = lattice @ np.swapaxes(poses[:, :3, :3], 1, 2) + poses[:, None, :3, 3]
    best = np.zeros(len(poses))
    for camera, intrinsics in cameras:
        local = (targets - camera[:3, 3]) @ camera[:3, :3]
        pixels = local[..., :2] / np.maximum(local[..., 2:], 1e-6) @ intrinsics[:2, :2].T + intrinsics[:2, 2]
        inside = (
            (local[..., 2] > 0.5) & (pixels >= 0).all(axis=-1) & (pixels < (size[1], size[0])).all(axis=-1)
        )
        if not inside.any():
            continue
        to_target = targets[inside] - camera[:3, 3]
        lengths = np.linalg.norm(to_target, axis=1)
        distances, prims = caster.cast(
            camera[None, :3, 3],
            to_target / lengths[:, None],
            skip=0,
            t_min=0.05,
            t_max=float(lengths.max()) + 1.0,
        )
        thing = np.nonzero(inside)[0]
        own = (prims >= 0) & (caster.world.instance[np.maximum(prims, 0)] == instance[thing])
        seen = np.bincount(thing, weights=own | (distances >= lengths), minlength=len(best))
        best = np.maximum(best, seen)
    return best / len(_LATTICE)
