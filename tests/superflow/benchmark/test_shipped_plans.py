"""The shipped plans of places: what they train, what they hold back, and where they agree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from superflow.benchmark.places.backbones import PlannedBackbone
from superflow.benchmark.places.logs import prepared_folder
from superflow.benchmark.places.plan import GIVEN, NO_SOURCE
from superflow.benchmark.places.plan_file import load_places_plan
from superflow.benchmark.places.recipe_search import grid_recipes
from superflow.benchmark.plan_file import find_plan, kind_of_plan
from superflow.benchmark.results import hash_of_config
from superflow.benchmark.shipped import SHIPPED
from superflow.downstream.finetuning import Recipe
from superflow.engine.config import load_config


def test_the_arms_of_the_shipped_plan_have_configs_that_take_their_options(tmp_path):
    path = find_plan(Path("places"))
    assert kind_of_plan(path) == "places"
    assert kind_of_plan(find_plan(Path("pandaset"))) == "one log"
    plan = load_places_plan(path)
    pairs = plan.backbones()
    assert (NO_SOURCE, "random") in pairs
    assert ("made", "made labels") in pairs
    assert ("street", "made labels") not in pairs  # its labels are what is evaluated there
    for source, arm in pairs:
        config = PlannedBackbone(plan, source, arm, 0, tmp_path).config()
        if source == "street" and arm == "SuperFlow++":
            assert config.train_dataloader.dataset.clouds.viewpoint_m == 10.0
            assert config.train_cfg.max_iters == 450
            assert config.train_dataloader.dataset.frames == ["scene-9002[0:40]"]
    for evaluation in plan.evaluations.values():
        for terms in (evaluation.train, evaluation.held_out, evaluation.evaluate):
            assert "08" not in terms  # held back
    for measure in plan.measures.values():
        if measure.grid:
            options = {key: value for key, value in measure.options.items() if key != "unlabelled"}
            assert len(grid_recipes(Recipe.of(options), measure.grid)) > 1


def test_the_scaling_plan_changes_one_thing_at_a_time(tmp_path):
    plan = load_places_plan(find_plan(Path("scaling")))
    assert plan.evaluations["kitti"] == load_places_plan(find_plan(Path("places"))).evaluations["kitti"]
    assert not any(measure.grid for measure in plan.measures.values())
    pairs = plan.backbones()
    assert len(pairs) == 17
    planned = {pair: PlannedBackbone(plan, *pair, 0, tmp_path) for pair in pairs}
    made = {pair: each.config() for pair, each in planned.items()}
    base = made[known := ("190 scenes", "3000 steps")]
    street_tiny = load_places_plan(find_plan(Path("places")))
    shipped = PlannedBackbone(street_tiny, "varied", "made labels", 0, tmp_path)
    assert planned[known].config_hash(base) == shipped.config_hash(shipped.config())
    for (_, arm), config in made.items():
        assert config.train_cfg.max_iters == int(arm.split()[0])
        assert config.train_dataloader.dataset.augmentation == base.train_dataloader.dataset.augmentation
    drives = {name: log.drive for name, log in plan.logs.items() if log.drive}
    assert drives["sixteen classes"] == drives["varied"]
    for name in ("sensor", "place", "appearance"):
        assert {**drives[name], "vary": []} == drives["plain"]
        assert drives[name]["vary"] == [name]


def test_the_plan_of_recipes_tries_what_places_tried_and_more(tmp_path):
    """So that copied backbones and trials serve: the same arms, splits and first values."""
    plan, known = (load_places_plan(find_plan(Path(name))) for name in ("recipes", "places"))
    assert plan.evaluations["kitti"] == known.evaluations["kitti"]
    shared = [
        (NO_SOURCE, "random"),
        ("street", "SuperFlow as published"),
        ("street", "SuperFlow++"),
        ("street", "per-point regression"),
        ("varied", "made labels"),
    ]
    given = {(GIVEN, "street-tiny"), (GIVEN, "street-tiny-averaged")}
    assert set(plan.backbones()) == {*shared, *given}
    for pair in shared:
        ours, theirs = (PlannedBackbone(p, *pair, 0, tmp_path) for p in (plan, known))
        assert ours.config_hash(ours.config()) == theirs.config_hash(theirs.config())
    tuned, before = plan.measures["fine-tuning"], known.measures["fine-tuning"]
    tried = {recipe.text() for recipe in grid_recipes(Recipe(), before.grid)}
    assert tried < {recipe.text() for recipe in grid_recipes(Recipe(), tuned.grid)}
    assert {name: tuned.budgets[name] for name in before.budgets} == dict(before.budgets)
    assert tuned.recipe_of == before.recipe_of


def test_budgets_that_take_a_recipe_come_after_the_one_that_finds_it():
    plan = load_places_plan(find_plan(Path("places")))
    tasks = [budget for _, measure, budget in plan.tasks("random") if measure == "fine-tuning"]
    for budget, other in plan.measures["fine-tuning"].recipe_of.items():
        assert tasks.index(other) < tasks.index(budget)
    few = replace(plan.measures["fine-tuning"], arms=["random"], evaluations=["made"])
    tasks = replace(plan, measures={"fine-tuning": few}).tasks
    assert {evaluation for evaluation, _, _ in tasks("random")} == {"made"}
    assert tasks("SLidR") == []


def test_the_best_is_a_config_that_trains_as_the_arm_that_ships(tmp_path):
    plan, made = load_places_plan(find_plan(Path("places"))), SHIPPED["street-tiny"]
    arm = PlannedBackbone(plan, made.source, made.arm, made.seed, tmp_path).config(Path("images"))
    mine = load_config(
        "pretrain/best_small.py",
        options={"model.pretrained": "images"},
        data_root=prepared_folder(plan.logs[plan.sources[made.source].log], tmp_path),
        work_dir=arm.work_dir,
        launcher="none",
        resume=True,
        seed=made.seed,
    )
    assert hash_of_config(mine, {}) == hash_of_config(arm, {})


def test_the_averaged_plan_makes_what_it_measures(tmp_path):
    """Measured as it ships, and made by the arm that the script of shipped backbones trains."""
    plan, made = load_places_plan(find_plan(Path("averaged"))), SHIPPED["street-tiny-averaged"]
    assert made.rows in plan.backbones()
    assert (made.source, made.arm) in plan.backbones()
    further = plan.arms[plan.arms[made.arm].start]
    assert plan.arms[further.start].weights == "street-tiny"
    config = PlannedBackbone(plan, made.source, further.name, made.seed, tmp_path).config(Path("street-tiny"))
    assert (config.train_cfg.max_iters, config.model.pretrained) == (8000, "street-tiny")
    known = load_places_plan(find_plan(Path("places")))
    for name in plan.evaluations:
        assert plan.evaluations[name] == known.evaluations[name]
    tuned, other = (every.measures["fine-tuning"] for every in (plan, known))
    assert dict(tuned.budgets) == dict(other.budgets)
    assert tuned.options["rate"] in other.grid["rate"]
