"""Camera images of the world that the LiDAR sees: cast, look, shadow, light, develop."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .compiled import jit
from .noise import fractal2, noise2
from .scene import Light
from .surfaces import classify, look
from .textures import LAMP, LEAF
from .trace import MISS, Caster

VIEW_RANGE = 160.0  # m; beyond it there is only haze
SHADOW_RANGE = 60.0
_SUN = np.array([1.06, 1.00, 0.90])  # colours of the light
_SHADE = np.array([0.92, 1.00, 1.14])


@jit
def _sky(dx, dy, dz, sun, haze, direct, out):
    """Write the linear RGB of the sky, or of the far hills just above the horizon."""
    blue = max(dz, 0.0) ** 0.45
    out[0] = haze[0] + (direct * 0.12 + (1.0 - direct) * 0.62 - haze[0]) * blue
    out[1] = haze[1] + (direct * 0.30 + (1.0 - direct) * 0.65 - haze[1]) * blue
    out[2] = haze[2] + (direct * 0.75 + (1.0 - direct) * 0.70 - haze[2]) * blue
    if dz > 0.02:
        scale = 1.5 / (dz + 0.15)
        cloud = fractal2(dx * scale + 40.0, dy * scale + 40.0, 991)
        amount = min(max((cloud - 0.62 + 0.25 * (1.0 - direct)) * 4.0, 0.0), 0.9)
        for k in range(3):
            out[k] += amount * (0.92 - out[k])
    turn = math.atan2(dy, dx)
    hills = 0.035 + 0.05 * noise2(turn * 6.0 + 60.0, 3.0, 77) + 0.02 * noise2(turn * 40.0 + 60.0, 9.0, 78)
    if dz < hills:
        out[0], out[1], out[2] = 0.55 * haze[0] + 0.05, 0.62 * haze[1] + 0.05, 0.62 * haze[2] + 0.04
    glow = max(dx * sun[0] + dy * sun[1] + dz * sun[2], 0.0) ** 64
    for k in range(3):
        out[k] += direct * 0.8 * glow


@jit
def _light_up(
    colors, normals, gloss, facing, lamp, distances, directions, sun, levels, haze, sun_rgb, shade_rgb
):
    """(N, 3) light that reaches the eye: sun and sky on the surface, mirrored sky, haze in between."""
    out = np.empty_like(colors)
    mirror = np.empty(3)
    direct, ambient = levels[0], levels[1]
    for n in range(len(colors)):
        d, normal, rgb = directions[n], normals[n], out[n]
        if distances[n] >= 1e29:
            _sky(d[0], d[1], d[2], sun, haze, direct, rgb)
            continue
        around = ambient * (0.725 + 0.275 * normal[2])
        for k in range(3):
            rgb[k] = colors[n, k] * (sun_rgb[k] * direct * facing[n] + shade_rgb[k] * around)
            if lamp[n]:
                rgb[k] = 1.2 * colors[n, k]
        if gloss[n] > 0.0:
            dot = d[0] * normal[0] + d[1] * normal[1] + d[2] * normal[2]
            up = d[2] - 2.0 * dot * normal[2]
            _sky(
                d[0] - 2.0 * dot * normal[0],
                d[1] - 2.0 * dot * normal[1],
                max(up, 0.03),
                sun,
                haze,
                direct,
                mirror,
            )
            amount = gloss[n] * (0.35 + 0.65 * (1.0 - min(abs(dot), 1.0)) ** 2) * (1.0 if up > 0.0 else 0.3)
            for k in range(3):
                rgb[k] += amount * (mirror[k] - rgb[k])
        clear = math.exp(-distances[n] / levels[2])
        for k in range(3):
            rgb[k] = haze[k] + (rgb[k] - haze[k]) * clear
    return out


def pixel_rays(intrinsics: NDArray, height: int, width: int) -> NDArray[np.float64]:
    """(H * W, 3) unit directions in the camera frame; pixel (0, 0) is the centre of the first pixel."""
    rays = np.ones((height, width, 3))
    rays[..., 0] = (np.arange(width) - intrinsics[0, 2]) / intrinsics[0, 0]
    rays[..., 1] = ((np.arange(height) - intrinsics[1, 2]) / intrinsics[1, 1])[:, None]
    rays /= np.sqrt(np.einsum("hwk,hwk->hw", rays, rays))[..., None]
    return rays.reshape(-1, 3)


def render(caster: Caster, light: Light, pose: NDArray, intrinsics: NDArray, height: int, width: int):
    """One exposure, in which the recording vehicle (mover 0) casts a shadow but is not seen.

    Returns:
        image (H, W, 3) float64 linear RGB; labels (H, W) uint8 raw class, 255 = sky; distances (H, W) float64 along
        the ray [m], inf = sky.
    """
    world = caster.world
    directions = pixel_rays(intrinsics, height, width) @ pose[:3, :3].T
    distances, prims = caster.cast(pose[None, :3, 3], directions, skip=0, t_min=0.05, t_max=VIEW_RANGE)
    met = prims != MISS
    points = pose[:3, 3] + np.where(met, distances, 0.0)[:, None] * directions
    colors, normals, gloss = look(
        world, caster.movers, 0.0, prims, points, directions, distances / intrinsics[0, 0]
    )
    material = np.where(prims >= 0, world.material[np.maximum(prims, 0)], -1)
    leaf, lamp = material == LEAF, material == LAMP
    facing = normals @ light.sun
    facing = np.where(
        leaf, 0.25 + 0.75 * np.abs(facing), np.maximum(facing, 0.0)
    )  # light passes through leaves
    lit = np.flatnonzero(met & (facing > 0.0) & ~lamp)
    away = np.where(leaf[lit], 0.2, 0.03)[:, None] * normals[lit]  # off the surface that the ray starts from
    sun = np.broadcast_to(light.sun, (len(lit), 3))
    hidden = (
        caster.cast(points[lit] + away, sun, skip=-1, t_min=0.02, t_max=SHADOW_RANGE, shadow=True)[1] != MISS
    )
    facing[lit[hidden]] *= 0.08
    image = _light_up(
        colors,
        normals,
        gloss,
        facing,
        lamp,
        distances,
        directions,
        light.sun,
        light.levels,
        light.haze,
        _SUN,
        _SHADE,
    )
    labels = classify(world, prims, points)
    distances = np.where(met, distances, np.inf)
    return image.reshape(height, width, 3), labels.reshape(height, width), distances.reshape(height, width)


def develop(image: NDArray, exposure: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB from linear light: exposure, soft shoulder, sRGB curve, sensor noise."""
    light = np.maximum(image, 0.0).astype(np.float32) * np.float32(exposure)
    light = light / (1.0 + 0.22 * light)
    curve = 1.055 * np.power(np.maximum(light, 1e-6), np.float32(1 / 2.4)) - 0.055
    coded = np.where(light < 0.0031308, 12.92 * light, curve)
    coded += 0.008 * rng.standard_normal(coded.shape, dtype=np.float32)
    return (np.clip(coded, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
