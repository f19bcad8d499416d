"""Pointing beside answering: what each token shall say of a question, and its loss."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="needs the extra agents")
from superflow.agents.scene import SceneObject, SceneRecord
from superflow.agents.vlm.bev import BevGrid
from superflow.agents.vlm.pointing import Pointer, pointed_at
from superflow.agents.vlm.sft import Example, Recipe, train

GRID = BevGrid(rows=8, columns=8, cell_m=2.5, tile=8)


def made_scene() -> SceneRecord:
    rng = np.random.default_rng(0)
    objects = tuple(
        SceneObject(
            str(i),
            ("car", "bus", "pedestrian")[i % 3],
            (float(rng.uniform(-12, 12)), float(rng.uniform(-12, 12)), 0.0),
            (1.0, 1.0, 1.0),
            0.0,
            points=9 if i % 4 else 3,
        )
        for i in range(40)
    )
    return SceneRecord("t", "s", objects)


@pytest.mark.parametrize(
    ("query", "phrases"),
    [
        ("is there a car", [lambda o: o.category == "car"]),
        (
            "how many vehicles within 10 m of me are there",
            [lambda o: o.category in ("car", "bus") and math.hypot(*o.center[:2]) <= 10],
        ),
        ("what kind is the object within 5 m of me", [lambda o: math.hypot(*o.center[:2]) <= 5]),
        (
            "are there more buses than pedestrians",
            [lambda o: o.category == "bus", lambda o: o.category == "pedestrian"],
        ),
        ("how far is the car", []),
    ],
)
def test_each_token_points_at_what_is_meant_in_its_square(query, phrases):
    asked = {"query": query, "min_points": 5, "max_range_m": 30.0}
    found = pointed_at(made_scene(), asked, GRID, 4)
    expected = torch.zeros(4, 2)
    for column, meant in enumerate(phrases):
        for o in made_scene().objects:
            inside = max(map(abs, o.center[:2])) < 10
            if inside and o.points >= 5 and meant(o):
                expected[2 * (o.center[0] <= 0) + (o.center[1] <= 0), column] += 1
    assert torch.equal(found, expected)
    assert bool(found.any()) == bool(phrases)


def test_loss_of_pointing_against_a_loop():
    pointer = Pointer(6, torch.Generator().manual_seed(0))
    hidden = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(1))
    at = torch.tensor([[False, True, True, False, False], [False, False, True, True, False]])
    targets = torch.tensor([[[0.0, 2.0], [1.0, 0.0]], [[3.0, 0.0], [0.0, 0.0]]])
    total = 0.0
    for row in range(2):
        for token, place in enumerate(at[row].nonzero()[:, 0].tolist()):
            rates = pointer.head(hidden[row, place])
            total += float((rates.exp() - targets[row, token] * rates).sum().detach())
    assert float(pointer(hidden, at, targets).detach()) == pytest.approx(total / 2, rel=1e-5)


def test_training_learns_to_point(make_vlm):
    """The answers' loss is what is returned, and the words learn from the pointing, too."""
    model, processor = make_vlm(backbone=None, channels=6, grid=GRID, merge=4, question_first=True)
    processor.scans = {"a": torch.ones(7, 8, 8)}
    examples = [Example("a", "How many cars are ahead?", "2")] * 4
    targets = [torch.full((4, 2), 1.5)] * 4
    hidden = []

    def keep(_module, _inputs, outputs):
        hidden.append(float(outputs))

    register = torch.nn.modules.module.register_module_forward_hook(
        lambda module, inputs, outputs: keep(module, inputs, outputs) if isinstance(module, Pointer) else None
    )
    try:
        drawn = torch.Generator().manual_seed(0)
        losses = train(
            model,
            processor,
            examples,
            Recipe(steps=40, batch=4, learning_rate=1e-2),
            generator=drawn,
            pointing=targets,
        )
    finally:
        register.remove()
    assert len(losses) == len(hidden) == 40
    least = 8 * (1.5 - 1.5 * math.log(1.5))  # of eight rates that are all right
    assert hidden[0] > hidden[-1]
    assert hidden[-1] == pytest.approx(least, abs=0.4)
    assert losses[-1] < losses[0]
