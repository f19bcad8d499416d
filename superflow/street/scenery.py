"""What lines a street: buildings, trees, hedges, walls, poles, signs; and the small movable things."""

from __future__ import annotations

import math

import numpy as np

from . import classes
from .parts import Model, new_model, pick
from .textures import (
    BANDS,
    BARK,
    BRICKS,
    CARGO,
    CONCRETE,
    DIAGONAL,
    FACADE,
    FENCE,
    FOUNDATION,
    GLASS,
    LAMP,
    LEAF,
    PLAIN,
    ROOF,
    SIGN,
)

WALLS = (
    (0.32, 0.10, 0.06), (0.42, 0.20, 0.12), (0.50, 0.42, 0.30), (0.62, 0.58, 0.48), (0.35, 0.35, 0.36),
    (0.55, 0.45, 0.20), (0.30, 0.36, 0.42), (0.22, 0.14, 0.09),
)  # fmt: skip
LEAVES = ((0.05, 0.14, 0.02), (0.08, 0.20, 0.03), (0.04, 0.11, 0.03), (0.15, 0.20, 0.03), (0.09, 0.16, 0.05))
STEEL = (0.22, 0.23, 0.24)


def make_building(rng: np.random.Generator, length: float, depth: float, height: float) -> Model:
    """A house: x along the street, the front at y = -depth / 2 or depth / 2; flat or gabled roof."""
    model = new_model(classes.MANMADE, rng, classes.BUILDING)
    wall, trim = pick(rng, WALLS), tuple(np.asarray(pick(rng, WALLS)) * 0.6)
    base = FOUNDATION
    half = (length / 2, depth / 2, (height + base) / 2)
    model.box((0, 0, (height - base) / 2), half, FACADE, wall, trim)
    if height < 9.0 and rng.random() < 0.6:
        rise = rng.uniform(0.35, 0.7) * depth / 2
        # the cube becomes a bar with a rhombic section, its lower half inside
        a, b = (0.27 * depth, 0.5 * rise)
        axes = np.array([[0.515 * length, 0, 0], [0, a, -a], [0, b, b]])
        color = ((0.22, 0.06, 0.04), (0.06, 0.06, 0.07), (0.15, 0.10, 0.07))[int(rng.integers(3))]
        model.box((0, 0, height), axes, ROOF, color)
    else:
        model.box((0, 0, height + 0.15), (length / 2 + 0.15, depth / 2 + 0.15, 0.2), PLAIN, trim)
        if rng.random() < 0.5:
            x = rng.uniform(-0.3, 0.3) * length
            model.box((x, 0, height + 1.0), (1.5, 1.2, 0.9), PLAIN, (0.3, 0.3, 0.3))
    for side in (-1, 1):
        if rng.random() < 0.45:  # awning or porch over the ground floor
            span = rng.uniform(0.15, 0.45) * length
            x = rng.uniform(-0.5, 0.5) * (length - 2 * span)
            color = ((0.45, 0.04, 0.04), (0.04, 0.20, 0.08), (0.06, 0.10, 0.35))[int(rng.integers(3))]
            model.box(
                (x, side * (depth / 2 + 0.6), 2.7), (span, 0.6, 0.07), DIAGONAL, color, (0.6, 0.6, 0.55)
            )
        if height > 6.0 and rng.random() < 0.5:
            for storey in range(1, int(height / 3.2)):
                x = rng.uniform(-0.3, 0.3) * length
                model.box(
                    (x, side * (depth / 2 + 0.5), storey * 3.2), (1.4, 0.5, 0.08), CONCRETE, (0.4, 0.4, 0.38)
                )
                model.box(
                    (x, side * (depth / 2 + 0.98), storey * 3.2 + 0.5), (1.4, 0.03, 0.5), FENCE, STEEL, wall
                )
    return model


def make_tree(rng: np.random.Generator, height: float) -> Model:
    """A broad-leaved tree or a conifer of the given height [m]; trunk and branches have a class of their own."""
    model = new_model(classes.VEGETATION, rng, classes.TRUNK)
    first, second = pick(rng, LEAVES), pick(rng, LEAVES)
    bark = (0.12, 0.08, 0.05) if rng.random() < 0.8 else (0.4, 0.38, 0.34)
    radius = 0.03 * height + 0.04
    if rng.random() < 0.25:
        model.post((0, 0, 0.2 * height), (radius, radius, 0.22 * height), 0.7, BARK, bark)
        model.surface = classes.VEGETATION
        layers = int(rng.integers(3, 6))
        for layer in range(layers):
            share = layer / layers
            reach = (0.27 - 0.22 * share) * height
            z = (0.25 + 0.68 * share) * height
            reaches = (reach, reach, 0.75 * height / layers)
            model.leaves((0, 0, z), reaches, LEAF, first, second, density=0.4, cell=0.12)
        return model
    fork = rng.uniform(0.25, 0.45) * height
    model.post((0, 0, fork / 2 - 0.2), (radius, radius, fork / 2 + 0.2), 0.75, BARK, bark)
    crown = height - fork
    for _ in range(int(rng.integers(3, 7))):
        angle, away = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.3) * crown
        center = np.array([away * np.cos(angle), away * np.sin(angle), fork + rng.uniform(0.35, 0.7) * crown])
        half = np.array([1.0, 1.0, 0.8]) * rng.uniform(0.24, 0.36) * crown
        model.surface = classes.TRUNK
        model.rod((0, 0, 0.85 * fork), center, 0.4 * radius, BARK, bark)
        model.surface = classes.VEGETATION
        model.leaves(center, half, LEAF, first, second, density=rng.uniform(0.14, 0.3), cell=0.18)
    return model


def make_bush(rng: np.random.Generator, height: float) -> Model:
    """A bush or a clump of tall grass."""
    model = new_model(classes.VEGETATION, rng)
    first, second = pick(rng, LEAVES), pick(rng, LEAVES)
    if rng.random() < 0.15:  # flowers
        second = ((0.5, 0.05, 0.1), (0.5, 0.4, 0.05), (0.4, 0.1, 0.4))[int(rng.integers(3))]
    for _ in range(int(rng.integers(2, 5))):
        half = np.array([0.5, 0.5, 0.55]) * height * rng.uniform(0.8, 1.3, 3)
        center = np.append(rng.uniform(-0.4, 0.4, 2) * height, 0.42 * height)
        model.leaves(center, half, LEAF, first, second, density=rng.uniform(0.35, 0.55), cell=0.11)
    return model


def make_grass(rng: np.random.Generator) -> Model:
    """A patch of grass or weeds: low it is terrain, as in nuScenes, from knee height on vegetation."""
    height = math.exp(rng.uniform(math.log(0.08), math.log(0.9)))
    model = new_model(classes.VEGETATION if height > 0.35 else classes.TERRAIN, rng)
    first, second = pick(rng, LEAVES), pick(rng, (*LEAVES, (0.30, 0.25, 0.10)))
    half = np.append(rng.uniform(0.4, 2.2, 2), height)
    model.leaves(
        (0, 0, 0), half, LEAF, first, second, density=rng.uniform(0.1, 0.4), cell=0.07 + 0.1 * height
    )
    return model


def make_row(rng: np.random.Generator, kind: str, length: float, height: float) -> Model:
    """A hedge, a wall of bricks or concrete, or a fence, along x."""
    label, surface = {
        "hedge": (classes.VEGETATION, classes.VEGETATION),
        "wall": (classes.MANMADE, classes.WALL),
        "fence": (classes.MANMADE, classes.FENCE),
    }[kind]
    model = new_model(label, rng, surface)
    base = 0.6
    half = [length / 2, rng.uniform(0.2, 0.45), (height + base) / 2]
    center = (0, 0, (height - base) / 2)
    if kind == "hedge":
        model.leaves(
            center, half, LEAF, pick(rng, LEAVES), pick(rng, LEAVES), density=0.5, cell=0.11, box=True
        )
    elif kind == "wall":
        half[1] = rng.uniform(0.1, 0.2)
        material = BRICKS if rng.random() < 0.6 else CONCRETE
        model.box(center, half, material, pick(rng, WALLS))
        model.box((0, 0, height), (half[0], half[1] + 0.05, 0.05), CONCRETE, (0.4, 0.4, 0.38))
    else:
        color = ((0.45, 0.45, 0.42), (0.2, 0.12, 0.06), (0.05, 0.08, 0.06))[int(rng.integers(3))]
        model.box(
            (0, 0, height / 2),
            (half[0], 0.025, height / 2 - 0.05),
            FENCE,
            color,
            tuple(np.asarray(color) * 0.3),
        )
        for x in np.arange(-half[0], half[0] + 0.01, 2.0):
            model.box((x, 0, height / 2 - 0.2), (0.06, 0.06, height / 2 + 0.25), PLAIN, color)
    return model


def make_lamp_post(rng: np.random.Generator) -> Model:
    """A street light; its arm reaches over y > 0."""
    model = new_model(classes.MANMADE, rng, classes.POLE)
    height, reach = rng.uniform(5.0, 8.5), rng.uniform(0.8, 2.2)
    model.post((0, 0, height / 2 - 0.2), (0.1, 0.1, height / 2 + 0.2), 0.6, PLAIN, STEEL)
    model.rod((0, 0, height - 0.1), (0, reach, height + 0.2), 0.05, PLAIN, STEEL)
    model.box((0, reach, height + 0.15), (0.14, 0.3, 0.06), PLAIN, (0.4, 0.4, 0.4))
    if rng.random() < 0.3:  # banner
        model.surface = classes.MANMADE
        model.box((0.35, 0, 0.6 * height), (0.3, 0.02, 0.6), SIGN, (0.4, 0.05, 0.05), (0.7, 0.7, 0.7))
    return model


def make_traffic_light(rng: np.random.Generator) -> Model:
    """A traffic light that faces -x."""
    model = new_model(classes.MANMADE, rng, classes.POLE)
    model.post((0, 0, 1.4), (0.07, 0.07, 1.6), 1.0, PLAIN, STEEL)
    model.surface = classes.TRAFFIC_LIGHT
    model.box((0, 0, 3.2), (0.14, 0.18, 0.5), PLAIN, (0.02, 0.02, 0.02))
    lit = int(rng.integers(3))
    for lamp, color in enumerate(((0.8, 0.02, 0.02), (0.8, 0.5, 0.02), (0.02, 0.7, 0.2))):
        dim = 1.0 if lamp == lit else 0.1
        model.ball((-0.14, 0, 3.52 - 0.32 * lamp), (0.06, 0.1, 0.1), LAMP, tuple(np.asarray(color) * dim))
    return model


def make_sign(rng: np.random.Generator) -> Model:
    """A traffic sign on a post, facing -x."""
    model = new_model(classes.MANMADE, rng, classes.POLE)
    height = rng.uniform(1.9, 2.8)
    model.post((0, 0, height / 2 - 0.1), (0.035, 0.035, height / 2 + 0.1), 1.0, PLAIN, STEEL)
    model.surface = classes.TRAFFIC_SIGN
    face, rim = (
        ((0.7, 0.7, 0.7), (0.6, 0.02, 0.02)), ((0.02, 0.1, 0.5), (0.75, 0.75, 0.75)),
        ((0.75, 0.5, 0.02), (0.02, 0.02, 0.02)), ((0.6, 0.02, 0.02), (0.75, 0.75, 0.75)),
        ((0.02, 0.3, 0.12), (0.75, 0.75, 0.75)),
    )[int(rng.integers(5))]  # fmt: skip
    size = rng.uniform(0.28, 0.42)
    if rng.random() < 0.5:
        turn = np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
        model.add(
            3,
            (-0.05, 0, height),
            (size, size, 0.012),
            SIGN,
            face,
            rim,
            turn=turn,
            numbers=(1.0, 0.0),
            shine=4.0,
        )
    else:
        model.box((-0.05, 0, height), (0.012, size, size * rng.uniform(0.7, 1.4)), SIGN, face, rim, shine=4.0)
    return model


def make_furniture(rng: np.random.Generator) -> Model:
    """A utility box, a bollard, a bench, a planter, a kiosk, a bus shelter or a container."""
    model = new_model(classes.MANMADE, rng)
    kind = rng.choice(7, p=(0.2, 0.2, 0.15, 0.15, 0.1, 0.1, 0.1))
    if kind == 0:
        half = rng.uniform((0.35, 0.2, 0.45), (0.8, 0.4, 0.8))
        color = ((0.3, 0.32, 0.3), (0.08, 0.2, 0.12), (0.4, 0.38, 0.32))[int(rng.integers(3))]
        model.box((0, 0, half[2] - 0.1), half, CARGO, color, tuple(np.asarray(color) * 0.5))
    elif kind == 1:
        for x in np.arange(int(rng.integers(1, 5))) * 1.4:
            model.post(
                (x, 0, 0.35),
                (0.09, 0.09, 0.5),
                1.0,
                BANDS if rng.random() < 0.3 else PLAIN,
                STEEL,
                (0.6, 0.6, 0.6),
            )
    elif kind == 2:
        model.box((0, 0, 0.45), (0.85, 0.22, 0.04), PLAIN, (0.22, 0.12, 0.05))
        model.box((0, 0.22, 0.72), (0.85, 0.03, 0.2), PLAIN, (0.22, 0.12, 0.05))
        for x in (-0.7, 0.7):
            model.box((x, 0, 0.2), (0.05, 0.2, 0.25), PLAIN, STEEL)
    elif kind == 3:
        half = rng.uniform((0.5, 0.35, 0.25), (1.3, 0.6, 0.45))
        model.box((0, 0, half[2] - 0.05), half, CONCRETE, (0.42, 0.4, 0.36))
    elif kind == 4:
        color = pick(rng, WALLS)
        model.box((0, 0, 1.2), (1.3, 1.0, 1.3), PLAIN, color)
        model.box((0, 0, 1.5), (1.0, 1.03, 0.45), SIGN, (0.5, 0.5, 0.5), color)
        model.box((0, 0, 2.55), (1.5, 1.3, 0.08), DIAGONAL, (0.5, 0.05, 0.04), (0.6, 0.6, 0.6))
    elif kind == 5:
        model.box((0, 0.6, 1.2), (1.7, 0.04, 1.1), GLASS, (0.1, 0.13, 0.14))
        model.box((-1.7, 0.2, 1.2), (0.04, 0.6, 1.1), SIGN, (0.6, 0.6, 0.6), pick(rng, WALLS))
        model.box((0, 0.1, 2.4), (1.9, 0.8, 0.07), PLAIN, STEEL)
        model.box((0, 0.35, 0.45), (1.2, 0.18, 0.04), PLAIN, STEEL)
    else:
        color = ((0.08, 0.16, 0.35), (0.35, 0.07, 0.04), (0.07, 0.22, 0.12))[int(rng.integers(3))]
        half = rng.uniform((1.5, 1.1, 0.7), (3.0, 1.2, 1.25))
        model.box((0, 0, half[2]), half, CARGO, color, tuple(np.asarray(color) * 0.6))
    return model


def make_cone(rng: np.random.Generator) -> Model:
    """A traffic cone, or a drum of the same colours."""
    model = new_model(12, rng)
    orange, white = (0.85, 0.16, 0.01), (0.8, 0.8, 0.78)
    height = rng.uniform(0.5, 1.0)
    if rng.random() < 0.25:
        model.post((0, 0, 0.52), (0.27, 0.27, 0.48), 0.85, BANDS, orange, white, shine=1.5)
        model.post((0, 0, 0.03), (0.34, 0.34, 0.04), 1.0, PLAIN, (0.02, 0.02, 0.02))
    else:
        radius = 0.22 * height + 0.04
        model.post((0, 0, height / 2), (radius, radius, height / 2), 0.18, BANDS, orange, white, shine=1.5)
        model.box((0, 0, 0.025), (radius * 1.25, radius * 1.25, 0.03), PLAIN, (0.35, 0.07, 0.01))
    return model


def make_barrier(rng: np.random.Generator, kind: int | None = None) -> Model:
    """One element of a road barrier along x: concrete, plastic, boards or a crowd fence (``kind`` 0 .. 3)."""
    model = new_model(9, rng)
    kind = int(rng.integers(4)) if kind is None else kind
    length, height = rng.uniform(1.6, 2.4), rng.uniform(0.8, 1.15)
    if kind == 0:
        half = (length / 2, 0.3, height / 2)
        model.taper((0, 0, height / 2), half, (0.0, 0.55), CONCRETE, (0.45, 0.44, 0.41))
        stripes = ((0.6, 0.45, 0.02), (0.03, 0.03, 0.03))
        model.box((0, 0, height - 0.12), (length / 2 - 0.1, 0.2, 0.06), DIAGONAL, *stripes)
    elif kind == 1:
        colors = ((0.80, 0.14, 0.01), (0.75, 0.75, 0.72))
        model.taper((0, 0, 0.2), (length / 2, 0.28, 0.2), (0.0, 0.4), PLAIN, pick(rng, colors))
        upper = (height - 0.4) / 2
        model.taper((0, 0, 0.4 + upper), (length / 2, 0.16, upper), (0.0, 0.3), DIAGONAL, *colors)
    elif kind == 2:
        _boards(model, length, height)
    else:
        _crowd_fence(model, length, height)
    return model


def _boards(model: Model, length: float, height: float) -> None:
    stripes = ((0.7, 0.05, 0.02), (0.8, 0.8, 0.78))
    for z in (0.5 * height, height - 0.1):
        model.box((0, 0, z), (length / 2, 0.03, 0.12), DIAGONAL, *stripes, shine=2.0)
    for x in (-0.4 * length, 0.4 * length):
        for side in (-1, 1):
            model.rod((x, side * 0.3, 0.02), (x, 0, height), 0.04, PLAIN, (0.5, 0.5, 0.48))


def _crowd_fence(model: Model, length: float, height: float) -> None:
    half = (length / 2, 0.025, 0.42 * height)
    model.box((0, 0, 0.55 * height), half, FENCE, (0.5, 0.5, 0.5), (0.7, 0.2, 0.02))
    for x in (-0.48 * length, 0.48 * length):
        model.rod((x, 0, 0.02), (x, 0, height), 0.035, PLAIN, (0.5, 0.5, 0.5))
        model.box((x, 0, 0.04), (0.05, 0.3, 0.03), PLAIN, (0.3, 0.3, 0.3))


def make_litter(rng: np.random.Generator) -> Model:
    """Things that the 16 evaluated classes leave out: a bin (pushable) or a heap (debris)."""
    model = new_model(11 if rng.random() < 0.6 else 10, rng)
    if model.label == 11:
        color = ((0.03, 0.12, 0.05), (0.05, 0.06, 0.2), (0.05, 0.05, 0.05))[int(rng.integers(3))]
        model.taper((0, 0, 0.52), (0.3, 0.28, 0.5), (-0.2, -0.2), PLAIN, color)
        model.box((0, 0, 1.05), (0.38, 0.36, 0.05), PLAIN, tuple(np.asarray(color) * 0.6))
    else:
        for _ in range(int(rng.integers(2, 5))):
            half = rng.uniform(0.15, 0.4, 3)
            model.ball(np.append(rng.uniform(-0.5, 0.5, 2), 0.12), half, PLAIN, (0.25, 0.2, 0.14))
    return model
