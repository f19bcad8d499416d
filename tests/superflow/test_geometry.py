"""Rotations as quaternions against the formula, keys of voxels against their cells, one by one and many at once."""

from __future__ import annotations

import math

import numpy as np
import pytest

from superflow.geometry import (
    KEY_BITS,
    OutOfReachError,
    compose,
    invert,
    make_transform,
    nearest_rotation,
    to_quaternion,
    transform_points,
    voxel_keys,
)


def drawn(count: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, 4) quaternions of any length, and (N, 3) translations."""
    generator = np.random.default_rng(0)
    return generator.normal(size=(count, 4)), generator.normal(size=(count, 3)) * 1e4


def turned(rotation: np.ndarray, xyz: np.ndarray) -> np.ndarray:
    """q p / q by Hamilton's product."""

    def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.array(
            [a[0] * b[0] - a[1:] @ b[1:], *(a[0] * b[1:] + b[0] * a[1:] + np.cross(a[1:], b[1:]))]
        )

    inverse = rotation * [1, -1, -1, -1] / (rotation @ rotation)
    return product(product(rotation, np.array([0, *xyz])), inverse)[1:]


def test_a_transform_turns_as_the_quaternion_says():
    for rotation, translation in zip(*drawn(50)):
        a_to_b = make_transform(rotation, translation)
        np.testing.assert_allclose(
            a_to_b[:3, :3] @ [1.0, 2.0, 3.0], turned(rotation, np.array([1.0, 2.0, 3.0]))
        )
        np.testing.assert_array_equal(a_to_b[:3, 3], translation)
        np.testing.assert_array_equal(a_to_b[3], [0, 0, 0, 1])


def test_the_order_is_w_x_y_z_and_the_sense_is_right_handed():
    quarter_about_z = make_transform([0.5**0.5, 0, 0, 0.5**0.5], [0, 0, 0])
    np.testing.assert_allclose(
        transform_points(quarter_about_z, np.array([[1.0, 0, 0]])), [[0, 1, 0]], atol=1e-15
    )


@pytest.mark.parametrize("count", [0, 1, 20])
def test_many_at_once_are_what_they_are_one_by_one(count):
    rotations, translations = drawn(count)
    together = make_transform(rotations, translations)
    assert together.shape == (count, 4, 4)
    for a_to_b, rotation, translation in zip(together, rotations, translations):
        np.testing.assert_array_equal(a_to_b, make_transform(rotation, translation))


def test_the_way_back_has_a_positive_w():
    rotations, translations = drawn(200)
    unit = rotations / np.linalg.norm(rotations, axis=1, keepdims=True)
    back = to_quaternion(make_transform(rotations, translations))
    np.testing.assert_allclose(back, np.where(unit[:, :1] < 0, -unit, unit), atol=1e-12)
    np.testing.assert_array_equal(back[3], to_quaternion(make_transform(rotations[3], translations[3])))
    half_turn = to_quaternion(np.diag([-1.0, -1.0, 1.0, 1.0]))
    np.testing.assert_allclose(np.abs(half_turn), [0, 0, 0, 1], atol=1e-12)


def test_an_inverse_undoes_it():
    for a_to_b in make_transform(*drawn(5)):
        np.testing.assert_allclose(invert(a_to_b) @ a_to_b, np.eye(4), atol=1e-11)


@pytest.mark.parametrize("wrong", [[0, 0, 0, 0], [np.nan, 0, 0, 1], [1e-7, 0, 0, 0], [np.inf, 0, 0, 0]])
def test_what_is_no_rotation_is_named_among_many(wrong):
    rotations = np.array([[1.0, 0, 0, 0], wrong, [0, 1.0, 0, 0]])
    with pytest.raises(ValueError, match=r"rotation \[.*\] is no quaternion: it is zero or not finite"):
        make_transform(rotations, np.zeros((3, 3)))
    with pytest.raises(ValueError, match="is no quaternion"):
        make_transform(wrong, [0, 0, 0])


def test_keys_of_voxels_are_those_of_their_cells_one_by_one():
    rng = np.random.default_rng(4)
    points = rng.normal(0, 30, (200, 3)) + [4e5, -5e6, 12]
    points[:50] = np.round(points[:50] * 4) / 4  # on borders
    for given in (points, points.astype(np.float32), points[::2], np.asfortranarray(points), points[:0]):
        plain = []
        for point in given.astype(np.float64):
            key = 0
            for value, bits in zip(point, KEY_BITS):
                key = key << bits | (math.floor(value / 0.25) + 2 ** (bits - 1)) % 2**bits
            plain.append(key)
        assert voxel_keys(given, 0.25).tolist() == plain


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, 1e9, 1e17])
def test_points_that_no_key_holds_are_refused(wrong):
    points = np.ones((4, 3))
    points[2, 1] = wrong
    with pytest.raises(OutOfReachError, match="look for wrong poses or units"):
        voxel_keys(points, 0.2)
    if not abs(wrong) < 1e15:
        with pytest.raises(OutOfReachError, match="look for wrong poses or units"):
            voxel_keys(np.full((2, 3), wrong), 0.2)


def test_products_are_those_of_matrices_of_any_shape():
    rng = np.random.default_rng(0)
    one, many, upper = rng.normal(size=(4, 4)), rng.normal(size=(5, 4, 4)), rng.normal(size=(3, 3, 4))
    np.testing.assert_allclose(compose(one, many, one), one @ many @ one, atol=1e-12)
    np.testing.assert_allclose(compose(upper, one), upper @ one, atol=1e-12)
    np.testing.assert_array_equal(compose(one), one)


def test_inverses_of_many_are_those_of_each():
    many = make_transform(np.random.default_rng(0).normal(size=(5, 4)), np.arange(15).reshape(5, 3))
    np.testing.assert_allclose(invert(many), np.linalg.inv(many), atol=1e-12)
    np.testing.assert_array_equal(invert(many)[2], invert(many[2]))


def test_the_nearest_rotation_is_that_of_the_singular_values():
    rng = np.random.default_rng(0)
    turns = make_transform(rng.normal(size=(50, 4)), np.zeros(3))[:, :3, :3]
    turns *= rng.choice([-1.0, 1.0], size=(50, 1, 1))  # mirrored ones stay so
    rough = turns + rng.uniform(-0.05, 0.05, turns.shape)
    left, _, right = np.linalg.svd(rough)
    np.testing.assert_allclose(nearest_rotation(rough), left @ right, atol=1e-13)
    np.testing.assert_allclose(nearest_rotation(turns), turns, atol=1e-15)
    assert not np.isfinite(nearest_rotation(np.ones((3, 3)))).any()
