"""A small benchmark of places from end to end: its backbones and rows."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_places import SMALL, changed, written

from superflow.benchmark import units
from superflow.benchmark.places import measures
from superflow.benchmark.places import run as places
from superflow.benchmark.places.logs import prepare_log
from superflow.benchmark.places.measures import MEASURES, Task, _few_labels
from superflow.benchmark.places.plan import GIVEN, NO_SOURCE, Log, MeasurePlan, PlacesArm
from superflow.benchmark.places.plan_file import load_places_plan
from superflow.benchmark.places.recipe_search import SEARCHES
from superflow.datasets.corruptions.domain import LEVELS
from superflow.downstream import budgets
from superflow.downstream.budgets import Budget
from superflow.downstream.finetuning import Recipe
from superflow.downstream.metrics import ConfusionMatrix
from superflow.downstream.semi_supervised import WAYS
from superflow.errors import InputError
from superflow.hub.backbone import BackboneCard, save_backbone
from superflow.hub.encoder_file import build_encoder, read_encoder_file

SCORES = {"miou": 1.0, "accuracy": 1.0, "frequent_miou": 1.0, "iou": {}}


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
    return places.PlacesUnit(
        plan, source, arm, seed, out, "plan.yaml", tuple(plan.evaluations), tuple(plan.measures)
    )


def test_the_command_measures_a_backbone_that_was_trained_elsewhere(small, make_encoder, tmp_path, capsys):
    """A plan of given backbones needs no source; tables' names of what is not trained choose among them."""
    from superflow.tools.main import main

    save_backbone(make_encoder(), tmp_path / "mine.safetensors", BackboneCard("mine"))
    measures = {"probe": SMALL["measures"]["probe"]}
    mine = str(tmp_path / "mine.safetensors")
    arms = {"mine": {"kind": "given", "weights": mine}, "random": {"kind": "random", "weights": mine}}
    content = changed(logs={"street": {"root": small.logs["street"].root}}, arms=arms, measures=measures)
    del content["sources"]
    plan, out = written(tmp_path, content), tmp_path / "out"
    command = ["benchmark", str(plan), "--out", str(out)]
    assert main([*command, "--sources", GIVEN]) == 0
    rows = places.places_rows(out).read()
    assert {(row["source"], row["arm"]) for row in rows} == {(GIVEN, "mine")}
    assert {row["measure"] for row in rows} == {"linear probe", "kNN"}
    assert main(command) == 0
    rows = places.places_rows(out).read()
    assert {(row["source"], row["arm"]) for row in rows} == {(GIVEN, "mine"), (NO_SOURCE, "random")}
    assert main([*command, "--sources", "made"]) == 2
    assert "--sources: the plan has no 'made'" in capsys.readouterr().err


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


@pytest.mark.parametrize(
    ("root", "message"),
    [
        (None, "^log 'street' has no root in the plan; give it with --root street=FOLDER"),
        ("nowhere", "^nowhere: there is no such folder; the log 'street' is needed, give it with --root str"),
    ],
)
def test_a_log_that_is_not_there_is_refused_before_another_is_made(small, tmp_path, root, message):
    logs = {"made": Log("made", drive={"scenes": 100}), "street": Log("street", root=root)}
    sources = {**small.sources, "made": replace(small.sources["street"], name="made", log="made")}
    plan = replace(small, logs=logs, sources=sources)
    with pytest.raises(InputError, match=message):
        places.prepare_places(plan, ["made", "street"], ["street"], tmp_path / "out", jobs=1)
    assert not (tmp_path / "out").exists()


def test_figures_are_rows_that_are_not_made_twice(small, tmp_path, monkeypatch):
    out = tmp_path / "out"
    assert unit(small, NO_SOURCE, "random", out).run() == []
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
    assert unit(small, NO_SOURCE, "random", out).run() == []  # nothing is run again
    # another seed takes the recipe
    assert unit(small, NO_SOURCE, "random", out, seed=1).run()[0].startswith("random on nothing, seed 1")
    assert len(places.places_trials(out).read()) == 2
    assert len(places.places_rows(out).find(measure="fine-tuning", seed=1)) == 2  # though the probe failed


def test_figures_of_other_settings_do_not_stay_beside_new_ones(small, tmp_path, monkeypatch):
    """Without neighbours, and without new places, there would still be those of the run before."""
    figures = [
        measures.Figure(name, "", SCORES, log)
        for name in ("linear probe", "kNN")
        for log in ("", ", new places")
    ]
    probe, out = small.measures["probe"], tmp_path / "out"
    for found, changed_options in ((figures, {}), (figures[:1], {"knn": 0})):
        monkeypatch.setitem(
            MEASURES, "probe", replace(MEASURES["probe"], run=lambda task, found=found: found)
        )
        options = {**probe.options, **changed_options}
        plan = replace(small, measures={"probe": replace(probe, options=options)})
        assert unit(plan, NO_SOURCE, "random", out).run() == []
        rows = places.places_rows(out).read()
        assert [(row["measure"], row["evaluation log"]) for row in rows] == [
            (figure.measure, f"street{figure.log_suffix}") for figure in found
        ]


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
    assert whole.run() == []
    found = places.places_rows(tmp_path / "out").read()
    assert [row["evaluation log"] for row in found] == ["street", "blurred"]
    assert found[0]["split hash"] == found[1]["split hash"]
    assert found[0]["settings hash"] != found[1]["settings hash"]


def test_a_backbone_is_made_once_and_others_start_from_it(small, tmp_path):
    out = tmp_path / "out"
    only = replace(small, measures={"decoder probe": small.measures["decoder probe"]})
    assert unit(only, "street", "more labels", out).run() == []
    first, second = (unit(only, "street", name, out).path for name in ("labels", "more labels"))
    made = first.stat().st_mtime_ns
    cost = [
        json.loads(path.with_suffix(".json").read_text())["training"]["cpu_seconds"]
        for path in (first, second)
    ]
    assert 0 < cost[0] < cost[1]
    method = json.loads(second.with_suffix(".json").read_text())["method"]
    assert method["pretrained"]["file"] == first.name
    assert unit(only, "street", "labels", out).run() == []
    assert first.stat().st_mtime_ns == made
    mean = replace(
        only.arms["more labels"], name="mean", kind="averaged", config="", start="more labels", share=0.25
    )
    averaged = replace(only, arms={**only.arms, "mean": mean})
    assert unit(averaged, "street", "mean", out).run() == []
    parts = [
        build_encoder(read_encoder_file(unit(averaged, "street", name, out).path)).state_dict()
        for name in ("labels", "more labels", "mean")
    ]
    for first_part, second_part, mean_part in zip(*map(dict.values, parts)):
        if mean_part.is_floating_point():
            want = 0.25 * first_part.double() + 0.75 * second_part.double()
            assert torch.equal(mean_part, want.float())
    changed_share = {**only.arms, "mean": replace(mean, share=0.5)}
    with pytest.raises(InputError, match=r"was made with other .* delete .*street-mean-0\.\*"):
        unit(replace(only, arms=changed_share), "street", "mean", out).run()
    longer = replace(only.arms["labels"], options={**only.arms["labels"].options, "train_cfg.max_iters": 3})
    changed_plan = replace(only, arms={**only.arms, "labels": longer})
    with pytest.raises(InputError, match=r"was made with other config .* delete .*street-labels-0\.\*"):
        unit(changed_plan, "street", "labels", out).run()


def test_figures_of_a_backbone_that_was_replaced_are_made_anew(small, tmp_path):
    """They would stand beside the config of the new one; so would a recipe that was chosen for the old one."""
    out = tmp_path / "out"
    only = replace(small, measures={"fine-tuning": small.measures["fine-tuning"]})
    first = unit(only, "street", "labels", out)
    second = unit(only, "street", "more labels", out)
    assert first.run() == second.run() == []

    def stand() -> dict:
        figures = {(r["arm"], r["budget"], "figure"): r["weights"] for r in places.places_rows(out).read()}
        trials = places.places_trials(out).read()
        return figures | {(r["arm"], r["budget"], r["recipe"]): r["weights"] for r in trials}

    before = stand()
    assert len(set(before.values())) == 2
    longer = replace(only.arms["labels"], options={**only.arms["labels"].options, "train_cfg.max_iters": 3})
    plan = replace(only, arms={**only.arms, "labels": longer})
    for name in ("labels", "more labels"):  # as the refusal says
        for path in (out / "backbones").glob(f"street-{name.replace(' ', '_')}-0.*"):
            path.unlink()
        shutil.rmtree(out / "runs" / f"street-{name.replace(' ', '_')}-0")
    # the config of the second is the same, but not what it begins with
    for arm in ("labels", "more labels"):
        assert unit(plan, "street", arm, out).run() == []
    now = stand()
    assert now.keys() == before.keys()
    assert not set(now.values()) & set(before.values())
    kept = places.places_rows(out).read()
    rows = [{**row, "weights": "of another", "measure": "kNN"} for row in kept]  # not measured again now
    places.places_rows(out).add(rows)
    assert unit(plan, "street", "labels", out).run() == []
    left = [row["arm"] for row in places.places_rows(out).read() if row["measure"] == "kNN"]
    assert set(left) == {"more labels"}


def test_rows_of_a_table_of_before_are_known_by_their_config(small, tmp_path):
    out = tmp_path / "out"
    only = replace(small, measures={"decoder probe": small.measures["decoder probe"]})
    own = unit(only, "street", "labels", out)
    assert own.run() == []
    (row,) = places.places_rows(out).read()
    assert places._of_backbone(own, [{**row, "weights": ""}])
    assert not places._of_backbone(own, [{**row, "weights": "", "config": row["config"][:-1] + "?"}])
    assert places._of_backbone(own, [{**row, "seed": "7", "weights": "of another machine"}])


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

    monkeypatch.setattr("superflow.benchmark.places.measures._tune", tune)
    monkeypatch.setattr("superflow.benchmark.places.measures._encoder", lambda task: None)
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

    monkeypatch.setattr("superflow.benchmark.places.measures._tune", tune)
    monkeypatch.setattr("superflow.benchmark.places.measures._encoder", lambda task: None)
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


def test_a_percentage_of_labels_leaves_the_others_without(monkeypatch):
    """Each labelled row has its own scan; a tenth of twenty scans are two, and the nearest others go without labels."""
    scan_of = {row: SimpleNamespace(labels=torch.tensor([row % 200])) for row in range(20)}
    monkeypatch.setattr(budgets, "read_scan", lambda index, row: scan_of[row])
    index = SimpleNamespace(card=SimpleNamespace(fractions={}), tokens=list, root="ROOT")
    measure = SimpleNamespace(budgets={"10 %": Budget(percent=10)})
    task = SimpleNamespace(
        index=index, measure=measure, budget="10 %", train=list(range(20)), evaluate=[30], seed=0
    )
    few = _few_labels(task, None, None, most=4)
    assert few.labelled == {0: scan_of[0], 10: scan_of[10]}
    assert few.unlabelled == [1, 2, 9, 11]
