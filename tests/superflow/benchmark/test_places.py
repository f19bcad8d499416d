"""A benchmark of places: its plan, its rows, and a small one from end to end."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from superflow.benchmark import measures, places, units
from superflow.benchmark.backbones import backbone_path, training_config
from superflow.benchmark.measures import MEASURES, Task
from superflow.benchmark.places_file import load_places_plan
from superflow.benchmark.places_logs import prepare_log
from superflow.benchmark.places_plan import GIVEN, NO_SOURCE, Log, MeasurePlan, PlacesArm
from superflow.benchmark.plan import load_plan
from superflow.benchmark.plan_file import find_plan
from superflow.benchmark.recipe_search import SEARCHES
from superflow.datasets.corruptions.domain import LEVELS
from superflow.downstream.budgets import Budget
from superflow.downstream.finetuning import Recipe
from superflow.downstream.metrics import ConfusionMatrix
from superflow.downstream.semi_supervised import WAYS
from superflow.errors import InputError
from superflow.hub.backbone import BackboneCard, save_backbone
from superflow.hub.encoder_file import build_encoder, read_encoder_file

SMALL = {
    "logs": {"street": {"root": "ROOT"}},
    "sources": {"street": {"log": "street", "frames": ["scene-0001"]}},
    "arms": {
        "random": {"kind": "random", "config": "pretrain/superflowpp_small.py"},
        "labels": {"kind": "supervised", "config": "downstream/supervised_small.py"},
        "more labels": {"kind": "supervised", "config": "downstream/supervised_small.py", "start": "labels"},
    },
    "evaluations": {
        "street": {
            "log": "street",
            "train": ["scene-0001"],
            "held_out": ["scene-0001[2:]"],
            "evaluate": ["scene-0003"],
        }
    },
    "measures": {
        "probe": {"options": {"max_points": 300, "iterations": 5, "knn_points": 20}},
        "fine-tuning": {
            "budgets": {"one": {"scans": 1, "points": 5}, "all": {}},
            "options": {"steps": 3, "points": 500},
            "grid": {"rate": [1e-3, 1e-2]},
            "recipe_of": {"one": "all"},
        },
        "decoder probe": {"options": {"steps": 2, "points": 500}},
        "robustness": {"options": {"max_points": 300, "iterations": 5, "corruptions": ["motion_blur"]}},
        "semi-supervised": {
            "options": {"steps": 2, "points": 500, "unlabelled": 2},
            "budgets": {"one": {"scans": 1}},
        },
    },
}


def changed(**parts) -> dict:
    return {**json.loads(json.dumps(SMALL)), **parts}


def written(tmp_path: Path, content: dict) -> Path:
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


# ---- plans ----------------------------------------------------------------------------------------------------


def test_logs_of_one_drive_share_its_folder(tmp_path):
    """What is made for the one is there for the other, with its own classes."""
    drive = {"scenes": 2, "val_scenes": 1, "seconds": 1.0, "lidar_hz": 2, "images": False}
    logs = {
        "fine": Log("fine", label_set="fine", drive=drive, drive_name="shared"),
        "coarse": Log("coarse", drive=drive, drive_name="shared"),
    }
    indices = {name: prepare_log(entry, tmp_path, jobs=1) for name, entry in logs.items()}
    assert [path.name for path in (tmp_path / "drives").iterdir()] == ["shared"]
    assert [len(index.card.classes) for index in indices.values()] == [26, 16]
    tokens = [index.tokens(index.rows("train")) for index in indices.values()]
    assert tokens[0] == tokens[1]


def test_an_entry_may_be_that_of_another_plan(tmp_path):
    written(tmp_path, SMALL).rename(tmp_path / "other.yaml")
    content = changed(evaluations={"street": "other.yaml"}, logs={"mine": {"root": "MINE"}})
    content["sources"] = {"mine": {"log": "mine"}}
    plan = load_places_plan(written(tmp_path, content))
    assert plan.evaluations["street"].evaluate == ["scene-0003"]
    assert {name: entry.root for name, entry in plan.logs.items()} == {"mine": "MINE", "street": "ROOT"}
    content["evaluations"] = {"road": "other.yaml"}
    with pytest.raises(InputError, match=r"'road' is to be that of other\.yaml, which has none of its own"):
        load_places_plan(written(tmp_path, content))


def test_some_budgets_alone_are_asked_for():
    plan = load_places_plan(find_plan(Path("places")))
    few = places.with_budgets(plan, ["1 scan", "7 scans"])
    found = {(measure, budget) for _, measure, budget in few.tasks("random")}
    assert found == {
        ("probe", "all"),
        ("fine-tuning", "1 scan"),
        ("fine-tuning", "7 scans"),
        ("decoder probe", "7 scans"),
        ("robustness", "all"),
        ("semi-supervised", "1 scan"),
    }
    with pytest.raises(InputError, match="the plan has no '2 scans'; it has all, 30 scans x 20 points"):
        places.with_budgets(plan, ["2 scans"])


def test_a_mix_is_made_of_the_logs_of_its_parts(tmp_path):
    content = yaml.safe_load(find_plan(Path("places")).read_text())
    content["sources"]["both"] = {"mix": {"street": 1.0, "made": 3.0}}
    content["arms"]["SuperFlow++"]["sources"] = ["both"]
    plan = load_places_plan(written(tmp_path, content))
    assert plan.logs_of(["both"], ["kitti"]) == ["street", "made", "kitti"]
    assert ("both", "SuperFlow++") in plan.backbones()
    config = training_config(plan, "both", plan.arms["SuperFlow++"], 0, tmp_path)
    mixed = config.train_dataloader.dataset
    assert mixed.type == "MixtureDataset"
    assert [part.weight for part in mixed.parts] == [1.0, 3.0]
    assert [part.index for part in mixed.parts] == [
        str(tmp_path / "prepared" / log) for log in ("street", "made")
    ]
    assert [part.clouds.get("viewpoint_m") for part in mixed.parts] == [10.0, None]
    # reduced to the same directions
    names = [Path(part.views.features).name for part in mixed.parts]
    assert names == ["efficientnet_lite0", "efficientnet_lite0_as_street"]
    options = config.train_cfg.max_iters, mixed.parts[0].times.offsets, mixed.parts[1].times.offsets
    assert options == (450, [-0.4, 0.0, 0.4], (-0.5, 0.0, 0.5))


def test_a_log_without_images_can_be_a_part_of_a_mix(tmp_path):
    plan = load_places_plan(find_plan(Path("own_log")))
    source, arm = "street and made streets", plan.arms["street-tiny, then SuperFlow++ beside made labels"]
    assert (source, arm.name) in plan.backbones()
    assert plan.logs_of([source], []) == ["street", "varied"]
    config = training_config(plan, source, arm, 0, tmp_path, Path("street-tiny"))
    seen, blind = config.train_dataloader.dataset.parts
    assert (blind.images, "views" in blind, blind.clouds.labels) == (False, False, True)
    assert ("images" in seen, "views" in seen, seen.clouds.labels) == (False, True, False)
    assert config.model.pretrained == "street-tiny"
    assert config.model.objectives[-1].type == "segmentation"

    blind_first = dict(reversed(plan.sources[source].mix.items()))
    swapped = replace(plan, sources={**plan.sources, source: replace(plan.sources[source], mix=blind_first)})
    parts = training_config(swapped, source, arm, 0, tmp_path).train_dataloader.dataset.parts
    assert ["views" in part for part in parts] == [False, True]
    assert (
        parts[1].views.features == seen.views.features
    )  # reduced to its own directions: the first has no images


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (changed(arm={}), "'arm' is unknown; the keys are logs, arms"),
        (changed(arms={}), "needs a mapping with the key arms"),
        (changed(arms={"a": 3}), "arms: 'a' is 3; give a mapping"),
        (changed(arms={"a": {"kind": "random"}}), "arms: 'a' lacks 'config'"),
        (changed(arms={"a": {"kind": "raw", "config": "x"}}), "kind 'raw' is unknown; use random"),
        (changed(sources={"s": {"log": "nowhere"}}), "sources: 's': there is no 'nowhere'"),
        (changed(sources={"s": {"log": "street", "mix": {"s": 1}}}), "needs either a log or a mix"),
        (changed(sources={"s": {"log": "street", "frame": 3}}), "sources: 's': 'frame' is unknown"),
        (changed(logs={"street": {"root": "x", "drive": {}}}), "has both a root and a drive"),
        (
            changed(evaluations={"street": {**SMALL["evaluations"]["street"], "variant": "rain/light"}}),
            "no corruption 'rain'",
        ),
        (changed(measures={"votes": {}}), "measures: 'votes': there is no 'votes'"),
        (changed(measures={"probe": {"budgets": {"x": {"scan": 1}}}}), "budgets: 'x': 'scan' is unknown"),
        (
            changed(measures={"probe": {"budgets": {"x": {"scans": 1}}}}),
            "'probe': learns from all training frames",
        ),
        (
            changed(measures={"robustness": {"grid": {"rate": [1.0]}}}),
            "'robustness': learns from all training",
        ),
        (
            changed(measures={"probe": {"options": {"max_point": 1}}}),
            "'probe': options: 'max_point' is unknown",
        ),
        (
            changed(measures={"probe": {"options": {"knn": 1.5}}}),
            "'probe': options: knn is 1.5; give a whole",
        ),
        (changed(measures={"robustness": {"options": {"corruptions": ["rain"]}}}), "there is no 'rain'"),
        (
            changed(measures={"fine-tuning": {"options": {"step": 3}}}),
            "'fine-tuning': recipe: 'step' is unknown",
        ),
        (
            changed(measures={"fine-tuning": {"options": {"checks": 3}}}),
            "'fine-tuning': checks is 3; give a list",
        ),
        (
            changed(measures={"semi-supervised": {"options": {"unlabelled": "a"}}}),
            "unlabelled is 'a'; give a whole",
        ),
        (
            changed(measures={"fine-tuning": {"grid": {"rates": [1.0]}}}),
            "grid: 'rates' is no field of a recipe",
        ),
        (changed(measures={"fine-tuning": {"grid": {"rate": []}}}), "grid: 'rate' has no values"),
        (
            changed(measures={"decoder probe": {"grid": {"rate": ["1e-3"]}}}),
            "recipe: rate is '1e-3'; give a number",
        ),
        (
            changed(sources={"s": {"log": "street"}, "m": {"mix": {"s": 0.0}}}),
            "sources: 'm': the weight of 's' is 0.0; give one above 0",
        ),
        (
            changed(sources={"A B": {"log": "street"}, "a-b": {"log": "street"}}),
            "files of 'A B' and 'a-b' would",
        ),
        (changed(measures={"probe": {"arms": ["best"]}}), "measures: 'probe': there is no 'best'"),
        (
            changed(measures={"probe": {"search": "in tur"}}),
            "search: there is no 'in tur'; the nearest known one is 'in turn'",
        ),
        (changed(measures={"probe": {"recipe_of": {"all": "none"}}}), "there is no 'none'"),
        (
            changed(arms={"a": {"kind": "given", "weights": "x", "start": "a"}}),
            "an arm that trains nothing cannot start from another's backbone",
        ),
        (
            changed(
                arms={
                    "a": {"kind": "pretrained", "config": "x", "start": "b"},
                    "b": {"kind": "supervised", "config": "x", "start": "a"},
                }
            ),
            "arms: 'a': starts from itself, by b, a",
        ),
        (
            changed(
                arms={
                    "a": {"kind": "averaged", "start": "b"},
                    "b": {"kind": "supervised", "config": "x"},
                }
            ),
            "arms: 'a': an averaged arm needs as 'start' an arm that has a start of its own",
        ),
        (
            changed(
                arms={
                    "a": {"kind": "averaged", "config": "x", "start": "b"},
                    "b": {"kind": "given", "weights": "x"},
                }
            ),
            "an averaged one neither",
        ),
        (
            changed(
                arms={
                    "a": {"kind": "averaged", "start": "b", "share": 1.5},
                    "b": {"kind": "supervised", "config": "x", "start": "c"},
                    "c": {"kind": "given", "weights": "x"},
                }
            ),
            "arms: 'a': share is 1.5; give one above 0 and below 1",
        ),
    ],
)
def test_a_wrong_plan_is_one_sentence(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        load_places_plan(written(tmp_path, content))


def test_roots_of_logs_come_with_the_command(tmp_path):
    plan = load_places_plan(written(tmp_path, SMALL))
    assert places.with_places(plan, {"street": "/there"}).logs["street"].root == "/there"
    with pytest.raises(InputError, match="the plan has no such log; it has street"):
        places.with_places(plan, {"kitti": "/there"})


def test_a_plan_of_one_log_still_is_one():
    assert load_plan("pandaset").arm("random").kind == "random"


# ---- the whole of it ------------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path, prepared_scans):
    content = changed(logs={"street": {"root": str(prepared_scans.folder)}})
    plan = load_places_plan(written(tmp_path, content))
    arms = dict(plan.arms)
    for name in ("labels", "more labels"):
        options = {
            "train_cfg.max_iters": 2,
            "val_dataloader.dataset.frames": ["scene-0001"],
            "train_dataloader.batch_size": 1,
        }
        arms[name] = replace(arms[name], options=options)
    return replace(plan, arms=arms)


def unit(plan, source, arm, out, seed=0):
    return places.Unit(
        plan, source, arm, seed, out, "plan.yaml", tuple(plan.evaluations), tuple(plan.measures)
    )


def test_the_command_measures_a_backbone_that_was_trained_elsewhere(small, make_encoder, tmp_path, capsys):
    """A plan of given backbones needs no source."""
    from superflow.tools.main import main

    save_backbone(make_encoder(), tmp_path / "mine.safetensors", BackboneCard("mine"))
    measures = {"probe": SMALL["measures"]["probe"]}
    arms = {"mine": {"kind": "given", "weights": str(tmp_path / "mine.safetensors")}}
    content = changed(logs={"street": {"root": small.logs["street"].root}}, arms=arms, measures=measures)
    del content["sources"]
    plan, out = written(tmp_path, content), tmp_path / "out"
    assert main(["benchmark", str(plan), "--out", str(out)]) == 0
    rows = places.places_rows(out).read()
    assert {(row["source"], row["arm"]) for row in rows} == {(GIVEN, "mine")}
    assert {row["measure"] for row in rows} == {"linear probe", "kNN"}


def test_a_cluster_is_handed_the_logs_then_the_sources_and_mixes_last(small, tmp_path, monkeypatch):
    mixed = replace(small.sources["street"], name="mixed", log="", mix={"street": 1.0})
    plan = replace(small, sources={"mixed": mixed, **small.sources})
    handed = []

    def run_shards(work, items, *, jobs, ray):
        assert ray == "here"
        handed.append([[log.name for log in item] if isinstance(item, list) else item for item in items])
        for item in items:
            yield item, work(item)

    monkeypatch.setattr(units, "run_shards", run_shards)
    monkeypatch.setattr(
        places, "prepare_sources", lambda plan, names, out, jobs, arms: handed.append(("made", *names))
    )
    places.prepare_places(plan, ["mixed", "street"], ["street"], tmp_path / "out", jobs=1, ray="here")
    assert handed == [[["street"]], ["street"], ("made", "street"), ["mixed"], ("made", "mixed")]

    def broken(work, items, *, jobs, ray):
        yield from ((item, InputError("no such log")) for item in items)

    monkeypatch.setattr(units, "run_shards", broken)
    with pytest.raises(InputError, match="1 of 1 preparations failed, the first one street: no such log"):
        places.prepare_places(plan, ["street"], ["street"], tmp_path / "out", jobs=1, ray="here")


def test_a_budget_beyond_the_training_scans_is_refused_before_the_work(small, tmp_path):
    budgets = {"some": Budget(scans=1), "many": Budget(scans=1000)}
    measures = {**small.measures, "fine-tuning": replace(small.measures["fine-tuning"], budgets=budgets)}
    plan = replace(small, measures=measures)
    with pytest.raises(InputError, match="evaluation 'street': fine-tuning, 'many': a budget of 1000 scans"):
        places.prepare_places(plan, [], ["street"], tmp_path, jobs=1)
    places.prepare_places(plan, [], ["street"], tmp_path, jobs=1, measures=["probe"])
    places.prepare_places(places.with_budgets(plan, ["some"]), [], ["street"], tmp_path, jobs=1)


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ({"kind": "given", "weights": "no such"}, "arm 'a': \"no such\" is no file and no backbone by name"),
        ({"kind": "pretrained", "config": "no.py"}, "arm 'a': no.py: there is no such config"),
        (
            {
                "kind": "supervised",
                "config": "downstream/supervised_small.py",
                "options": {"train_cfg.max_iter": 1},
            },
            "arm 'a': .*max_iter",
        ),
    ],
)
def test_an_arm_that_cannot_be_made_is_refused_before_the_work(small, tmp_path, arm, message):
    plan = replace(small, arms={"a": PlacesArm("a", **arm)})
    with pytest.raises(InputError, match=message):
        places.prepare_places(plan, ["street"], ["street"], tmp_path / "out", jobs=1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("drive", "message"),
    [
        ({"scenes": "a"}, "scenes is 'a'; give a whole number"),
        ({"scene": 2}, "'scene' is unknown; the keys are seconds"),
        ({"image_size": 5}, "image_size is 5; give a list of 2"),
        ({"image_size": [64]}, r"image_size is \(64,\); give a list of 2"),
    ],
)
def test_a_drive_that_cannot_be_made_is_one_sentence(tmp_path, drive, message):
    with pytest.raises(InputError, match=f"^log 'made': drive: {message}"):
        prepare_log(Log("made", drive=drive), tmp_path, jobs=1)


def test_figures_are_rows_that_are_not_made_twice(small, tmp_path, monkeypatch):
    out = tmp_path / "out"
    assert places.run_unit(unit(small, NO_SOURCE, "random", out)) == []
    rows = places.places_rows(out).read()
    found = [(r["measure"], r["budget"]) for r in rows]
    assert found == [
        ("linear probe", "all"),
        ("kNN", "all"),
        ("fine-tuning", "all"),
        ("fine-tuning", "one"),
        ("decoder probe", "all"),
        *(
            (f"robustness: {variant}", "all")
            for variant in ("clean", *(f"motion_blur/{level}" for level in LEVELS))
        ),
        *((f"semi-supervised: {way}", "one") for way in WAYS),
    ]
    by_measure = {r["measure"]: float(r["mIoU"]) for r in rows}
    assert by_measure["robustness: clean"] != by_measure["robustness: motion_blur/heavy"]
    trials = places.places_trials(out).read()
    assert len(trials) == 2  # the budget "one" takes the recipe that "all" found
    best = max(trials, key=lambda trial: float(trial["mIoU"]))["recipe"]
    assert {r["recipe"] for r in rows if r["measure"] == "fine-tuning"} == {best}
    assert all(r["config"].startswith("pretrain/superflowpp_small.py ") and r["device"] for r in rows)
    assert rows[0]["command"].endswith(
        "--arms random --evaluations street --measures probe --root street=STREET"
    )

    monkeypatch.setitem(MEASURES, "probe", replace(MEASURES["probe"], run=None))
    assert places.run_unit(unit(small, NO_SOURCE, "random", out)) == []  # nothing is run again
    # another seed takes the recipe
    assert places.run_unit(unit(small, NO_SOURCE, "random", out, seed=1))[0].startswith(
        "random on nothing, seed 1"
    )
    assert len(places.places_trials(out).read()) == 2
    assert len(places.places_rows(out).find(measure="fine-tuning", seed=1)) == 2  # though the probe failed


def test_figures_of_corrupted_scans_are_learned_on_clean_ones(small, tmp_path):
    evaluation = small.evaluations["street"]
    dim = replace(evaluation, name="blurred", variant="motion_blur/heavy")
    plan = replace(
        small,
        evaluations={"street": evaluation, "blurred": dim},
        measures={"decoder probe": small.measures["decoder probe"]},
    )
    (clean, rows), (index, same) = (places.evaluation_rows(plan, name, tmp_path) for name in plan.evaluations)
    assert (index.variant, rows) == ("motion_blur/heavy", same)
    learned, judged = rows["train"][0], rows["evaluate"][0]
    assert (index.frame(learned).points == clean.frame(learned).points).all()
    assert (index.frame(judged).points != clean.frame(judged).points).any()
    whole = replace(unit(plan, NO_SOURCE, "random", tmp_path / "out"), evaluations=("street", "blurred"))
    assert places.run_unit(whole) == []
    found = places.places_rows(tmp_path / "out").read()
    assert [row["evaluation log"] for row in found] == ["street", "blurred"]
    assert found[0]["split hash"] == found[1]["split hash"]
    assert found[0]["settings hash"] != found[1]["settings hash"]


def test_a_backbone_is_made_once_and_others_start_from_it(small, tmp_path):
    out = tmp_path / "out"
    only = replace(small, measures={"decoder probe": small.measures["decoder probe"]})
    assert places.run_unit(unit(only, "street", "more labels", out)) == []
    first, second = (backbone_path(out, "street", name, 0) for name in ("labels", "more labels"))
    made = first.stat().st_mtime_ns
    cost = [
        json.loads(path.with_suffix(".json").read_text())["training"]["cpu_seconds"]
        for path in (first, second)
    ]
    assert 0 < cost[0] < cost[1]
    method = json.loads(second.with_suffix(".json").read_text())["method"]
    assert method["pretrained"]["file"] == first.name
    assert places.run_unit(unit(only, "street", "labels", out)) == []
    assert first.stat().st_mtime_ns == made
    mean = replace(
        only.arms["more labels"], name="mean", kind="averaged", config="", start="more labels", share=0.25
    )
    averaged = replace(only, arms={**only.arms, "mean": mean})
    assert places.run_unit(unit(averaged, "street", "mean", out)) == []
    parts = [
        build_encoder(read_encoder_file(backbone_path(out, "street", name, 0))).state_dict()
        for name in ("labels", "more labels", "mean")
    ]
    for first_part, second_part, mean_part in zip(*map(dict.values, parts)):
        if mean_part.is_floating_point():
            want = 0.25 * first_part.double() + 0.75 * second_part.double()
            assert torch.equal(mean_part, want.float())
    changed_share = {**only.arms, "mean": replace(mean, share=0.5)}
    with pytest.raises(InputError, match=r"belongs to another .* delete .*street-mean-0\.\*"):
        places.run_unit(unit(replace(only, arms=changed_share), "street", "mean", out))
    longer = replace(only.arms["labels"], options={**only.arms["labels"].options, "train_cfg.max_iters": 3})
    changed_plan = replace(only, arms={**only.arms, "labels": longer})
    with pytest.raises(InputError, match=r"belongs to another config .* delete .*street-labels-0\.\*"):
        places.run_unit(unit(changed_plan, "street", "labels", out))


def test_scans_of_figures_are_not_learned_from(small, tmp_path):
    evaluation = small.evaluations["street"]
    for change, message in (
        ({"evaluate": ["scene-0001", "scene-0003"]}, "is in train and in evaluate"),
        ({"held_out": ["scene-0001"]}, "held_out must be a part of train that leaves scans"),
        ({"held_out": ["scene-0003"]}, "held_out must be a part of train that leaves scans"),
        (
            {"folds": [["scene-0001[:2]"], ["scene-0001"]]},
            "fold 2 must be a part of train that leaves scans",
        ),
    ):
        plan = replace(small, evaluations={"street": replace(evaluation, **change)})
        with pytest.raises(InputError, match=message):
            places.evaluation_rows(plan, "street", tmp_path)


def test_a_search_in_turn_takes_each_field_on():
    """Against all combinations; where fields do not act on each other, it finds the same with fewer trials."""
    grid = {"rate": [1e-3, 4e-3, 2e-3], "steps": [10, 30], "head_steps": [0, 5]}

    def searched(name, judge, over=grid):
        asked = []
        found = SEARCHES[name](Recipe(), over, lambda recipe: asked.append(recipe.text()) or judge(recipe))
        return found, asked

    def alone(recipe):
        return -abs(recipe.rate - 2e-3) * 1e3 - (recipe.steps == 10) - recipe.head_steps

    best, few = searched("in turn", alone)
    assert best == searched("grid", alone)[0] == replace(Recipe(), rate=2e-3, steps=30, head_steps=0)
    assert len(few) == 7 < len(searched("grid", alone)[1])
    assert "steps=300 " in few[0]
    assert "rate=0.002 " in few[3]

    def together(recipe):  # longer alone is worse, longer and lower is best
        return {(2e-3, 10): 2, (1e-3, 30): 3, (1e-3, 300): 4}.get((recipe.rate, recipe.steps), 0)

    assert searched("in turn", together)[0].steps == 30
    swapped = dict(reversed(grid.items()))
    assert searched("in turn", together, swapped)[0] == replace(Recipe(), rate=2e-3, steps=10, head_steps=0)
    assert searched("in turn", lambda recipe: 0.0)[0] == replace(Recipe(), rate=1e-3, steps=10, head_steps=0)


def test_a_search_that_goes_on_chooses_as_one_that_was_not_stopped(monkeypatch):
    """Its trials are read from rows, which have two digits; a trial in which no class had a point has none."""
    found = {2e-3: 20.001, 6e-3: 20.004, 1e-3: None}
    plan = MeasurePlan("fine-tuning", grid={"rate": list(found)})
    task = Task(Path("b"), None, None, plan, "all", 0, (), (), (), ())
    monkeypatch.setattr(
        measures, "_trial", lambda task, encoder, recipe, budget: {"miou": found[recipe.rate]}
    )
    rows = {}

    def note(recipe, scores):
        rows[recipe] = f"{scores['miou'] or 0.0:.2f}"

    whole = measures._search(replace(task, note_trial=note), None, Recipe())
    known = {recipe: float(text) for recipe, text in rows.items()}
    assert len(known) == 3
    assert measures._search(replace(task, trials=known), None, Recipe()) == whole


def test_a_search_in_turn_repeats_no_known_trial_and_has_a_hash_of_its_own(small, tmp_path, monkeypatch):
    measure = replace(small.measures["fine-tuning"], grid={"rate": [1e-3, 1e-2], "steps": [3, 4]})
    plan = replace(measure, search="in turn")
    index, rows = places.evaluation_rows(small, "street", tmp_path)
    tuned = []

    def tune(task, encoder, train, judge, budget, recipe, new, checks=None):
        tuned.append((recipe.rate, recipe.steps))
        matrix = ConfusionMatrix(len(index.card.classes))
        matrix.update(np.zeros(10, np.int64), np.zeros(10, np.int64))
        return 7, {"tuned": matrix}

    monkeypatch.setattr("superflow.benchmark.measures._tune", tune)
    monkeypatch.setattr("superflow.benchmark.measures._encoder", lambda task: None)
    default = Recipe(steps=3, points=500)
    trials = {replace(default, rate=rate).text(): miou for rate, miou in ((1e-3, 5.0), (1e-2, 7.0))}
    task = Task(tmp_path, index, small.evaluations["street"], plan, "all", 0, **rows, trials=trials)
    MEASURES["fine-tuning"].run(task)
    assert tuned == [(1e-2, 4), (1e-2, 4)]  # the one trial that was not known, then the figure
    whole = replace(task, measure=measure)
    assert task.search_hash() == whole.search_hash()  # trials serve both
    order = replace(plan, grid=dict(reversed(plan.grid.items())))
    assert len({t.settings_hash() for t in (task, whole, replace(task, measure=order))}) == 3


@pytest.mark.parametrize("folds", [[], [["scene-0001[:1]"], ["scene-0001[1:3]"]]])
def test_a_search_never_sees_the_scans_of_the_figures(small, tmp_path, monkeypatch, folds):
    evaluation = replace(small.evaluations["street"], folds=folds)
    plan = replace(small, evaluations={"street": evaluation})
    index, rows = places.evaluation_rows(plan, "street", tmp_path)
    seen = []

    def tune(task, encoder, train, judge, budget, recipe, new, checks=None):
        """A judge that finds the higher rate better: all points of the first class, right or wrong by the rate."""
        seen.append((set(train), set(judge)))
        matrix = ConfusionMatrix(len(index.card.classes))
        right = int(100 * recipe.rate)
        matrix.update(np.repeat([0, 1], [right, 100 - right]), np.zeros(100, np.int64))
        return 7, {"tuned": matrix}

    monkeypatch.setattr("superflow.benchmark.measures._tune", tune)
    monkeypatch.setattr("superflow.benchmark.measures._encoder", lambda task: None)
    noted = []
    task = Task(
        tmp_path,
        index,
        evaluation,
        small.measures["fine-tuning"],
        "all",
        0,
        **rows,
        note_trial=lambda recipe, scores: noted.append(scores["points"]),
    )
    found = MEASURES["fine-tuning"].run(task)
    assert "rate=0.01 " in found[0].recipe
    train = set(rows["train"])
    parts = [set(fold) for fold in rows["folds"]]
    assert len(parts) == max(1, len(folds))
    assert noted == [100 * len(parts)] * 2
    turns = [(train - part, part) for part in parts]
    assert seen == [*turns, *turns, (train, set(rows["evaluate"]))]
