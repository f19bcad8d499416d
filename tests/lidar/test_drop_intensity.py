"""Clouds and points that lose their intensity by chance, and nothing else."""

from __future__ import annotations

import pytest
import torch

from superflow.errors import InputError
from superflow.lidar.augment import augment


def cloud() -> torch.Tensor:
    return torch.rand(400, 5, generator=torch.Generator().manual_seed(0)) + 0.1


def draws(**options: float) -> list[torch.Tensor]:
    return [augment(cloud(), torch.Generator().manual_seed(seed), **options)[0] for seed in range(200)]


def test_whole_clouds_lose_it_as_often_as_asked():
    lost = torch.stack([points[:, 3].isnan() for points in draws(drop_intensity=0.3)])
    assert set(lost.float().mean(1).tolist()) == {0.0, 1.0}
    assert float(lost[:, 0].float().mean()) == pytest.approx(0.3, abs=0.1)


def test_single_points_lose_it_as_often_as_asked():
    lost = torch.stack([points[:, 3].isnan() for points in draws(drop_point_intensity=0.2)])
    assert float(lost.float().mean()) == pytest.approx(0.2, abs=0.01)
    assert not (lost.all(1) | ~lost.any(1)).any()


def test_all_else_stays_as_without():
    points = cloud()
    plain, changed = (
        augment(points, torch.Generator().manual_seed(1), **options)
        for options in ({}, {"drop_intensity": 1.0, "drop_point_intensity": 0.5})
    )
    assert torch.equal(plain[1], changed[1])
    assert torch.equal(plain[0][:, [0, 1, 2, 4]], changed[0][:, [0, 1, 2, 4]])
    assert changed[0][:, 3].isnan().all()
    assert not points.isnan().any()


def test_what_is_no_probability_is_refused():
    with pytest.raises(
        InputError, match=r"drop_intensity 0 and drop_point_intensity 1\.5 must be probabilities"
    ):
        augment(cloud(), torch.Generator(), drop_intensity=0, drop_point_intensity=1.5)
