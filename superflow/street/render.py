"""Camera images of the world that the LiDAR sees: cast, look, shadow, light, develop."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .compiled import jit, jit_part
from .fans import image_fans
from .light import Film, Light
from .noise import fractal2, noise2
from .shadows import in_shadow, mover_shadows
from .surfaces import SKY_LABEL, look_at
from .textures import LAMP, LEAF
from .trace import MISS, Caster

VIEW_RANGE = 160.0  # m; beyond it there is only haze


@jit_part
def _sky(dx, dy, dz, sun, haze, direct, out):
    """Write the linear RGB of the sky, or of the far hills just above the horizon."""
    blue = math.sqrt(max(dz, 0.0))
    out[0] = haze[0] + (direct * 0.12 + (1.0 - direct) * 0.62 - haze[0]) * blue
    out[1] = haze[1] + (direct * 0.30 + (1.0 - direct) * 0.65 - haze[1]) * blue
    out[2] = haze[2] + (direct * 0.75 + (1.0 - direct) * 0.70 - haze[2]) * blue
    if dz > 0.02:
        scale = 1.5 / (dz + 0.15)
        cloud = fractal2(dx * scale + 40.0, dy * scale + 40.0, 991)
        amount = min(max((cloud - 0.62 + 0.25 * (1.0 - direct)) * 4.0, 0.0), 0.9)
        for k in range(3):
            out[k] += amount * (0.92 - out[k])
    if dz < 0.105:
        turn = math.atan2(dy, dx)
        hills = 0.035 + 0.05 * noise2(turn * 6.0 + 60.0, 3.0, 77) + 0.02 * noise2(turn * 40.0 + 60.0, 9.0, 78)
        if dz < hills:
            out[0], out[1], out[2] = 0.55 * haze[0] + 0.05, 0.62 * haze[1] + 0.05, 0.62 * haze[2] + 0.04
    towards = dx * sun[0] + dy * sun[1] + dz * sun[2]
    if towards > 0.9:  # its power of 64 is nothing else
        for _ in range(6):
            towards *= towards
        for k in range(3):
            out[k] += direct * 0.8 * towards


@jit
def _shade(
    world, movers, moving, origin, directions, distances, prims, pixel, levels, haze, sun_rgb, shade_rgb
):
    """Linear RGB (H, W, 3) that reaches the eye and raw classes (H, W): sun and sky on surfaces, mirrored sky, haze.

    Args:
        moving: see ``shadows.mover_shadows``.
        origin: (3,) of the eye; directions (W, H, 3), distances and prims (W, H) of its rays, lowest first.
        pixel: width of a pixel at a distance of 1 m.
    """
    width, height = distances.shape
    image = np.zeros((height, width, 3), dtype=np.float32)
    labels = np.full((height, width), SKY_LABEL, dtype=np.uint8)
    normal, local, rgb, mirror = np.empty(3), np.empty(3), np.empty(3), np.empty(3)
    direct, ambient, sun, materials = levels[0], levels[1], world.sun, world.material
    for f in range(width):
        for ray in range(height):
            p, t, row = prims[f, ray], distances[f, ray], height - 1 - ray
            dx, dy, dz = directions[f, ray, 0], directions[f, ray, 1], directions[f, ray, 2]
            if p == MISS:
                _sky(dx, dy, dz, sun, haze, direct, rgb)
                for k in range(3):
                    image[row, f, k] = rgb[k]
                continue
            x, y, z = origin[0] + t * dx, origin[1] + t * dy, origin[2] + t * dz
            gloss, label = look_at(world, movers, 0.0, p, x, y, z, dx, dy, dz, t * pixel, normal, local, rgb)
            labels[row, f] = label
            leaf = p >= 0 and materials[p] == LEAF
            if p >= 0 and materials[p] == LAMP:
                for k in range(3):
                    rgb[k] *= 1.2
            else:
                facing = normal[0] * sun[0] + normal[1] * sun[1] + normal[2] * sun[2]
                # light passes through leaves
                facing = 0.25 + 0.75 * abs(facing) if leaf else max(facing, 0.0)
                if facing > 0.0:
                    away = 0.2 if leaf else 0.03  # off the surface that the ray starts from
                    if in_shadow(
                        world, moving, x + away * normal[0], y + away * normal[1], z + away * normal[2]
                    ):
                        facing *= 0.08
                around = ambient * (0.725 + 0.275 * normal[2])
                for k in range(3):
                    rgb[k] *= sun_rgb[k] * direct * facing + shade_rgb[k] * around
            if gloss > 0.0:
                dot = dx * normal[0] + dy * normal[1] + dz * normal[2]
                up = dz - 2.0 * dot * normal[2]
                _sky(
                    dx - 2.0 * dot * normal[0],
                    dy - 2.0 * dot * normal[1],
                    max(up, 0.03),
                    sun,
                    haze,
                    direct,
                    mirror,
                )
                amount = gloss * (0.35 + 0.65 * (1.0 - min(abs(dot), 1.0)) ** 2) * (1.0 if up > 0.0 else 0.3)
                for k in range(3):
                    rgb[k] += amount * (mirror[k] - rgb[k])
            clear = math.exp(-t / levels[2])
            for k in range(3):
                image[row, f, k] = haze[k] + (rgb[k] - haze[k]) * clear
    return image, labels


def render(caster: Caster, light: Light, pose: NDArray, intrinsics: NDArray, height: int, width: int):
    """One exposure, in which the recording vehicle (mover 0) casts a shadow but is not seen.

    Returns:
        image (H, W, 3) float32 linear RGB; labels (H, W) uint8 raw class, 255 = sky; distances (H, W) float64 along
        the ray [m], inf = sky.
    """
    world, movers = caster.world, caster.movers
    fans = image_fans(world, movers, pose, intrinsics, height, width, skip=0, t_max=VIEW_RANGE)
    distances, prims = fans.meet(world, movers, 0.05, VIEW_RANGE)
    image, labels = _shade(
        world, movers, mover_shadows(world, movers), fans.origins[0], fans.directions, distances, prims,
        1.0 / intrinsics[0, 0], light.levels, light.haze, light.sun_rgb, light.shade_rgb,
    )  # fmt: skip
    distances = np.where(prims == MISS, np.inf, distances)
    return image, labels, np.ascontiguousarray(distances[:, ::-1].T)


def develop(image: NDArray, film: Film, gain: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB from linear light: exposure times ``gain``, soft shoulder, sRGB curve, sensor noise."""
    light = np.maximum(image, 0.0).astype(np.float32) * (film.exposure * gain * film.balance).astype(
        np.float32
    )
    if film.saturation != 1.0:
        grey = light.mean(axis=-1, keepdims=True)
        light = np.maximum(grey + np.float32(film.saturation) * (light - grey), 0.0)
    light = light / (1.0 + 0.22 * light)
    curve = 1.055 * np.power(np.maximum(light, 1e-6), np.float32(1 / 2.4)) - 0.055
    coded = np.where(light < 0.0031308, 12.92 * light, curve)
    if film.gamma != 1.0:
        coded = np.power(coded, np.float32(film.gamma))
    coded += np.float32(film.noise) * rng.standard_normal(coded.shape, dtype=np.float32)
    return (np.clip(coded, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
