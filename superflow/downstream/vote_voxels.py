"""The voxels of a scan, as a hash table in which the points of other scans are looked up, and sums over them.

Keys, borders and errors are those of `geometry.voxel_keys`; a table instead of sorted keys, and one pass over the
points, since the points of many scans are looked up for each scan.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..compiled import compiled
from ..geometry import KEY_BITS, voxel_keys

_FEWEST_SLOTS = 16
_MIXER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio (Knuth, volume 3, section 6.4)
_EMPTY = -1  # keys are not negative
# how `voxel_keys` packs cells
_WHOLE = 2.0**52
_HALF_X, _HALF_Y, _HALF_Z = (1 << (bits - 1) for bits in KEY_BITS)
_SHIFT_X, _SHIFT_Y = KEY_BITS[1] + KEY_BITS[2], KEY_BITS[2]


@dataclass(frozen=True, eq=False)
class VoxelTable:
    """The V voxels of a scan (N points), numbered as they were met.

    Attributes:
        size_m: edge of a voxel [m].
        voxel_of: (N,) int32 that of each point.
        count: V.
    """

    size_m: float
    voxel_of: NDArray[np.int32]
    count: int
    _keys: NDArray[np.int64]  # (slots,)
    _numbers: NDArray[np.int32]  # (slots,)

    @classmethod
    def of(cls, xyz: NDArray[np.float32], size_m: float) -> VoxelTable:
        """The voxels of points (N, 3) [m].

        Raises:
            OutOfReachError: as `voxel_keys`.
        """
        keys, voxel_of = _moved_keys(xyz, np.eye(4), size_m), np.empty(len(xyz), dtype=np.int32)
        distinct = np.empty(len(xyz), dtype=np.int64)
        count = _number(keys, *_slots(len(xyz)), voxel_of, distinct)
        table, numbers = _slots(count)  # voxels are fewer than points, and a small table stays in the cache
        _number(distinct[:count], table, numbers, np.empty(count, dtype=np.int32), distinct)
        return cls(size_m, voxel_of, count, table, numbers)

    def find(self, xyz: NDArray[np.float32], a_to_b: NDArray[np.float64]) -> NDArray[np.int32]:
        """(M,) voxel in which each point of another scan lies, -1 for none of them.

        Args:
            xyz: (M, 3) [m, frame a]. a_to_b: (4, 4) to the frame of this scan.

        Raises:
            OutOfReachError: as `voxel_keys`.
        """
        found = np.empty(len(xyz), dtype=np.int32)
        _find(_moved_keys(xyz, a_to_b, self.size_m), self._keys, self._numbers, found)
        return found


def _moved_keys(xyz: NDArray[np.float32], a_to_b: NDArray[np.float64], size_m: float) -> NDArray[np.int64]:
    """The `voxel_keys` of points (N, 3) in frame b."""
    keys = np.empty(len(xyz), dtype=np.int64)
    if not _pack(xyz, a_to_b, size_m, keys):  # `voxel_keys` says why
        plainly = xyz.astype(np.float64)
        same = np.array_equal(a_to_b, np.eye(4))
        with np.errstate(invalid="ignore"):
            return voxel_keys(plainly if same else plainly @ a_to_b[:3, :3].T + a_to_b[:3, 3], size_m)
    return keys


@compiled(error_model="numpy")
def _pack(xyz, a_to_b, size_m, keys):
    """Write the key of each point; False where `voxel_keys` has something to say about the points."""
    m = a_to_b
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
def _find(keys, table, numbers, found):
    """Write the voxel of each key, -1 for those that are not in the ``table``."""
    slots = len(table) - 1
    shift = _shift(len(table))
    for n in range(len(keys)):
        slot = np.int64((np.uint64(keys[n]) * _MIXER) >> shift)
        while table[slot] != keys[n] and table[slot] != _EMPTY:
            slot = (slot + 1) & slots
        found[n] = numbers[slot] if table[slot] != _EMPTY else -1


@compiled()
def _shift(slots):
    """By how much a product of 64 bits is shifted to be a slot; ``slots`` are a power of two."""
    bits = 0
    while (1 << bits) < slots:
        bits += 1
    return np.uint64(64 - bits)


@compiled()
def add_votes(target, probabilities, share, total, weight, votes):
    """Add the points of a scan to the voxels that they lie in, in their order.

    Args:
        target: (M,) int32 voxel of each point, -1 for none. probabilities: (M, C). share: (M,) weight of each point.
        total: (V, C), weight: (V,), votes: (V,) int64 are added to: weighted probabilities, weights, and points whose
            weight is above 0.
    """
    for n in range(len(target)):
        voxel = target[n]
        own_share = share[n]  # once: the compiler cannot know that sums are written elsewhere
        if voxel >= 0 and own_share != 0:
            weight[voxel] += own_share
            votes[voxel] += own_share > 0
            for c in range(probabilities.shape[1]):
                total[voxel, c] += probabilities[n, c] * own_share


@compiled()
def add_means(own, share, means, voxel_of, heeded, mixed):
    """Write each row of ``own`` (N, C) times ``share`` plus that of its voxel in ``means`` (V, C).

    Rows that are not ``heeded`` (N,) are written as they are.
    """
    for n in range(len(own)):
        voxel = voxel_of[n]
        if heeded[n]:
            for c in range(own.shape[1]):
                mixed[n, c] = means[voxel, c] + own[n, c] * share
        else:
            mixed[n] = own[n]


@compiled(error_model="numpy")
def divide_rows(rows, sums, chosen):
    """Divide the ``chosen`` of ``rows`` (N, C) by their ``sums`` (N,), in place."""
    for n in range(len(rows)):
        if chosen[n]:
            for c in range(rows.shape[1]):
                rows[n, c] /= sums[n]
