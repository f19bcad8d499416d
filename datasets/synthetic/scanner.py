"""One turn of the spinning LiDAR, each column cast from its own pose at its own time. Compiled."""

from __future__ import annotations

import math

import numpy as np

from .compiled import jit
from .noise import noise2
from .shapes import LEAF_BALL
from .textures import GLASS, GROUND_LABELS, MARK, STYLE_REFLECTANCE, ground_class
from .trace import GROUND, MISS, ground_normal, surface, trace

BEAMS = 32
COLUMNS = 1085  # 20 turns a second, a firing every 46.08 us
MIN_RANGE, MAX_RANGE = 0.9, 80.0  # m


@jit
def scan(world, movers, poses, azimuths, elevations, seen, ray):
    """Ranges and what was met, without noise.

    Args:
        poses: (A, 4, 4) sensor to world of each column; sensor x right, y forward, z up.
        azimuths: (A,) of each column, clockwise from y [rad]; elevations: (B,) of each beam [rad].

    Returns:
        ranges (A, B) float64 [m], 0 = nothing; directions (A, B, 3) in the sensor frame; strength (A, B) float64,
        share of the light that returns; labels (A, B) uint8; instances (A, B) int32; and the last ray's number.
    """
    columns, beams = len(azimuths), len(elevations)
    ranges = np.zeros((columns, beams))
    directions = np.empty((columns, beams, 3))
    strength = np.zeros((columns, beams))
    labels = np.zeros((columns, beams), dtype=np.uint8)
    instances = np.full((columns, beams), -1, dtype=np.int32)
    normal, local = np.empty(3), np.empty(3)
    for a in range(columns):
        share = a / max(columns - 1, 1)
        pose = poses[a]
        sin_a, cos_a = math.sin(azimuths[a]), math.cos(azimuths[a])
        for b in range(beams):
            flat = math.cos(elevations[b])
            sx, sy, sz = sin_a * flat, cos_a * flat, math.sin(elevations[b])
            directions[a, b, 0], directions[a, b, 1], directions[a, b, 2] = sx, sy, sz
            dx = pose[0, 0] * sx + pose[0, 1] * sy + pose[0, 2] * sz
            dy = pose[1, 0] * sx + pose[1, 1] * sy + pose[1, 2] * sz
            dz = pose[2, 0] * sx + pose[2, 1] * sy + pose[2, 2] * sz
            ox, oy, oz = pose[0, 3], pose[1, 3], pose[2, 3]
            ray += 1
            t, p = trace(
                world, movers, share, -1, seen, ray, ox, oy, oz, dx, dy, dz, MIN_RANGE, MAX_RANGE, False
            )
            if p == MISS:
                continue
            x, y, z = ox + t * dx, oy + t * dy, oz + t * dz
            if p == GROUND:
                kind = ground_class(world, x, y)
                ground_normal(world, x, y, normal)
                labels[a, b] = GROUND_LABELS[kind]
                reflectance = world.ground_style[STYLE_REFLECTANCE + kind]
                reflectance *= 0.7 + 0.6 * noise2(0.6 * x, 0.6 * y, 5)
                if kind == MARK:
                    reflectance *= 0.6 + 0.8 * noise2(2.0 * x, 2.0 * y, 6)
            else:
                surface(world, movers, share, p, x, y, z, normal, local)
                labels[a, b] = world.label[p]
                instances[a, b] = world.instance[p]
                reflectance = world.reflectance[p]
                if world.kind[p] < LEAF_BALL:
                    reflectance *= 0.75 + 0.5 * noise2(
                        3.0 * (local[0] + local[1]), 3.0 * local[2], world.seed[p]
                    )
                if world.material[p] == GLASS:
                    reflectance *= 0.2
            facing = abs(dx * normal[0] + dy * normal[1] + dz * normal[2])
            ranges[a, b] = t
            strength[a, b] = reflectance * (0.25 + 0.75 * facing)
    return ranges, directions, strength, labels, instances, ray


def add_noise(ranges, strength, rng: np.random.Generator, *, sigma_m=0.02, dropout=0.02):
    """Measured ranges, intensities 0 .. 255 (whole numbers, as the sensor gives them) and which beams came back.

    Beams are lost at random, and more often where little light returns: dark, slanted or far surfaces.
    """
    measured = ranges + rng.normal(0.0, sigma_m, ranges.shape)
    # received power falls with the square of the range; the sensor corrects the intensity, not the detection
    power = strength * (30.0 / np.maximum(ranges, 5.0)) ** 2
    lost = dropout + 0.9 * np.exp(-power / 0.012)
    back = (ranges > 0.0) & (rng.random(ranges.shape) >= lost)
    gain = rng.normal(1.0, 0.08, ranges.shape)
    intensity = np.clip(np.rint(255.0 * strength * gain), 0, 255)
    return measured, intensity.astype(np.float32), back
