"""The published order of work and ours have one loss."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_batch import Fixed, make_clip

from superflow.benchmark.published import OBJECTIVES, numpy_voxels, published_loss, superflowpp
from superflow.clips.batch import Batch, collate
from superflow.lidar.encoder import LidarEncoder
from superflow.lidar.voxelize import CubicGrid, CylinderGrid, voxelize
from superflow.method.pretrainer import Pretrainer

IDS = 6


def batch(offsets: tuple[int, ...] = (-1, 0, 1)) -> Batch:
    """Two clips; some pixels and pairs have no region."""
    made = collate([make_clip(seed, offsets=offsets, ids=IDS) for seed in (0, 1)])
    assert made.superpixels is not None
    maps = made.superpixels.clone()
    maps[:, 0] = 65535
    pairs = made.pairs
    region = torch.where(pairs.pixel[:, 1] == 0, -1, pairs.region)
    points = made.points.clone()
    points[:, 3] = points[:, 3].abs()
    return replace(made, points=points, superpixels=maps, pair_region=region, image_space=made.image_clip)


def model(grid: dict, **options) -> Pretrainer:
    torch.manual_seed(3)
    student = LidarEncoder(grid, {"depth": "tiny", "width": 0.25}, inputs="published", reduce="first")
    return superflowpp(student, Fixed(), **({"channels": 8} | options))


@pytest.mark.parametrize(
    "grid",
    [{"type": "cubic", "size_m": 0.5}, {"type": "cylinder", "rho_m": 0.5, "phi_deg": 10.0, "z_m": 0.5}],
)
def test_losses_and_gradients_agree(grid):
    """With running statistics: four passes that each normalise by their own are another network than one pass."""
    found = {}
    made, own = batch(), model(grid).eval()
    for name, loss in (("ours", own.loss(made)), ("published", published_loss(own, made, num_ids=IDS))):
        own.zero_grad()
        loss["loss"].backward()
        found[name] = loss, [parameter.grad.clone() for parameter in own.parameters()]
    for name in ("loss", *OBJECTIVES):
        assert found["ours"][0][name].item() == pytest.approx(found["published"][0][name].item(), abs=1e-4)
    assert found["ours"][0]["loss"].item() > 1
    for ours, published in zip(found["ours"][1], found["published"][1]):
        assert torch.allclose(ours, published, atol=1e-4, rtol=1e-3)


def test_losses_agree_in_training_where_the_passes_are_the_same():
    """A neighbour alone and a dense cloud, each with a pass of its own here, too."""
    made = batch((0, 1))
    apart = model({"type": "cubic", "size_m": 0.5}, batch_norm={"dense": "own", "neighbours": "own"}).train()
    ours = apart.loss(made)
    published = published_loss(apart, made, num_ids=IDS)
    for name in ("loss", *OBJECTIVES):
        assert ours[name].item() == pytest.approx(published[name].item(), abs=1e-4)


@pytest.mark.parametrize("grid", [CubicGrid(0.3), CylinderGrid(0.3, 4.0, 0.3)])
def test_voxels_by_numpy_are_ours(grid):
    draw = torch.Generator().manual_seed(0)
    clouds = [torch.randn(400, 4, generator=draw) * 3 for _ in range(3)]
    cloud = torch.arange(3).repeat_interleave(400)
    ours = voxelize(torch.cat(clouds), cloud, grid)
    plain, first = numpy_voxels(clouds, grid)
    for name in ("coords", "keys", "inverse", "order", "starts"):
        assert torch.equal(getattr(plain, name), getattr(ours, name)), name
    assert torch.equal(torch.cat(clouds)[first], ours.reduce(torch.cat(clouds), "first"))


def test_the_reference_refuses_another_student():
    other = model({"type": "cubic", "size_m": 0.5})
    other.student.reduce = "mean"
    with pytest.raises(ValueError, match="first point of a voxel"):
        published_loss(other, batch(), num_ids=IDS)
