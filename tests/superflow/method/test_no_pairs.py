"""A step whose clouds no camera sees, or that have no points: zero loss, zero gradients, no crash."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_batch import CLASSES, Fixed

from superflow.method.objectives import OBJECTIVES
from superflow.method.pretrainer import Pretrainer

PAIR_FIELDS = ("pair_point", "pair_image", "pair_pixel", "pair_region")


@pytest.mark.parametrize("points", ["points", "no points"])
@pytest.mark.parametrize("scope", ["image", "clip", "batch"])
@pytest.mark.parametrize("pixels", ["all", "hit"])
@pytest.mark.parametrize("normalize", ["before", "after", "both"])
def test_a_step_without_pairs(student, clip, normalize, pixels, scope, points):
    batch = clip(0)
    batch = replace(batch, **{name: getattr(batch, name)[:0] for name in PAIR_FIELDS})
    batch = replace(batch, labels=torch.full_like(batch.labels, 255))
    if points == "no points":
        batch = replace(batch, points=batch.points[:0], cloud=batch.cloud[:0], labels=batch.labels[:0])
    torch.manual_seed(0)
    model = Pretrainer(
        student,
        Fixed(),
        objectives=[
            {"type": name}
            for name in OBJECTIVES
            if (scope != "image" or not name.endswith("temporal"))
            and (points == "no points" or name != "global_regression")  # which compares wholes
        ],
        channels=6,
        num_classes=CLASSES,
        region={"scope": scope},
        pixels=pixels,
        normalize=normalize,
    )
    out = model.loss(batch)
    assert out["loss"].item() == 0
    out["loss"].backward()
    # zero, not absent: with several ranks, gradients are averaged by name, and a rank without one would hang the others
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert without == []
    assert not any(parameter.grad.any() for parameter in model.parameters())


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_a_clip_alone_in_time_gives_every_parameter_a_gradient(student, clip, name):
    """Zeros where there is nothing to compare: a parameter without a gradient would hang the ranks that wait for it."""
    teacher = None if name == "segmentation" else Fixed()
    options = {"objectives": [{"type": name}], "channels": 6, "num_classes": CLASSES}
    model = Pretrainer(student, teacher, **options)
    model.loss(clip(0, offsets=(0,), dense=False))["loss"].backward()
    assert [key for key, parameter in model.named_parameters() if parameter.grad is None] == []
