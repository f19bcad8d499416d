"""Plans of benchmarks of places, and what is refused of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from small_places import SMALL, changed, written

from superflow.benchmark.one_log.plan import load_plan
from superflow.benchmark.places import run as places
from superflow.benchmark.places.backbones import PlannedBackbone
from superflow.benchmark.places.logs import prepare_log, prepared_folder
from superflow.benchmark.places.plan import Log
from superflow.benchmark.places.plan_file import load_places_plan
from superflow.benchmark.plan_file import find_plan
from superflow.errors import InputError


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
    config = PlannedBackbone(plan, "both", "SuperFlow++", 0, tmp_path).config()
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


def test_what_an_arm_begins_with_is_looked_at_before_the_work(tmp_path):
    """Also where only the arm that begins with it is asked for."""
    plan = load_places_plan(find_plan(Path("averaged")))
    source, arm = "600 scenes", "street-tiny then labels of 600 scenes, averaged"
    PlannedBackbone(plan, source, arm, 0, tmp_path).check()
    lost = replace(plan.arms["street-tiny"], weights=str(tmp_path / "lost.safetensors"))
    plan = replace(plan, arms={**plan.arms, "street-tiny": lost})
    with pytest.raises(InputError, match=r"^arm 'street-tiny': .*lost.safetensors: there is no such file"):
        places.prepare_places(plan, [source], [], tmp_path / "out", jobs=1, arms=[arm])
    assert not (tmp_path / "out").exists()


def test_a_log_without_images_can_be_a_part_of_a_mix(tmp_path):
    plan = load_places_plan(find_plan(Path("own_log")))
    source, arm = "street and made streets", plan.arms["street-tiny, then SuperFlow++ beside made labels"]
    assert (source, arm.name) in plan.backbones()
    assert plan.logs_of([source], []) == ["street", "varied"]
    config = PlannedBackbone(plan, source, arm.name, 0, tmp_path).config(Path("street-tiny"))
    seen, blind = config.train_dataloader.dataset.parts
    assert (blind.images, "views" in blind, blind.clouds.labels) == (False, False, True)
    assert ("images" in seen, "views" in seen, seen.clouds.labels) == (False, True, False)
    assert config.model.pretrained == "street-tiny"
    assert config.model.objectives[-1].type == "segmentation"

    blind_first = dict(reversed(plan.sources[source].mix.items()))
    swapped = replace(plan, sources={**plan.sources, source: replace(plan.sources[source], mix=blind_first)})
    parts = PlannedBackbone(swapped, source, arm.name, 0, tmp_path).config().train_dataloader.dataset.parts
    assert ["views" in part for part in parts] == [False, True]
    # reduced to its own directions: the first has no images
    assert parts[1].views.features == seen.views.features


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
        (
            changed(sources={"s": {"log": "street", "superpixels": {"slik": {}}}}),
            "sources: 's': superpixels: there is no 'slik'; the nearest known one is 'slic'",
        ),
        (changed(logs={"street": {"root": "x", "drive": {}}}), "has both a root and a drive"),
        (
            changed(evaluations={"street": {**SMALL["evaluations"]["street"], "variant": "rain/light"}}),
            "plan.yaml: evaluations: 'street': .*no corruption 'rain'",
        ),
        (
            changed(measures={"fine-tuning": {"budgets": {"x": {"percent": 3}}}}),
            "plan.yaml: measures: 'fine-tuning': budgets: 'x': 3 % has no every-n-th rule",
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
            changed(measures={"semi-supervised": {"options": {"unlabelled": -3}}}),
            "unlabelled is -3; give a whole number from 1 on",
        ),
        (
            changed(measures={"fine-tuning": {"options": {"checks": [0.5, 5.0]}}}),
            "checks is 5.0; give a number above 0 to 0.999999",
        ),
        (
            changed(measures={"fine-tuning": {"options": {"points": "60000"}}}),
            "recipe: points is '60000'; give a whole number from 1 on",
        ),
        (
            changed(measures={"fine-tuning": {"options": {"rescaled": "no"}}}),
            "recipe: rescaled is 'no'; give true or false",
        ),
        (
            changed(measures={"decoder probe": {"options": {"frozen": "nothing"}}}),
            "'decoder probe': frozen is always encoder in this measure",
        ),
        (
            changed(measures={"decoder probe": {"grid": {"keep": ["all", "encoder"]}}}),
            "'decoder probe': keep is always encoder in this measure",
        ),
        (changed(measures={"probe": {"options": {"seed": 3}}}), "'probe': seed is that of each run"),
        *(
            (changed(measures={"probe": {"options": {name: value}}}), f"'probe': options: {message}")
            for name, value, message in (
                ("max_points", 0, "max_points is 0; give a whole number from 1 on"),
                ("knn", -1, "knn is -1; give a whole number from 0 on"),
                ("weight_decays", [0.1, -1.0], "weight_decays is -1.0; give a number from 0 on"),
                ("weight_decays", [], "weight_decays is empty"),
                ("class_weights", ["none", "inverse"], "class_weights has 'inverse'; choose of"),
                ("class_weights", [], "class_weights is empty"),
                ("place_size_m", 0.0, "place_size_m is 0.0; give a number above 0"),
                ("balance", 7.0, "balance is 7.0; give a number from 0 to 1"),
                ("augmentation", {"turn": 1}, r"augmentation is {'turn': 1}, which cannot be used .*'turn'"),
                (
                    "augmentation",
                    {"flip": 2.0},
                    "augmentation is .*, which cannot be used .* give null, or opt",
                ),
                ("augmentation", {"scale": [1.0]}, "augmentation is .*, which cannot be used"),
            )
        ),
        (
            changed(evaluations={"street": {**SMALL["evaluations"]["street"], "variant": "fog/heavy"}}),
            "'robustness': corrupts clean scans, and those of 'street' are fog/heavy already",
        ),
        (
            changed(measures={"fine-tuning": {"grid": {"rates": [1.0]}}}),
            "grid: 'rates' is no field of a recipe",
        ),
        (
            changed(measures={"fine-tuning": {"grid": {1: [1.0], "rates": [1.0]}}}),
            "grid: 1 is no field of a recipe",
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


@pytest.mark.parametrize("other", ["arms: [random]", "arms: {random: 3}", "sources: {}", "arms: null"])
def test_an_entry_of_another_plan_that_has_none_is_one_sentence(tmp_path, other):
    (tmp_path / "other.yaml").write_text(other)
    content = changed(arms={"random": "other.yaml"})
    with pytest.raises(InputError, match=r"arms: 'random' is to be that of other.yaml, which has none"):
        load_places_plan(written(tmp_path, content))


@pytest.mark.parametrize("sources", [1.5, ["street"], "street"])
def test_sources_of_another_type_are_refused_also_beside_an_arm_of_another_plan(tmp_path, sources):
    own = {**SMALL["arms"]["labels"], "sources": ["street"]}
    (tmp_path / "other.yaml").write_text(yaml.safe_dump({"arms": {"labels": own}}))
    content = changed(arms={"labels": "other.yaml"}, sources=sources)
    with pytest.raises(InputError, match="needs a mapping with the key sources"):
        load_places_plan(written(tmp_path, content))


@pytest.mark.parametrize("name", ["../street", "a/b", ".."])
def test_a_log_has_its_folder_below_that_of_the_results(tmp_path, name):
    with pytest.raises(InputError, match=f"^log '{name}' cannot have a folder of its own"):
        prepared_folder(Log(name), tmp_path)
    assert prepared_folder(Log("a b.c"), tmp_path) == tmp_path / "prepared" / "a b.c"


def test_the_command_of_a_row_names_a_teacher_that_was_asked_for(tmp_path):
    plan = load_places_plan(written(tmp_path, changed(teacher="hog")))
    unit = places.PlacesUnit(plan, "street", "labels", 0, tmp_path, "plan", ("street",), ("probe",))
    assert "--teacher" not in unit.command("street", "probe")
    asked = replace(unit, plan=places.with_teacher(plan, "dinov2 s"))
    assert asked.plan.teacher == "dinov2 s"
    assert " --teacher 'dinov2 s'" in asked.command("street", "probe")
    assert places.with_teacher(plan, None) is plan
    with pytest.raises(InputError, match="'asked_teacher' is unknown"):
        load_places_plan(written(tmp_path, changed(asked_teacher="hog")))
