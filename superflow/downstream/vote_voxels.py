"""The voxels of scans in one grid of the world, what the points of a scan say in each, and sums over scans.

Keys, borders and errors are those of `geometry.voxel_keys`. A scan votes for many others, so its points are packed and
summed once; its voxels stand in the order of their keys, and two scans meet in one walk along both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..compiled import compiled
from ..geometry import KEY_BITS, checked_transform, point_rows, voxel_keys

_FEWEST_SLOTS = 16
_MIXER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio (Knuth, volume 3, section 6.4)
_EMPTY = -1  # keys are not negative
# how `voxel_keys` packs cells
_WHOLE = 2.0**52
_HALF_X, _HALF_Y, _HALF_Z = (1 << (bits - 1) for bits in KEY_BITS)
_SHIFT_X, _SHIFT_Y = KEY_BITS[1] + KEY_BITS[2], KEY_BITS[2]


@dataclass(frozen=True, eq=False)
class ScanVoxels:
    """The V voxels of the world that a scan (N points) has points in, in the order of their keys.

    Attributes:
        size_m: edge of a voxel [m]; borders are multiples of it in world coordinates.
        keys: (V,) int64 `voxel_keys`, ascending.
        voxel_of: (N,) int32 that of each point.
        corners: (2, 3) float64 [m, world] centres of the lowest and of the highest cell along each axis; (0, 3)
            without points.
    """

    size_m: float
    keys: NDArray[np.int64]
    voxel_of: NDArray[np.int32]
    corners: NDArray[np.float64]

    @classmethod
    def of(cls, xyz: NDArray[np.floating], lidar_to_world: NDArray[np.float64], size_m: float) -> ScanVoxels:
        """The voxels of points (N, 3) [m, lidar frame], whose pose is (4, 4).

        Raises:
            OutOfReachError: as `voxel_keys` of the points in the world.
            InputError: points or pose have another shape.
        """
        xyz = np.ascontiguousarray(point_rows(xyz))
        packed, ends = _world_keys(xyz, checked_transform(lidar_to_world), size_m)
        voxel_of, met = np.empty(len(xyz), dtype=np.int32), np.empty(len(xyz), dtype=np.int64)
        met = met[: _number(packed, *_slots(len(xyz)), voxel_of, met)]
        order = np.argsort(met)
        rank = np.empty(len(met), dtype=np.int32)
        rank[order] = np.arange(len(met), dtype=np.int32)
        return cls(
            size_m, met[order], rank[voxel_of], (ends + 0.5) * size_m if len(xyz) else np.empty((0, 3))
        )

    def check_reach(self, other: ScanVoxels) -> None:
        """Keys wrap around, so only of scans that lie near each other are equal keys equal voxels.

        Raises:
            OutOfReachError: as `voxel_keys` of the points of both.
        """
        voxel_keys(np.concatenate([self.corners, other.corners]), self.size_m)


@dataclass(frozen=True, eq=False)
class VoxelSums:
    """What the points of a scan say in each of its V voxels.

    probabilities: (V, C) float32 sums, each point's row times its weight. weight: (V,) float32 sums of the weights.
    votes: (V,) int64 points whose weight is above 0.
    """

    probabilities: NDArray[np.float32]
    weight: NDArray[np.float32]
    votes: NDArray[np.int64]

    @classmethod
    def zero(cls, voxels: int, classes: int) -> VoxelSums:
        return cls(
            np.zeros((voxels, classes), np.float32), np.zeros(voxels, np.float32), np.zeros(voxels, np.int64)
        )

    @classmethod
    def of(
        cls, voxels: ScanVoxels, probabilities: NDArray[np.float32], weights: NDArray[np.float32]
    ) -> VoxelSums:
        """Over the points of a scan: rows (N, C), each with its weight (N,), in their order."""
        made = cls.zero(len(voxels.keys), probabilities.shape[1])
        _add_points(voxels.voxel_of, probabilities, weights, made.probabilities, made.weight, made.votes)
        return made

    def add(
        self, keys: NDArray[np.int64], other: VoxelSums, other_keys: NDArray[np.int64], factor: float
    ) -> None:
        """Add what another scan says in the voxels that both have, its weights times ``factor``."""
        _add_voxels(
            keys,
            other_keys,
            other.probabilities,
            other.weight,
            other.votes,
            np.float32(factor),
            self.probabilities,
            self.weight,
            self.votes,
        )


def _world_keys(
    xyz: NDArray[np.floating], lidar_to_world: NDArray[np.float64], size_m: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The `voxel_keys` (N,) of points in the world, and (2, 3) the lowest and the highest cell along each axis."""
    keys, ends = np.empty(len(xyz), dtype=np.int64), np.empty((2, 3))
    pose = np.ascontiguousarray(lidar_to_world, dtype=np.float64)
    if not _pack(xyz, pose, size_m, keys, ends):  # `voxel_keys` says why
        with np.errstate(invalid="ignore"):
            world = xyz.astype(np.float64) @ pose[:3, :3].T + pose[:3, 3]
        keys = voxel_keys(world, size_m)
    return keys, ends


@compiled(error_model="numpy")
def _pack(xyz, lidar_to_world, size_m, keys, ends):
    """Write the key of each point, and the ends of the cells; False where `voxel_keys` has something to say."""
    m = lidar_to_world
    low_x = low_y = low_z = np.inf
    high_x = high_y = high_z = -np.inf
    whole = True
    for n in range(len(xyz)):
        x, y, z = np.float64(xyz[n, 0]), np.float64(xyz[n, 1]), np.float64(xyz[n, 2])
        a = np.floor((x * m[0, 0] + y * m[0, 1] + z * m[0, 2] + m[0, 3]) / size_m)
        b = np.floor((x * m[1, 0] + y * m[1, 1] + z * m[1, 2] + m[1, 3]) / size_m)
        c = np.floor((x * m[2, 0] + y * m[2, 1] + z * m[2, 2] + m[2, 3]) / size_m)
        whole &= abs(a) < _WHOLE and abs(b) < _WHOLE and abs(c) < _WHOLE  # not for NaN
        low_x, low_y, low_z = min(low_x, a), min(low_y, b), min(low_z, c)
        high_x, high_y, high_z = max(high_x, a), max(high_y, b), max(high_z, c)
        i = (np.int64(a) + _HALF_X) & (2 * _HALF_X - 1)
        j = (np.int64(b) + _HALF_Y) & (2 * _HALF_Y - 1)
        k = (np.int64(c) + _HALF_Z) & (2 * _HALF_Z - 1)
        keys[n] = (i << _SHIFT_X) | (j << _SHIFT_Y) | k
    wide = high_x - low_x >= 2 * _HALF_X or high_y - low_y >= 2 * _HALF_Y or high_z - low_z >= 2 * _HALF_Z
    ends[0, 0], ends[0, 1], ends[0, 2] = low_x, low_y, low_z
    ends[1, 0], ends[1, 1], ends[1, 2] = high_x, high_y, high_z
    return whole and not wide


def _slots(count: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Keys and numbers of an empty table, at most half full with ``count`` voxels."""
    slots = 1 << math.ceil(math.log2(max(2 * count, _FEWEST_SLOTS)))
    return np.full(slots, _EMPTY, dtype=np.int64), np.empty(slots, dtype=np.int32)


@compiled()
def _number(keys, table, numbers, voxel_of, distinct):
    """Fill the empty ``table``; writes the voxel of each key and the key of each voxel, returns how many there are."""
    slots, count = len(table) - 1, 0
    shift = _shift(len(table))
    for n in range(len(keys)):
        slot = np.int64((np.uint64(keys[n]) * _MIXER) >> shift)
        while table[slot] != keys[n] and table[slot] != _EMPTY:
            slot = (slot + 1) & slots
        if table[slot] == _EMPTY:
            table[slot], numbers[slot], distinct[count] = keys[n], count, keys[n]
            count += 1
        voxel_of[n] = numbers[slot]
    return count


@compiled()
def _shift(slots):
    """By how much a product of 64 bits is shifted to be a slot; ``slots`` are a power of two."""
    bits = 0
    while (1 << bits) < slots:
        bits += 1
    return np.uint64(64 - bits)


@compiled()
def _add_points(voxel_of, probabilities, weights, total, weight, votes):
    """Add the rows (N, C) of points to ``total`` (V, C), ``weight`` (V,) and ``votes`` (V,), in their order."""
    for n in range(len(voxel_of)):
        voxel = voxel_of[n]
        own_weight = weights[n]  # once: the compiler cannot know that sums are written elsewhere
        if own_weight != 0:
            weight[voxel] += own_weight
            votes[voxel] += own_weight > 0
            for c in range(probabilities.shape[1]):
                total[voxel, c] += probabilities[n, c] * own_weight


@compiled()
def _add_voxels(keys, other_keys, rows, weights, counts, factor, total, weight, votes):
    """Walk along two ascending lists of keys, and add where they meet."""
    n = other = 0
    while n < len(keys) and other < len(other_keys):
        here, there = keys[n], other_keys[other]
        if here == there:
            weight[n] += weights[other] * factor
            votes[n] += counts[other]
            for c in range(rows.shape[1]):
                total[n, c] += rows[other, c] * factor
        n += here <= there
        other += there <= here


@compiled()
def add_means(own, share, means, voxel_of, heeded, mixed):
    """Write each row of ``own`` (N, C) times ``share`` plus that of its voxel in ``means`` (V, C).

    Rows that are not ``heeded`` (N,) are written as they are.
    """
    for n in range(len(own)):
        voxel = voxel_of[n]
        for c in range(own.shape[1]):
            mixed[n, c] = means[voxel, c] + own[n, c] * share if heeded[n] else own[n, c]


@compiled(error_model="numpy")
def divide_rows(rows, sums, chosen):
    """Divide the ``chosen`` of ``rows`` (N, C) by their ``sums`` (N,), in place."""
    for n in range(len(rows)):
        if chosen[n]:
            for c in range(rows.shape[1]):
                rows[n, c] /= sums[n]
