"""Cars, vans, trucks, buses, trailers, construction machines and two-wheelers, each drawn anew."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from . import classes
from .parts import Model, new_model, pick, turn_y
from .people import add_rider
from .textures import BUS, CARGO, CLOTH, DIAGONAL, GLASS, LAMP, PAINT, PLAIN, TRACK, TYRE

DARK = (0.015, 0.015, 0.018)
PANE = (0.02, 0.025, 0.03)
WHITE_LAMP, RED_LAMP = (0.8, 0.8, 0.75), (0.55, 0.01, 0.01)
CAR_COLORS = (
    (0.75, 0.75, 0.75), (0.35, 0.36, 0.38), (0.02, 0.02, 0.025), (0.10, 0.10, 0.12), (0.45, 0.02, 0.02),
    (0.02, 0.06, 0.30), (0.03, 0.16, 0.40), (0.05, 0.18, 0.06), (0.40, 0.30, 0.16), (0.55, 0.40, 0.03),
)  # fmt: skip
BUS_COLORS = (
    (0.55, 0.04, 0.03),
    (0.05, 0.25, 0.10),
    (0.70, 0.70, 0.68),
    (0.03, 0.10, 0.35),
    (0.70, 0.42, 0.03),
)
MACHINE_COLORS = ((0.75, 0.42, 0.01), (0.80, 0.50, 0.02), (0.75, 0.25, 0.02))


def _lamps(model: Model, length: float, width: float, z: float, size: float = 0.09) -> None:
    for side in (-1, 1):
        y = side * (0.5 * width - 2.2 * size)
        model.box((0.5 * length - 0.03, y, z), (0.05, 1.8 * size, size), LAMP, WHITE_LAMP, shine=3.0)
        model.box((-0.5 * length + 0.03, y, z + 0.05), (0.05, 1.5 * size, size), LAMP, RED_LAMP, shine=3.0)
    for x in (-0.5 * length + 0.005, 0.5 * length - 0.005):
        model.box((x, 0.0, z - 0.17), (0.02, 0.26, 0.06), PLAIN, (0.8, 0.8, 0.75), shine=4.0)


def make_car(rng: np.random.Generator) -> Model:
    """A saloon, hatchback, sport-utility car or panel van."""
    model = new_model(17, rng)
    shape = rng.choice(4, p=(0.34, 0.26, 0.24, 0.16))
    length = rng.uniform(*((4.3, 4.9), (3.7, 4.2), (4.4, 4.9), (4.8, 5.6))[shape])
    width = rng.uniform(1.72, 1.92)
    height = rng.uniform(*((1.38, 1.48), (1.42, 1.55), (1.62, 1.8), (1.9, 2.3))[shape])
    color = pick(rng, CAR_COLORS)
    belt = 0.58 * height if shape != 3 else 0.5 * height
    floor = 0.24
    half_z = 0.5 * (belt - floor)
    model.taper((0, 0, floor + half_z), (length / 2, width / 2, half_z), (0.05, 0.05), PAINT, color)
    start = (-0.36, -0.5, -0.49, -0.5)[shape] * length
    stop = (0.18, 0.2, 0.22, 0.36)[shape] * length
    cabin_half, cabin_z = 0.5 * (height - belt), 0.5 * (height + belt)
    narrow = (0.34, 0.24, 0.22, 0.12)[shape]
    center, half = 0.5 * (start + stop), 0.5 * (stop - start)
    cabin = (half, 0.47 * width, cabin_half)
    if shape == 3:  # panel van: glass in front only
        model.taper((center, 0, cabin_z), cabin, (narrow, 0.1), PAINT, color)
        model.box((stop - 0.27 * half, 0, cabin_z - 0.05), (0.22 * half, 0.474 * width, 0.3), GLASS, PANE)
    else:
        model.taper((center, 0, cabin_z), cabin, (narrow, 0.2), GLASS, PANE)
        for x in (center - 0.1 * half, center + 0.52 * half):
            model.taper((x, 0, cabin_z), (0.05, 0.475 * width, cabin_half), (0.0, 0.2), PAINT, color)
    roof = (half * (1 - narrow) + 0.03, 0.48 * width * (0.8 if shape < 3 else 0.9), 0.025)
    model.box((center, 0, height), roof, PAINT, color)
    radius = 0.31 + 0.04 * (shape >= 2)
    for x in (-0.3 * length, 0.3 * length):
        for side in (-1, 1):
            model.wheel((x, side * (width / 2 - 0.1), radius), radius, 0.23, TYRE)
    for x, reach in ((0.5 * length, 0.04), (-0.5 * length, 0.04)):
        model.box((x, 0, floor + 0.14), (reach, 0.46 * width, 0.1), PLAIN, DARK)
    for side in (-1, 1):
        model.box(
            (stop - 0.5 * half, side * (width / 2 + 0.07), belt + 0.06), (0.06, 0.09, 0.06), PAINT, color
        )
    _lamps(model, length, width, 0.5 * (belt + floor) + 0.08)
    return model


def _cab(model: Model, front: float, cab: float, width: float, height: float, color) -> None:
    """Of a lorry, ``cab`` half as long [m], its middle at x = ``front``."""
    model.taper((front, 0, 0.45 + height / 2), (cab, width / 2, height / 2), (0.1, 0.06), PAINT, color)
    model.box((front + 0.93 * cab, 0, 0.65 * height + 0.45), (0.06 * cab, 0.44 * width, 0.4), GLASS, PANE)
    model.box((front + 0.3 * cab, 0, 0.66 * height + 0.45), (0.35 * cab, 0.497 * width, 0.33), GLASS, PANE)
    model.box((front + cab - 0.02, 0, 0.95), (0.04, 0.36 * width, 0.28), PLAIN, DARK)  # grille


def make_truck(rng: np.random.Generator) -> Model:
    """A pickup, a box truck, a flatbed or a tanker."""
    model = new_model(23, rng)
    shape = rng.choice(4, p=(0.3, 0.4, 0.15, 0.15))
    color = pick(rng, CAR_COLORS)
    if shape == 0:
        _pickup(model, rng, color)
        return model
    length, width = rng.uniform(6.0, 9.5), rng.uniform(2.2, 2.5)
    cab_height = rng.uniform(2.3, 3.0)
    cab = 0.5 * rng.uniform(1.7, 2.3)
    front = length / 2 - cab
    model.box((0, 0, 0.75), (length / 2 - 0.1, 0.36 * width, 0.13), PLAIN, DARK)
    _cab(model, front, cab, width, cab_height, color)
    bed = 0.5 * (length - 2 * cab - 0.2)
    middle = -length / 2 + bed
    if shape == 1:
        height = rng.uniform(1.7, 2.6)
        light = np.asarray(pick(rng, CAR_COLORS)) * 0.4 + 0.45
        logo = pick(rng, CAR_COLORS)
        model.box((middle, 0, 0.95 + height / 2), (bed, width / 2, height / 2), CARGO, tuple(light), logo)
    elif shape == 2:
        model.box((middle, 0, 1.0), (bed, width / 2, 0.1), PLAIN, (0.2, 0.13, 0.07))
        for side in (-1, 1):
            model.box((middle, side * width / 2, 1.25), (bed, 0.04, 0.25), PAINT, color)
        for _ in range(int(rng.integers(1, 5))):
            x = middle + rng.uniform(-0.7, 0.7) * bed
            size = rng.uniform(0.2, 0.6, 3)
            model.box((x, rng.uniform(-0.4, 0.4), 1.1 + size[2]), size, PLAIN, (0.3, 0.2, 0.1))
    else:
        model.rod(
            (-length / 2, 0, 1.95), (-length / 2 + 2 * bed, 0, 1.95), 0.46 * width, PAINT, (0.5, 0.5, 0.52)
        )
    for x in (front - 0.1, -0.22 * length, -0.36 * length):
        for side in (-1, 1):
            model.wheel((x, side * (width / 2 - 0.16), 0.48), 0.48, 0.3, TYRE)
    for side in (-1, 1):
        model.box(
            (front + cab, side * (width / 2 + 0.15), 0.7 * cab_height + 0.45), (0.05, 0.1, 0.22), PLAIN, DARK
        )
    _lamps(model, length, width, 0.75, 0.11)
    return model


def _pickup(model: Model, rng: np.random.Generator, color) -> None:
    length, width, height = rng.uniform(5.1, 5.8), rng.uniform(1.85, 2.05), rng.uniform(1.75, 2.0)
    model.box((0, 0, 0.7), (length / 2, width / 2, 0.22), PAINT, color)
    model.taper((0.3 * length, 0, 1.0), (0.2 * length, 0.49 * width, 0.14), (0.05, 0.06), PAINT, color)
    model.taper((0.06 * length, 0, 0.5 * (height + 0.95)), (0.19 * length, 0.47 * width, 0.5 * (height - 0.9)),
                (0.3, 0.18), GLASS, PANE)  # fmt: skip
    model.box((0.06 * length, 0, height), (0.14 * length, 0.4 * width, 0.03), PAINT, color)
    for side in (-1, 1):
        model.box((-0.31 * length, side * 0.48 * width, 1.03), (0.19 * length, 0.04, 0.15), PAINT, color)
    model.box((-0.495 * length, 0, 1.0), (0.03, 0.48 * width, 0.18), PAINT, color)
    for x in (-0.3 * length, 0.32 * length):
        for side in (-1, 1):
            model.wheel((x, side * (width / 2 - 0.1), 0.4), 0.4, 0.27, TYRE)
    _lamps(model, length, width, 0.75)


def make_bus(rng: np.random.Generator) -> Model:
    """A city bus; one in four is articulated."""
    bendy = rng.random() < 0.25
    model = new_model(15 if bendy else 16, rng)
    width, height = rng.uniform(2.4, 2.55), rng.uniform(2.7, 3.2)
    color = pick(rng, BUS_COLORS)
    stripe = pick(rng, CAR_COLORS)
    bodies = (((2.4, 4.3), (-5.3, 2.7)) if bendy else ((0.0, rng.uniform(4.2, 5.8)),))  # fmt: skip
    for middle, half in bodies:
        model.box((middle, 0, 0.3 + height / 2), (half, width / 2, height / 2 - 0.02), BUS, color, stripe)
        model.box((middle, 0, 0.3 + height), (half * 0.5, 0.35 * width, 0.13), PLAIN, (0.4, 0.4, 0.4))
        for x in (middle - 0.55 * half, middle + 0.55 * half):
            for side in (-1, 1):
                model.wheel((x, side * (width / 2 - 0.13), 0.48), 0.48, 0.3, TYRE)
    front = bodies[0][0] + bodies[0][1]
    back = bodies[-1][0] - bodies[-1][1]
    if bendy:
        model.box(
            (-2.25, 0, 0.35 + height / 2), (0.4, 0.46 * width, 0.45 * height), TRACK, DARK, (0.08, 0.08, 0.08)
        )
    for side in (-1, 1):
        y = side * 0.4 * width
        model.box((front, y, 0.7), (0.04, 0.16, 0.1), LAMP, WHITE_LAMP, shine=3.0)
        model.box((back, y, 0.9), (0.04, 0.1, 0.16), LAMP, RED_LAMP, shine=3.0)
        model.box((front + 0.15, side * (width / 2 + 0.1), 0.75 * height), (0.08, 0.08, 0.2), PLAIN, DARK)
    return model


def make_trailer(rng: np.random.Generator) -> Model:
    """A semi-trailer, a box trailer or a low flat trailer, without a tractor."""
    model = new_model(22, rng)
    shape = rng.choice(3, p=(0.35, 0.35, 0.3))
    length = rng.uniform(*((8.0, 11.0), (3.0, 5.0), (3.0, 5.5))[shape])
    width = rng.uniform(*((2.4, 2.55), (1.9, 2.2), (1.8, 2.2))[shape])
    deck = (1.1, 0.6, 0.6)[shape]
    color = tuple(np.asarray(pick(rng, CAR_COLORS)) * 0.5 + 0.3)
    model.box((0, 0, deck), (length / 2, 0.45 * width, 0.1), PLAIN, DARK)
    if shape < 2:
        height = rng.uniform(*((2.3, 2.8), (1.3, 2.0))[shape])
        half = (length / 2, width / 2, height / 2)
        model.box((0, 0, deck + 0.1 + height / 2), half, CARGO, color, pick(rng, CAR_COLORS))
    else:
        for side in (-1, 1):
            model.box((0, side * width / 2, deck + 0.25), (length / 2, 0.03, 0.17), DIAGONAL, color, DARK)
        for _ in range(int(rng.integers(0, 5))):
            size = rng.uniform(0.2, 0.5, 3)
            x = rng.uniform(-0.35, 0.35) * length
            model.box((x, rng.uniform(-0.3, 0.3), deck + 0.1 + size[2]), size, PLAIN, (0.25, 0.2, 0.15))
    radius = 0.48 if shape == 0 else 0.32
    for x in (-0.3 * length, -0.3 * length + 2.4 * radius):
        for side in (-1, 1):
            model.wheel((x, side * (width / 2 - 0.13), radius), radius, 0.28, TYRE)
    if shape == 0:
        for side in (-1, 1):
            model.box((0.32 * length, side * 0.3 * width, 0.55), (0.08, 0.08, 0.5), PLAIN, (0.2, 0.2, 0.2))
    else:
        model.rod((length / 2, 0, deck), (length / 2 + 1.1, 0, 0.45), 0.06, PLAIN, DARK)
        model.rod((length / 2 + 1.0, 0, 0.02), (length / 2 + 1.0, 0, 0.5), 0.05, PLAIN, DARK)
    for side in (-1, 1):
        model.box((-length / 2, side * 0.4 * width, deck), (0.04, 0.14, 0.07), LAMP, RED_LAMP, shine=3.0)
    return model


def make_construction(rng: np.random.Generator) -> Model:
    """An excavator or a wheel loader."""
    model = new_model(18, rng)
    color = pick(rng, MACHINE_COLORS)
    if rng.random() < 0.55:
        scale = rng.uniform(0.75, 1.15)
        for side in (-1, 1):
            model.taper((0, side * 1.0 * scale, 0.42 * scale), (1.7 * scale, 0.28 * scale, 0.42 * scale),
                        (0.2, 0.0), TRACK, DARK, (0.1, 0.1, 0.1))  # fmt: skip
        model.box((-0.4 * scale, 0, 1.3 * scale), (1.5 * scale, 1.15 * scale, 0.45 * scale), PLAIN, color)
        model.taper((0.4 * scale, 0.6 * scale, 2.1 * scale), (0.65 * scale, 0.5 * scale, 0.7 * scale), (0.2, 0.1),
                    GLASS, PANE)  # fmt: skip
        model.box((0.4 * scale, 0.6 * scale, 2.82 * scale), (0.6 * scale, 0.48 * scale, 0.04), PLAIN, color)
        elbow = np.array([3.0, -0.1, rng.uniform(2.8, 3.6)]) * scale
        wrist = np.array([rng.uniform(3.8, 4.6), -0.1, rng.uniform(0.9, 1.8)]) * scale
        model.rod((0.7 * scale, -0.1 * scale, 1.6 * scale), elbow, 0.24 * scale, PLAIN, color)
        model.rod(elbow, wrist, 0.18 * scale, PLAIN, color)
        model.taper(wrist - (0.1, 0, 0.35 * scale), (0.4 * scale, 0.5 * scale, 0.38 * scale), (-0.6, 0.0), PLAIN,
                    (0.06, 0.055, 0.05))  # fmt: skip
        return model
    scale = rng.uniform(0.8, 1.1)
    for x in (-1.2 * scale, 1.2 * scale):
        for side in (-1, 1):
            model.wheel((x, side * 0.95 * scale, 0.7 * scale), 0.7 * scale, 0.5 * scale, TYRE)
    model.box((-0.9 * scale, 0, 1.4 * scale), (1.3 * scale, 0.75 * scale, 0.5 * scale), PLAIN, color)
    model.taper(
        (0.1 * scale, 0, 2.2 * scale), (0.6 * scale, 0.65 * scale, 0.7 * scale), (0.15, 0.1), GLASS, PANE
    )
    model.box((0.1 * scale, 0, 2.93 * scale), (0.65 * scale, 0.7 * scale, 0.05), PLAIN, color)
    lift = rng.uniform(0.4, 1.6) * scale
    for side in (-1, 1):
        model.rod((0.5 * scale, side * 0.5 * scale, 1.5 * scale), (2.6 * scale, side * 0.5 * scale, lift), 0.12 * scale,
                  PLAIN, color)  # fmt: skip
    model.box((2.8 * scale, 0, lift), (0.45 * scale, 1.15 * scale, 0.4 * scale), PLAIN, (0.07, 0.065, 0.06),
              turn=turn_y(rng.uniform(-0.4, 0.3)))  # fmt: skip
    return model


def make_motorcycle(rng: np.random.Generator, rider: bool = False) -> Model:
    """A motorcycle or a scooter; a rider belongs to it, as in nuScenes."""
    model = new_model(21, rng)
    color = pick(rng, CAR_COLORS[4:])
    scale = rng.uniform(0.92, 1.08)
    radius = 0.32 * scale
    for x in (-0.68 * scale, 0.70 * scale):
        model.wheel((x, 0, radius), radius, 0.15, TYRE)
    model.box((-0.02, 0, 0.45 * scale), (0.3, 0.14, 0.2), PLAIN, (0.12, 0.12, 0.13))  # engine
    model.ball((0.18 * scale, 0, 0.8 * scale), (0.3, 0.17, 0.16), PAINT, color)  # tank
    model.box((-0.35 * scale, 0, 0.78 * scale), (0.36, 0.13, 0.06), CLOTH, DARK)  # seat
    model.taper((-0.6 * scale, 0, 0.7 * scale), (0.22, 0.12, 0.12), (0.2, 0.2), PAINT, color)
    for side in (-1, 1):
        model.rod(
            (0.7 * scale, side * 0.08, radius), (0.42 * scale, side * 0.1, 1.0 * scale), 0.035, PLAIN, DARK
        )
        model.rod(
            (0.42 * scale, side * 0.05, 1.0 * scale),
            (0.32 * scale, side * 0.38, 1.06 * scale),
            0.025,
            PLAIN,
            DARK,
        )
        # exhausts
        model.rod((-0.2, side * 0.2, 0.3), (-0.85, side * 0.2, 0.42), 0.06, PLAIN, (0.5, 0.5, 0.5))
    model.ball((0.52 * scale, 0, 0.88 * scale), (0.1, 0.11, 0.11), LAMP, WHITE_LAMP, shine=3.0)
    model.box((-0.83 * scale, 0, 0.72 * scale), (0.03, 0.07, 0.04), LAMP, RED_LAMP, shine=3.0)
    if rider:
        model.surface = classes.MOTORCYCLE_RIDER
        add_rider(
            model, rng, seat=(-0.25, 0.86 * scale), hands=(0.3, 1.05 * scale), feet=(0.05, 0.35), helmet=True
        )
    return model


def make_bicycle(rng: np.random.Generator, rider: bool = False) -> Model:
    """A bicycle; a rider belongs to it, as in nuScenes."""
    model = new_model(14, rng)
    color = pick(rng, CAR_COLORS[4:])
    radius = rng.uniform(0.32, 0.36)
    back, front = np.array([-0.52, 0.0, radius]), np.array([0.55, 0.0, radius])
    for hub in (back, front):
        model.spokes(hub, radius, 0.86)
        model.wheel(hub, 0.06, 0.1, PLAIN, (0.3, 0.3, 0.3))
    crank, saddle, head = np.array([-0.08, 0, 0.3]), np.array([-0.26, 0, 0.86]), np.array([0.4, 0, 0.84])
    for a, b in (
        (back, crank),
        (crank, saddle),
        (saddle, head),
        (crank, head),
        (back, saddle),
        (head, front),
    ):
        model.rod(a, b, 0.028, PAINT, color)
    model.rod(head, head + (0.02, 0, 0.17), 0.022, PLAIN, DARK)
    model.rod(head + (0.02, -0.28, 0.18), head + (0.02, 0.28, 0.18), 0.02, PLAIN, DARK)
    model.box(saddle + (0, 0, 0.05), (0.13, 0.07, 0.035), CLOTH, DARK)
    for side in (-1, 1):
        model.box(crank + (0.1 * side, 0.12 * side, -0.06 * side), (0.06, 0.04, 0.015), PLAIN, DARK)
    if rng.random() < 0.4:
        model.box((-0.6, 0, 0.78), (0.18, 0.1, 0.02), PLAIN, DARK)
        model.box((0.68, 0, 0.78), (0.13, 0.17, 0.12), CARGO, (0.3, 0.2, 0.1))  # basket
    model.box((-0.8, 0, 0.65), (0.02, 0.03, 0.03), LAMP, RED_LAMP, shine=4.0)
    if rider:
        model.surface = classes.BICYCLE_RIDER
        add_rider(
            model, rng, seat=(-0.26, 0.94), hands=(0.42, 1.02), feet=(-0.05, 0.28), helmet=rng.random() < 0.5
        )
    return model


def make_ego() -> Model:
    """The recording vehicle in its ego frame (origin under the rear axle): the LiDAR sees its roof and bonnet."""
    model = Model(31, 0.1, 1)
    model.box((1.35, 0, 0.6), (2.1, 0.85, 0.3), PAINT, (0.5, 0.5, 0.52))
    model.taper((0.95, 0, 1.1), (1.15, 0.72, 0.22), (0.3, 0.2), GLASS, PANE)
    for x in (0.0, 2.6):
        for side in (-1, 1):
            model.wheel((x, side * 0.8, 0.32), 0.32, 0.22, TYRE)
    return model


VEHICLES: dict[str, Callable[[np.random.Generator], Model]] = {
    "car": make_car,
    "truck": make_truck,
    "bus": make_bus,
    "trailer": make_trailer,
    "construction": make_construction,
    "motorcycle": make_motorcycle,
    "bicycle": make_bicycle,
}
RIDDEN = {"motorcycle": make_motorcycle, "bicycle": make_bicycle}
