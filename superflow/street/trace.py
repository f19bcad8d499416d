"""The world as arrays, and one ray through it: a walk over a bird's-eye grid of primitives. Compiled."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .compiled import jit, jit_inline
from .shapes import FAR, LEAF_BALL, intersect, leaf_normal, unit_normal

MISS = -1
GROUND = -2

# layers of World.ground
HEIGHT, ROAD, WALK, OTHER, ALONG, ACROSS, SIDE = range(7)
CURB_WIDTH = 0.1  # m over which the curb rises


class World(NamedTuple):
    """Everything a ray can meet that does not change with time, and the primitives of what moves.

    P primitives, N ground nodes, C grid cells; metres, world frame (primitives of movers: the mover's frame).
    """

    kind: NDArray[np.int32]  # (P,) shape
    matrix: NDArray[np.float64]  # (P, 12) affine to the unit shape
    half: NDArray[np.float64]  # (P, 3) half sizes [m]
    # (P, 4, 3) centre and half axes of the box around it (movers: in the mover's frame)
    box: NDArray[np.float64]
    shape: NDArray[np.float64]  # (P, 2) the shape's two numbers
    seed: NDArray[np.int64]  # (P,)
    mover: NDArray[np.int32]  # (P,) row of Movers, -1 = fixed
    instance: NDArray[np.int32]  # (P,) annotated object, -1 = scenery
    label: NDArray[np.uint8]  # (P,) raw class index
    material: NDArray[np.int32]  # (P,)
    color: NDArray[np.float64]  # (P, 2, 3) linear RGB: main, second
    reflectance: NDArray[np.float64]  # (P,) of the laser, facing it
    cell_start: NDArray[np.int32]  # (C + 1,)
    cell_items: NDArray[np.int32]  # primitives by cell
    cell_floor: NDArray[np.float32]  # (C,) highest ground
    cell_clear: NDArray[np.float32]  # (C,) highest ground or fixed primitive
    grid: NDArray[np.float64]  # (7,) x0, y0, cell size, columns, rows, highest point, highest ground
    ground: NDArray[np.float32]  # (rows, columns, layers)
    ground_grid: NDArray[np.float64]  # (3,) x0, y0, step
    ground_style: NDArray[np.float64]  # see street.GroundStyle
    sun: NDArray[np.float64]  # (3,) unit vector to the sun
    sun_start: NDArray[np.int32]  # (S + 1,) by cell of a grid across the sun's rays
    sun_items: NDArray[np.int32]  # fixed primitives by cell
    sun_grid: NDArray[np.float64]  # (10,) its axes u and v, first corner, columns, rows
    sun_top: NDArray[np.float64]  # (P,) how far each primitive reaches towards the sun [m]


class Movers(NamedTuple):
    """M moving objects over a short interval (one sweep, or one exposure), poses linear in between."""

    world_to_object: NDArray[np.float64]  # (2, M, 12) at the start and the end
    center: NDArray[np.float64]  # (2, M, 3)
    radius: NDArray[np.float64]  # (M,)
    first: NDArray[np.int32]  # (M + 1,) range of primitives: first[m] .. first[m + 1]
    clear: NDArray[np.float32]  # (C,) above this height a cell is empty: ground, fixed things and movers
    cell_start: NDArray[np.int32]  # (C + 1,)
    cell_items: NDArray[np.int32]


@jit_inline
def _ground_cell(world, x, y):
    """Column and row of the ground's cell that holds a point (the nearest one outside), and how far into it, 0 .. 1."""
    u = (x - world.ground_grid[0]) / world.ground_grid[2]
    v = (y - world.ground_grid[1]) / world.ground_grid[2]
    u = min(max(u, 0.0), world.ground.shape[1] - 1.001)
    v = min(max(v, 0.0), world.ground.shape[0] - 1.001)
    i, j = int(u), int(v)
    return i, j, u - i, v - j


@jit_inline
def ground_layer(world, layer, x, y):
    """Bilinear value of one ground layer."""
    ground = world.ground
    i, j, u, v = _ground_cell(world, x, y)
    low = ground[j, i, layer] * (1.0 - u) + ground[j, i + 1, layer] * u
    high = ground[j + 1, i, layer] * (1.0 - u) + ground[j + 1, i + 1, layer] * u
    return low * (1.0 - v) + high * v


@jit_inline
def ground_height(world, x, y):
    """Height of the ground [m]: the smooth surface and the curb beside the road."""
    ground = world.ground
    i, j, u, v = _ground_cell(world, x, y)
    a, b, c, d = (1.0 - u) * (1.0 - v), u * (1.0 - v), (1.0 - u) * v, u * v
    n00, n01, n10, n11 = ground[j, i], ground[j, i + 1], ground[j + 1, i], ground[j + 1, i + 1]
    outside = a * n00[ROAD] + b * n01[ROAD] + c * n10[ROAD] + d * n11[ROAD]
    rise = min(max(outside / CURB_WIDTH, 0.0), 1.0)
    height = a * n00[HEIGHT] + b * n01[HEIGHT] + c * n10[HEIGHT] + d * n11[HEIGHT]
    return height + rise * world.ground_style[0]


@jit_inline
def _ground_hit(world, ox, oy, oz, dx, dy, dz, t0, t1):
    """First t in [t0, t1] where the ray goes below the ground, or FAR."""
    flat = math.sqrt(dx * dx + dy * dy)
    steps = int((t1 - t0) * flat / 0.4) + 1
    width = (t1 - t0) / steps
    before = oz + dz * t0 - ground_height(world, ox + dx * t0, oy + dy * t0)
    if before <= 0.0:
        return t0 if t0 > 0.0 else FAR
    for step in range(1, steps + 1):
        t = t0 + step * width
        after = oz + dz * t - ground_height(world, ox + dx * t, oy + dy * t)
        if after <= 0.0:
            low, high = t - width, t
            for _ in range(5):  # regula falsi with a bisection guard: 0.4 m -> below 1 mm on any street
                middle = low + (high - low) * min(max(before / (before - after), 0.05), 0.95)
                value = oz + dz * middle - ground_height(world, ox + dx * middle, oy + dy * middle)
                if abs(value) < 3e-4:  # m above or below
                    return middle
                if value > 0.0:
                    low, before = middle, value
                else:
                    high, after = middle, value
            return high
        before = after
    return FAR


@jit_inline
def ground_hit(world, ox, oy, oz, dx, dy, dz, t, t_max):
    """First distance in [t, t_max] at which a ray meets the ground, or FAR: only the ground's part of ``trace``."""
    x0, y0, cell = world.grid[0], world.grid[1], world.grid[2]
    columns, rows = int(world.grid[3]), int(world.grid[4])
    i, j = math.floor((ox + t * dx - x0) / cell), math.floor((oy + t * dy - y0) / cell)
    step_i, step_j = (1 if dx > 0 else -1), (1 if dy > 0 else -1)
    dx = dx if abs(dx) > 1e-9 else 1e-9 * step_i
    dy = dy if abs(dy) > 1e-9 else 1e-9 * step_j
    delta_i, delta_j = cell / abs(dx), cell / abs(dy)
    next_i = (x0 + (i + (1 if dx > 0 else 0)) * cell - ox) / dx
    next_j = (y0 + (j + (1 if dy > 0 else 0)) * cell - oy) / dy
    while t < t_max and 0 <= i < columns and 0 <= j < rows:
        if dz > 0.0 and oz + dz * t > world.grid[6]:
            return FAR
        leave = min(min(next_i, next_j), t_max)
        if oz + dz * (t if dz > 0 else leave) <= world.cell_floor[j * columns + i]:
            hit = _ground_hit(world, ox, oy, oz, dx, dy, dz, t, leave)
            if hit < FAR:
                return hit
        t = leave
        if next_i < next_j:
            i += step_i
            next_i += delta_i
        else:
            j += step_j
            next_j += delta_j
    return FAR


@jit_inline
def _to_mover(movers, m, share):
    """The 12 numbers of world to object of mover m."""
    v, w = movers.world_to_object[0, m], movers.world_to_object[1, m]
    return (
        v[0] + share * (w[0] - v[0]), v[1] + share * (w[1] - v[1]), v[2] + share * (w[2] - v[2]),
        v[3] + share * (w[3] - v[3]), v[4] + share * (w[4] - v[4]), v[5] + share * (w[5] - v[5]),
        v[6] + share * (w[6] - v[6]), v[7] + share * (w[7] - v[7]), v[8] + share * (w[8] - v[8]),
        v[9] + share * (w[9] - v[9]), v[10] + share * (w[10] - v[10]), v[11] + share * (w[11] - v[11]),
    )  # fmt: skip


@jit_inline
def _mover_hit(world, movers, m, share, ox, oy, oz, dx, dy, dz, t_min, t_max):
    """Nearest (t, primitive) of one mover."""
    center = movers.center
    cx = center[0, m, 0] + share * (center[1, m, 0] - center[0, m, 0]) - ox
    cy = center[0, m, 1] + share * (center[1, m, 1] - center[0, m, 1]) - oy
    cz = center[0, m, 2] + share * (center[1, m, 2] - center[0, m, 2]) - oz
    along = cx * dx + cy * dy + cz * dz
    radius = movers.radius[m]
    if cx * cx + cy * cy + cz * cz - along * along > radius * radius or along < -radius:
        return FAR, MISS
    a = _to_mover(movers, m, share)
    lx = a[0] * ox + a[1] * oy + a[2] * oz + a[3]
    ly = a[4] * ox + a[5] * oy + a[6] * oz + a[7]
    lz = a[8] * ox + a[9] * oy + a[10] * oz + a[11]
    ex = a[0] * dx + a[1] * dy + a[2] * dz
    ey = a[4] * dx + a[5] * dy + a[6] * dz
    ez = a[8] * dx + a[9] * dy + a[10] * dz
    best, found = t_max, MISS
    for p in range(movers.first[m], movers.first[m + 1]):
        t = intersect(
            world.kind[p], world.matrix[p], world.half[p], world.shape[p, 0], world.shape[p, 1], world.seed[p],
            lx, ly, lz, ex, ey, ez, t_min, best,
        )  # fmt: skip
        if t < best:
            best, found = t, p
    return best, found


@jit_inline
def trace(world, movers, share, skip, seen, ray, ox, oy, oz, dx, dy, dz, t_min, t_max, shadow):
    """What the ray meets first: (t, primitive), with GROUND or MISS for a primitive.

    Args:
        share: where in the movers' interval the ray is cast, 0 .. 1.
        skip: mover that this ray does not see (the vehicle with the sensor), or -1.
        seen: (P + M,) int64 scratch: the last ray that tested a primitive or a mover.
        ray: number of this ray, different from all before it in ``seen``.
        t_min, t_max: range [m]; the direction is a unit vector.
        shadow: stop at the first thing met, whichever it is, and leave the ground out.
    """
    x0, y0, cell = world.grid[0], world.grid[1], world.grid[2]
    columns, rows = int(world.grid[3]), int(world.grid[4])
    i, j = math.floor((ox - x0) / cell), math.floor((oy - y0) / cell)
    if i < 0 or j < 0 or i >= columns or j >= rows:
        return FAR, MISS
    step_i, step_j = (1 if dx > 0 else -1), (1 if dy > 0 else -1)
    delta_i = cell / max(abs(dx), 1e-9)
    delta_j = cell / max(abs(dy), 1e-9)
    next_i = (x0 + (i + (1 if dx > 0 else 0)) * cell - ox) / (dx if abs(dx) > 1e-9 else 1e-9 * step_i)
    next_j = (y0 + (j + (1 if dy > 0 else 0)) * cell - oy) / (dy if abs(dy) > 1e-9 else 1e-9 * step_j)
    shift = len(world.kind)
    t, best, found = 0.0, t_max, MISS
    while True:
        leave = min(min(next_i, next_j), best)
        c = j * columns + i
        low = oz + dz * (t if dz > 0 else leave)
        if low <= movers.clear[c]:
            if not shadow and low <= world.cell_floor[c]:
                hit = _ground_hit(world, ox, oy, oz, dx, dy, dz, t, leave)
                if t_min < hit < best:
                    best, found = hit, GROUND
            for item in range(world.cell_start[c], world.cell_start[c + 1]):
                p = world.cell_items[item]
                if seen[p] == ray:
                    continue
                seen[p] = ray
                hit = intersect(
                    world.kind[p], world.matrix[p], world.half[p], world.shape[p, 0], world.shape[p, 1],
                    world.seed[p], ox, oy, oz, dx, dy, dz, t_min, best,
                )  # fmt: skip
                if hit < best:
                    best, found = hit, p
                    if shadow:
                        return best, found
            for item in range(movers.cell_start[c], movers.cell_start[c + 1]):
                m = movers.cell_items[item]
                if m == skip or seen[shift + m] == ray:
                    continue
                seen[shift + m] = ray
                hit, p = _mover_hit(world, movers, m, share, ox, oy, oz, dx, dy, dz, t_min, best)
                if hit < best:
                    best, found = hit, p
                    if shadow:
                        return best, found
        if best <= leave:
            return (best, found) if found != MISS else (FAR, MISS)
        t = leave
        if next_i < next_j:
            i += step_i
            next_i += delta_i
        else:
            j += step_j
            next_j += delta_j
        if i < 0 or j < 0 or i >= columns or j >= rows or (dz > 0 and oz + dz * t > world.grid[5]):
            return (best, found) if found != MISS else (FAR, MISS)


@jit
def cast(world, movers, share, skip, seen, ray, origins, directions, t_min, t_max, shadow):
    """What many rays meet: distances (N,) float64 [m], FAR = nothing, and primitives (N,) int32.

    Args:
        share: (N,) as in ``trace``, or one value for all.
        origins: (N, 3), or (1, 3) for all; directions: (N, 3) unit vectors, world frame.
        seen, ray: scratch and the number of the last ray that used it; N more are used now.
        skip, t_min, t_max, shadow: as in ``trace``, the same for all.
    """
    count = len(directions)
    distances = np.empty(count)
    prims = np.empty(count, dtype=np.int32)
    for n in range(count):
        origin, direction = origins[min(n, len(origins) - 1)], directions[n]
        distances[n], prims[n] = trace(
            world, movers, share[min(n, len(share) - 1)], skip, seen, ray + 1 + n, origin[0], origin[1], origin[2],
            direction[0], direction[1], direction[2], t_min, t_max, shadow,
        )  # fmt: skip
    return distances, prims


@jit_inline
def ground_normal(world, x, y, normal):
    """Write the ground's unit normal into ``normal`` (3,)."""
    ground, step = world.ground, world.ground_grid[2]
    i, j, u, v = _ground_cell(world, x, y)
    n00, n01, n10, n11 = ground[j, i], ground[j, i + 1], ground[j + 1, i], ground[j + 1, i + 1]
    gx = ((n01[HEIGHT] - n00[HEIGHT]) * (1.0 - v) + (n11[HEIGHT] - n10[HEIGHT]) * v) / step
    gy = ((n10[HEIGHT] - n00[HEIGHT]) * (1.0 - u) + (n11[HEIGHT] - n01[HEIGHT]) * u) / step
    near, far = n00[ROAD] * (1.0 - u) + n01[ROAD] * u, n10[ROAD] * (1.0 - u) + n11[ROAD] * u
    outside = near * (1.0 - v) + far * v
    if 0.0 < outside < CURB_WIDTH:  # the face of the curb
        rise = world.ground_style[0] / CURB_WIDTH / step
        gx += ((n01[ROAD] - n00[ROAD]) * (1.0 - v) + (n11[ROAD] - n10[ROAD]) * v) * rise
        gy += ((n10[ROAD] - n00[ROAD]) * (1.0 - u) + (n11[ROAD] - n01[ROAD]) * u) * rise
    scale = 1.0 / math.sqrt(gx * gx + gy * gy + 1.0)
    normal[0], normal[1], normal[2] = -gx * scale, -gy * scale, scale


@jit_inline
def surface(world, movers, share, p, x, y, z, normal, local):
    """Unit normal (world) and metric local coordinates of a hit on primitive p; returns the face's axis.

    Args:
        normal: (3,) written: towards the outside.
        local: (3,) written: coordinates along the primitive's axes, from its centre [m].
    """
    m = world.mover[p]
    if m >= 0:
        a = _to_mover(movers, m, share)
        x, y, z = (
            a[0] * x + a[1] * y + a[2] * z + a[3],
            a[4] * x + a[5] * y + a[6] * z + a[7],
            a[8] * x + a[9] * y + a[10] * z + a[11],
        )
    b = world.matrix[p]
    u = b[0] * x + b[1] * y + b[2] * z + b[3]
    v = b[4] * x + b[5] * y + b[6] * z + b[7]
    w = b[8] * x + b[9] * y + b[10] * z + b[11]
    half = world.half[p]
    local[0], local[1], local[2] = u * half[0], v * half[1], w * half[2]
    nu, nv, nw, axis = unit_normal(world.kind[p], world.shape[p, 0], world.shape[p, 1], u, v, w)
    n0 = b[0] * nu + b[4] * nv + b[8] * nw  # gradients go with the transposed map
    n1 = b[1] * nu + b[5] * nv + b[9] * nw
    n2 = b[2] * nu + b[6] * nv + b[10] * nw
    if m >= 0:
        a = _to_mover(movers, m, share)
        n0, n1, n2 = (
            a[0] * n0 + a[4] * n1 + a[8] * n2,
            a[1] * n0 + a[5] * n1 + a[9] * n2,
            a[2] * n0 + a[6] * n1 + a[10] * n2,
        )
    scale = 1.0 / (math.sqrt(n0 * n0 + n1 * n1 + n2 * n2) + 1e-30)
    normal[0], normal[1], normal[2] = n0 * scale, n1 * scale, n2 * scale
    if world.kind[p] >= LEAF_BALL:
        bent = leaf_normal(local[0], local[1], local[2], world.shape[p, 1], world.seed[p], normal)
        scale = 1.0 / (math.sqrt(bent[0] ** 2 + bent[1] ** 2 + bent[2] ** 2) + 1e-30)
        normal[0], normal[1], normal[2] = bent[0] * scale, bent[1] * scale, bent[2] * scale
    return axis


class Caster:
    """A world at an interval of time, with the scratch memory of its rays.

    Args:
        seen: as in ``trace``; shared by all casters of a world, with the last ray's number as its last element.
    """

    def __init__(self, world: World, movers: Movers, seen: NDArray[np.int64]) -> None:
        self.world, self.movers, self._seen = world, movers, seen

    def cast(
        self,
        origins: NDArray[np.float64],
        directions: NDArray[np.float64],
        *,
        skip: int,
        t_min: float,
        t_max: float,
        share: NDArray[np.float64] | None = None,
        shadow: bool = False,
    ) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
        """Distances and primitives, see ``cast``. Without ``share``, at the start of the interval."""
        share = np.zeros(1) if share is None else share
        origins, directions = np.ascontiguousarray(origins), np.ascontiguousarray(directions)
        ray = int(self._seen[-1])
        self._seen[-1] += len(directions)
        return cast(
            self.world, self.movers, share, skip, self._seen, ray, origins, directions, t_min, t_max, shadow
        )
