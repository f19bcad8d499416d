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


def test_another_sensor_stands_higher_is_less_exact_and_answers_otherwise():
    cloud = torch.cat([points(2000, 3), torch.linspace(0, 1, 2000)[:, None]], 1)
    plain = {"rotation_rad": (0.0, 0.0), "flip": 0.0, "scale": (1.0, 1.0)}
    shifts, deviations = [], []
    for seed in range(60):
        higher, a_to_b = augment(cloud, generator(seed), **plain, height_m=(-0.5, 1.0))
        assert transform(cloud, a_to_b).equal(higher)
        shift = higher - cloud
        torch.testing.assert_close(shift[:, 2], torch.full((2000,), float(a_to_b[2, 3])), atol=1e-5, rtol=0)
        assert not shift[:, [0, 1, 3]].any()
        shifts.append(float(a_to_b[2, 3]))
        noisy = augment(cloud, generator(seed), **plain, jitter_m=0.1)[0] - cloud
        assert not noisy[:, 3].any()
        deviations.append(float(noisy[:, :3].std()))
    assert -0.5 <= min(shifts) < -0.3
    assert 0.8 < max(shifts) <= 1.0
    assert min(deviations) < 0.02
    assert 0.08 < max(deviations) < 0.105
    answered = augment(cloud, generator(0), **plain, intensity_gain=(0.8, 0.8), intensity_power=(2.0, 2.0))[0]
    torch.testing.assert_close(answered[:, 3], 0.8 * cloud[:, 3] ** 2)
    cloud[0, 3] = torch.nan
    brighter = augment(cloud, generator(0), **plain, intensity_gain=(3.0, 3.0))[0]
    assert brighter[0, 3].isnan()
    torch.testing.assert_close(brighter[1:, 3], (3 * cloud[1:, 3]).clamp(max=1))


def test_options_at_their_defaults_draw_nothing():
    cloud = torch.rand(30, 4)
    first, second = generator(1), generator(1)
    augment(cloud, first)
    augment(cloud, second, height_m=(0.0, 0.0), jitter_m=0.0, intensity_gain=(1.0, 1.0))
    assert first.get_state().equal(second.get_state())


@pytest.mark.parametrize(
    "options",
    [
        {"height_m": (1.0, 0.0)},
        {"jitter_m": -0.1},
        {"intensity_gain": (0.0, 1.0)},
        {"intensity_power": (2.0, 1.0)},
    ],
)
def test_ranges_of_another_sensor_that_do_not_fit_are_named(options):
    with pytest.raises(InputError, match=f"{next(iter(options))} .* do not fit: give a range"):
        augment(points(), generator(0), **options)


def test_the_response_of_a_sensor_needs_a_normalised_intensity():
    with pytest.raises(InputError, match=r"need an intensity in \[0, 1\], not up to 200"):
        augment(torch.tensor([[0.0, 0, 0, 200]]), generator(0), intensity_gain=(0.5, 1.0))


def test_columns_are_moved_as_rows_are():
    draw = torch.Generator().manual_seed(0)
    points = torch.randn(3000, 5, generator=draw) * 30
    _, a_to_b = augment(points, draw, height_m=(-1.0, 1.0))
    rows = points[:, :3].double() @ a_to_b[:3, :3].T + a_to_b[:3, 3]
    moved = transform(points, a_to_b)
    torch.testing.assert_close(moved[:, :3], rows.float(), rtol=1e-7, atol=0)
    assert torch.equal(moved[:, 3:], points[:, 3:])
    assert torch.equal(transform(points, torch.eye(4)), points)


def test_points_have_the_bits_of_a_product_of_their_columns():
    cloud, (_, a_to_b) = points(5003), augment(points(), generator(3), height_m=(1.0, 2.0))
    moved = cloud.clone()
    moved[:, :3] = (a_to_b[:3, :3] @ cloud[:, :3].T.double().contiguous() + a_to_b[:3, 3:]).T
    assert transform(cloud, a_to_b).equal(moved)
