"""What every objective keeps to, whatever it computes. New ones are found by their table."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import pytest
import torch
from small_batch import CLASSES, table_of, value

from superflow.method.matches import (
    CloudsInImages,
    EmbeddedPairs,
    LabelledPoints,
    Members,
    StudentPairs,
    Superpixels,
    Superpoints,
    TargetPairs,
)
from superflow.method.objective import RegionContrast
from superflow.method.objectives import OBJECTIVES

REGIONS, CHANNELS, PAIRS = 9, 6, 40
# two neighbours and a dense cloud; sparse groups first, by offset
GROUPS = [(-1, False), (0, False), (1, False), (0, True)]


def matches(seed: int = 0) -> dict[type, Any]:
    """Random features of everything an objective may read; some regions have no points or pixels."""
    draw = torch.Generator().manual_seed(seed)
    points = torch.randint(0, 4, (len(GROUPS), REGIONS), generator=draw).float()
    points[:, :3] = 2.0
    pixels = torch.randint(0, 4, (3, REGIONS), generator=draw).float()
    pixels[:, :3] = 2.0

    def random(*shape: int, learned: bool = True) -> torch.Tensor:
        return torch.randn(*shape, CHANNELS, generator=draw, requires_grad=learned)

    table, voxel = table_of(torch.arange(REGIONS), GROUPS), torch.arange(PAIRS)
    teacher, pixel = random(REGIONS, learned=False), random(PAIRS, learned=False)
    q = Superpoints(table, random(len(GROUPS), REGIONS), points, teacher)
    return {
        Superpoints: q,
        Members: Members(
            replace(q, features=random(len(GROUPS), REGIONS)), random(PAIRS), voxel, voxel % REGIONS
        ),
        Superpixels: Superpixels(table, random(3, REGIONS), pixels),
        TargetPairs: TargetPairs(random(PAIRS), voxel, pixel),
        EmbeddedPairs: EmbeddedPairs(random(PAIRS), voxel, pixel, torch.nn.Identity()),
        StudentPairs: StudentPairs(random(PAIRS), voxel, pixel),
        CloudsInImages: CloudsInImages(random(PAIRS), voxel % 3, pixel[:3], torch.ones(3) > 0),
        LabelledPoints: LabelledPoints(random(PAIRS), voxel, voxel % CLASSES),
    }


def learned(found: dict[type, Any]) -> dict[type, torch.Tensor]:
    """What each input has a gradient for."""
    return {kind: part.voxels if hasattr(part, "voxels") else part.features for kind, part in found.items()}


objectives = pytest.mark.parametrize("name", sorted(OBJECTIVES))


@objectives
def test_one_finite_number_that_teaches_the_student(name):
    found = matches()
    loss = value(name, found)
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    loss.backward()
    gradients = {kind: part.grad for kind, part in learned(found).items() if part.grad is not None}
    assert set(gradients) == set(OBJECTIVES[name].reads)
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    (student,) = set(gradients) - {Superpixels}
    assert gradients[student].abs().sum() > 0


CONTRASTS = sorted(name for name, made in OBJECTIVES.items() if issubclass(made, RegionContrast))
OPTIONS = [{"same_id": "ignored"}, {"same_id": "positive"}, {"tolerance": 0.5}, {"symmetric": True}]
OPTIONS += [{"queue": 8}]


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, {}) for name in sorted(OBJECTIVES)] + [(name, given) for name in CONTRASTS for given in OPTIONS],
)
def test_nothing_to_compare_is_zero_with_a_graph(name, options):
    """A rank, or a clip, without a single match must still step."""
    found = matches()
    for kind, part in found.items():
        if hasattr(part, "counts"):
            found[kind] = replace(part, counts=torch.zeros_like(part.counts))
        elif hasattr(part, "has_image"):
            found[kind] = replace(part, has_image=torch.zeros_like(part.has_image))
        else:
            found[kind] = replace(
                part,
                **{
                    name: getattr(part, name)[:0]
                    for name in ("voxel", "pixel", "label", "region")
                    if hasattr(part, name)
                },
            )
    loss = value(name, found, **options)
    assert loss.item() == 0
    loss.backward()


# features of the student beside their targets
MATCHED = {Superpoints, Superpixels, TargetPairs, EmbeddedPairs}


@pytest.mark.parametrize(
    "name", sorted(name for name, made in OBJECTIVES.items() if set(made.reads) <= MATCHED)
)
def test_matching_features_cost_less_than_shuffled_ones(name):
    found = matches()
    features = torch.nn.functional.normalize(torch.randn(REGIONS, CHANNELS), dim=1)
    target = torch.nn.functional.normalize(found[TargetPairs].pixel, dim=1)
    shift = torch.arange(REGIONS).roll(1)

    def loss(order: torch.Tensor, pairs: torch.Tensor) -> float:
        moved = features.expand(len(GROUPS), -1, -1).clone()
        moved[1] = features[order]  # the centre's sparse cloud
        made = {
            Superpoints: replace(found[Superpoints], features=moved),
            Superpixels: replace(found[Superpixels], features=features.expand(3, -1, -1)),
            **{kind: replace(found[kind], voxels=pairs) for kind in (TargetPairs, EmbeddedPairs)},
        }
        return value(name, made).item()

    assert loss(torch.arange(REGIONS), target) < loss(shift, target.roll(1, 0)) - 0.1


@objectives
def test_inputs_stay_as_they_were_and_options_are_named(name):
    found = matches()
    before = {kind: part.detach().clone() for kind, part in learned(found).items()}
    value(name, found)
    assert all(torch.equal(part, before[kind]) for kind, part in learned(found).items())
    kinds = [p.kind for p in inspect.signature(OBJECTIVES[name].__init__).parameters.values()][1:]
    assert set(kinds) <= {inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD}
