"""Unit shapes and their intersection with a ray, in each shape's own coordinates. Compiled, scalar.

A primitive is a unit shape and the affine map that takes object coordinates to it, so that a box of any size and
tilt is the cube [-1, 1]^3. The ray parameter t is the same in both coordinates and stays in metres.
"""

from __future__ import annotations

import math

from .compiled import jit_inline, jit_part
from .noise import grain, hash01

BOX = 0  # |x|, |y|, |z| <= 1
TAPER = 1  # a box whose x and y half sizes shrink by (first, second) from z = -1 to z = 1
ELLIPSOID = 2  # the unit ball
FRUSTUM = 3  # radius 1 at z = -1, first at z = 1: cylinder (1), cone (0)
RING = 4  # disc z = 0 with first <= r <= 1, and second = share of spokes that fill the hole
LEAF_BALL = 5  # the ball filled with leaves: first = density, second = leaf cell [m]
LEAF_BOX = 6  # the box filled with leaves

FAR = 1e30
_MAX_LEAF_STEPS = 24


@jit_inline
def _slabs(o0, o1, o2, d0, d1, d2):
    """Entry and exit of the unit cube; entry > exit when it is missed."""
    # infinite along a face: its planes are then met before or after all
    i0, i1, i2 = (1.0 / d0, 1.0 / d1, 1.0 / d2)
    a0, b0 = (-1.0 - o0) * i0, (1.0 - o0) * i0
    a1, b1 = (-1.0 - o1) * i1, (1.0 - o1) * i1
    a2, b2 = (-1.0 - o2) * i2, (1.0 - o2) * i2
    near = max(max(min(a0, b0), min(a1, b1)), min(a2, b2))
    far = min(min(max(a0, b0), max(a1, b1)), max(a2, b2))
    return near, far


@jit_inline
def _ball(o0, o1, o2, d0, d1, d2):
    """Entry and exit of the unit ball."""
    a = d0 * d0 + d1 * d1 + d2 * d2
    b = o0 * d0 + o1 * d1 + o2 * d2
    c = o0 * o0 + o1 * o1 + o2 * o2 - 1.0
    root = b * b - a * c
    if root <= 0.0:
        return FAR, -FAR
    root = math.sqrt(root)
    return (-b - root) / a, (-b + root) / a


@jit_inline
def _taper(o0, o1, o2, d0, d1, d2, first, second):
    """Entry and exit of the tapered box: six half-spaces, in pairs that differ in one sign."""
    near, far = -FAR, FAR
    hx, hy = 0.5 * first, 0.5 * second
    near, far = _half_space(1.0 - hx - hx * o2 - o0, d0 + hx * d2, near, far)
    near, far = _half_space(1.0 - hx - hx * o2 + o0, hx * d2 - d0, near, far)
    near, far = _half_space(1.0 - hy - hy * o2 - o1, d1 + hy * d2, near, far)
    near, far = _half_space(1.0 - hy - hy * o2 + o1, hy * d2 - d1, near, far)
    near, far = _half_space(1.0 - o2, d2, near, far)
    return _half_space(1.0 + o2, -d2, near, far)


@jit_inline
def _half_space(distance, slope, near, far):
    """``near`` and ``far`` of a ray cut to where it is within a plane: ``distance`` inside it, left at ``slope``."""
    if abs(slope) < 1e-12:
        return (near, far) if distance >= 0.0 else (FAR, -FAR)
    t = distance / slope
    return (max(near, t), far) if slope < 0.0 else (near, min(far, t))


@jit_part
def _frustum(o0, o1, o2, d0, d1, d2, top, t_min):
    """First t > t_min on the side or a lid of the frustum, or FAR."""
    best = FAR
    m = 0.5 * (top - 1.0)  # radius(z) = (1 + m) + m z
    r0 = 1.0 + m + m * o2
    a = d0 * d0 + d1 * d1 - m * m * d2 * d2
    b = o0 * d0 + o1 * d1 - m * r0 * d2
    c = o0 * o0 + o1 * o1 - r0 * r0
    root = b * b - a * c
    if root >= 0.0 and abs(a) > 1e-14:
        root = math.sqrt(root)
        for t in ((-b - root) / a, (-b + root) / a):
            z = o2 + t * d2
            if t_min < t < best and -1.0 <= z <= 1.0 and 1.0 + m + m * z >= 0.0:
                best = t
    if abs(d2) > 1e-12:
        for lid, radius in ((-1.0, 1.0), (1.0, top)):
            t = (lid - o2) / d2
            x, y = o0 + t * d0, o1 + t * d1
            if t_min < t < best and x * x + y * y <= radius * radius:
                best = t
    return best


@jit_part
def _ring(o0, o1, o2, d0, d1, d2, inner, spokes, t_min):
    """t on the disc where there is rim or a spoke, or FAR."""
    if abs(d2) < 1e-12:
        return FAR
    t = -o2 / d2
    x, y = o0 + t * d0, o1 + t * d1
    r2 = x * x + y * y
    if t <= t_min or r2 > 1.0:
        return FAR
    if r2 >= inner * inner or r2 < 0.02:
        return t
    turn = math.atan2(y, x) * 2.5464790894703255  # 16 spokes
    return t if turn - math.floor(turn) < spokes else FAR


@jit_part
def _leaves(near, far, t_min, t_max, o0, o1, o2, d0, d1, d2, half, density, cell, seed):
    """First filled leaf cell along the ray between entry and exit, or FAR. Cells are metric."""
    start = max(near, t_min)
    stop = min(far, t_max)
    if start >= stop:
        return FAR
    # the lattice is fixed to the shape, so that every sensor at every time meets the same leaves
    x0, y0, z0 = o0 * half[0] / cell, o1 * half[1] / cell, o2 * half[2] / cell
    x1, y1, z1 = d0 * half[0] / cell, d1 * half[1] / cell, d2 * half[2] / cell
    step = 0.7 * cell
    t = start + 0.35 * step
    for _ in range(_MAX_LEAF_STEPS):
        if t >= stop:
            return FAR
        if grain(x0 + t * x1, y0 + t * y1, z0 + t * z1, seed) < density:
            return t
        t += step
    return FAR


@jit_inline
def intersect(kind, m, half, first, second, seed, ox, oy, oz, dx, dy, dz, t_min, t_max):
    """First t in (t_min, t_max) where the ray meets the primitive, or FAR.

    m: (12,) rows of the 3x4 affine map object -> unit shape; half: (3,) half sizes [m]; ray in object coordinates.
    """
    o0 = m[0] * ox + m[1] * oy + m[2] * oz + m[3]
    o1 = m[4] * ox + m[5] * oy + m[6] * oz + m[7]
    o2 = m[8] * ox + m[9] * oy + m[10] * oz + m[11]
    d0 = m[0] * dx + m[1] * dy + m[2] * dz
    d1 = m[4] * dx + m[5] * dy + m[6] * dz
    d2 = m[8] * dx + m[9] * dy + m[10] * dz
    return meet_unit(kind, half, first, second, seed, o0, o1, o2, d0, d1, d2, t_min, t_max)


@jit_inline
def meet_unit(kind, half, first, second, seed, o0, o1, o2, d0, d1, d2, t_min, t_max):
    """As ``intersect``, of a ray in the coordinates of the unit shape."""
    if kind == FRUSTUM:
        near = _frustum(o0, o1, o2, d0, d1, d2, first, t_min)
        return near if near < t_max else FAR
    if kind == RING:
        near = _ring(o0, o1, o2, d0, d1, d2, first, second, t_min)
        return near if near < t_max else FAR
    if kind in (BOX, LEAF_BOX):
        near, far = _slabs(o0, o1, o2, d0, d1, d2)
    elif kind == TAPER:
        near, far = _taper(o0, o1, o2, d0, d1, d2, first, second)
    else:
        near, far = _ball(o0, o1, o2, d0, d1, d2)
    if near >= far or far <= t_min or near >= t_max:
        return FAR
    if kind >= LEAF_BALL:
        return _leaves(near, far, t_min, t_max, o0, o1, o2, d0, d1, d2, half, first, second, seed)
    return near if near > t_min else FAR  # a ray that starts inside sees nothing of this shape


@jit_part
def unit_normal(kind, first, second, x, y, z):
    """Outward normal (not normalised, unit coordinates) and the face's axis (0 x, 1 y, 2 z) at a surface point."""
    if kind == ELLIPSOID:
        return x, y, z, 2
    if kind == RING:
        return 0.0, 0.0, 1.0, 2
    if kind == FRUSTUM:
        if abs(abs(z) - 1.0) < 1e-6:
            return 0.0, 0.0, math.copysign(1.0, z), 2
        radius = math.sqrt(x * x + y * y) + 1e-12
        return x / radius, y / radius, 0.5 * (1.0 - first), 0
    if kind == TAPER:
        hx, hy = 0.5 * first, 0.5 * second
        gaps = (1.0 - hx - hx * z - abs(x), 1.0 - hy - hy * z - abs(y), 1.0 - abs(z))
    else:
        hx, hy = 0.0, 0.0
        gaps = (1.0 - abs(x), 1.0 - abs(y), 1.0 - abs(z))
    if gaps[2] <= gaps[0] and gaps[2] <= gaps[1]:
        return 0.0, 0.0, math.copysign(1.0, z), 2
    if gaps[0] <= gaps[1]:
        return math.copysign(1.0, x), 0.0, hx, 0
    return 0.0, math.copysign(1.0, y), hy, 1


@jit_part
def leaf_normal(x, y, z, cell, seed, mean):
    """Random direction of the leaf in the metric cell at (x, y, z), bent towards ``mean`` (3,)."""
    i, j, k = math.floor(x / cell), math.floor(y / cell), math.floor(z / cell)
    return (
        mean[0] + 1.6 * (hash01(i, j, k, seed + 11) - 0.5),
        mean[1] + 1.6 * (hash01(i, j, k, seed + 12) - 0.5),
        mean[2] + 1.6 * (hash01(i, j, k, seed + 13) - 0.5),
    )
