"""The stage before questions: what each token shall say, and that it learns to."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="needs the extra agents")
from superflow.agents.scene import SceneObject, SceneRecord
from superflow.agents.vlm.alignment import align, counts_of
from superflow.agents.vlm.bev import BevGrid
from superflow.agents.vlm.sft import Recipe
from superflow.agents.words import CATEGORIES
from superflow.errors import InputError

GRID = BevGrid(rows=8, columns=16, cell_m=2.5, tile=8)


def made_scene(seed: int) -> SceneRecord:
    """60 objects, some outside of the grid, too far away or of too few points."""
    rng = np.random.default_rng(seed)
    objects = tuple(
        SceneObject(
            str(i),
            CATEGORIES[rng.integers(len(CATEGORIES))],
            (float(rng.uniform(-14, 14)), float(rng.uniform(-24, 24)), 0.0),
            (1.0, 1.0, 1.0),
            0.0,
            points=int(rng.integers(2, 12)),
        )
        for i in range(60)
    )
    return SceneRecord(f"t{seed}", "s", objects)


@pytest.mark.parametrize("merge", [2, 4])
def test_counts_against_a_loop(merge):
    scene, side = made_scene(0), merge * GRID.cell_m
    found = counts_of(scene, GRID, merge, min_points=5, max_range_m=18.0)
    expected = []
    for left, right in ((20.0, 0.0), (0.0, -20.0)):  # tiles
        for front in np.arange(10.0, -10.0, -side):
            for y in np.arange(left, right, -side):
                inside = [
                    o.category
                    for o in scene.objects
                    if o.points >= 5
                    and o.range_m <= 18.0
                    and front - side < o.center[0] <= front
                    and y - side < o.center[1] <= y
                ]
                expected.append([inside.count(name) for name in CATEGORIES])
    assert found.tolist() == expected
    assert found.sum() > 20


def test_parts_of_a_square_are_squares_of_a_finer_grid():
    """Four parts of each token are the tokens of half the side, in their rows."""
    whole, fine = (counts_of(made_scene(1), GRID, 4, parts=parts) for parts in (1, 2))
    small = counts_of(made_scene(1), GRID, 2).reshape(2, 4, 4, -1)  # tiles, rows, columns
    for token in range(8):
        tile, row, column = token // 4, token // 2 % 2 * 2, token % 2 * 2
        parts = [small[tile, row + i, column + j] for i in range(2) for j in range(2)]
        assert torch.equal(fine[token], torch.cat(parts))
        assert torch.equal(whole[token], sum(parts))


def test_no_objects():
    assert not counts_of(SceneRecord("t", "s", ()), GRID, 4).any()


def test_tokens_learn_to_say_what_stands_in_their_squares(make_vlm):
    """Planes that show the objects among noise: the counts are told far better than by their means; the rest rests."""
    names = [str(seed) for seed in range(24)]
    counts = {name: counts_of(made_scene(int(name)), GRID, 4) for name in names}
    fine = {name: counts_of(made_scene(int(name)), GRID, 1) for name in names}
    noise = torch.Generator().manual_seed(0)
    planes = {}
    for name in names:
        # six of the categories
        cells = fine[name][:, :6].reshape(2, 8, 8, 6).permute(3, 1, 0, 2).reshape(6, 8, 16)
        planes[name] = torch.cat([5 * cells + 3, torch.zeros(1, 8, 16)]) + torch.randn(
            7, 8, 16, generator=noise
        )
    model, _ = make_vlm(merge=4, cell_width=8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    losses = align(
        model,
        planes,
        counts,
        Recipe(steps=120, batch=8, learning_rate=1e-2),
        generator=torch.Generator().manual_seed(0),
    )
    assert np.mean(losses[-10:]) < losses[0] - 0.08
    assert torch.allclose(
        model.model.connector.cells.mean, torch.stack([*planes.values()]).mean((0, 2, 3)), atol=1e-4
    )
    tokens, words = (
        model.get_lidar_features(torch.stack([*planes.values()])),
        model.get_input_embeddings().weight,
    )
    assert float(tokens.pow(2).mean()) == pytest.approx(float(words.pow(2).mean()), rel=1e-4)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.startswith("model.connector.") for name in changed)
    again, _ = make_vlm(merge=4, cell_width=8)
    same = align(again, planes, counts, Recipe(steps=3, batch=8), generator=torch.Generator().manual_seed(0))
    assert same == align(
        make_vlm(merge=4, cell_width=8)[0],
        planes,
        counts,
        Recipe(steps=3, batch=8),
        generator=torch.Generator().manual_seed(0),
    )


def test_what_cannot_be_aligned(make_vlm):
    drawn = torch.Generator()
    with pytest.raises(InputError, match="align a pixel_shuffle connector"):
        align(make_vlm(connector="q_former")[0], {}, {}, Recipe(), generator=drawn)
    with pytest.raises(InputError, match="must be those of the same scans"):
        align(make_vlm()[0], {"a": torch.zeros(7, 8, 16)}, {}, Recipe(), generator=drawn)
