"""Objects as lists of primitives in the object's frame: x forward, y left, z up, origin on the ground."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .compiled import jit
from .shapes import BOX, ELLIPSOID, FRUSTUM, LEAF_BALL, LEAF_BOX, RING, TAPER
from .textures import PLAIN

Color = Sequence[float]


def pick(rng: np.random.Generator, colors: Sequence[Any]) -> Any:
    """One of some colours."""
    return colors[int(rng.integers(len(colors)))]


@dataclass(frozen=True, slots=True)
class Part:
    """One primitive. ``axes`` (3, 3): columns are the half axes [m] of the unit shape; ``center`` (3,) [m]."""

    kind: int
    center: NDArray[np.float64]
    axes: NDArray[np.float64]
    numbers: tuple[float, float]
    material: int
    first: Color
    second: Color
    shine: float  # reflectance of the laser relative to the object's
    label: int  # raw class of its points


@dataclass(slots=True)
class Model:
    """An object to be placed: its parts, its raw class and its reflectance of the laser.

    ``label`` is the class of the object and its box. ``surface`` is that of the points on parts that are added from now
    on; as long as nothing else is said, it is the object's.
    """

    label: int
    reflectance: float
    seed: int
    parts: list[Part] = field(default_factory=list)
    surface: int = -1

    def __post_init__(self) -> None:
        if self.surface < 0:
            self.surface = self.label

    def add(
        self,
        kind: int,
        center: Sequence[float],
        half: Sequence[float] | NDArray[np.float64],
        material: int = PLAIN,
        first: Color = (0.3, 0.3, 0.3),
        second: Color | None = None,
        *,
        turn: NDArray[np.float64] | None = None,
        numbers: tuple[float, float] = (0.0, 0.0),
        shine: float = 1.0,
    ) -> None:
        """Add a primitive with half sizes ``half`` (3,) [m], rotated by ``turn`` (3, 3), or with (3, 3) axes."""
        axes = np.asarray(half, dtype=np.float64)
        if axes.ndim == 1:
            axes = np.diag(axes) if turn is None else turn @ np.diag(axes)
        second = first if second is None else second
        self.parts.append(
            Part(
                kind,
                np.asarray(center, dtype=np.float64),
                axes,
                numbers,
                material,
                first,
                second,
                shine,
                self.surface,
            )
        )

    def box(self, center, half, material=PLAIN, first=(0.3, 0.3, 0.3), second=None, **options) -> None:
        """Add a box."""
        self.add(BOX, center, half, material, first, second, **options)

    def taper(
        self, center, half, narrow, material=PLAIN, first=(0.3, 0.3, 0.3), second=None, **options
    ) -> None:
        """Add a box that is narrower at the top by the shares ``narrow`` (x, y)."""
        self.add(TAPER, center, half, material, first, second, numbers=narrow, **options)

    def ball(self, center, half, material=PLAIN, first=(0.3, 0.3, 0.3), second=None, **options) -> None:
        """Add an ellipsoid."""
        self.add(ELLIPSOID, center, half, material, first, second, **options)

    def post(
        self, center, half, top=1.0, material=PLAIN, first=(0.3, 0.3, 0.3), second=None, **options
    ) -> None:
        """Add an upright cylinder or, with ``top`` < 1, a cone; ``half`` is radius, radius, half height."""
        self.add(FRUSTUM, center, half, material, first, second, numbers=(top, 0.0), **options)

    def rod(self, start, end, radius, material=PLAIN, first=(0.3, 0.3, 0.3), second=None, top=1.0) -> None:
        """Add a cylinder from ``start`` to ``end`` (3,)."""
        start, end = np.asarray(start, dtype=np.float64), np.asarray(end, dtype=np.float64)
        x, y, z = (float(v) for v in end - start)
        length, flat = math.hypot(x, y, z), math.hypot(x, y)
        c, s = (y / flat, -x / flat) if flat > 1e-9 else (1.0, 0.0)  # the horizontal direction across the rod
        u, v, w = x / length, y / length, z / length
        turn = np.array([[c, -w * s, u], [s, w * c, v], [0.0, u * s - v * c, w]])
        half = (radius, radius, length / 2)
        self.add(FRUSTUM, (start + end) / 2, half, material, first, second, turn=turn, numbers=(top, 0.0))

    def wheel(self, center, radius, width, material, first=(0.02, 0.02, 0.02)) -> None:
        """Add a wheel whose axle is along y."""
        self.add(FRUSTUM, center, (radius, radius, width / 2), material, first, turn=AXLE, numbers=(1.0, 0.0))

    def spokes(self, center, radius, inner, first=(0.03, 0.03, 0.03)) -> None:
        """Add a bicycle wheel: a rim and spokes with air between them."""
        self.add(RING, center, (radius, radius, 1.0), PLAIN, first, turn=AXLE, numbers=(inner, 0.22))

    def leaves(self, center, half, material, first, second, *, density=0.3, cell=0.16, box=False) -> None:
        """Add an ellipsoid or a box of leaves with air between them."""
        kind = LEAF_BOX if box else LEAF_BALL
        self.add(kind, center, half, material, first, second, numbers=(density, cell))

    def bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lowest and highest corner (3,) of all parts in the object's frame [m]."""
        reach = part_reaches(self.parts, np.array([part.axes for part in self.parts]))
        center = np.array([part.center for part in self.parts])
        return (center - reach).min(axis=0), (center + reach).max(axis=0)


AXLE = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])  # the shape's z along -y


def part_reaches(parts: Sequence[Part], axes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(P, 3) half sizes of the axis-aligned boxes around primitives with these half axes (P, 3, 3)."""
    kinds = np.array([part.kind for part in parts])
    return _reaches(kinds, np.array([part.numbers for part in parts], dtype=np.float64), axes)


@jit
def _reaches(kinds, numbers, axes):
    reach = np.empty((len(kinds), 3))
    for p in range(len(kinds)):
        kind, top = kinds[p], numbers[p, 0]
        for k in range(3):
            a, b, c = axes[p, k, 0], axes[p, k, 1], axes[p, k, 2]
            if kind in (ELLIPSOID, LEAF_BALL):
                reach[p, k] = math.sqrt(a * a + b * b + c * c)
            elif kind == RING:
                reach[p, k] = math.sqrt(a * a + b * b)
            elif kind == FRUSTUM:
                reach[p, k] = math.sqrt(a * a + b * b) * max(1.0, top) + abs(c)
            elif kind == TAPER:
                a, b = a * (1.0 + max(0.0, -top)), b * (1.0 + max(0.0, -numbers[p, 1]))
                reach[p, k] = abs(a) + abs(b) + abs(c)
            else:
                reach[p, k] = abs(a) + abs(b) + abs(c)
    return reach


def wider(kind: int, numbers: tuple[float, float]) -> tuple[float, float, float]:
    """Reach of a shape along its half axes (3,): cones and tapers may be wider at the top, a ring is flat."""
    if kind == FRUSTUM:
        return max(1.0, numbers[0]), max(1.0, numbers[0]), 1.0
    if kind == TAPER:  # a negative share: wider at the top
        return 1.0 + max(0.0, -numbers[0]), 1.0 + max(0.0, -numbers[1]), 1.0
    return (1.0, 1.0, 1e-3) if kind == RING else (1.0, 1.0, 1.0)


def turn_y(angle: float) -> NDArray[np.float64]:
    """(3, 3) rotation about y; positive lowers what lies in front."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, 0.0, sin], [0.0, 1.0, 0.0], [-sin, 0.0, cos]])


def draw_reflectance(rng: np.random.Generator) -> float:
    """Reflectance of the laser, from the same wide distribution for every class.

    So that intensity alone says nothing about the class; parts differ within an object, as in life.
    """
    return float(np.clip(np.exp(rng.normal(np.log(0.13), 0.7)), 0.02, 0.9))


def new_model(label: int, rng: np.random.Generator, surface: int = -1) -> Model:
    """An empty object with its own reflectance and texture seed; ``surface`` as in ``Model``."""
    return Model(label, draw_reflectance(rng), int(rng.integers(1, 2**31)), surface=surface)
