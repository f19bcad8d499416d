"""Light, colours, materials and film of a scene, drawn anew: how the same street looks at another hour and camera."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .classes import VEGETATION
from .light import Film, Light
from .parts import Model
from .textures import STYLE_COLOR, STYLE_REFLECTANCE, STYLE_WALK


def draw_light(rng: np.random.Generator) -> Light:
    """Noon to dusk, clear to overcast and hazy, with an exposure that follows, and a film of its own."""
    azimuth = rng.uniform(0, 2 * np.pi)
    sky = rng.choice(3, p=(0.45, 0.35, 0.2))  # sunny, overcast, low sun or dusk
    elevation = np.deg2rad(rng.uniform(6, 18) if sky == 2 else rng.uniform(18, 75))
    sun = np.array(
        [np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)]
    )
    direct = float((rng.uniform(0.6, 1.1), rng.uniform(0.0, 0.3), rng.uniform(0.15, 0.8))[sky])
    ambient = float((rng.uniform(0.3, 0.5), rng.uniform(0.35, 0.75), rng.uniform(0.12, 0.35))[sky])
    levels = np.array([direct, ambient, np.exp(rng.uniform(np.log(60), np.log(800)))])
    warm = rng.uniform(0.0, 0.25) if sky == 2 else rng.uniform(-0.06, 0.06)
    haze = np.array([0.72 + warm, 0.76, 0.82 - warm]) * rng.uniform(0.6, 1.05) * (0.5 if sky == 2 else 1.0)
    tint = np.array([1.0 + warm, 1.0, 1.0 - 1.2 * warm])
    received = 0.45 * direct + ambient
    film = Film(
        exposure=float(0.85 / max(received, 0.2) * np.exp(rng.normal(0, 0.25))),
        noise=float(np.exp(rng.uniform(np.log(0.004), np.log(0.035)))),
        balance=np.exp(rng.normal(0, 0.07, 3)),
        gamma=float(np.exp(rng.normal(0, 0.12))),
        saturation=float(rng.uniform(0.6, 1.25)),
    )
    plain = Light(sun, levels, haze, film)
    return replace(plain, sun_rgb=plain.sun_rgb * tint, shade_rgb=plain.shade_rgb / np.sqrt(tint))


def repaint(rng: np.random.Generator, models: Iterable[Model]) -> None:
    """Give models (changed in place) other colours and reflectances: plants those of a season, all else any hue."""
    season = np.exp(rng.normal((0.15, 0.0, 0.1), (0.45, 0.2, 0.35)))
    shine = float(np.exp(rng.normal(0, 0.3)))
    for model in models:
        if model.label == VEGETATION:
            mix = np.diag(season * np.exp(rng.normal(0, 0.15, 3)))
        else:
            mix = np.eye(3)[rng.permutation(3)] if rng.random() < 0.15 else np.eye(3)
            mix = mix * np.exp(rng.normal(0, 0.3, 3))
        model.parts = [
            replace(part, first=_mixed(mix, part.first), second=_mixed(mix, part.second))
            for part in model.parts
        ]
        model.reflectance = float(
            np.clip(model.reflectance * shine * np.exp(rng.normal(0, 0.35)), 0.01, 0.95)
        )


def repaved(rng: np.random.Generator, style: NDArray[np.float64]) -> NDArray[np.float64]:
    """A copy of the ground's ``style`` with other tones, patterns and reflectances."""
    style = style.copy()
    for kind in range(5):
        place = slice(STYLE_COLOR + 3 * kind, STYLE_COLOR + 3 * kind + 3)
        style[place] = np.clip(style[place] * np.exp(rng.normal(0, 0.35) + rng.normal(0, 0.1, 3)), 0.02, 0.9)
    every = slice(STYLE_REFLECTANCE, STYLE_REFLECTANCE + 5)
    style[every] = np.clip(style[every] * np.exp(rng.normal(0, 0.4, 5)), 0.02, 0.9)
    style[1] = rng.integers(1, 2**20)
    style[STYLE_WALK : STYLE_WALK + 3] = rng.integers(3), rng.integers(2), rng.integers(2)
    return style


def _mixed(mix: NDArray, color) -> tuple[float, ...]:
    return tuple(np.clip(mix @ np.asarray(color, dtype=np.float64), 0.01, 0.9).tolist())
