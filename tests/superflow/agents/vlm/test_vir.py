"""Fewer tokens for tiles that tell little: where tokens go, what is saved, and what both stages learn."""

from __future__ import annotations

import copy

import pytest
import torch

pytest.importorskip("transformers", reason="needs the extra agents")
from superflow.agents.vlm import load_vlm, vir, vir_training
from superflow.agents.vlm.bev import BevGrid
from superflow.agents.vlm.sft import Example, Recipe, train
from superflow.errors import InputError

from .asking import QUESTION, ask


@pytest.fixture
def routed(make_vlm):
    """Tiles of 4 x 4 cells, four tokens where they are kept and one where they are not."""
    model, processor = make_vlm(grid=BevGrid(rows=8, columns=16, cell_m=2.5, tile=4), merge=2, short_merge=4)
    return model, processor


@pytest.fixture
def planes(routed):
    drawn = torch.Generator().manual_seed(2)
    return torch.rand(3, routed[0].config.tower_config.channels + 1, 8, 16, generator=drawn)


def test_tokens_are_joined_as_by_a_loop():
    drawn = torch.Generator().manual_seed(0)
    full, short = torch.randn(3, 20, 6, generator=drawn), torch.randn(3, 10, 6, generator=drawn)
    kept = torch.rand(3, 5, generator=drawn) < 0.5
    expected = []
    for scan in range(3):
        for tile in range(5):
            part = (
                full[scan, 4 * tile : 4 * tile + 4]
                if kept[scan, tile]
                else short[scan, 2 * tile : 2 * tile + 2]
            )
            expected += list(part)
    assert torch.equal(vir.join_tokens(full, short, kept), torch.stack(expected))


def test_placeholders_are_written_after_the_tiles_are_chosen(routed, planes):
    """Rows of unlike lengths, one with two scans, one with none: each place has the token whose turn it is."""
    model, processor = routed
    kept = torch.rand(3, 8, generator=torch.Generator().manual_seed(1)) < 0.5
    waiting = iter(kept)
    processor.route = lambda seen: next(waiting)
    batch = ask(processor, [planes[0], planes[1]], [], [planes[2]])
    assert torch.equal(batch["tiles_kept"], kept)
    counts = [int(4 * row.sum() + (~row).sum()) for row in kept]
    places = (batch["input_ids"] == processor.lidar_token_id).sum(1).tolist()
    assert places == [counts[0] + counts[1], 0, counts[2]]
    assert model.model.token_counts(kept).tolist() == counts
    tokens = model.get_lidar_features(pixel_values=planes, tiles_kept=kept)
    words = model.get_input_embeddings()(batch["input_ids"])
    merged = model.model.merge(batch["input_ids"], words, tokens, batch["lidar_rows"], torch.tensor(counts))
    left = list(tokens)
    for row, ids in enumerate(batch["input_ids"].tolist()):
        for place, token in enumerate(ids):
            expected = left.pop(0) if token == processor.lidar_token_id else words[row, place]
            assert torch.equal(merged[row, place], expected)
    assert not left
    # tokens that were made elsewhere, as a perception server does
    text = {name: batch[name] for name in ("input_ids", "attention_mask", "lidar_rows")}
    elsewhere = model(**text, lidar_embeds=tokens, lidar_lengths=torch.tensor(counts)).logits
    assert torch.equal(elsewhere, model(**batch).logits)


def test_one_short_here_and_one_long_there_is_seen(routed, planes):
    model, processor = routed
    waiting = iter(torch.tensor([[True] * 8, [False] * 8]))
    processor.route = lambda seen: next(waiting)
    batch = ask(processor, [planes[0]], [planes[1]])
    with pytest.raises(InputError, match=r"row 0 has 32 LiDAR placeholders and 8 tokens"):
        model(**{**batch, "tiles_kept": batch["tiles_kept"].flip(0)})


def test_all_tiles_kept_is_the_model_without_a_router(routed, planes):
    model, processor = routed
    plain = ask(processor, [planes[0]], [planes[1]])
    assert "tiles_kept" not in plain
    processor.route = lambda seen: torch.ones(8, dtype=torch.bool)
    assert torch.equal(model(**ask(processor, [planes[0]], [planes[1]])).logits, model(**plain).logits)


def test_saved_and_loaded_with_its_budgets(routed, scan, planes, tmp_path):
    model, processor = routed
    vir.set_budgets(model, planes, (0.25, 0.5))
    vir.route_with(processor, model, 0.5)
    rows = ask(processor, [scan(0)], [scan(1, 150)])
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again, its_processor = load_vlm(tmp_path)
    vir.route_with(its_processor, again, 0.5)
    same = ask(its_processor, [scan(0)], [scan(1, 150)])
    assert all(torch.equal(same[name], rows[name]) for name in rows)
    assert torch.equal(again(**same).logits, model(**rows).logits)
    written = model.generate(**rows, max_new_tokens=4, eos_token_id=None)
    assert torch.equal(again.generate(**same, max_new_tokens=4, eos_token_id=None), written)


def test_generation_against_a_loop_without_cache(routed, planes):
    model, processor = routed
    waiting = iter(torch.rand(2, 8, generator=torch.Generator().manual_seed(4)) < 0.5)
    processor.route = lambda seen: next(waiting)
    batch = ask(processor, [planes[0]], [planes[1]])
    written = model.generate(**batch, max_new_tokens=4, eos_token_id=None)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    for _ in range(4):
        logits = model(**{**batch, "input_ids": ids, "attention_mask": mask}).logits[:, -1]
        ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], 1)
        mask = torch.cat([mask, mask.new_ones(2, 1)], 1)
    assert torch.equal(written, ids)


def test_five_budgets_of_one_router(routed, planes):
    model, processor = routed
    vir.set_budgets(model, planes)
    before = torch.zeros(3, 8, dtype=torch.bool)
    for share in vir.SHARES:
        vir.route_with(processor, model, share)
        kept = torch.stack([processor.route(each) for each in planes])
        assert abs(int(kept.sum()) - share * kept.numel()) <= 1
        assert (kept | before).equal(kept)  # a larger budget keeps what a smaller one kept
        before = kept
    with pytest.raises(InputError, match=r"no budget 0\.3; it has 0\.1, 0\.25"):
        vir.route_with(processor, model, 0.3)
    vir.route_with(processor, model, None)
    assert "tiles_kept" not in ask(processor, [planes[0]])


def test_scores_of_other_ways_against_loops():
    grid = BevGrid(rows=8, columns=16, cell_m=2.5, ahead_m=3.0, tile=4)
    drawn = torch.Generator().manual_seed(0)
    xy = torch.rand(500, 2, generator=drawn, dtype=torch.float64) * 36 - 18
    cells = grid.cells(xy)
    count = torch.bincount(cells[cells >= 0], minlength=128).reshape(1, 1, 8, 16)
    points = vir.point_scores(torch.log1p(count.float()), grid)[0]
    near = vir.range_scores(count.float(), grid)[0]
    bounds = grid.tile_bounds()
    assert len(bounds) == grid.tiles == 8
    for tile, (x0, y0, x1, y1) in enumerate(bounds):
        inside = (xy[:, 0] > x0) & (xy[:, 0] <= x1) & (xy[:, 1] > y0) & (xy[:, 1] <= y1)
        assert round(float(points[tile])) == int(inside.sum())
        assert float(near[tile]) == pytest.approx(-((((x0 + x1) / 2) ** 2 + ((y0 + y1) / 2) ** 2) ** 0.5))


def test_equal_shares_keep_equally_many():
    scores = torch.tensor([[3.0, 1.0, 1.0], [1.0, 5.0, 0.0]])
    assert vir.keep_highest(scores, 0.5).tolist() == [[True, True, False], [False, True, False]]
    assert int(vir.keep_highest(scores, 0.0).sum()) == 0
    assert bool(vir.keep_highest(scores, 1.0).all())


def test_divergence_against_a_loop():
    drawn = torch.Generator().manual_seed(0)
    wanted, found = torch.randn(1, 7, 5, generator=drawn), torch.randn(1, 4, 5, generator=drawn)
    labels = torch.tensor([[-100, -100, -100, -100, 1, 2, -100]])
    own = torch.tensor([[-100, 1, 2, -100]])
    expected = 0.0
    for there, here in ((3, 0), (4, 1)):
        p, q = wanted[0, there].softmax(0), found[0, here].softmax(0)
        expected += float((p * (p / q).log()).sum()) / 2
    (value,) = vir_training.answer_divergence(wanted, labels, found, own)
    assert float(value) == pytest.approx(expected, rel=1e-5)
    (same,) = vir_training.answer_divergence(wanted, labels, wanted, labels)
    assert float(same) == pytest.approx(0.0, abs=1e-6)


def test_border_slides():
    border = vir_training.SlidingBorder(4, 0.5)
    assert border.labels(torch.tensor([1.0, 2.0, 3.0, 4.0])).tolist() == [0, 0, 1, 1]
    assert border.labels(torch.tensor([9.0, 8.0])).tolist() == [1, 1]  # of 3, 4, 9, 8
    assert border.labels(torch.tensor([9.0, 8.0, 7.0, 5.0])).tolist() == [1, 1, 0, 0]


def test_the_second_projector_begins_as_the_first(routed):
    model, _ = routed
    vir_training.start_short(model)
    full, short = model.model.connector, model.model.short_connector
    drawn = torch.randn(3, full.linear_1.in_features, generator=torch.Generator().manual_seed(0))
    wide = drawn.reshape(3, 2, 2, -1).tile(2, 2, 1).flatten(1)  # four equal squares
    one = full.linear_1(full.layer_norm(drawn))
    assert torch.allclose(short.linear_1(short.layer_norm(wide)), one, atol=1e-5)
    assert torch.equal(short.linear_2.weight, full.linear_2.weight)


@pytest.fixture
def learned(routed, planes):
    """A model that has learned to tell three scans apart, and its examples."""
    model, processor = routed
    processor.scans = {f"s{i}": each for i, each in enumerate(planes)}
    examples = [Example(f"s{i}", QUESTION, str(i + 1)) for i in range(3)]
    recipe = Recipe(steps=40, batch=6, learning_rate=3e-3)
    train(model, processor, examples, recipe, generator=torch.Generator().manual_seed(0))
    return model, processor, examples


def test_answers_of_short_tokens_become_those_of_full_ones(learned):
    model, processor, examples = learned
    reference = copy.deepcopy(model)
    router = copy.deepcopy(model.model.router.state_dict())

    def short_divergence() -> float:
        prompts = vir_training.Prompts(processor, examples)
        kept = torch.ones(3, 8, dtype=torch.bool)
        full, full_labels = prompts.batch([0, 1, 2], kept)
        batch, labels = prompts.batch([0, 1, 2], ~kept)
        with torch.no_grad():
            wanted, found = reference(**full).logits, model(**batch).logits
        return float(vir_training.answer_divergence(wanted, full_labels, found, labels).mean())

    before = short_divergence()
    recipe = Recipe(steps=30, batch=6, learning_rate=3e-3)
    losses = vir_training.make_consistent(
        model, processor, examples, recipe, generator=torch.Generator().manual_seed(0)
    )
    assert len(losses) == 30
    assert short_divergence() < 0.3 * before
    assert processor.route is None  # as it was
    assert all(torch.equal(router[name], value) for name, value in model.model.router.state_dict().items())


@torch.no_grad()
def test_a_ratio_is_that_of_one_short_tile(learned):
    model, processor, examples = learned
    reference = copy.deepcopy(model)
    with torch.no_grad():
        model.model.connector.linear_2.bias += 0.3  # so that full tokens do not answer as the reference does
    prompts = vir_training.Prompts(processor, examples)
    tile = torch.tensor([0, 5, 7])
    found = vir_training.loss_ratios(model, reference, prompts, [0, 1, 2], tile, epsilon=0.01)
    for i in range(3):
        kept = torch.ones(1, 8, dtype=torch.bool)
        batch, labels = prompts.batch([i], kept)
        wanted = reference(**batch).logits
        full = vir_training.answer_divergence(wanted, labels, model(**batch).logits, labels)
        kept[0, tile[i]] = False
        other, other_labels = prompts.batch([i], kept)
        short = vir_training.answer_divergence(wanted, labels, model(**other).logits, other_labels)
        assert float(found[i]) == pytest.approx(float((short + 0.01) / (full + 0.01)), rel=1e-3)


def test_the_router_learns_which_tiles_matter_and_nothing_else_does(learned, monkeypatch):
    """Ratios that follow a plane's mean: the router finds out, in whatever order the tiles come."""
    model, processor, examples = learned
    planes = torch.stack([processor.scans[e.scan] for e in examples])
    worth = vir.to_tiles(planes, model.config.tower_config.bev)[..., 0].mean((2, 3))

    def ratios(model, reference, prompts, rows, tile, *, epsilon):
        return torch.stack([worth[i, t] for i, t in zip(rows, tile.tolist())])

    monkeypatch.setattr(vir_training, "loss_ratios", ratios)
    others = {n: v.clone() for n, v in model.state_dict().items() if ".router." not in n}
    recipe = vir_training.RouterRecipe(steps=150, batch=24, learning_rate=1e-2)
    vir_training.train_router(
        model, None, processor, examples, recipe, generator=torch.Generator().manual_seed(0)
    )
    scores = vir.router_scores(model, planes)
    high = worth >= worth.median()
    assert float(((scores > scores.median()) == high).float().mean()) > 0.8
    assert all(
        torch.equal(value, others[name]) for name, value in model.state_dict().items() if name in others
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"short_merge": 3}, "short_merge is 3"),
        ({"merge": 4, "short_merge": 2}, "no less than merge"),
        ({"connector": "q_former", "short_merge": 4}, "with pixel_shuffle"),
    ],
)
def test_second_projectors_that_cannot_be(make_vlm, options, said):
    with pytest.raises(InputError, match=said):
        make_vlm(**options)


def test_models_without_a_router_say_so(make_vlm, scan):
    model, processor = make_vlm()
    planes = model.model.get_lidar_planes(scan(0)[None])
    kept = torch.ones(1, 2, dtype=torch.bool)
    with pytest.raises(InputError, match="has no short tokens"):
        model.get_lidar_features(pixel_values=planes, tiles_kept=kept)
    with pytest.raises(InputError, match="has no router"):
        vir.router_scores(model, planes)
    with pytest.raises(InputError, match="none: set them with set_budgets"):
        vir.route_with(processor, model, 0.5)
    processor.route = lambda seen: kept[0]
    with pytest.raises(InputError, match="does not know the tokens of a tile"):
        ask(processor, [planes[0]])
