"""Repeatable noise: hashes of integer lattice points, and smooth noise between them. Compiled, scalar."""

from __future__ import annotations

import math

import numpy as np

from .compiled import jit_part

_P1 = np.uint64(0x9E3779B97F4A7C15)
_P2 = np.uint64(0xC2B2AE3D27D4EB4F)
_P3 = np.uint64(0x165667B19E3779F9)
_P4 = np.uint64(0xD6E8FEB86659FD93)
_MIX = np.uint64(0xFF51AFD7ED558CCD)
_S29 = np.uint64(29)
_S32 = np.uint64(32)
_S40 = np.uint64(40)


@jit_part
def hash01(i: int, j: int, k: int, seed: int) -> float:
    """Uniform number in [0, 1) that depends on the four integers only."""
    h = (np.uint64(i) * _P1) ^ (np.uint64(j) * _P2) ^ (np.uint64(k) * _P3) ^ (np.uint64(seed) * _P4)
    h ^= h >> _S32
    h *= _MIX
    h ^= h >> _S29
    h *= _P1
    h ^= h >> _S32
    return float(h >> _S40) * 5.9604644775390625e-08


@jit_part
def noise2(x: float, y: float, seed: int) -> float:
    """Smooth noise in [0, 1) with features of size 1."""
    fx, fy = math.floor(x), math.floor(y)
    i, j = int(fx), int(fy)
    u, v = x - fx, y - fy
    u = u * u * (3.0 - 2.0 * u)
    v = v * v * (3.0 - 2.0 * v)
    low = hash01(i, j, 0, seed) * (1.0 - u) + hash01(i + 1, j, 0, seed) * u
    high = hash01(i, j + 1, 0, seed) * (1.0 - u) + hash01(i + 1, j + 1, 0, seed) * u
    return low * (1.0 - v) + high * v


@jit_part
def fractal2(x: float, y: float, seed: int) -> float:
    """Three octaves of ``noise2``, in [0, 1)."""
    return (
        0.5 * noise2(x, y, seed)
        + 0.3 * noise2(2.1 * x + 5.2, 2.1 * y + 1.3, seed + 1)
        + 0.2 * noise2(4.3 * x + 9.1, 4.3 * y + 7.7, seed + 2)
    )


@jit_part
def grain(x: float, y: float, z: float, seed: int) -> float:
    """One random number in [0, 1) for the unit cell that holds the point."""
    return hash01(math.floor(x), math.floor(y), math.floor(z), seed)
