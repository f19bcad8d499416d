"""Objectives of the method's peers against slow loops over their definition."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from small_batch import Fixed, make_clip, make_objective, matches, of, table_of, value
from torch import Tensor

from superflow.errors import InputError
from superflow.method.matches import Members, Superpoints
from superflow.method.pretrainer import Pretrainer
from superflow.method.regions import region_table


def rows(count: int, channels: int, seed: int) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, channels, generator=draw), dim=1)


def slow_tolerant(q: Tensor, k: Tensor, teacher: Tensor, share: float | None, balance: bool) -> float:
    count = len(q)
    cosine = [[max(0.0, float(teacher[i] @ teacher[j])) for j in range(count)] for i in range(count)]
    common = [sum(a for a in row if a >= 0.5) for row in cosine]
    terms, weights = [], []
    for i in range(count):
        factor = [1 - a for a in cosine[i]]
        factor[i] = 1.0
        if share is not None:
            gone = sorted(range(count), key=lambda j: factor[j])[: math.ceil(share * count)]
            factor = [0.0 if j in gone and j != i and cosine[i][j] > 0 else 1.0 for j in range(count)]
        logits = [factor[j] * float(q[i] @ k[j]) / 0.1 for j in range(count)]
        terms.append(math.log(sum(map(math.exp, logits))) - logits[i])
        weights.append(1 - (common[i] - min(common)) / (max(common) - min(common)) if balance else 1.0)
    return sum(t * w for t, w in zip(terms, weights)) / sum(weights)


@pytest.mark.parametrize("balance", [True, False])
@pytest.mark.parametrize("share", [None, 0.0, 0.01, 0.3])
def test_tolerant_spatial_is_st_slidrs_loss(share, balance):
    q, k, teacher = rows(12, 6, 1), rows(12, 6, 2), rows(12, 3, 3)
    scene = matches([(0, False)], q[None], k[None])
    scene[Superpoints] = replace(scene[Superpoints], teacher=teacher * 3)  # the cosine counts
    found = value("tolerant_spatial", scene, quantile=share, balance=balance, temperature=0.1)
    assert float(found) == pytest.approx(slow_tolerant(q, k, teacher, share, balance), rel=1e-4)
    if share == 0.0 and not balance:
        assert float(found) == pytest.approx(float(value("spatial", scene, temperature=0.1)), rel=1e-5)


def test_a_logit_of_factor_0_is_no_mask():
    """As published: exp(0) stays in the sum, where `spatial` with ``tolerance`` drops the column."""
    q, k = rows(5, 6, 1), rows(5, 6, 2)
    scene = matches([(0, False)], q[None], k[None])
    scene[Superpoints] = replace(scene[Superpoints], teacher=torch.ones(5, 2))
    assert float(value("tolerant_spatial", scene, quantile=None)) == pytest.approx(
        float(torch.stack([(-q[i] @ k[i] / 0.07).exp() * 4 + 1 for i in range(5)]).log().mean()), rel=1e-5
    )
    assert float(value("spatial", scene, tolerance=0.5)) == pytest.approx(0, abs=1e-6)


def test_rows_of_equal_rarity_weigh_alike():
    scene = matches([(0, False)], rows(4, 6, 1)[None], rows(4, 6, 2)[None])
    scene[Superpoints] = replace(scene[Superpoints], teacher=torch.eye(4))
    both = [float(value("tolerant_spatial", scene, balance=b)) for b in (True, False)]
    assert both[0] == pytest.approx(both[1], rel=1e-6)


def test_point_to_region_contrasts_a_point_of_each_region_with_the_means():
    groups, means = [(0, False)], rows(6, 4, 1) * 2
    counts = torch.tensor([[2.0, 3, 1, 0, 2, 1]])
    q = Superpoints(table_of(torch.arange(6), groups), means[None], counts, torch.zeros(6, 0))
    region = torch.tensor([0, 1, 1, 3, 2, 4, 5])  # region 3 is too small to count
    voxels, voxel = rows(7, 4, 2) * 3, torch.tensor([6, 5, 5, 3, 2, 1, 0])
    found = {Members: Members(q, voxels, voxel, region)}
    used = [0, 1, 2, 4, 5]
    terms = []
    for r in used:
        point = F.normalize(voxels[voxel[int((region == r).nonzero()[0])]], dim=0)
        logits = [float(point @ F.normalize(means[c], dim=0)) / 0.2 for c in used]
        own = float(point @ F.normalize(means[r], dim=0)) / 0.2
        terms.append(math.log(sum(map(math.exp, logits))) - own)
    loss = value("point_to_region", found, temperature=0.2)
    assert float(loss) == pytest.approx(sum(terms) / len(terms), rel=1e-5)


def test_the_points_of_a_region_are_drawn_anew():
    q = Superpoints(
        table_of(torch.arange(2), [(0, False)]), rows(2, 4, 1)[None], torch.ones(1, 2), rows(2, 0, 1)
    )
    objective = make_objective("point_to_region", {Superpoints: q})
    found = {Members: Members(q, rows(40, 4, 2), torch.arange(40), torch.arange(40) % 2)}
    assert len({round(float(of(objective, found)), 5) for _ in range(6)}) > 3


def test_only_points_of_the_centres_sparse_cloud_are_members(student):
    batch = make_clip(0)
    model = Pretrainer(student, Fixed(), objectives=[{"type": "point_to_region"}], channels=6)
    seen: list[Members] = []
    model.objectives["point_to_region"].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    model.loss(batch)["loss"].backward()
    assert all(p.grad is not None for p in model.parameters())
    (members,) = seen
    clouds = batch.cloud[batch.pair_point]
    mine = [i for i in range(len(clouds)) if int(clouds[i]) == 1]  # clouds: -1, 0, 1, dense
    assert members.region.tolist() == members.superpoints.table.region[mine].tolist()
    assert members.voxel.tolist() == (batch.pair_point[mine] // 2).tolist()


def test_without_view_consistency_cameras_do_not_share_ids_and_times_do():
    batch = make_clip(0)
    table = region_table(batch, scope="camera")
    for pair in range(len(batch.pair_point)):
        for other in range(pair):
            same_camera = batch.image_camera[batch.pair_image[[pair, other]]].unique().numel() == 1
            same_id = batch.pair_region[pair] == batch.pair_region[other]
            same_region = table.region[pair] == table.region[other]
            assert bool(same_region) == (same_camera and bool(same_id))
    assert table.neighbours() == [-1, 1]


@pytest.mark.parametrize("pixels", ["all", "hit"])
def test_superpixels_of_a_camera_are_those_of_its_images(student, pixels):
    batch = make_clip(0)
    model = Pretrainer(
        student,
        Fixed(),
        objectives=[{"type": "spatial"}],
        channels=None,
        region={"scope": "camera"},
        pixels=pixels,
        normalize="after",
    )
    seen = []
    model.objectives["spatial"].register_forward_pre_hook(lambda _, given: seen.append(given[1]))
    model.loss(batch)
    (k,) = seen
    for region, (owner, name) in enumerate(zip(k.table.owner.tolist(), k.table.ids.tolist())):
        image = int(((batch.image_offset == 0) & (batch.image_camera == owner)).nonzero()[0])
        full = F.interpolate(batch.images[[image]], batch.view_size, mode="bilinear", align_corners=False)[0]
        if pixels == "all":
            v, u = (batch.superpixels[image] == name).nonzero().T
        else:
            dense = batch.cloud_dense[batch.cloud[batch.pair_point]]
            mine = (batch.pair_image == image) & (batch.pair_region == name) & ~dense
            u, v = batch.pair_pixel[mine].long().T
        assert float(k.counts[1, region]) == len(u)
        if len(u):
            wanted = F.normalize(full[:, v, u].mean(1), dim=0)
            assert torch.allclose(k.features[1, region], wanted, atol=1e-5)


def test_a_share_that_is_none_is_refused():
    with pytest.raises(InputError, match=r"tolerant_spatial: quantile is 1\.5; give a share"):
        make_objective("tolerant_spatial", {}, quantile=1.5)
