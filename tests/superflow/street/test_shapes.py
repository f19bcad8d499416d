"""Intersection of rays with unit shapes, against a walk along the ray in small steps."""

from __future__ import annotations

import numpy as np
import pytest

from superflow.street import shapes
from superflow.street.noise import grain, hash01, noise2

SOLIDS = {
    "box": (shapes.BOX, (0.0, 0.0)),
    "taper": (shapes.TAPER, (0.5, 0.3)),
    "wider above": (shapes.TAPER, (-0.4, 0.2)),
    "ellipsoid": (shapes.ELLIPSOID, (0.0, 0.0)),
    "cylinder": (shapes.FRUSTUM, (1.0, 0.0)),
    "frustum": (shapes.FRUSTUM, (0.3, 0.0)),
    "cone": (shapes.FRUSTUM, (0.0, 0.0)),
}


def inside(kind: int, numbers: tuple[float, float], p: np.ndarray) -> np.ndarray:
    """Which unit points (N, 3) lie in the shape, written from its definition."""
    x, y, z = p.T
    up = (z + 1) / 2
    if kind == shapes.ELLIPSOID:
        return x**2 + y**2 + z**2 <= 1
    if kind == shapes.FRUSTUM:
        return (np.hypot(x, y) <= 1 + (numbers[0] - 1) * up) & (np.abs(z) <= 1)
    narrow = np.array(numbers) if kind == shapes.TAPER else np.zeros(2)
    return (np.abs(x) <= 1 - narrow[0] * up) & (np.abs(y) <= 1 - narrow[1] * up) & (np.abs(z) <= 1)


def random_affine(rng: np.random.Generator) -> np.ndarray:
    """(3, 4) map of metres to a shape about a metre large, turned at random."""
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    linear = np.diag(1 / rng.uniform(0.3, 1.5, 3)) @ rotation
    return np.concatenate([linear, -linear @ rng.normal(0, 0.3, (3, 1))], axis=1)


def hit(kind, numbers, affine, origin, direction, half=(1.0, 1.0, 1.0), seed=7):
    ray = [float(value) for value in (*numbers, *origin, *direction)]
    return shapes.intersect(kind, affine.ravel(), np.array(half), *ray[:2], seed, *ray[2:], 1e-6, 20.0)


def random_ray(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A ray from about 5 m away towards the middle."""
    origin = rng.normal(size=3)
    origin *= 5.0 / np.linalg.norm(origin)
    direction = rng.normal(0, 0.6, 3) - origin
    return origin, direction / np.linalg.norm(direction)


@pytest.mark.parametrize("name", SOLIDS)
def test_first_hit_is_where_the_ray_enters(name):
    kind, numbers = SOLIDS[name]
    rng = np.random.default_rng(len(name))
    steps = np.arange(0.0, 12.0, 0.002)
    hits = 0
    for _ in range(60):
        affine = random_affine(rng)
        origin, direction = random_ray(rng)
        walk = (origin + steps[:, None] * direction) @ affine[:, :3].T + affine[:, 3]
        held = inside(kind, numbers, walk)
        t = hit(kind, numbers, affine, origin, direction)
        if held.sum() > 3:  # a ray that only grazes may slip between two steps
            assert abs(t - steps[held.argmax()]) < 0.003
            hits += 1
        elif not held.any():
            assert t == shapes.FAR or held.sum() == 0
            near = (origin + t * direction) @ affine[:, :3].T + affine[:, 3] if t < shapes.FAR else None
            assert near is None or np.abs(near).max() <= 1 + 1e-6
    assert hits > 15


@pytest.mark.parametrize("name", SOLIDS)
def test_normal_is_across_the_surface_and_points_out(name):
    kind, numbers = SOLIDS[name]
    rng = np.random.default_rng(3)
    affine = np.eye(3, 4)
    checked = 0
    for _ in range(80):
        origin, direction = random_ray(rng)
        hits = [
            hit(kind, numbers, affine, origin + shift, direction)
            for shift in ((0, 0, 0), *(1e-5 * np.eye(3)))
        ]
        if max(hits) > 10:
            continue
        points = [origin + (0, 0, 0) + hits[0] * direction]
        points += [origin + 1e-5 * axis + t * direction for axis, t in zip(np.eye(3), hits[1:])]
        edges = [p - points[0] for p in points[1:]]
        if max(np.linalg.norm(edge) for edge in edges) > 1e-3:
            continue  # the neighbours are on another face
        normal = np.array(shapes.unit_normal(kind, *numbers, *points[0])[:3])
        normal /= np.linalg.norm(normal)
        slopes = [abs(normal @ edge) / 1e-5 for edge in edges]
        checked += max(slopes) < 0.02
        assert normal @ direction < 0
    assert checked > 15


def test_ring_has_a_rim_spokes_and_air():
    affine = np.eye(3, 4)
    down = np.array([0.0, 0.0, -1.0])
    rim = [
        hit(shapes.RING, (0.85, 0.25), affine, (0.95 * np.cos(a), 0.95 * np.sin(a), 2), down)
        for a in range(9)
    ]
    assert np.allclose(rim, 2.0)
    turn = np.linspace(0, 2 * np.pi, 4000, endpoint=False)
    between = [
        hit(shapes.RING, (0.85, 0.25), affine, (0.5 * np.cos(a), 0.5 * np.sin(a), 2), down) for a in turn
    ]
    assert np.mean(np.array(between) < 3) == pytest.approx(0.25, abs=0.01)
    assert hit(shapes.RING, (0.85, 0.25), affine, (1.2, 0, 2), down) == shapes.FAR


def test_leaves_are_where_their_cells_are_filled_for_every_ray():
    rng = np.random.default_rng(1)
    affine, cell, density = np.eye(3, 4), 0.2, 0.3
    depths = []
    for _ in range(300):
        origin, direction = random_ray(rng)
        t = hit(shapes.LEAF_BALL, (density, cell), affine, origin, direction)
        entry = hit(shapes.ELLIPSOID, (0, 0), affine, origin, direction)
        if t < shapes.FAR:
            point = (origin + t * direction) / cell
            assert grain(*point, 7) < density
            assert np.linalg.norm(point * cell) <= 1 + 1e-9
            depths.append(t - entry)
    assert len(depths) > 150
    assert np.mean(np.array(depths) > 0.3) > 0.1  # a crown is no shell: returns come from inside


def test_a_ray_that_starts_inside_a_solid_does_not_see_it():
    assert hit(shapes.BOX, (0, 0), np.eye(3, 4), np.zeros(3), np.array([1.0, 0, 0])) == shapes.FAR


def test_noise_repeats_and_is_uniform():
    values = np.array([hash01(i, -i, 3 * i, 5) for i in range(20000)])
    assert values.mean() == pytest.approx(0.5, abs=0.01)
    assert np.histogram(values, 10, (0, 1))[0].min() > 1800
    assert hash01(1, 2, 3, 4) == hash01(1, 2, 3, 4) != hash01(2, 1, 3, 4)
    assert noise2(2.0, -3.0, 9) == hash01(2, -3, 0, 9)  # the lattice value at lattice points
    assert abs(noise2(1.9999, 0.5, 1) - noise2(2.0001, 0.5, 1)) < 1e-3
