"""The road's course and the ground around it, drawn anew for each scene."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d, map_coordinates

from .ground import layer_at, nearest_rows, stand_at
from .parts import draw_reflectance
from .place import PLAIN_PLACE, Place
from .textures import (
    STYLE_COLOR,
    STYLE_DASH,
    STYLE_HALF,
    STYLE_JUNCTION,
    STYLE_LANE,
    STYLE_LANES,
    STYLE_PAVED,
    STYLE_REFLECTANCE,
    STYLE_SIDE_HALF,
    STYLE_SIZE,
    STYLE_TERRAIN,
    STYLE_WALK,
    STYLE_YELLOW,
)
from .trace import ACROSS, ALONG, CURB_WIDTH, HEIGHT, OTHER, ROAD, SIDE, WALK

STEP = 0.5  # m between the nodes of the course and of the ground
MARGIN = 85.0  # m of street before the first and after the last position of the vehicle
REACH = 75.0  # m of ground to either side
NO_SIDE_ROAD = 99.0
LAYERS = 7


@dataclass(frozen=True, slots=True)
class Street:
    """Course, widths and ground of one scene. ``along`` and ``across`` (positive left) are metres on the course."""

    course: NDArray[np.float64]  # (S, 3) x, y, heading every STEP
    lane: float
    lanes: int  # each direction
    half: float  # half width of the road between the curbs
    parking: tuple[bool, bool]  # a parking strip right, left
    walk: tuple[float, float]  # width of the verge and the sidewalk, at most
    junction: float  # along, where the side road crosses; far outside when there is none
    side_half: float
    curb: float
    ground: NDArray[np.float32]  # (rows, columns, LAYERS)
    origin: NDArray[np.float64]  # (2,) x, y of ground[0, 0]
    style: NDArray[np.float64]  # (STYLE_SIZE,)

    @property
    def length(self) -> float:
        """Length of the course [m]."""
        return (len(self.course) - 1) * STEP

    def place(self, along, across):
        """World x, y and heading of street coordinates (arrays of any one shape)."""
        row = np.clip(np.asarray(along, dtype=np.float64) / STEP, 0, len(self.course) - 1.001)
        low = row.astype(np.int64)
        share = (row - low)[..., None]
        x, y, heading = np.moveaxis(self.course[low] * (1 - share) + self.course[low + 1] * share, -1, 0)
        return x - np.sin(heading) * across, y + np.cos(heading) * across, heading

    def layer(self, number: int, x, y):
        """Bilinear value of a ground layer at world x, y (one shape)."""
        x, y = np.array(x, dtype=np.float64), np.array(y, dtype=np.float64)
        values = layer_at(self.ground, self.origin, STEP, number, x.ravel(), y.ravel())
        return values.reshape(x.shape)[()]

    def height(self, x, y):
        """Height of the ground with its curbs [m]; the same as ``trace.ground_height``."""
        rise = np.clip(self.layer(ROAD, x, y) / CURB_WIDTH, 0.0, 1.0)
        return self.layer(HEIGHT, x, y) + rise * self.curb

    def stand(self, x, y, yaw, *, tilted, base) -> NDArray[np.float64]:
        """(..., 4, 4) poses of objects on the ground at world x, y (...), upright or ``tilted`` with the slope.

        ``base`` is half the wheel base [m]: the slope is taken over it.
        """
        given = np.broadcast_arrays(x, y, np.cos(yaw), np.sin(yaw), tilted, base)
        flat = [np.array(each, dtype=kind).ravel() for each, kind in zip(given, (*[float] * 4, bool, float))]
        return stand_at(self.ground, self.origin, STEP, self.curb, *flat).reshape(*given[0].shape, 4, 4)


def _bell(sigma: float) -> NDArray[np.float64]:
    """Weights of a Gaussian filter; of math's exponential, since numpy's differs from CPU to CPU."""
    reach = int(4.0 * sigma + 0.5)
    weights = np.array([math.exp(-0.5 * (x / sigma) ** 2) for x in range(-reach, reach + 1)])
    return weights / weights.sum()


def _draw_course(rng: np.random.Generator, length: float) -> NDArray[np.float64]:
    """Straight, bent, winding or with a sharp corner; the whole turns by at most 2 rad."""
    rows = int(np.ceil(length / STEP)) + 1
    curvature = np.zeros(rows)
    style = rng.choice(4, p=(0.25, 0.3, 0.25, 0.2))
    sign = rng.choice((-1.0, 1.0))
    along = np.arange(rows) * STEP
    middle = MARGIN + rng.uniform(0.15, 0.75) * max(length - 2 * MARGIN, 10.0)
    if style == 0:
        curvature += sign * rng.uniform(0, 0.002)
    elif style == 1:
        curvature[np.abs(along - middle) < rng.uniform(25, 45)] = sign / rng.uniform(45, 90)
    elif style == 2:
        bend = rng.uniform(30, 50)
        radius = rng.uniform(45, 80)
        curvature[(along > middle - bend) & (along < middle)] = sign / radius
        curvature[(along >= middle) & (along < middle + bend)] = -sign / radius
    else:
        radius = rng.uniform(22, 30)
        curvature[np.abs(along - middle) < rng.uniform(0.6, 0.8) * radius] = sign / radius
    curvature = correlate1d(curvature, _bell(4.0 / STEP), mode="nearest")
    turned = np.abs(np.cumsum(curvature) * STEP).max()
    curvature *= min(1.0, 2.0 / max(turned, 1e-9))
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(curvature) * STEP
    x = np.concatenate([[0.0], np.cumsum(np.cos(heading[:-1]) * STEP)])
    y = np.concatenate([[0.0], np.cumsum(np.sin(heading[:-1]) * STEP)])
    return np.stack([x, y, heading], axis=1)


def _street_coordinates(course, x, y):
    """along, across of every ground node, by the nearest point of the course."""
    row = nearest_rows(course, x.ravel(), y.ravel(), STEP).reshape(x.shape)
    near = course[row]
    cos, sin = np.cos(near[..., 2]), np.sin(near[..., 2])
    dx, dy = x - near[..., 0], y - near[..., 1]
    return row * STEP + dx * cos + dy * sin, -dx * sin + dy * cos


def _smooth_union(a, b, rounding: float):
    """Union of two regions given by signed distances, its inner corners rounded."""
    blend = np.maximum(rounding - np.abs(a - b), 0.0) / rounding
    return np.minimum(a, b) - 0.25 * rounding * blend**2


def _smooth_field(rng: np.random.Generator, shape: tuple[int, int], size: float) -> NDArray[np.float64]:
    """Smooth random surface about N(0, 1) with bumps of ``size`` metres."""
    coarse = rng.normal(0.0, 1.0, (int(shape[0] * STEP / size) + 4, int(shape[1] * STEP / size) + 4))
    j = np.arange(shape[0])[:, None] * STEP / size + 1.0
    i = np.arange(shape[1])[None, :] * STEP / size + 1.0
    return 1.6 * map_coordinates(coarse, np.broadcast_arrays(j, i), order=3, mode="nearest")


def _rectangle(along, across, center, half):
    """Signed distance to a rectangle in street coordinates."""
    return np.maximum(np.abs(along - center[0]) - half[0], np.abs(across - center[1]) - half[1])


def make_street(rng: np.random.Generator, travel: float, place: Place = PLAIN_PLACE) -> Street:
    """A street whose vehicle travels ``travel`` metres from MARGIN on."""
    length = travel + 2 * MARGIN
    course = _draw_course(rng, length)
    low, high = course[:, :2].min(axis=0) - REACH, course[:, :2].max(axis=0) + REACH
    columns, rows = (int(n) + 1 for n in np.ceil((high - low) / STEP))
    shape = (rows, columns)
    y, x = np.meshgrid(
        low[1] + np.arange(shape[0]) * STEP, low[0] + np.arange(shape[1]) * STEP, indexing="ij"
    )
    along, across = _street_coordinates(course, x, y)
    lane, lanes = rng.uniform(*place.lane), int(rng.choice((1, 2), p=(1.0 - place.wide, place.wide)))
    parking = (bool(rng.random() < place.strip), bool(rng.random() < place.strip))
    half = lane * lanes + 2.3
    curb = rng.uniform(*place.curb)

    road = np.abs(across) - half
    for side, strip in zip((-1, 1), parking):
        if not strip:
            road = np.where(side * across > 0, np.abs(across) - lane * lanes - 0.3, road)
    side_half, junction, side_distance = rng.uniform(2.8, 4.5), -1e3, np.full(shape, NO_SIDE_ROAD)
    if rng.random() < place.junction:
        junction = MARGIN + rng.uniform(-15, travel + 25)
        side_distance = _side_road(course, junction, rng.uniform(-0.25, 0.25), x, y)
        road, side_distance = _joined(rng, road, side_distance, side_half, along - junction, across)
    other = np.full(shape, 50.0)
    road, other = _paved_places(
        rng, length, along, across, half, lane * lanes, junction, side_half, road, other, place.paved
    )

    walk = (rng.uniform(0.0, 1.8) * (rng.random() < 0.6), rng.uniform(*place.walk))
    width = np.clip(walk[1] * (0.9 + 0.5 * _smooth_field(rng, shape, 22.0)), 0.0, 6.0)  # here and there none
    verge = walk[0] * (_smooth_field(rng, shape, 30.0) > -0.3)
    pavement = np.maximum(verge - road, road - verge - width)

    height = _draw_height(rng, place, x, y, road, pavement, other)
    ground = np.zeros((*shape, LAYERS), dtype=np.float32)
    layers = {HEIGHT: height, ROAD: road, WALK: pavement, OTHER: other, ALONG: along, ACROSS: across}
    for number, values in {**layers, SIDE: side_distance}.items():
        ground[..., number] = values
    style = _draw_style(rng, curb, lane, lanes, half if place.marked else -1.0, junction, side_half)
    return Street(course, lane, lanes, half, parking, walk, junction, side_half, curb, ground, low, style)


def _side_road(course, junction: float, skew: float, x, y):
    """Signed distance to the axis of a straight road that crosses the course at ``junction``."""
    px, py, heading = course[int(np.clip(junction / STEP, 0, len(course) - 1))]
    cos, sin = np.cos(heading + skew), np.sin(heading + skew)
    return (x - px) * cos + (y - py) * sin


def _joined(rng, road, side_distance, side_half, along, across):
    """The road with a side road, which may end at it; and the distance to the axis of that, where it is.

    ``along`` is counted from the junction.
    """
    branch = np.abs(side_distance) - side_half
    if rng.random() < 0.5:
        branch = np.maximum(branch, -across * rng.choice((-1, 1)))
    branch = np.where(np.abs(along) < 60, branch, 50.0)
    return _smooth_union(road, branch, 9.0), np.where(branch < 12, side_distance, NO_SIDE_ROAD)


def _draw_height(rng, place: Place, x, y, road, pavement, other):
    """Height of the ground without curbs: slopes, hills, and beside what is paved mounds."""
    shape = x.shape
    height = rng.uniform(-place.slope, place.slope) * (x - x.mean())
    height += rng.uniform(-place.slope, place.slope) * (y - y.mean())
    height += rng.uniform(0.15, 0.5) * _smooth_field(rng, shape, 35.0)
    apart = (
        np.clip((road - 1.0) / 4.0, 0.0, 1.0) * np.clip(pavement / 2.0, 0.0, 1.0) * np.clip(other / 2.0, 0, 1)
    )
    mound = 0.1 + 0.45 * _smooth_field(rng, shape, 7.0)
    mound += 0.6 * _smooth_field(rng, shape, 17.0)
    height += place.rough * apart * rng.uniform(0.5, 1.3) * mound
    if place.bumps > 0.0:  # small ones, on the road a fifth of them
        height += place.bumps * (0.2 + 0.8 * apart) * _smooth_field(rng, shape, 1.6)
    return height


def _paved_places(rng, length, along, across, half, lanes_half, junction, side_half, road, other, share):
    """Parking lots and drives (road), and what is flat but neither: squares, islands, curb extensions."""
    for _ in range(int(rng.integers(3, 6) * share * length / 200) + (share > 0)):  # parking lots, drives
        side = rng.choice((-1, 1))
        depth = rng.uniform(3, 9)
        center = (rng.uniform(0.1, 0.9) * length, side * (half + depth - 0.5))
        road = np.minimum(road, _rectangle(along, across, center, (rng.uniform(2.0, 9.0), depth)))
    strips = int(rng.integers(7, 11) * share * length / 200) + 2 * (share > 0)
    for _ in range(strips):  # squares and strips beside the road
        side = rng.choice((-1, 1))
        depth = rng.uniform(0.6, 5.0)
        center = (rng.uniform(0.1, 0.9) * length, side * (half + rng.uniform(0.0, 2.5) + depth))
        other = np.minimum(other, _rectangle(along, across, center, (rng.uniform(3.0, 12.0), depth)))
    extensions = int(rng.integers(3, 6) * share * length / 200) + (share > 0)
    for _ in range(extensions):  # curb extensions into the parking strip
        side = rng.choice((-1, 1))
        at = rng.uniform(0.1, 0.9) * length
        if abs(at - junction) < side_half + 8:
            continue
        center = (at, side * (half + lanes_half) / 2)
        island = _rectangle(along, across, center, (rng.uniform(1.5, 5.0), (half - lanes_half) / 2 - 0.25))
        road = np.maximum(road, -island)
        other = np.minimum(other, island)
    return road, other


def _draw_style(rng, curb, lane, lanes, half, junction, side_half):
    """Numbers of ``textures``: reflectances, colours and patterns of the ground."""
    style = np.zeros(STYLE_SIZE)
    style[0], style[1] = curb, rng.integers(1, 2**20)
    for kind in range(5):
        style[STYLE_REFLECTANCE + kind] = draw_reflectance(rng)
    style[STYLE_REFLECTANCE + 1] = min(0.9, 1.8 * style[STYLE_REFLECTANCE] + 0.08)  # paint beside its asphalt
    asphalt = rng.uniform(0.06, 0.13) * np.array([1.0, 1.0, rng.uniform(1.0, 1.12)])
    pavement = rng.uniform(0.28, 0.48) * np.array([1.0, rng.uniform(0.93, 1.0), rng.uniform(0.8, 0.95)])
    grass = np.array([rng.uniform(0.09, 0.2), rng.uniform(0.2, 0.3), rng.uniform(0.03, 0.07)])
    tone = rng.uniform(0.8, 1.3)
    paved = tone * np.array(
        ((0.36, 0.11, 0.07), (0.40, 0.26, 0.10), (0.30, 0.14, 0.16))[int(rng.integers(3))]
    )
    yellow = rng.random() < 0.4
    mark = (0.75, 0.75, 0.72) if not yellow or rng.random() < 0.6 else (0.75, 0.5, 0.06)
    for kind, color in enumerate((asphalt, mark, pavement, grass, paved)):
        style[STYLE_COLOR + 3 * kind : STYLE_COLOR + 3 * kind + 3] = color
    style[STYLE_LANE], style[STYLE_LANES], style[STYLE_HALF] = lane, lanes, half
    style[STYLE_DASH], style[STYLE_YELLOW] = rng.uniform(1.5, 3.5), float(yellow)
    style[STYLE_WALK], style[STYLE_TERRAIN] = rng.integers(3), rng.integers(2)
    style[STYLE_PAVED] = rng.integers(2)
    style[STYLE_JUNCTION], style[STYLE_SIDE_HALF] = junction, side_half
    return style
