"""What whole pictures and turns of rays meet: primitive by primitive, nearest first, each only where it can be seen.

Rays come in A fans of B: the columns of an image, or of a turn of the LiDAR, from the lowest ray to the highest. The
answers are those of ``trace``, which walks with one ray after the other; a primitive's numbers are fetched once here,
and the ground is searched upwards, where a ray need not look again over what the one below it has passed.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .compiled import jit, jit_inline, jit_part
from .shapes import FAR, meet_unit
from .trace import GROUND, MISS, Movers, World, ground_hit

_NEAR_PLANE = 0.02  # m before the lens; nearer corners are cut off
_ALL_ROUND = math.pi - 1e-3
_BEHIND = 1.0  # m that the search for the ground starts behind what the ray below has passed


@jit
def _box_seen(world, movers, p, view, slack, out):
    """Write centre and half axes (4, 3) of the box around primitive p into ``out``, in the sensor's frame.

    ``view``: (12,) world to sensor. The axes are longer by ``slack`` and by what a mover moves. Returns the distance of
    the box from the sensor [m].
    """
    m = world.mover[p]
    box = world.box[p]
    for k in range(4):
        x, y, z = box[k, 0], box[k, 1], box[k, 2]
        if m >= 0:
            a, b = movers.world_to_object[0, m], movers.world_to_object[1, m]
            if k == 0:
                x -= 0.5 * (a[3] + b[3])
                y -= 0.5 * (a[7] + b[7])
                z -= 0.5 * (a[11] + b[11])
            x, y, z = (  # the inverse of a rotation is its transpose
                0.5 * ((a[0] + b[0]) * x + (a[4] + b[4]) * y + (a[8] + b[8]) * z),
                0.5 * ((a[1] + b[1]) * x + (a[5] + b[5]) * y + (a[9] + b[9]) * z),
                0.5 * ((a[2] + b[2]) * x + (a[6] + b[6]) * y + (a[10] + b[10]) * z),
            )
        shift = 1.0 if k == 0 else 0.0
        for row in range(3):
            v = view[4 * row : 4 * row + 4]
            out[k, row] = v[0] * x + v[1] * y + v[2] * z + shift * v[3]
    if m >= 0:
        way = 0.0
        for k in range(3):
            way += (movers.center[1, m, k] - movers.center[0, m, k]) ** 2
        slack += 0.6 * math.sqrt(way)
    distance, stretch = 0.0, np.empty(3)
    for k in range(3):  # roofs are sheared: a face's distance is along its normal
        one, two, axis = out[1 + (k + 1) % 3], out[1 + (k + 2) % 3], out[1 + k]
        x, y, z = (
            one[1] * two[2] - one[2] * two[1],
            one[2] * two[0] - one[0] * two[2],
            one[0] * two[1] - one[1] * two[0],
        )
        scale = 1.0 / math.sqrt(x * x + y * y + z * z)
        half = abs(axis[0] * x + axis[1] * y + axis[2] * z) * scale
        along = abs(out[0, 0] * x + out[0, 1] * y + out[0, 2] * z) * scale
        distance = max(distance, along - half - slack)
        stretch[k] = 1.0 + slack / half
    for k in range(3):
        for row in range(3):
            out[k + 1, row] *= stretch[k]
    return distance


@jit_inline
def _corner(box, number, axis):
    """Coordinate of one of the eight corners; the bits of ``number`` are the signs."""
    value = box[0, axis]
    for k in range(3):
        value += box[k + 1, axis] if number >> k & 1 else -box[k + 1, axis]
    return value


@jit
def _windows_of_image(world, movers, skip, view, fx, fy, cx, cy, width, height, t_max):
    """First and last fan and ray of each primitive (P, 4), last < first where it is not seen, and distances (P,)."""
    count = len(world.kind)
    windows, near = np.empty((count, 4), dtype=np.int32), np.empty(count)
    box, corners = np.empty((4, 3)), np.empty((8, 3))
    for p in range(count):
        windows[p, 0], windows[p, 1], windows[p, 2], windows[p, 3] = 0, -1, 0, -1
        if skip >= 0 and world.mover[p] == skip:
            continue
        near[p] = _box_seen(world, movers, p, view, 0.0, box)
        if near[p] > t_max:
            continue
        for c in range(8):
            for axis in range(3):
                corners[c, axis] = _corner(box, c, axis)
        left, right, top, bottom = FAR, -FAR, FAR, -FAR
        for c in range(8):
            for k in range(4):  # the corner itself, and where its three edges pass the near plane
                x, y, z = corners[c, 0], corners[c, 1], corners[c, 2]
                if k == 3:
                    if z < _NEAR_PLANE:
                        continue
                else:
                    other = corners[c ^ (1 << k)]
                    if (z < _NEAR_PLANE) == (other[2] < _NEAR_PLANE):
                        continue
                    share = (_NEAR_PLANE - z) / (other[2] - z)
                    x, y, z = x + share * (other[0] - x), y + share * (other[1] - y), _NEAR_PLANE
                u, v = fx * x / z + cx, fy * y / z + cy
                left, right, top, bottom = min(left, u), max(right, u), min(top, v), max(bottom, v)
        if right < 0.0 or bottom < 0.0 or left > width - 1 or top > height - 1 or left > right:
            continue
        windows[p, 0], windows[p, 1] = math.ceil(max(left, 0.0)), math.floor(min(right, width - 1.0))
        windows[p, 2] = height - 1 - math.floor(min(bottom, height - 1.0))
        windows[p, 3] = height - 1 - math.ceil(max(top, 0.0))
    return windows, near


@jit
def _windows_of_turn(world, movers, view, first, step, fans, elevations, slack, angle, t_max):
    """As ``_windows_of_image``; a last fan beyond the last stands for one at the start of the turn."""
    count = len(world.kind)
    windows, near = np.empty((count, 4), dtype=np.int32), np.empty(count)
    box, corners = np.empty((4, 3)), np.empty((8, 3))
    for p in range(count):
        windows[p, 0], windows[p, 1], windows[p, 2], windows[p, 3] = 0, -1, 0, -1
        near[p] = _box_seen(world, movers, p, view, slack, box)
        if near[p] > t_max:
            continue
        middle = math.atan2(box[0, 0], box[0, 1])
        left, right = FAR, -FAR
        for c in range(8):
            for axis in range(3):
                corners[c, axis] = _corner(box, c, axis)
            turn = math.atan2(corners[c, 0], corners[c, 1]) - middle
            turn -= 2.0 * math.pi * math.floor(turn / (2.0 * math.pi) + 0.5)
            left, right = min(left, turn), max(right, turn)
        # tangents of the elevation: extreme on an edge, at its ends or where it is nearest
        low, high = (FAR, -FAR)
        for c in range(8):
            for k in range(3):
                if c >> k & 1:
                    continue
                a, b = corners[c], corners[c | (1 << k)]
                x, y = b[0] - a[0], b[1] - a[1]
                share = -(a[0] * x + a[1] * y) / (x * x + y * y + 1e-12)
                share = min(max(share, 0.0), 1.0)
                closest = math.hypot(a[0] + share * x, a[1] + share * y) + 1e-9
                farthest = max(math.hypot(a[0], a[1]), math.hypot(b[0], b[1])) + 1e-9
                top, bottom = max(a[2], b[2]), min(a[2], b[2])
                high = max(high, top / (closest if top > 0.0 else farthest))
                low = min(low, bottom / (closest if bottom < 0.0 else farthest))
        around = right - left > _ALL_ROUND
        if around:  # above or below the sensor
            low = -FAR if box[0, 2] < 0.0 or near[p] <= 0.0 else low
            high = FAR if box[0, 2] > 0.0 or near[p] <= 0.0 else high
        low, high = math.atan(low) - angle, math.atan(high) + angle
        windows[p, 2] = np.searchsorted(elevations, low)
        windows[p, 3] = np.searchsorted(elevations, high) - 1
        if around:
            windows[p, 0], windows[p, 1] = 0, fans - 1
            continue
        steep = angle / max(math.cos(min(max(abs(low), abs(high)), 1.5)), 0.1)
        start = math.ceil((middle + left - steep - first) / step)
        stop = math.floor((middle + right + steep - first) / step)
        turns = math.floor(start / fans) * fans
        windows[p, 0], windows[p, 1] = start - turns, min(stop, start + fans - 1) - turns
    return windows, near


@jit
def _meet_primitives(
    world, movers, share, origins, directions, t_min, order, windows, near, distances, prims
):
    """Lower ``distances`` (A, B) to what is met first, and write ``prims``; primitives in this order."""
    c = np.empty(12)
    fans = len(directions)
    for p in order:
        kind, b, m, half = world.kind[p], world.matrix[p], world.mover[p], world.half[p]
        first, second, seed, start = world.shape[p, 0], world.shape[p, 1], world.seed[p], near[p]
        for fan in range(windows[p, 0], windows[p, 1] + 1):
            f = fan % fans
            if m >= 0:
                s = share[min(f, len(share) - 1)]
                v, w = movers.world_to_object[0, m], movers.world_to_object[1, m]
                for k in range(4):
                    x = v[k] + s * (w[k] - v[k])
                    y = v[k + 4] + s * (w[k + 4] - v[k + 4])
                    z = v[k + 8] + s * (w[k + 8] - v[k + 8])
                    for row in range(0, 12, 4):
                        c[row + k] = (
                            b[row] * x + b[row + 1] * y + b[row + 2] * z + (b[row + 3] if k == 3 else 0.0)
                        )
            else:
                for k in range(12):
                    c[k] = b[k]
            o = origins[min(f, len(origins) - 1)]
            o0 = c[0] * o[0] + c[1] * o[1] + c[2] * o[2] + c[3]
            o1 = c[4] * o[0] + c[5] * o[1] + c[6] * o[2] + c[7]
            o2 = c[8] * o[0] + c[9] * o[1] + c[10] * o[2] + c[11]
            for ray in range(windows[p, 2], windows[p, 3] + 1):
                best = distances[f, ray]
                if best <= start:
                    continue
                x, y, z = directions[f, ray, 0], directions[f, ray, 1], directions[f, ray, 2]
                hit = meet_unit(
                    kind, half, first, second, seed, o0, o1, o2, c[0] * x + c[1] * y + c[2] * z,
                    c[4] * x + c[5] * y + c[6] * z, c[8] * x + c[9] * y + c[10] * z, t_min, best,
                )  # fmt: skip
                if hit < best:
                    distances[f, ray], prims[f, ray] = hit, p


@jit_part
def _meet_ground(world, origins, directions, t_min, t_max, distances, prims):
    """The same with the ground, then FAR for rays that meet nothing before ``t_max``."""
    for f in range(len(directions)):
        o = origins[min(f, len(origins) - 1)]
        passed = 0.0  # m along the ground over which the rays of this fan are known to be free
        for ray in range(directions.shape[1]):
            x, y, z = directions[f, ray, 0], directions[f, ray, 1], directions[f, ray, 2]
            best = distances[f, ray]
            flat = math.sqrt(x * x + y * y) + 1e-9
            start = max(passed - _BEHIND, 0.0) / flat
            hit = ground_hit(world, o[0], o[1], o[2], x, y, z, start, best)
            if t_min < hit < best:
                best = hit
                distances[f, ray], prims[f, ray] = hit, GROUND
            elif best >= t_max:
                distances[f, ray] = FAR
            passed = max(passed, best * flat)


class Fans:
    """Rays of one exposure or one turn, with the primitives that each may meet."""

    def __init__(
        self, origins: NDArray, directions: NDArray, share: NDArray, windows: NDArray, near: NDArray
    ) -> None:
        self.origins, self.directions, self.share = origins, directions, share
        self._windows = windows
        seen = np.flatnonzero((windows[:, 1] >= windows[:, 0]) & (windows[:, 3] >= windows[:, 2]))
        self._order, self._near = seen[np.argsort(near[seen], kind="stable")], near

    def meet(
        self, world: World, movers: Movers, t_min: float, t_max: float
    ) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
        """Distances (A, B) [m], FAR = nothing, and primitives (A, B), as ``trace.cast`` gives them for single rays."""
        distances = np.full(self.directions.shape[:2], t_max)
        prims = np.full(self.directions.shape[:2], MISS, dtype=np.int32)
        _meet_primitives(
            world, movers, self.share, self.origins, self.directions, t_min, self._order, self._windows, self._near,
            distances, prims,
        )  # fmt: skip
        _meet_ground(world, self.origins, self.directions, t_min, t_max, distances, prims)
        return distances, prims


def image_fans(
    world: World,
    movers: Movers,
    pose: NDArray,
    intrinsics: NDArray,
    height: int,
    width: int,
    *,
    skip: int,
    t_max: float,
) -> Fans:
    """Rays of an image, (W, H): fans are columns, from the lowest pixel up.

    Args:
        pose: (4, 4) camera to world; intrinsics: (3, 3). Pixel (0, 0) is the centre of the first pixel.
        skip: mover that is not seen, or -1.
    """
    fx, fy, cx, cy = intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2], intrinsics[1, 2]
    windows, near = _windows_of_image(world, movers, skip, _view(pose), fx, fy, cx, cy, width, height, t_max)
    rays = pixel_rays(intrinsics, height, width) @ pose[:3, :3].T
    upwards = np.ascontiguousarray(rays.reshape(height, width, 3)[::-1].transpose(1, 0, 2))
    return Fans(pose[None, :3, 3].copy(), upwards, np.zeros(1), windows, near)


def turn_fans(
    world: World,
    movers: Movers,
    poses: NDArray,
    directions: NDArray,
    azimuths: NDArray,
    elevations: NDArray,
    t_max: float,
) -> Fans:
    """Rays of a turn, (A, B): each column from its own pose at its own time.

    Args:
        poses: (A, 4, 4) sensor to world; directions: (A, B, 3) in the sensor's frame, x right, y forward, z up.
        azimuths: (A,) evenly spaced, clockwise from y; elevations: (B,) rising [rad].
    """
    middle = poses[len(poses) // 2]
    slack = float(np.linalg.norm(poses[[0, -1], :3, 3] - middle[:3, 3], axis=1).max())
    cosine = (np.einsum("aij,ij->a", poses[[0, -1], :3, :3], middle[:3, :3]).min() - 1.0) / 2.0
    angle = float(np.arccos(np.clip(cosine, -1.0, 1.0))) * 1.1 + 1e-3
    step = float(azimuths[1] - azimuths[0])
    windows, near = _windows_of_turn(
        world,
        movers,
        _view(middle),
        float(azimuths[0]),
        step,
        len(azimuths),
        elevations,
        slack * 1.1 + 1e-3,
        angle,
        t_max,
    )
    rays = directions @ np.swapaxes(poses[:, :3, :3], 1, 2)
    return Fans(np.ascontiguousarray(poses[:, :3, 3]), rays, np.linspace(0.0, 1.0, len(poses)), windows, near)


def pixel_rays(intrinsics: NDArray, height: int, width: int) -> NDArray[np.float64]:
    """(H * W, 3) unit directions in the camera frame; pixel (0, 0) is the centre of the first pixel."""
    rays = np.ones((height, width, 3))
    rays[..., 0] = (np.arange(width) - intrinsics[0, 2]) / intrinsics[0, 0]
    rays[..., 1] = ((np.arange(height) - intrinsics[1, 2]) / intrinsics[1, 1])[:, None]
    rays /= np.sqrt(np.einsum("hwk,hwk->hw", rays, rays))[..., None]
    return rays.reshape(-1, 3)


def _view(pose: NDArray) -> NDArray[np.float64]:
    """(12,) world to sensor."""
    rotation = pose[:3, :3].T
    return np.concatenate([rotation, -rotation @ pose[:3, 3:]], axis=1).ravel()
