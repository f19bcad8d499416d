"""Stages, whole clouds and prototypes of the teacher, against slow loops; and heads that get their gradients."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from small_batch import Fixed, make_clip, make_objective, of
from torch import Tensor

from superflow.clips.batch import collate
from superflow.errors import InputError
from superflow.method.distillation import balanced
from superflow.method.matches import CloudsInImages, StudentPairs
from superflow.method.objective import Sizes
from superflow.method.objectives import OBJECTIVES
from superflow.method.pretrainer import Pretrainer


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pairs() -> StudentPairs:
    return StudentPairs(random(5, 3, seed=1), torch.tensor([0, 3, 3, 1, 0, 2]), random(6, 9, seed=2))


def test_stage_regression_is_a_mean_over_the_last_stages_of_the_cosine_distance():
    torch.manual_seed(0)
    objective = OBJECTIVES["stage_regression"](sizes=Sizes(3, 9, 4, scales=(2, 3, 4)), stages=2)
    given = pairs()
    total = 0.0
    for head, columns in zip(objective.heads, (slice(2, 5), slice(5, 9))):
        for pixel, voxel in zip(given.pixel, given.voxel.tolist()):
            total += float(1 - F.cosine_similarity(head(given.voxels[voxel]), pixel[columns], dim=0).detach())
    assert float(of(objective, {StudentPairs: given}).detach()) == pytest.approx(total / 12, rel=1e-5)


def test_stages_that_the_features_do_not_have_are_refused():
    with pytest.raises(InputError, match="stages is 2, and the teacher's features have 1; set fewer, or"):
        OBJECTIVES["stage_regression"](sizes=Sizes(3, 9, 4, scales=(9,)))


@pytest.mark.parametrize("which", ["both clips", "one without an image at a time", "one without points"])
def test_global_regression_holds_the_maximum_of_a_cloud_against_the_mean_of_its_images(student, which):
    batch = collate([make_clip(0), make_clip(1)])
    if which == "one without an image at a time":
        batch = replace(batch, image_offset=batch.image_offset.clone())
        batch.image_offset[(batch.image_clip == 1) & (batch.image_offset == 1)] = 5
    if which == "one without points":
        batch = replace(batch, cloud=torch.where(batch.cloud == 2, 1, batch.cloud))
    torch.manual_seed(3)
    model = Pretrainer(student, Fixed(), objectives=[{"type": "global_regression"}], channels=6)
    head = model.objectives["global_regression"].head
    features = model.student(batch.points, batch.cloud, batch.num_clouds)
    terms = []
    for cloud in range(batch.num_clouds):
        if batch.cloud_dense[cloud]:
            continue
        mine = features.features[features.inverse[batch.cloud == cloud]]
        images = [
            batch.images[i].mean((1, 2))
            for i in range(len(batch.images))
            if batch.image_clip[i] == batch.cloud_clip[cloud]
            and batch.image_offset[i] == batch.cloud_offset[cloud]
        ]
        if len(mine) and images:
            target = torch.stack(images).mean(0)
            terms.append(1 - F.cosine_similarity(head(mine.max(0).values), target, dim=0))
    assert len(terms) == {"both clips": 6}.get(which, 5)
    out = model.loss(batch)
    assert float(out["loss"].detach()) == pytest.approx(float(torch.stack(terms).mean().detach()), rel=1e-5)
    out["loss"].backward()
    assert all(p.grad is not None for p in model.parameters())


def slow_balanced(logits: Tensor, zipf: float, rounds: int) -> list[list[float]]:
    columns = logits.shape[1]
    shares = [[math.exp(v) for v in row] for row in logits.tolist()]
    shares = [[v / sum(row) for v in row] for row in shares]
    masses = [sum(row[c] for row in shares) for c in range(columns)]
    wanted = [0.0] * columns
    for rank, column in enumerate(sorted(range(columns), key=lambda c: -masses[c])):
        wanted[column] = (rank + 1) ** -zipf
    for _ in range(rounds):
        masses = [sum(row[c] for row in shares) for c in range(columns)]
        shares = [[v * wanted[c] / masses[c] for c, v in enumerate(row)] for row in shares]
        shares = [[v / sum(row) for v in row] for row in shares]
    return shares


@pytest.mark.parametrize(("zipf", "rounds"), [(1.0, 3), (0.0, 3), (1.0, 0)])
def test_prototypes_are_a_cross_entropy_with_balanced_maps_of_the_teacher(zipf, rounds):
    torch.manual_seed(0)
    given = pairs()
    options = {"prototypes": 4, "temperature": 0.3, "target_temperature": 0.2, "zipf": zipf, "rounds": rounds}
    objective = make_objective("prototypes", {StudentPairs: given}, **options)
    prototypes = F.normalize(objective.prototypes.detach(), dim=1)
    logits = F.normalize(given.pixel, dim=1) @ prototypes.T / 0.2
    wanted = slow_balanced(logits, zipf, rounds)
    total = 0.0
    for row, voxel in zip(wanted, given.voxel.tolist()):
        point = F.normalize(objective.head(given.voxels[voxel]), dim=0).detach()
        scores = [float(point @ prototype) / 0.3 for prototype in prototypes]
        whole = math.log(sum(map(math.exp, scores)))
        total -= sum(share * (score - whole) for share, score in zip(row, scores))
    assert float(of(objective, {StudentPairs: given}).detach()) == pytest.approx(total / 6, rel=1e-4)


def test_balanced_maps_come_to_the_masses_of_zipfs_law():
    shares = balanced(random(4000, 5, seed=4), zipf=1.0, rounds=50)
    masses = shares.sum(0).sort(descending=True).values
    law = torch.tensor([1 / r for r in range(1, 6)])
    torch.testing.assert_close(masses / masses.sum(), law / law.sum(), rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(shares.sum(1), torch.ones(4000))


def test_prototypes_teach_points_to_look_like_their_pixels():
    """Else a constant map would do, too: after training, pairs are nearer than shuffled ones."""
    torch.manual_seed(0)
    given = StudentPairs(
        random(60, 3, seed=5), torch.arange(60), random(60, 3, seed=5) @ random(3, 6, seed=6)
    )
    objective = make_objective("prototypes", {StudentPairs: given}, prototypes=8, zipf=0.0)
    optimizer = torch.optim.Adam(objective.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        of(objective, {StudentPairs: given}).backward()
        optimizer.step()
    shuffled = replace(given, pixel=given.pixel.roll(1, 0))
    assert of(objective, {StudentPairs: given}) < of(objective, {StudentPairs: shuffled}) - 0.5


def test_own_heads_need_no_others(student):
    names = ("stage_regression", "global_regression", "prototypes")
    model = Pretrainer(student, Fixed(), objectives=[{"type": name} for name in names])
    assert not list(model.point_head.parameters()) + list(model.image_head.parameters())
    model.loss(make_clip(0))["loss"].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_clouds_in_images_takes_a_voxel_once():
    found = CloudsInImages(
        torch.eye(3), torch.tensor([0, 0, 1]), torch.ones(2, 4), torch.tensor([True, False])
    )
    objective = OBJECTIVES["global_regression"](sizes=Sizes(3, 4, 4))
    wanted = 1 - F.cosine_similarity(objective.head(torch.tensor([1.0, 1.0, 0.0])), torch.ones(4), dim=0)
    assert float(objective(found).detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)
