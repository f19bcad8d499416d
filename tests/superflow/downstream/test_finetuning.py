"""Fine-tuning in memory: its parts against plain twins, and the whole of it on a made log."""

from __future__ import annotations

import copy
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from superflow.datasets.frame import IGNORE_LABEL
from superflow.downstream.budgets import Budget, choose_scans, labelled_scans
from superflow.downstream.evaluation import evaluate_heads
from superflow.downstream.finetuning import (
    RANGES,
    Checks,
    Recipe,
    _one_cycle,
    fine_tune,
    rate_groups,
    thinned,
)
from superflow.downstream.segmentor import Segmentor
from superflow.downstream.taking_over import is_encoder_half, rescale, stage_of, take_over
from superflow.errors import InputError
from superflow.lidar.augment import augment
from superflow.lidar.encoder import LidarEncoder

SHORT = Recipe(steps=4, rate=2e-3, head_rate=5e-3, points=None)


def states_equal(a, b, chosen=lambda name: True):
    return all(torch.equal(value, b[name]) for name, value in a.items() if chosen(name))


def plain_fine_tuning(encoder, scans, classes, recipe, seed):
    """The twin: one scan at a time, the loss and the rates written out, every parameter in a group of its own."""
    body = LidarEncoder(**encoder.config())
    body.load_state_dict(encoder.state_dict())
    torch.manual_seed(seed)
    head = torch.nn.Linear(body.out_channels, classes)
    counts = torch.stack([torch.bincount(s.labels, minlength=256)[:classes] for s in scans]).sum(0).double()
    weights = torch.where(counts > 0, counts.clamp(min=1) ** -0.5, torch.zeros_like(counts))
    weights = torch.where(counts > 0, weights / weights[counts > 0].mean(), torch.ones_like(weights)).float()
    peaks = [recipe.head_rate] * 2 + [recipe.rate] * len(list(body.parameters()))
    parameters = [*head.parameters(), *body.parameters()]
    optimiser = torch.optim.AdamW(
        [{"params": [p], "lr": rate} for p, rate in zip(parameters, peaks)], weight_decay=recipe.weight_decay
    )
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, peaks, total_steps=recipe.steps, pct_start=recipe.warm, cycle_momentum=False
    )
    generator = torch.Generator().manual_seed(seed)
    order = []
    body.train()
    for _ in range(recipe.steps):
        order = order or torch.randperm(len(scans), generator=generator).tolist()
        scan = scans[order.pop()]
        points, _ = augment(scan.points, generator)
        found = body(points, torch.zeros(len(points), dtype=torch.int64), 1)
        logits = head(found.features)
        of_voxel = torch.full((len(logits),), IGNORE_LABEL)
        for voxel in range(len(logits)):
            own = scan.labels[(found.inverse == voxel) & (scan.labels != IGNORE_LABEL)]
            if len(own):
                of_voxel[voxel] = torch.bincount(own).argmax()
        known = of_voxel != IGNORE_LABEL
        each = F.cross_entropy(logits[known], of_voxel[known], reduction="none")
        share = weights[of_voxel[known]]
        loss = (each * share).sum() / share.sum()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimiser.step()
        cycle.step()
    return body, head


def test_it_is_what_a_plain_loop_does(log, encoder):
    scans = labelled_scans(log, [0, 3, 8], Budget(points=120), seed=1)
    source, head = fine_tune(encoder, scans, 4, SHORT, seed=5)
    body, plain = plain_fine_tuning(encoder, scans, 4, SHORT, seed=5)
    torch.testing.assert_close(head.weight, plain.weight.detach().T, rtol=1e-3, atol=1e-5)
    # Adam turns rounding of a gradient near 0 into a step, so single weights may differ
    start, expected = encoder.state_dict(), body.state_dict()
    for name, value in source.encoder.state_dict().items():
        apart = (value - expected[name]).abs().double().mean()
        assert apart <= 0.02 * (expected[name] - start[name]).abs().double().mean(), name


@pytest.mark.parametrize(("steps", "warm"), [(2, 0.5), (5, 0.2), (10, 0.1), (3, 1.0), (2, 0.0), (3, 0.2)])
def test_the_rate_goes_over_any_length(steps, warm):
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], 2.0)
    cycle = _one_cycle(optimiser, Recipe(steps=steps, warm=warm))
    rates = [2.0]
    for _ in range(steps):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        if len(rates) <= steps:
            cycle.step()
    rise = warm * steps - 1
    assert rates[1] == pytest.approx(2.0 / 25 if rise >= 0 else rates[1])
    assert rates[-1] == pytest.approx(2.0 if warm == 1 else 2.0 / 25e4)
    assert max(rates[1:]) <= 2.0


def test_a_short_recipe_trains(log, encoder):
    scans = labelled_scans(log, [0], Budget(points=60), seed=0)
    for steps, warm in ((5, 0.2), (2, 1.0)):
        assert fine_tune(encoder, scans, 4, replace(SHORT, steps=steps, warm=warm), seed=0)


def test_it_learns_from_few_points_and_repeats(log, encoder):
    before = copy.deepcopy(encoder.state_dict())
    scans = labelled_scans(log, [0, 1, 2, 3], Budget(points=60), seed=0)
    recipe = Recipe(steps=60, head_steps=10, points=500)
    found = [fine_tune(encoder, scans, 4, recipe, seed=3) for _ in range(2)]
    assert torch.equal(found[0][1].weight, found[1][1].weight)
    assert states_equal(before, encoder.state_dict())
    matrices = evaluate_heads(found[0][0], log, [8, 9], {"tuned": found[0][1]})
    assert matrices["tuned"].summary(log.card.classes)["accuracy"] > 80


@pytest.mark.parametrize(
    "changed", [{"averaging": 0.9}, {"layer_decay": 0.5}, {"lovasz": 1.0}, {"rescaled": True}]
)
def test_every_option_changes_what_comes_out(log, encoder, changed):
    scans = labelled_scans(log, [0, 1], Budget(), seed=0)
    with torch.no_grad():  # else the norms are those of initialisation already
        for parameter in encoder.parameters():
            parameter.mul_(2.0)
    plain = fine_tune(encoder, scans, 4, SHORT, seed=0)[1].weight
    assert not torch.allclose(
        plain, fine_tune(encoder, scans, 4, replace(SHORT, **changed), seed=0)[1].weight
    )


def test_classes_weigh_by_the_root_of_their_number_and_all_alike_beside_lovasz(log, encoder, monkeypatch):
    made = []

    class Spied(Segmentor):
        def __init__(self, *given, **options):
            made.append((options["class_weights"], options["lovasz_weight"]))
            super().__init__(*given, **options)

    monkeypatch.setattr("superflow.downstream.finetuning.Segmentor", Spied)
    scans = labelled_scans(log, [0, 1], Budget(), seed=0)
    for lovasz in (0.0, 2.0):
        fine_tune(encoder, scans, 4, replace(SHORT, steps=2, lovasz=lovasz), seed=0)
    counts = np.bincount(np.concatenate([scan.labels.numpy() for scan in scans]), minlength=256)[:4]
    weights = (made[0][0].numpy() * np.sqrt(counts))[counts > 0]
    assert len(weights) > 1
    assert np.allclose(weights, weights[0], rtol=1e-4)
    assert made[0][1] == 0.0
    assert made[1] == (None, 2.0)


def test_a_decoder_probe_trains_the_decoder_alone(log, encoder):
    scans = labelled_scans(log, [0, 1], Budget(), seed=0)
    recipe = replace(SHORT, keep="encoder", frozen="encoder")
    source, _ = fine_tune(encoder, scans, 4, recipe, seed=0)
    before, after = encoder.state_dict(), source.encoder.state_dict()
    down = [name for name in before if is_encoder_half(encoder, name)]
    up = [name for name in before if not is_encoder_half(encoder, name) and "weight" in name]
    assert down
    assert all(torch.equal(before[name], after[name]) for name in down)
    assert not any(torch.equal(before[name], after[name]) for name in up)


def test_what_is_kept_and_what_is_fresh(encoder):
    original = encoder.state_dict()
    assert states_equal(original, take_over(encoder, "all", seed=1).state_dict())
    half = take_over(encoder, "encoder", seed=1).state_dict()
    assert states_equal(original, half, lambda name: is_encoder_half(encoder, name))
    fresh = take_over(encoder, "nothing", seed=1).state_dict()
    assert states_equal(fresh, half, lambda name: not is_encoder_half(encoder, name))
    assert not torch.equal(fresh["backbone.stem.0.conv.weight"], original["backbone.stem.0.conv.weight"])


def test_stages_run_from_the_stem_to_the_head(encoder):
    names = [name for name, _ in encoder.named_parameters()]
    ways = len(encoder.backbone.resample)
    assert {stage_of(name) for name in names} == set(range(ways + 1))
    # the way down joins nothing; the way up begins where skips come back
    assert all("up" not in name for name in names if is_encoder_half(encoder, name))
    assert any(".up." in name for name in names if not is_encoder_half(encoder, name))


def test_rates_fall_from_the_head_down(encoder):
    model = Segmentor(encoder, 4)
    groups = rate_groups(model, Recipe(rate=1.0, head_rate=7.0, layer_decay=0.5))
    assert groups[0]["lr"] == 7.0
    top = len(encoder.backbone.resample)
    assert [group["lr"] for group in groups[1:]] == [0.5 ** (top - stage) for stage in range(top + 1)]
    held = sum(p.numel() for group in groups for p in group["params"])
    assert held == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("training", [True, False])
def test_rescaled_weights_are_the_same_function(log, encoder, training):
    scan = labelled_scans(log, [0], Budget(), seed=0)[0]
    cloud = torch.zeros(len(scan.points), dtype=torch.int64)
    encoder.train()
    for _ in range(3):  # statistics that are not those of initialisation
        encoder(scan.points, cloud, 1)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.mul_(1.7)
    other = copy.deepcopy(encoder)
    rescale(other)
    convolution = other.backbone.stem[1].conv
    expected = (2 / (27 * convolution.out_channels) * convolution.weight.numel()) ** 0.5
    assert float(convolution.weight.detach().norm()) == pytest.approx(expected, rel=1e-5)
    assert float(encoder.backbone.stem[1].conv.weight.detach().norm()) != pytest.approx(expected, rel=0.05)
    encoder.train(training)
    other.train(training)
    with torch.no_grad():
        a, b = (net(scan.points, cloud, 1).features for net in (encoder, other))
    torch.testing.assert_close(a, b, rtol=2e-2, atol=2e-3 * float(a.abs().max()))


# ---- budgets --------------------------------------------------------------------------------------------------


def test_a_budget_spreads_over_scenes_and_its_seed_chooses(log):
    rows = log.rows().tolist()
    two = [choose_scans(log, rows, 2, seed=seed) for seed in range(8)]
    assert all({log.scene(row) for row in chosen} == {"a", "b"} for chosen in two)
    assert len({tuple(chosen) for chosen in two}) > 3
    five = choose_scans(log, rows, 5, seed=0)
    assert sorted([sum(log.scene(row) == name for row in five) for name in "ab"]) == [2, 3]
    assert choose_scans(log, rows, None, seed=0) == rows
    with pytest.raises(InputError, match="a budget of 13 scans is more than the 12 training scans"):
        choose_scans(log, rows, 13, seed=0)


def test_a_budget_of_points_hides_the_other_labels_and_no_point(log):
    scan = labelled_scans(log, [4], Budget(points=20), seed=0)[0]
    whole = labelled_scans(log, [4], Budget(), seed=0)[0]
    known = scan.labels != IGNORE_LABEL
    assert int(known.sum()) == 20
    assert torch.equal(scan.points, whole.points)
    assert torch.equal(scan.labels[known], whole.labels[known])
    assert not torch.equal(scan.labels, labelled_scans(log, [4], Budget(points=20), seed=1)[0].labels)


def test_a_part_of_the_places_gets_its_share_of_the_scans():
    assert [Budget(n).scaled(5 / 7).scans for n in (1, 3, 7, 30)] == [1, 2, 5, 21]
    assert Budget(None, 20).scaled(0.5) == Budget(None, 20)


def test_few_labelled_points_survive_thinning_and_many_are_thinned_alike():
    labels = torch.full((1000,), IGNORE_LABEL)
    labels[::50] = 1
    kept = thinned(labels, 100, torch.Generator().manual_seed(0))
    assert len(kept) == 100
    assert int((labels[kept] == 1).sum()) == 20
    assert torch.equal(kept, kept.sort().values)
    dense = torch.ones(1000, dtype=torch.int64)
    dense[500:] = IGNORE_LABEL
    kept = thinned(dense, 100, torch.Generator().manual_seed(0))
    assert 25 < int((dense[kept] == 1).sum()) < 75


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rates": 1.0}, "'rates' is unknown; the keys are averaging"),
        ({1: 1.0, "rates": 1.0}, "1 is unknown; the keys are averaging"),
        ({"warm": True}, "warm is True; give a number"),
        ({"points": True}, "points is True; give a whole number from 1 on"),
        ({"rate": "6e-3"}, "rate is '6e-3'; give a number, with a point"),
        ({"steps": 1}, "steps is 1; give a whole number from 2 on"),
        ({"rate": -1e-3}, "rate is -0.001; give a number above 0"),
        ({"head_rate": float("nan")}, "head_rate is nan; give a number above 0"),
        ({"averaging": 1.5}, "averaging is 1.5; give a number from 0 to 0.999999"),
        ({"points": 0}, "points is 0; give a whole number from 1 on"),
        ({"points": 2.5}, "points is 2.5; give a whole number from 1 on"),
        ({"warm": 2.0}, "warm is 2.0; give a number from 0 to 1"),
        ({"steps": 2.5}, "steps is 2.5; give a whole number"),
        ({"keep": "half"}, "keep is 'half'; choose one of all, encoder, nothing"),
    ],
)
def test_a_wrong_recipe_is_one_sentence(options, message):
    with pytest.raises(InputError, match=message):
        Recipe.of(options)


def test_every_number_of_a_recipe_has_a_range():
    numbers = {f.name for f in fields(Recipe) if isinstance(f.default, int | float) and f.type != "bool"}
    assert numbers == set(RANGES)


def test_nothing_labelled_is_refused(log, encoder):
    scan = labelled_scans(log, [0], Budget(), seed=0)[0]
    bare = replace(scan, labels=torch.full_like(scan.labels, IGNORE_LABEL))
    with pytest.raises(InputError, match="none of the 1 scans has a labelled point"):
        fine_tune(encoder, [bare], 4, SHORT, seed=0)
    with pytest.raises(InputError, match="a budget's scans is 0"):
        Budget(0)


def test_checks_on_the_way_see_what_a_shorter_loop_has_and_change_nothing(log, encoder):
    scans = labelled_scans(log, [0, 1], Budget(), seed=0)
    plain = fine_tune(encoder, scans, 4, SHORT, seed=0)
    seen = []

    def judge(source, head):
        seen.append((source.encoder.training, head.weight.clone()))
        torch.rand(3)  # whatever a judge draws

    checked = fine_tune(encoder, scans, 4, SHORT, seed=0, checks=Checks((0.25, 0.75, 1.0), judge))
    assert torch.equal(plain[1].weight, checked[1].weight)
    assert states_equal(plain[0].encoder.state_dict(), checked[0].encoder.state_dict())
    assert [training for training, _ in seen] == [False, False]  # the end is judged by the caller
    assert not torch.equal(seen[0][1], seen[1][1])
    assert not torch.equal(seen[1][1], checked[1].weight)


def test_a_percentage_is_every_nth_scan_whatever_the_seed(log):
    rows = [9, 0, 2, 3, 5, 7]
    for percent in (1, 5, 10, 25, 50, 100):
        plain = [row for place, row in enumerate(sorted(rows)) if place % round(100 / percent) == 0]
        assert all(Budget(percent=percent).rows(log, rows, seed=seed) == plain for seed in (0, 1))
    assert Budget(percent=10).scaled(0.5) == Budget(percent=10)
    assert "percent" not in Budget(scans=2).record()  # hashes of rows of before stay
    assert len(labelled_scans(log, rows, Budget(percent=100), seed=0, most=2)) == 2
    assert len(labelled_scans(log, rows, Budget(percent=50), seed=0, most=9)) == 3
    for wrong in (0, -5, 150, 3, True, "10"):
        with pytest.raises(InputError, match=r"percent|%"):
            Budget(percent=wrong)
