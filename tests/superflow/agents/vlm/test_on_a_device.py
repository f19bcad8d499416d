"""What trains a model brings its batches and its own heads to where the model is; with a stand-in for a GPU."""

from __future__ import annotations

import copy

import pytest
import torch
from other_device import DEVICE, OtherDevice, moved

pytest.importorskip("transformers", reason="needs the extra agents")
from superflow.agents.vlm import vir_training
from superflow.agents.vlm.bev import BevGrid
from superflow.agents.vlm.sft import Example, Recipe, train

from .asking import QUESTION


@pytest.fixture
def routed(make_vlm):
    """A model on the device, its processor, and two questions on ready planes."""
    grid = BevGrid(rows=8, columns=16, cell_m=2.5, tile=4)
    model, processor = make_vlm(backbone=None, channels=6, grid=grid, merge=2, short_merge=4)
    processor.scans = {name: torch.rand(7, 8, 16) for name in "ab"}
    return moved(model), processor, [Example("a", QUESTION, "1"), Example("b", QUESTION, "2")]


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_pointing_is_learned_there(routed):
    model, processor, examples = routed
    targets = [torch.ones(32, 2)] * 2
    with OtherDevice():
        losses = train(
            model, processor, examples, Recipe(steps=1, batch=2), generator=seeded(), pointing=targets
        )
    assert len(losses) == 1
    assert {parameter.device for parameter in model.parameters()} == {DEVICE}


def test_short_tokens_and_the_router_learn_there(routed):
    model, processor, examples = routed
    recipe = Recipe(steps=2, batch=2)
    with OtherDevice():
        reference = copy.deepcopy(model)
        vir_training.start_short(model)
        losses = vir_training.make_consistent(model, processor, examples, recipe, generator=seeded())
        router = vir_training.RouterRecipe(steps=1, batch=2)
        losses += vir_training.train_router(model, reference, processor, examples, router, generator=seeded())
    assert len(losses) == 3
