"""Thinning as from elsewhere: the law of squares, against counts on a plane."""

from __future__ import annotations

import itertools

import pytest
import torch

from superflow.errors import InputError
from superflow.lidar.viewpoint import (
    check_viewpoint,
    draw_spot,
    inclusion_probabilities,
    thin_as_from,
    thin_as_from_elsewhere,
)


def plane(count: int = 400_000) -> torch.Tensor:
    """Points as a scanner at the origin sees a surface: as many in each ring as density ~ 1 / r^2 gives."""
    generator = torch.Generator().manual_seed(0)
    distance = 2.0 * (60 / 2.0) ** torch.rand(count, generator=generator)
    turn = 2 * torch.pi * torch.rand(count, generator=generator)
    return torch.stack([distance * turn.cos(), distance * turn.sin(), torch.zeros(count)], 1)


def spread_over_rings(distance: torch.Tensor) -> float:
    """Relative deviation of the number of points in rings, each by what density ~ 1 / r^2 gives it."""
    rings = itertools.pairwise(torch.tensor([12.0, 16, 20, 25, 30, 36]))
    density = torch.stack(
        [((distance >= low) & (distance < high)).sum() / (high / low).log() for low, high in rings]
    )
    return float(density.std() / density.mean())


def test_density_falls_with_the_square_of_the_distance_from_the_spot():
    points, spot = plane(), torch.tensor([8.0, -3.0])
    rows = thin_as_from(points, spot, 40_000, torch.Generator().manual_seed(1))
    assert len(rows) == pytest.approx(40_000, rel=0.02)
    assert torch.equal(rows, rows.unique())
    moved = points[rows, :2] - spot
    distance = moved.norm(dim=1)
    assert spread_over_rings(distance) < 0.05
    # without the thinning the same rings are far from it: the test can tell
    assert spread_over_rings((points[:, :2] - spot).norm(dim=1)) > 0.1


def test_inclusion_probabilities_sum_to_the_count_and_keep_the_ratio():
    weight = torch.rand(500, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) ** 4 + 1e-3
    for count in (1, 50, 300, 499):
        stays = inclusion_probabilities(weight, count)
        assert float(stays.sum()) == pytest.approx(count)
        assert 0 < float(stays.min()) <= float(stays.max()) <= 1
        ratio = (stays / weight)[stays < 1]
        assert float(ratio.max() - ratio.min()) < 1e-9 * float(ratio.max())
        assert bool((weight[stays == 1] * ratio.max() >= 1 - 1e-12).all()) if len(ratio) else True


def test_spots_fill_the_disc_and_follow_the_seed():
    generator = torch.Generator().manual_seed(3)
    spots = torch.stack([draw_spot(10.0, generator) for _ in range(2000)])
    reach = spots.norm(dim=1)
    assert float(reach.max()) <= 10
    assert float((reach < 5).float().mean()) == pytest.approx(0.25, abs=0.04)
    assert float(spots.mean(0).norm()) < 0.5
    assert torch.equal(draw_spot(10.0, torch.Generator().manual_seed(3)), spots[0])


def test_nothing_is_left_out_of_a_cloud_that_is_small_enough():
    points = plane(100)
    generator = torch.Generator().manual_seed(0)
    assert thin_as_from(points, torch.zeros(2), 100, generator).tolist() == list(range(100))
    assert thin_as_from(points[:0], torch.zeros(2), 5, generator).tolist() == []


def test_a_spot_is_drawn_and_the_cloud_is_seen_from_it():
    points = plane(1000)
    rows, spot = thin_as_from_elsewhere(points, 10.0, 300, torch.Generator().manual_seed(4))
    again = torch.Generator().manual_seed(4)
    assert torch.equal(spot, draw_spot(10.0, again))
    assert torch.equal(rows, thin_as_from(points, spot, 300, again))


def test_a_viewpoint_needs_a_number_of_points():
    with pytest.raises(InputError, match="viewpoint_m thins clouds; say to how many points with max_points"):
        check_viewpoint(5.0, None)
    check_viewpoint(5.0, 100)
    check_viewpoint(0.0, None)
