"""Pedestrians and riders: legs, torso, arms, head."""

from __future__ import annotations

import numpy as np

from .parts import Model, new_model, pick
from .textures import BANDS, CLOTH, PLAIN

SKIN = ((0.60, 0.38, 0.27), (0.45, 0.26, 0.16), (0.22, 0.12, 0.07), (0.11, 0.06, 0.04))
SHIRTS = (
    (0.60, 0.05, 0.05), (0.05, 0.10, 0.45), (0.65, 0.65, 0.62), (0.03, 0.03, 0.03), (0.05, 0.30, 0.10),
    (0.60, 0.45, 0.05), (0.35, 0.05, 0.30), (0.05, 0.35, 0.40), (0.50, 0.25, 0.15),
)  # fmt: skip
TROUSERS = ((0.03, 0.05, 0.14), (0.02, 0.02, 0.02), (0.25, 0.20, 0.13), (0.10, 0.10, 0.11))
HAIR = ((0.02, 0.015, 0.01), (0.12, 0.06, 0.02), (0.40, 0.28, 0.10), (0.35, 0.35, 0.35))
VEST = ((0.85, 0.28, 0.01), (0.55, 0.75, 0.02))
ADULT, CHILD, WORKER, POLICE = 2, 3, 4, 6


def make_pedestrian(rng: np.random.Generator, kind: int | None = None, walking: bool = True) -> Model:
    """An adult, a child, a construction worker or a police officer (raw class ``kind``)."""
    if kind is None:
        kind = int(rng.choice((ADULT, CHILD, WORKER, POLICE), p=(0.78, 0.13, 0.05, 0.04)))
    model = new_model(kind, rng)
    height = rng.uniform(1.0, 1.4) if kind == CHILD else rng.uniform(1.55, 1.95)
    stout = rng.uniform(0.9, 1.2) * height / 1.75
    shirt, trousers = pick(rng, SHIRTS), pick(rng, TROUSERS)
    if kind == WORKER:
        shirt = pick(rng, VEST)
    elif kind == POLICE:
        shirt = trousers = (0.02, 0.03, 0.09)
    skin = pick(rng, SKIN)
    hip, shoulder = 0.5 * height, 0.82 * height
    stride = rng.uniform(0.16, 0.3) * height if walking else 0.02
    for side in (-1, 1):
        foot = (side * stride, side * 0.09 * stout, 0.04)
        knee = (0.6 * side * stride + 0.03, side * 0.09 * stout, 0.27 * height)
        model.rod(foot, knee, 0.065 * stout, CLOTH, trousers, top=1.1)
        model.rod(knee, (0.0, side * 0.08 * stout, hip), 0.08 * stout, CLOTH, trousers, top=1.15)
        model.box((foot[0] + 0.06, foot[1], 0.04), (0.13 * stout, 0.05, 0.04), PLAIN, (0.03, 0.025, 0.02))
        hand = (-1.1 * side * stride, side * 0.25 * stout, 0.45 * height)
        model.rod((0, side * 0.21 * stout, 0.97 * shoulder), hand, 0.05 * stout, CLOTH, shirt)
        model.ball(hand, (0.05, 0.05, 0.06), PLAIN, skin)
    material, second = (BANDS, (0.75, 0.75, 0.6)) if kind == WORKER else (CLOTH, shirt)
    half = 0.5 * (shoulder - hip) + 0.03
    chest, shine = (0.12 * stout, 0.18 * stout, half), 4.0 if kind == WORKER else 1.0
    model.taper((0, 0, 0.5 * (hip + shoulder)), chest, (-0.1, -0.2), material, shirt, second, shine=shine)
    _head(model, rng, (0.02, 0.0, 0.93 * height), height, skin, kind)
    if kind == ADULT and rng.random() < 0.35:  # bag
        model.ball((-0.2 * stout, 0, 0.7 * height), (0.12, 0.16, 0.2), CLOTH, pick(rng, SHIRTS))
    elif kind == ADULT and rng.random() < 0.25:  # skirt or coat
        model.post((0, 0, 0.4 * height), (0.24 * stout, 0.24 * stout, 0.14 * height), 0.6, CLOTH, shirt)
    return model


def _head(model: Model, rng: np.random.Generator, center, height: float, skin, kind: int = ADULT) -> None:
    x, y, z = center
    size = 0.5 * (0.12 + 0.06 * height / 1.75)
    model.rod((x, y, z - 0.11 * height), center, 0.05, PLAIN, skin)
    model.ball(center, (size * 1.1, size * 0.95, 0.073 * height), PLAIN, skin)
    cap = pick(rng, HAIR)
    if kind == WORKER:
        cap = (0.75, 0.6, 0.02)
    elif kind == POLICE:
        cap = (0.02, 0.03, 0.09)
    model.ball((x - 0.02, y, z + 0.025 * height), (size * 1.2, size * 1.15, 0.055 * height), PLAIN, cap)


def add_rider(model: Model, rng: np.random.Generator, *, seat, hands, feet, helmet: bool) -> None:
    """Add a person who sits at ``seat`` with hands on the bar and feet down, each (x, z) [m]."""
    shirt, trousers, skin = pick(rng, SHIRTS), pick(rng, TROUSERS), pick(rng, SKIN)
    shoulder = (0.45 * seat[0] + 0.55 * hands[0] - 0.12, seat[1] + 0.5)
    for side in (-1, 1):
        knee = (
            0.5 * (seat[0] + hands[0]) + 0.08,
            side * 0.13,
            0.5 * (seat[1] + feet[1]) + 0.12 * side + 0.05,
        )
        model.rod((seat[0], side * 0.1, seat[1]), knee, 0.075, CLOTH, trousers)
        model.rod(knee, (feet[0], side * 0.13, feet[1] - 0.08 * side), 0.06, CLOTH, trousers)
        model.rod(
            (shoulder[0], side * 0.19, shoulder[1]), (hands[0], side * 0.26, hands[1]), 0.045, CLOTH, shirt
        )
    model.rod((seat[0], 0, seat[1]), (shoulder[0], 0, shoulder[1] + 0.05), 0.16, CLOTH, shirt)
    head = (shoulder[0] + 0.08, 0.0, shoulder[1] + 0.24)
    _head(model, rng, head, 1.75, skin)
    if helmet:
        model.ball((head[0], 0, head[2] + 0.03), (0.15, 0.13, 0.13), PLAIN, pick(rng, SHIRTS))
