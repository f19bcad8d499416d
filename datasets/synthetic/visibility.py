"""How much of an object the cameras see. Compiled."""

from __future__ import annotations

import math

import numpy as np

from .compiled import jit
from .trace import trace


@jit
def _count_seen(world, movers, skip, eye, targets, instance, seen, ray):
    """Number of ``targets`` (T, 3) that nothing but the object itself hides from ``eye`` (3,)."""
    count = 0
    for target in targets:
        dx, dy, dz = target[0] - eye[0], target[1] - eye[1], target[2] - eye[2]
        length = math.sqrt(dx * dx + dy * dy + dz * dz)
        ray += 1
        _, p = trace(
            world, movers, 0.0, skip, seen, ray, eye[0], eye[1], eye[2], dx / length, dy / length, dz / length,
            0.05, length, False,
        )  # fmt: skip
        if p < 0 or world.instance[p] == instance:
            count += 1
    return count, ray


def seen_share(world, movers, pose, middle, half, instance, cameras, size, seen, ray):
    """Share of 27 points in the object's box that some camera sees, and the number of the last ray.

    Args:
        pose: (4, 4) object to world; middle, half: (3,) of its box in its own frame [m].
        instance: as in ``world.instance``.
        cameras: (camera to world, intrinsics) of each.
        size: height, width of the images.
    """
    lattice = np.stack(np.meshgrid(*[(-0.7, 0.0, 0.7)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    targets = (middle + lattice * half) @ pose[:3, :3].T + pose[:3, 3]
    best = 0
    for camera, intrinsics in cameras:
        local = (targets - camera[:3, 3]) @ camera[:3, :3]
        pixels = local[:, :2] / np.maximum(local[:, 2:], 1e-6) @ intrinsics[:2, :2].T + intrinsics[:2, 2]
        inside = (local[:, 2] > 0.5) & (pixels >= 0).all(axis=1)
        inside &= (pixels[:, 0] < size[1]) & (pixels[:, 1] < size[0])
        if inside.any():
            eye = np.ascontiguousarray(camera[:3, 3])
            count, ray = _count_seen(world, movers, 0, eye, targets[inside], instance, seen, ray)
            best = max(best, count)
    return best / len(targets), ray
