"""One camera image, or its class ids, of the world the LiDAR sees. Compiled."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .compiled import jit
from .noise import fractal2, noise2
from .textures import (
    FACADE,
    GLASS,
    GROUND_LABELS,
    LAMP,
    LEAF,
    ground_class,
    ground_color,
    primitive_color,
)
from .trace import GROUND, MISS, Movers, World, ground_normal, surface, trace

VIEW_RANGE = 160.0  # m; beyond it there is only haze


@jit
def _sky(dx, dy, dz, sun, haze, weather, out):
    """Write the linear RGB of the sky, or of the far hills just above the horizon."""
    up = max(dz, 0.0)
    blue = up**0.45
    clear = 1.0 - weather
    out[0] = haze[0] + (clear * 0.12 + weather * 0.62 - haze[0]) * blue
    out[1] = haze[1] + (clear * 0.30 + weather * 0.65 - haze[1]) * blue
    out[2] = haze[2] + (clear * 0.75 + weather * 0.70 - haze[2]) * blue
    if dz > 0.02:
        scale = 1.5 / (dz + 0.15)
        cloud = fractal2(dx * scale + 40.0, dy * scale + 40.0, 991)
        amount = min(max((cloud - 0.62 + 0.25 * weather) * 4.0, 0.0), 0.9)
        for k in range(3):
            out[k] += amount * (0.92 - out[k])
    turn = math.atan2(dy, dx)
    hills = 0.035 + 0.05 * noise2(turn * 6.0 + 60.0, 3.0, 77) + 0.02 * noise2(turn * 40.0 + 60.0, 9.0, 78)
    if dz < hills:
        out[0], out[1], out[2] = 0.55 * haze[0] + 0.05, 0.62 * haze[1] + 0.05, 0.62 * haze[2] + 0.04
    glow = max(dx * sun[0] + dy * sun[1] + dz * sun[2], 0.0) ** 64
    for k in range(3):
        out[k] += clear * 0.8 * glow


@jit
def _shade(world, movers, share, seen, ray, p, origin, d, t, spread, light, haze, out):
    """Write the light that comes back from what the ray met at t. Returns the number of rays used."""
    normal, local, color, mirror = np.empty(3), np.empty(3), np.empty(3), np.empty(3)
    x, y, z = origin[0] + t * d[0], origin[1] + t * d[1], origin[2] + t * d[2]
    footprint = spread * t
    gloss, material = 0.0, -1
    if p == GROUND:
        ground_normal(world, x, y, normal)
        slant = max(-(d[0] * normal[0] + d[1] * normal[1] + d[2] * normal[2]), 0.15)
        ground_color(world, ground_class(world, x, y), x, y, footprint / slant, color)
    else:
        axis = surface(world, movers, share, p, x, y, z, normal, local)
        material = world.material[p]
        if d[0] * normal[0] + d[1] * normal[1] + d[2] * normal[2] > 0.0 and material != LEAF:
            normal[0], normal[1], normal[2] = -normal[0], -normal[1], -normal[2]
        gloss = primitive_color(world, p, axis, local, normal, footprint, color)
    sun = world.sun
    facing = sun[0] * normal[0] + sun[1] * normal[1] + sun[2] * normal[2]
    if material == LEAF:
        facing = 0.25 + 0.75 * abs(facing)  # light passes through leaves
    used = 0
    if material == LAMP:
        for k in range(3):
            out[k] = 1.2 * color[k]
    else:
        if facing > 0.0 and light[0] > 0.05:
            e = 0.03 if material != LEAF else 0.2
            used = 1
            met = trace(
                world, movers, share, -1, seen, ray, x + e * normal[0], y + e * normal[1], z + e * normal[2],
                sun[0], sun[1], sun[2], 0.02, 60.0, True,
            )[1]  # fmt: skip
            if met != MISS:
                facing *= 0.08
        facing = max(facing, 0.0)
        up = 0.5 + 0.5 * normal[2]
        ambient = light[1] * (0.45 + 0.55 * up)
        out[0] = color[0] * (1.06 * light[0] * facing + 0.92 * ambient)
        out[1] = color[1] * (1.00 * light[0] * facing + 1.00 * ambient)
        out[2] = color[2] * (0.90 * light[0] * facing + 1.14 * ambient)
    if gloss > 0.0:
        dot = 2.0 * (d[0] * normal[0] + d[1] * normal[1] + d[2] * normal[2])
        rx, ry, rz = d[0] - dot * normal[0], d[1] - dot * normal[1], d[2] - dot * normal[2]
        if material in (FACADE, GLASS):
            gloss *= 0.6 + 0.4 * max(rz, 0.0)
        _sky(rx, ry, max(rz, 0.03), sun, haze, 1.0 - light[0], mirror)
        gloss *= 0.35 + 0.65 * (1.0 - min(abs(0.5 * dot), 1.0)) ** 2
        if rz < 0.0:
            gloss *= 0.3
        for k in range(3):
            out[k] += gloss * (mirror[k] - out[k])
    clear = math.exp(-t / light[2])
    for k in range(3):
        out[k] = haze[k] + (out[k] - haze[k]) * clear
    return used


@jit
def render(world, movers, skip, pose, intrinsics, height, width, light, haze, seen, ray):
    """Linear RGB image of one exposure.

    Args:
        skip: mover whose body the camera does not see (its shadow it does).
        pose: (4, 4) camera to world; camera x right, y down, z forward.
        intrinsics: (3, 3); pixel (0, 0) is the centre of the first pixel.
        light: (3,) sun (1 = clear sky, 0 = overcast), ambient, and the distance over which haze grows [m].
        haze: (3,) linear RGB at the horizon.
        seen, ray: scratch of ``trace`` and the number of the last ray that used it.

    Returns:
        image (height, width, 3) float32, prims (height, width) int32 as ``trace`` returns them, depth along the
        ray (height, width) float32 with 0 for sky, and the number of the last ray.
    """
    image = np.empty((height, width, 3), dtype=np.float32)
    prims = np.empty((height, width), dtype=np.int32)
    depth = np.zeros((height, width), dtype=np.float32)
    origin, d, out = pose[:3, 3].copy(), np.empty(3), np.empty(3)
    spread = 1.0 / intrinsics[0, 0]
    for column in range(width):
        for row in range(height):
            cx = (column - intrinsics[0, 2]) / intrinsics[0, 0]
            cy = (row - intrinsics[1, 2]) / intrinsics[1, 1]
            scale = 1.0 / math.sqrt(cx * cx + cy * cy + 1.0)
            for k in range(3):
                d[k] = (pose[k, 0] * cx + pose[k, 1] * cy + pose[k, 2]) * scale
            ray += 1
            t, p = trace(
                world, movers, 0.0, skip, seen, ray, origin[0], origin[1], origin[2], d[0], d[1], d[2],
                0.05, VIEW_RANGE, False,
            )  # fmt: skip
            prims[row, column] = p
            if p == MISS:
                _sky(d[0], d[1], d[2], world.sun, haze, 1.0 - light[0], out)
            else:
                depth[row, column] = t
                ray += _shade(world, movers, 0.0, seen, ray + 1, p, origin, d, t, spread, light, haze, out)
            for k in range(3):
                image[row, column, k] = out[k]
    return image, prims, depth, ray


@jit
def label_image(world, prims, depth, pose, intrinsics):
    """(H, W) uint8 raw class of each pixel of ``render``'s ``prims``; 255 = sky."""
    labels = np.full(prims.shape, 255, dtype=np.uint8)
    for row in range(prims.shape[0]):
        for column in range(prims.shape[1]):
            p = prims[row, column]
            if p >= 0:
                labels[row, column] = world.label[p]
            elif p == GROUND:
                cx = (column - intrinsics[0, 2]) / intrinsics[0, 0]
                cy = (row - intrinsics[1, 2]) / intrinsics[1, 1]
                t = depth[row, column] / math.sqrt(cx * cx + cy * cy + 1.0)
                x = pose[0, 3] + t * (pose[0, 0] * cx + pose[0, 1] * cy + pose[0, 2])
                y = pose[1, 3] + t * (pose[1, 0] * cx + pose[1, 1] * cy + pose[1, 2])
                labels[row, column] = GROUND_LABELS[ground_class(world, x, y)]
    return labels


def develop(image: NDArray[np.float32], exposure: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB from linear light: exposure, soft shoulder, sRGB curve, sensor noise."""
    light = np.maximum(image, 0.0) * exposure
    light = light / (1.0 + 0.22 * light)
    coded = np.where(
        light < 0.0031308, 12.92 * light, 1.055 * np.power(np.maximum(light, 1e-6), 1 / 2.4) - 0.055
    )
    coded = coded + rng.normal(0.0, 0.008, size=coded.shape).astype(np.float32)
    return (np.clip(coded, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


__all__ = ["Movers", "World", "develop", "label_image", "render"]
