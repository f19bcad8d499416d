"""What every objective keeps to, whatever it computes. New ones are found by their table."""

from __future__ import annotations

import inspect
from dataclasses import fields, replace

import pytest
import torch
from small_batch import table_of

from superflow.method.matches import Matches
from superflow.method.negatives import NegativeQueue
from superflow.method.objectives import OBJECTIVES

ROWS, CHANNELS, PAIRS = 9, 6, 40
# two neighbours and a dense cloud; sparse slots first, by offset
SLOTS = [(-1, False), (0, False), (1, False), (0, True)]


def matches(seed: int = 0) -> Matches:
    """Random features of everything an objective may read; some rows have no points or pixels."""
    draw = torch.Generator().manual_seed(seed)
    points = torch.randint(0, 4, (len(SLOTS), ROWS), generator=draw).float()
    points[:, :3] = 2.0
    pixels = torch.randint(0, 4, (3, ROWS), generator=draw).float()
    pixels[:, :3] = 2.0
    return Matches(
        table=table_of(torch.arange(ROWS), SLOTS),
        superpoints=torch.randn(len(SLOTS), ROWS, CHANNELS, generator=draw, requires_grad=True),
        points=points,
        superpixels=torch.randn(3, ROWS, CHANNELS, generator=draw, requires_grad=True),
        pixels=pixels,
        voxels=torch.randn(PAIRS, CHANNELS, generator=draw, requires_grad=True),
        pair_voxel=torch.arange(PAIRS),
        pair_pixel=torch.randn(PAIRS, CHANNELS, generator=draw),
        embedded=torch.randn(PAIRS, CHANNELS, generator=draw, requires_grad=True),
        image_head=torch.nn.Identity(),
        teacher_rows=torch.randn(ROWS, CHANNELS, generator=draw),
    )


def learned(found: Matches) -> list[torch.Tensor]:
    values = [getattr(found, field.name) for field in fields(found)]
    return [value for value in values if isinstance(value, torch.Tensor) and value.requires_grad]


objectives = pytest.mark.parametrize("name", sorted(OBJECTIVES))


@objectives
def test_one_finite_number_that_teaches_the_student(name):
    found = matches()
    loss = OBJECTIVES[name][0](found)
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    loss.backward()
    gradients = [value.grad for value in learned(found) if value.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)
    student = {"superpoints": found.superpoints, "pairs": found.voxels, "embedded pairs": found.embedded}
    reached = [student[what].grad for what in OBJECTIVES[name][1] & set(student)]
    assert len(reached) == 1
    assert reached[0].abs().sum() > 0


CONTRASTS = sorted(name for name, (_, reads) in OBJECTIVES.items() if "superpoints" in reads)
OPTIONS = [{"same_id": "ignored"}, {"same_id": "positive"}, {"tolerance": 0.5}, {"symmetric": True}]
OPTIONS += [{"queue": NegativeQueue(8, CHANNELS)}]


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, {}) for name in sorted(OBJECTIVES)] + [(name, given) for name in CONTRASTS for given in OPTIONS],
)
def test_nothing_to_compare_is_zero_with_a_graph(name, options):
    """A rank, or a clip, without a single match must still step."""
    full = matches()
    empty = replace(
        full,
        points=torch.zeros_like(full.points),
        pixels=torch.zeros_like(full.pixels),
        pair_voxel=full.pair_voxel[:0],
        pair_pixel=full.pair_pixel[:0],
    )
    loss = OBJECTIVES[name][0](empty, **options)
    assert loss.item() == 0
    loss.backward()


@objectives
def test_matching_features_cost_less_than_shuffled_ones(name):
    found = matches()
    features = torch.nn.functional.normalize(torch.randn(ROWS, CHANNELS), dim=1)
    target = torch.nn.functional.normalize(found.pair_pixel, dim=1)
    shift = torch.arange(ROWS).roll(1)

    def loss(order: torch.Tensor, pairs: torch.Tensor) -> float:
        moved = features.expand(len(SLOTS), -1, -1).clone()
        moved[1] = features[order]  # the centre's sparse cloud
        made = replace(
            found,
            superpoints=moved,
            superpixels=features.expand(3, -1, -1),
            voxels=pairs,
            embedded=pairs,
        )
        return OBJECTIVES[name][0](made).item()

    assert loss(torch.arange(ROWS), target) < loss(shift, target.roll(1, 0)) - 0.1


@objectives
def test_inputs_stay_as_they_were_and_options_are_named(name):
    found = matches()
    before = [value.detach().clone() for value in learned(found)]
    function = OBJECTIVES[name][0]
    function(found)
    assert all(torch.equal(value, old) for value, old in zip(learned(found), before))
    kinds = [parameter.kind for parameter in inspect.signature(function).parameters.values()][1:]
    assert set(kinds) <= {inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD}
