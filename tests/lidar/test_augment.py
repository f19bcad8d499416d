"""What is drawn, and that it can be repeated for another cloud."""

from __future__ import annotations

import inspect
import math

import pytest
import torch

from superflow.errors import InputError
from superflow.lidar.augment import augment, transform


def points(count: int = 50, columns: int = 5) -> torch.Tensor:
    return torch.randn(count, columns, generator=torch.Generator().manual_seed(0)) * 10


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_transform_is_the_one_that_was_applied():
    cloud = points()
    kept = cloud.clone()
    for seed in range(20):
        moved, a_to_b = augment(cloud, generator(seed))
        assert a_to_b.dtype == torch.float64
        one = torch.cat([cloud[:, :3].double(), torch.ones(50, 1, dtype=torch.float64)], 1)
        torch.testing.assert_close((one @ a_to_b.T)[:, :3].float(), moved[:, :3])
        assert moved[:, 3:].equal(cloud[:, 3:])
        assert moved.dtype == cloud.dtype
        factor = float(torch.linalg.det(a_to_b[:3, :3]).abs() ** (1 / 3))
        assert 0.95 <= factor <= 1.05
        turn = a_to_b[:3, :3] / factor
        torch.testing.assert_close(turn @ turn.T, torch.eye(3, dtype=torch.float64))
        torch.testing.assert_close(moved[:, 2], cloud[:, 2] * factor)  # up stays up
    assert cloud.equal(kept)


def test_mistake_15_the_default_turns_all_the_way_round():
    assert inspect.signature(augment).parameters["rotation_rad"].default == (-math.pi, math.pi)
    angles = []
    for seed in range(400):
        _, a_to_b = augment(points(1), generator(seed), flip=0.0)
        angles.append(math.atan2(a_to_b[1, 0], a_to_b[0, 0]))
    quarters = torch.histc(torch.tensor(angles), bins=4, min=-math.pi, max=math.pi)
    assert quarters.min() > 60


def test_mistake_16_the_dense_cloud_can_share_the_draw():
    sparse = points(30)
    dense = torch.cat([sparse, points(60) + 1])
    moved, a_to_b = augment(sparse, generator(3))
    assert transform(dense, a_to_b)[:30].equal(moved)
    assert augment(dense, generator(3))[1].equal(a_to_b)
    assert not augment(dense, generator(4))[1].equal(a_to_b)


def test_flips_happen_as_often_as_asked():
    flips = {0.0: 0, 0.5: 0, 1.0: 0}
    for probability in flips:
        for seed in range(200):
            _, a_to_b = augment(
                points(1), generator(seed), flip=probability, rotation_rad=(0.0, 0.0), scale=(1.0, 1.0)
            )
            flips[probability] += int(a_to_b[0, 0] < 0) + int(a_to_b[1, 1] < 0)
    assert (flips[0.0], flips[1.0]) == (0, 400)
    assert 150 < flips[0.5] < 250


def test_the_generator_alone_decides():
    torch.manual_seed(0)
    first = augment(points(), generator(5))[0]
    torch.rand(100)
    assert augment(points(), generator(5))[0].equal(first)
    a, b = generator(6), generator(6)
    augment(points(), a)
    augment(points(3), b, flip=0.0, scale=(1.0, 1.0), rotation_rad=(0.0, 0.0))
    assert a.get_state().equal(b.get_state())  # options never shift what later draws see


def test_an_empty_cloud():
    moved, _ = augment(torch.zeros(0, 4), generator(0))
    assert moved.shape == (0, 4)


@pytest.mark.parametrize("options", [{"flip": 1.5}, {"scale": (0.0, 1.0)}, {"scale": (2.0, 1.0)}])
def test_impossible_ranges_are_named(options):
    with pytest.raises(InputError, match="give a probability, a positive range and a range"):
        augment(points(), generator(0), **options)
