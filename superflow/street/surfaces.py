"""What a surface point is: its normal, colour, gloss, class and reflectance. Compiled."""

from __future__ import annotations

import numpy as np

from .compiled import jit
from .noise import noise2
from .shapes import LEAF_BALL
from .textures import (
    GLASS,
    GROUND_LABELS,
    LEAF,
    MARK,
    STYLE_REFLECTANCE,
    ground_class,
    ground_color,
    primitive_color,
)
from .trace import GROUND, MISS, ground_normal, surface

SKY_LABEL = 255


@jit
def look(world, movers, share, prims, points, directions, footprints):
    """Colours (N, 3), unit normals (N, 3) towards the eye and gloss (N,) of what rays met; zeros for the sky.

    Args:
        share: of the movers' interval, 0 .. 1.
        prims: (N,) as ``trace.cast`` returns them; points: (N, 3) where, world frame.
        directions: (N, 3) unit vectors of the rays; footprints: (N,) width of a pixel there [m].
    """
    count = len(prims)
    colors, normals, gloss = np.zeros((count, 3)), np.zeros((count, 3)), np.zeros(count)
    local = np.empty(3)
    for n in range(count):
        p, normal, d = prims[n], normals[n], directions[n]
        x, y, z = points[n]
        if p == MISS:
            continue
        if p == GROUND:
            ground_normal(world, x, y, normal)
            slant = max(-(d[0] * normal[0] + d[1] * normal[1] + d[2] * normal[2]), 0.15)
            ground_color(world, ground_class(world, x, y), x, y, footprints[n] / slant, colors[n])
            continue
        axis = surface(world, movers, share, p, x, y, z, normal, local)
        if world.material[p] != LEAF and d[0] * normal[0] + d[1] * normal[1] + d[2] * normal[2] > 0.0:
            normal[0], normal[1], normal[2] = -normal[0], -normal[1], -normal[2]
        gloss[n] = primitive_color(world, p, axis, local, normal, footprints[n], colors[n])
    return colors, normals, gloss


@jit
def classify(world, prims, points):
    """(N,) uint8 raw class of what rays met; SKY_LABEL for the sky."""
    labels = np.full(len(prims), SKY_LABEL, dtype=np.uint8)
    for n in range(len(prims)):
        if prims[n] >= 0:
            labels[n] = world.label[prims[n]]
        elif prims[n] == GROUND:
            labels[n] = GROUND_LABELS[ground_class(world, points[n, 0], points[n, 1])]
    return labels


@jit
def reflect(world, movers, share, prims, points, directions):
    """(N,) share of the laser's light that comes back, by material and angle; 0 for the sky.

    ``share``: (N,) where in the movers' interval each ray was cast; the rest as in ``look``.
    """
    strength = np.zeros(len(prims))
    normal, local = np.empty(3), np.empty(3)
    for n in range(len(prims)):
        p, d = prims[n], directions[n]
        x, y, z = points[n]
        if p == MISS:
            continue
        if p == GROUND:
            kind = ground_class(world, x, y)
            ground_normal(world, x, y, normal)
            value = world.ground_style[STYLE_REFLECTANCE + kind] * (0.7 + 0.6 * noise2(0.6 * x, 0.6 * y, 5))
            if kind == MARK:  # worn here and there
                value *= 0.6 + 0.8 * noise2(2.0 * x, 2.0 * y, 6)
        else:
            surface(world, movers, share[n], p, x, y, z, normal, local)
            value = world.reflectance[p]
            if world.kind[p] < LEAF_BALL:
                value *= 0.75 + 0.5 * noise2(3.0 * (local[0] + local[1]), 3.0 * local[2], world.seed[p])
            if world.material[p] == GLASS:
                value *= 0.2
        facing = abs(d[0] * normal[0] + d[1] * normal[1] + d[2] * normal[2])
        strength[n] = value * (0.25 + 0.75 * facing)
    return strength
