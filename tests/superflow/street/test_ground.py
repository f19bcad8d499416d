"""The compiled functions that scenes are furnished by, against array operations and a tree, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from superflow.street.ground import nearest_rows
from superflow.street.parts import Model, part_reaches, wider
from superflow.street.scene import make_scene
from superflow.street.shapes import ELLIPSOID, FRUSTUM, LEAF_BALL, RING
from superflow.street.street import STEP
from superflow.street.trace import CURB_WIDTH, HEIGHT, ROAD
from superflow.street.world import CELL, make_stage


@pytest.fixture(scope="module", params=[(3, 0), (701, 5)])
def scene(request):
    return make_scene(*request.param, 1.0, ["place"])


def plain_layer(street, number, x, y):
    u = np.clip((x - street.origin[0]) / STEP, 0, street.ground.shape[1] - 1.001)
    v = np.clip((y - street.origin[1]) / STEP, 0, street.ground.shape[0] - 1.001)
    i, j = u.astype(int), v.astype(int)
    u, v, g = u - i, v - j, street.ground[..., number]
    low, high = (g[row, i] * (1 - u) + g[row, i + 1] * u for row in (j, j + 1))
    return low * (1 - v) + high * v


def plain_poses(street, x, y, yaw, tilted, base):
    cos, sin = np.cos(yaw), np.sin(yaw)
    front, back = (plain_layer(street, HEIGHT, x + k * base * cos, y + k * base * sin) for k in (1, -1))
    over, under = (plain_layer(street, HEIGHT, x - k * sin, y + k * cos) for k in (0.8, -0.8))
    ahead = np.stack([cos, sin, np.where(tilted, (front - back) / (2 * base), 0.0)], axis=-1)
    aside = np.stack([-sin, cos, np.where(tilted, (over - under) / 1.6, 0.0)], axis=-1)
    ahead /= np.linalg.norm(ahead, axis=-1, keepdims=True)
    up = np.cross(ahead, aside)
    up /= np.linalg.norm(up, axis=-1, keepdims=True)
    height = plain_layer(street, HEIGHT, x, y)
    bridged = np.where(tilted, (front + back) / 2 - height, 0.0)
    curb = np.clip(plain_layer(street, ROAD, x, y) / CURB_WIDTH, 0.0, 1.0) * street.curb
    poses = np.zeros((len(x), 4, 4))
    poses[:, :3] = np.stack(
        [ahead, np.cross(up, ahead), up, np.stack([x, y, height + curb + bridged], -1)], -1
    )
    poses[:, 3, 3] = 1.0
    return poses


def some_places(street, count=400):
    """Around the ground's middle, and a few outside."""
    rng = np.random.default_rng(0)
    size = np.array(street.ground.shape[1::-1]) * STEP
    return (street.origin + rng.uniform(-0.05, 1.05, (count, 2)) * size).T


def test_nearest_row_is_that_of_a_tree_for_every_node(scene):
    street = scene.street
    rows, columns = street.ground.shape[:2]
    y, x = np.mgrid[0:rows, 0:columns] * STEP + street.origin[::-1, None, None]
    found = nearest_rows(street.course, x.ravel(), y.ravel(), STEP)
    want = cKDTree(street.course[:, :2]).query(np.stack([x.ravel(), y.ravel()], axis=1))[1]
    np.testing.assert_array_equal(found, want)


def test_nearest_row_does_not_need_neighbours_to_be_near(scene):
    course = scene.street.course
    x, y = some_places(scene.street)
    want = np.hypot(x[:, None] - course[:, 0], y[:, None] - course[:, 1]).argmin(axis=1)
    np.testing.assert_array_equal(nearest_rows(course, x, y, STEP), want)


def test_layers_and_poses_are_those_of_array_operations(scene):
    street, (x, y) = scene.street, some_places(scene.street)
    np.testing.assert_array_equal(street.layer(ROAD, x, y), plain_layer(street, ROAD, x, y))
    rng = np.random.default_rng(1)
    yaw, tilted, base = rng.uniform(-4, 4, len(x)), rng.random(len(x)) < 0.5, rng.uniform(0.3, 4.0, len(x))
    want = plain_poses(street, x, y, yaw, tilted, base)
    np.testing.assert_array_equal(street.stand(x, y, yaw, tilted=tilted, base=base), want)
    one = street.stand(float(x[3]), float(y[3]), yaw[3], tilted=bool(tilted[3]), base=base[3])
    np.testing.assert_array_equal(one, want[3])
    assert np.ndim(street.layer(ROAD, float(x[3]), float(y[3]))) == 0


def plain_reach(kind, axes, numbers):
    if kind in (ELLIPSOID, LEAF_BALL):
        return np.sqrt((axes**2).sum(axis=1))
    if kind == RING:
        return np.sqrt((axes[:, :2] ** 2).sum(axis=1))
    if kind == FRUSTUM:
        return np.sqrt((axes[:, :2] ** 2).sum(axis=1)) * max(1.0, numbers[0]) + np.abs(axes[:, 2])
    return np.abs(axes * wider(kind, numbers)).sum(axis=1)


def test_reaches_are_those_of_each_part(scene):
    parts = [part for thing in scene.placed for part in thing.model.parts]
    assert len({part.kind for part in parts}) >= 6
    want = np.array([plain_reach(part.kind, part.axes, part.numbers) for part in parts])
    found = part_reaches(parts, np.array([part.axes for part in parts]))
    np.testing.assert_array_equal(found, want)
    centers = np.array([part.center for part in parts])
    low, high = Model(1, 0.1, 1, parts).bounds()
    np.testing.assert_array_equal((low, high), ((centers - want).min(axis=0), (centers + want).max(axis=0)))


def test_cells_hold_what_covers_them(scene):
    """Against a walk over all things and cells, in the order of the things."""
    world = make_stage(scene).world
    x0, y0, _, columns, rows = world.grid[:5]
    columns, rows = int(columns), int(rows)
    held = [[] for _ in range(columns * rows)]
    clear = world.cell_floor.copy()
    fixed = [(t, part) for t in scene.placed if t.track is None for part in t.model.parts]
    first = len(world.kind) - len(fixed)
    for p, (thing, part) in enumerate(fixed, first):
        turn = thing.pose[:3, :3]
        reach = plain_reach(part.kind, turn @ part.axes, part.numbers)
        center = turn @ part.center + thing.pose[:3, 3]
        own = plain_reach(part.kind, part.axes, part.numbers)
        own = own + 0.71 * CELL + 0.3 * abs(turn[2, 0]) + 0.3 * abs(turn[2, 1])
        low = np.maximum(((center - reach)[:2] - (x0, y0)) / CELL, 0).astype(int)
        high = ((center + reach)[:2] - (x0, y0)) / CELL
        for j in range(low[1], min(int(high[1]), rows - 1) + 1):
            for i in range(low[0], min(int(high[0]), columns - 1) + 1):
                u, v = x0 + (i + 0.5) * CELL - center[0], y0 + (j + 0.5) * CELL - center[1]
                along, across = turn[0, 0] * u + turn[1, 0] * v, turn[0, 1] * u + turn[1, 1] * v
                if abs(along) <= own[0] and abs(across) <= own[1]:
                    held[j * columns + i].append(p)
                    clear[j * columns + i] = max(clear[j * columns + i], center[2] + reach[2] + 1e-3)
    np.testing.assert_array_equal(world.cell_items, np.concatenate(held))
    np.testing.assert_array_equal(np.diff(world.cell_start), [len(items) for items in held])
    assert world.cell_start[0] == 0
    np.testing.assert_array_equal(world.cell_clear, clear)
