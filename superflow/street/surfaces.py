"""What a surface point is: its normal, colour, gloss, class and reflectance. Compiled."""

from __future__ import annotations

import numpy as np

from .compiled import jit, jit_inline
from .noise import noise2
from .shapes import LEAF_BALL
from .textures import (
    GLASS,
    LEAF,
    MARK,
    STYLE_REFLECTANCE,
    ground_class,
    ground_color,
    primitive_color,
)
from .trace import GROUND, MISS, ground_normal, surface

SKY_LABEL = 255


@jit_inline
def look_at(world, movers, share, p, x, y, z, dx, dy, dz, footprint, normal, local, color):
    """Write unit normal (towards the eye) and colour of a hit on primitive or ground p; returns gloss and raw class.

    Args:
        share: of the movers' interval, 0 .. 1.
        x, y, z: where, world frame; dx, dy, dz: unit vector of the ray; footprint: width of a pixel there [m].
        normal, local, color: (3,) written.
    """
    if p == GROUND:
        kind, label = ground_class(world, x, y)
        ground_normal(world, x, y, normal)
        slant = max(-(dx * normal[0] + dy * normal[1] + dz * normal[2]), 0.15)
        ground_color(world, kind, x, y, footprint / slant, color)
        return 0.0, label
    axis = surface(world, movers, share, p, x, y, z, normal, local)
    if world.material[p] != LEAF and dx * normal[0] + dy * normal[1] + dz * normal[2] > 0.0:
        normal[0], normal[1], normal[2] = -normal[0], -normal[1], -normal[2]
    return primitive_color(world, p, axis, local, footprint, color), int(world.label[p])


@jit
def echoes(world, movers, share, origins, directions, ranges, prims):
    """What comes back of the laser's light (A, B), by material and angle, 0 for the sky, and raw classes (A, B).

    Args:
        share: (A,) where in the movers' interval each fan was cast.
        origins: (A, 3); directions: (A, B, 3) unit vectors, world frame.
        ranges, prims: (A, B) as ``Fans.meet`` gives them.
    """
    fans, rays = ranges.shape
    strength = np.zeros((fans, rays))
    labels = np.full((fans, rays), SKY_LABEL, dtype=np.uint8)
    normal, local = np.empty(3), np.empty(3)
    ground_style, kinds, materials, seeds = world.ground_style, world.kind, world.material, world.seed
    reflectances, of_prims = world.reflectance, world.label
    for f in range(fans):
        for ray in range(rays):
            p, t = prims[f, ray], ranges[f, ray]
            if p == MISS:
                continue
            dx, dy, dz = directions[f, ray, 0], directions[f, ray, 1], directions[f, ray, 2]
            x, y, z = origins[f, 0] + t * dx, origins[f, 1] + t * dy, origins[f, 2] + t * dz
            if p == GROUND:
                kind, labels[f, ray] = ground_class(world, x, y)
                ground_normal(world, x, y, normal)
                value = ground_style[STYLE_REFLECTANCE + kind] * (0.7 + 0.6 * noise2(0.6 * x, 0.6 * y, 5))
                if kind == MARK:  # worn here and there
                    value *= 0.6 + 0.8 * noise2(2.0 * x, 2.0 * y, 6)
            else:
                surface(world, movers, share[f], p, x, y, z, normal, local)
                value = reflectances[p]
                if kinds[p] < LEAF_BALL:
                    value *= 0.75 + 0.5 * noise2(3.0 * (local[0] + local[1]), 3.0 * local[2], seeds[p])
                if materials[p] == GLASS:
                    value *= 0.2
                labels[f, ray] = of_prims[p]
            facing = abs(dx * normal[0] + dy * normal[1] + dz * normal[2])
            strength[f, ray] = value * (0.25 + 0.75 * facing)
    return strength, labels
