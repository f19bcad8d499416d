"""Backbones on prepared sets: which sets and frames, rows and table of two small ones, and one that fails."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from superflow.benchmark import shards
from superflow.benchmark.evidence.page import Cell
from superflow.benchmark.places import run as places
from superflow.benchmark.places.measures import MEASURES
from superflow.benchmark.places.run import label_set, places_rows
from superflow.benchmark.plan_file import find_plan, kind_of_plan
from superflow.benchmark.rows import COLUMNS, RowFile
from superflow.benchmark.sets.plan import Protocol, load_sets_plan
from superflow.benchmark.sets.run import find_sets, frames_of, named_weights
from superflow.benchmark.sets.table import markdown, radar_values
from superflow.downstream.finetuning import Recipe
from superflow.errors import InputError
from superflow.hub.backbone import BackboneCard, save_backbone
from superflow.tools.benchmark import main

SHIPPED = find_plan(Path("datasets"))


def written(folder: Path, **changes) -> Path:
    """The shipped plan with steps that take no time."""
    content = yaml.safe_load(SHIPPED.read_text())
    content["measures"]["probe"]["options"] = {"max_points": 300, "iterations": 5, "knn_points": 20}
    for name in ("decoder probe", "fine-tuning"):
        content["measures"][name]["options"].update(steps=4, points=500)
    path = folder / "quick.yaml"
    path.write_text(yaml.safe_dump({**content, **changes}, sort_keys=False))
    return path


# ---- plans and sets -------------------------------------------------------------------------------------------


def test_the_shipped_plan_has_measures_for_all_its_protocols():
    assert kind_of_plan(SHIPPED) == "sets"
    plan = load_sets_plan(SHIPPED)
    assert list(plan.protocols) == ["lp", "knn", "dp", "1", "5", "10", "25", "full"]
    for protocol in plan.protocols.values():
        measure = plan.measures[protocol.measure]
        assert protocol.budget in measure.budgets
        if protocol.measure != "probe":
            options = {key: value for key, value in measure.options.items() if key != "checks"}
            assert Recipe.of(options).steps > 2
            percent = measure.budgets[protocol.budget].percent
            assert percent == (100 if protocol.budget == "full" else float(protocol.budget.split()[0]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"protocol": {}}, "'protocol' is unknown; the keys are protocols, measures"),
        ({"protocols": {"lp": "probe"}}, "protocols: 'lp' is 'probe'; give a mapping"),
        (
            {"protocols": {"lp": {"measure": "probe", "budget": "1 %"}}},
            "no measure 'probe' with a budget '1 %'",
        ),
        (
            {"protocols": {"lp": {"measure": "probe", "figure": "linear prob"}}},
            "'lp': 'linear prob' can be no column; choose of linear probe, kNN",
        ),
        (
            {
                "protocols": {"lp": {"measure": "robustness"}},
                "measures": {"robustness": {}},
            },
            "robustness has no figure that can, and is for plans of places",
        ),
        (
            {
                "protocols": {
                    k: {"measure": "probe", "figure": f, "title": "T"}
                    for k, f in (("a", "kNN"), ("b", "linear probe"))
                }
            },
            "'a' and 'b' have one title, 'T'; name them apart",
        ),
        ({"evaluations": {"a": {"train": "train"}}}, "evaluations: 'a' lacks 'evaluate'"),
        ({"measures": {"probe": {"budgets": {"x": {"percent": 3}}}}}, "3 % has no every-n-th rule"),
        (
            {"measures": {"probe": {"budgets": {"x": {"percent": 10, "scans": 2}}}}},
            "both scans and a percent",
        ),
    ],
)
def test_a_wrong_plan_is_one_sentence(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        load_sets_plan(written(tmp_path, **changes))
    with pytest.raises(InputError, match="has no '2'; it has lp, knn"):
        load_sets_plan(SHIPPED).chosen(["lp", "2"])


def test_prepared_sets_are_named_or_found(tmp_path):
    for name in ("b", "a", "not prepared"):
        (tmp_path / name).mkdir()
    for name in ("a", "b"):
        (tmp_path / name / "index.json").touch()
    a, b = tmp_path / "a", tmp_path / "b"
    assert find_sets([str(tmp_path)]) == {"a": a, "b": b}
    assert list(find_sets([str(tmp_path)])) == ["a", "b"]
    assert find_sets([str(a), f"c={b}"]) == {"a": a, "c": b}
    for texts, message in (
        ([], "name a prepared set"),
        ([f"x={tmp_path}/gone"], "there is no folder"),
        ([f"{tmp_path}/not prepared"], "neither is .* a prepared set nor does it hold any"),
        ([str(a), str(tmp_path)], "two sets have the name 'a'"),
    ):
        with pytest.raises(InputError, match=message):
            find_sets(texts)


class Scans:
    """An index of scenes with some labelled key frames."""

    root = Path("log")

    def __init__(self, labelled: dict[str, list[bool]], splits: dict[str, list[str]]) -> None:
        self.labelled = [(scene, known) for scene, all_known in labelled.items() for known in all_known]
        self.card = SimpleNamespace(splits=splits)
        self.row_splits = ()

    def rows(self, selection):
        if selection is None:
            return np.arange(len(self.labelled))
        names = self.card.splits.get(selection, ()) if isinstance(selection, str) else selection
        rows = [row for row, (scene, _) in enumerate(self.labelled) if scene in names]
        if not rows:
            raise InputError("selects no key frame")
        return np.array(rows)

    def has_labels(self, row):
        return self.labelled[row][1]

    def scene(self, row):
        return self.labelled[row][0]


def test_frames_are_those_of_the_set_or_of_a_stated_rule():
    splits = {"train": ["a"], "val": ["b"]}

    def parts(labelled, splits):
        evaluation, rule = frames_of("set", Scans(labelled, splits))
        return evaluation.train, evaluation.evaluate, rule

    assert parts({"a": [True], "b": [False, True]}, splits) == ("train", "val", "train, val")
    # the log holds no scene of val, or none of its labels
    three = {name: [True] for name in "acdef"}
    assert parts(three, splits) == (["a", "c", "d", "e"], ["f"], "the last 1 of 5 scenes judged")
    bare = {**three, "b": [False]}
    assert parts(bare, splits)[:2] == (["a", "c", "d", "e"], ["f"])
    train, evaluate, rule = parts({"a": [True] * 9}, {})
    assert (train, evaluate) == ("a[:-2]", "a[-2:]")
    assert rule.startswith("the last 2 of 9 scans judged: the same street")
    with pytest.raises(
        InputError, match="log: has 1 scans with labels; a benchmark needs some to learn from"
    ):
        parts({"a": [True, False]}, {})


# ---- rows of before -------------------------------------------------------------------------------------------


def test_a_table_of_before_is_read_and_goes_on(tmp_path):
    new = ("variant", "token list", "best mIoU")
    path = tmp_path / "places.csv"
    old = [name for name in COLUMNS if name not in new]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, old)
        writer.writeheader()
        writer.writerow({**dict.fromkeys(old, "1"), "arm": "before"})
    file = RowFile(path)
    assert [row["arm"] for row in file.read()] == ["before"]
    assert [file.read()[0][name] for name in new] == ["", "", ""]
    file.add([{**dict.fromkeys(COLUMNS, "2"), "variant": "clean"}])
    assert [(row["arm"], row["variant"]) for row in file.read()] == [("before", ""), ("2", "clean")]


# ---- the whole of it ------------------------------------------------------------------------------------------


@pytest.fixture
def here(monkeypatch):
    """Work in this process: what new ones add is tested in test_shards.py."""
    monkeypatch.setattr(shards, "_in_own_process", lambda work, item, running: work(item))


@pytest.fixture
def given(tmp_path, make_encoder) -> Path:
    path = tmp_path / "mine.safetensors"
    save_backbone(make_encoder(), path, BackboneCard("mine"))
    return path


def test_a_benchmark_of_two_sets_and_one_that_fails(
    tmp_path, prepared_scans, given, here, monkeypatch, capsys
):
    sets = tmp_path / "sets"
    for name in ("one", "two", "broken"):
        shutil.copytree(prepared_scans.folder, sets / name)
    (sets / "broken" / "frames.arrow").write_bytes(b"ARROW1")
    plan = written(tmp_path, evaluations={"two": {"train": ["scene-0001"], "evaluate": ["scene-0003"]}})
    out = tmp_path / "out"
    call = [str(plan), "--log", str(sets), "--weights", str(given), "--protocols", "lp,knn,25"]
    call += ["--random", "--jobs", "1", "--out", str(out)]
    assert main(call) == 2
    said = capsys.readouterr()
    assert "superflow benchmark: 1 sets or figures failed, the first one broken: " in said.err

    rows = places_rows(out).read()
    backbones = [("elsewhere", "mine"), ("nothing", "random as mine")]
    figures = [("linear probe", "all"), ("kNN", "all"), ("fine-tuning", "25 %")]
    found = {((r["source"], r["arm"]), r["evaluation log"], r["measure"], r["budget"]) for r in rows}
    assert found == {(b, s, *figure) for b in backbones for s in ("one", "two") for figure in figures}
    for row in rows:
        assert float(row["best mIoU"]) >= float(row["mIoU"])
        assert row["variant"] == "clean"
        assert row["label set"].startswith("nuscenes, 16 classes, ")
        assert "--weights mine=mine.safetensors" in row["command"]
        assert row["command"].endswith(" --random --out OUT") == (row["source"] == "nothing")
        for name in (
            "split hash",
            "settings hash",
            "commit",
            "device",
            "CPU seconds of the measure",
            "recipe",
        ):
            assert row[name], name
        assert row["config"].startswith("mine.safetensors ")

    # the list of 25 % is every fourth labelled training scan of the log's order
    train = [int(row) for row in prepared_scans.rows("train") if prepared_scans.has_labels(int(row))]
    plain = [prepared_scans.tokens([row])[0] for place, row in enumerate(train) if place % 4 == 0]
    (listed,) = {r["token list"] for r in rows if (r["evaluation log"], r["budget"]) == ("one", "25 %")}
    lines = (out / listed).read_text().splitlines()
    assert lines[0].startswith("# 25 %: of the ")
    assert lines[1:] == plain

    page = (out / "datasets.md").read_text()
    assert said.out.strip() in page
    header, _, *table = said.out.splitlines()[:6]
    assert header == "| set | backbone | linear probe | kNN | fine-tuning 25 % |"
    for line in table:
        name, arm, *values = [cell.strip() for cell in line.strip("|").split("|")]
        own = {(r["measure"], r["budget"]): r for r in rows if (r["evaluation log"], r["arm"]) == (name, arm)}
        assert values == [f"{float(own[figure]['mIoU']):.1f}" for figure in figures]
    assert "- broken: " in page
    assert "frames.arrow" in page.split("- broken: ")[1]
    assert (out / "datasets.png").read_bytes().startswith(b"\x89PNG")

    before = (out / "places.csv").read_bytes()
    shutil.rmtree(sets / "broken")
    idle = {name: replace(measure, run=None) for name, measure in MEASURES.items()}
    monkeypatch.setattr(places, "MEASURES", idle)  # nothing is run again
    assert main(call) == 0
    assert (out / "places.csv").read_bytes() == before
    assert "**Failed**" not in (out / "datasets.md").read_text()


KILLED = """
import os, signal, sys
from dataclasses import replace
from superflow.benchmark import shards
from superflow.benchmark.places import run as places
from superflow.benchmark.places.measures import MEASURES
from superflow.tools.benchmark import main

def tuned(task):
    if "two" in str(task.index.folder):
        os.kill(os.getpid(), signal.SIGKILL)
    return MEASURES["fine-tuning"].run(task)

shards._in_own_process = lambda work, item, running: work(item)
places.MEASURES = {**MEASURES, "fine-tuning": replace(MEASURES["fine-tuning"], run=tuned)}
main(sys.argv[1:])
"""


def test_after_sigkill_nothing_that_finished_is_done_again(
    tmp_path, prepared_scans, given, here, monkeypatch
):
    sets, out = tmp_path / "sets", tmp_path / "out"
    for name in ("one", "two"):
        shutil.copytree(prepared_scans.folder, sets / name)
    call = [str(written(tmp_path)), "--log", str(sets), "--weights", str(given)]
    call += ["--protocols", "lp,knn,25", "--jobs", "1", "--out", str(out)]
    killed = subprocess.run([sys.executable, "-c", KILLED, *call], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    rows, before = places_rows(out), (out / "places.csv").read_bytes()
    figures = [(row["evaluation log"], row["measure"]) for row in rows.read()]
    done = [(name, what) for name in ("one", "two") for what in ("linear probe", "kNN", "fine-tuning")][:-1]
    assert sorted(figures) == sorted(done)

    ran: list[tuple[str, str]] = []

    def noted(measure, task):
        ran.append((task.index.folder.name, measure.first))
        return measure.run(task)

    noting = {name: replace(own, run=partial(noted, own)) for name, own in MEASURES.items()}
    monkeypatch.setattr(places, "MEASURES", noting)
    assert main(call) == 0
    assert ran == [("two", "fine-tuning")]
    after = (out / "places.csv").read_bytes()
    assert after.startswith(before), "rows that stood there are there byte by byte"
    assert len(rows.read()) == len(done) + 1


def test_leakage_is_refused_or_stands_in_row_command_and_table(
    tmp_path, prepared_scans, given, make_encoder, here, monkeypatch, capsys
):
    monkeypatch.setattr(
        "superflow.datasets.index.recordings_of",
        lambda name, scenes, known: tuple(f"drive of {scene}" for scene in scenes),
    )
    judged = sorted(prepared_scans.recordings(prepared_scans.rows("val")))
    data = {"train": {"dataset": "elsewhere", "recordings": judged[:1]}}
    save_backbone(make_encoder(), given, BackboneCard("mine", data=data))
    call = [str(written(tmp_path)), "--log", f"one={prepared_scans.folder}", "--weights", str(given)]
    call += ["--protocols", "25", "--out", str(tmp_path / "out")]
    assert main(call) == 2
    assert f"was trained on drives that are evaluated here ({judged[0]})" in capsys.readouterr().err
    assert places_rows(tmp_path / "out").read() == []
    assert main([*call, "--allow-leakage"]) == 0
    (row,) = places_rows(tmp_path / "out").read()
    assert row["leakage"] == judged[0]
    assert "--allow-leakage" in row["command"]
    for said in (capsys.readouterr().out, (tmp_path / "out" / "datasets.md").read_text()):
        assert f"| one | mine | {float(row['mIoU']):.1f}† |" in said
        assert f"- mine on one: {judged[0]}" in said
    assert main(call) == 2, "what was measured when it was allowed is no figure of this call"


def test_stand_ins_are_made_and_measured_and_one_that_fails_leaves_the_others(
    tmp_path, prepared_scans, given, here, monkeypatch, capsys
):
    def make(task):
        if task.name == "waymo":
            raise InputError("the disk is full")
        shutil.copytree(prepared_scans.folder, task.prepared)
        task.root.mkdir(parents=True)
        (task.root / "dataset.json").write_text(json.dumps({"settings": task.settings}))

    monkeypatch.setattr("superflow.benchmark.stand_ins.make_stand_in", make)
    call = [str(written(tmp_path)), "--stand-ins", "waymo", "rellis3d", "--weights", str(given)]
    assert main([*call, "--protocols", "25", "--out", str(tmp_path / "out")]) == 2
    assert "1 sets or figures failed, the first one waymo: the disk is full" in capsys.readouterr().err
    (row,) = places_rows(tmp_path / "out").read()
    assert row["evaluation log"] == "rellis3d"
    assert "- waymo: the disk is full" in (tmp_path / "out" / "datasets.md").read_text()


def test_a_figure_that_fails_leaves_the_others(tmp_path, prepared_scans, given, here, monkeypatch):
    def fails(task):
        raise RuntimeError("out of luck")

    monkeypatch.setattr(places, "MEASURES", {**MEASURES, "probe": replace(MEASURES["probe"], run=fails)})
    call = [str(written(tmp_path)), "--log", f"one={prepared_scans.folder}", "--weights", f"w={given}"]
    assert main([*call, "--protocols", "lp,25", "--out", str(tmp_path / "out")]) == 2
    rows = places_rows(tmp_path / "out").read()
    assert [(row["arm"], row["measure"]) for row in rows] == [("w", "fine-tuning")]
    page = (tmp_path / "out" / "datasets.md").read_text()
    assert "- w on one, seed 0, probe on one, all: out of luck" in page
    assert "| one | w | - |" in page
    assert "--weights w=mine.safetensors" in page


def test_other_weights_of_the_same_name_are_refused(tmp_path, prepared_scans, given, make_encoder, here):
    call = [str(written(tmp_path)), "--log", f"one={prepared_scans.folder}", "--weights", str(given)]
    call += ["--protocols", "25", "--out", str(tmp_path / "out")]
    assert main(call) == 0
    save_backbone(make_encoder(seed=1), given, BackboneCard("mine"))
    assert main(call) == 2
    page = (tmp_path / "out" / "datasets.md").read_text()
    assert "was made with other weights" in page
    copied = json.loads((tmp_path / "out" / "backbones" / "elsewhere-mine-0.json").read_text())
    assert copied["name"] == "mine"


def test_weights_are_named_and_read_before_the_work(tmp_path, given):
    assert named_weights([str(given), f"other={given}", "street-tiny"]) == {
        "mine": str(given),
        "other": str(given),
        "street-tiny": "street-tiny",
    }
    for texts, message in (
        ([], "name a backbone"),
        ([str(given), str(given)], "each with a name of its own"),
        (["none-such"], "is no file and no backbone by name"),
    ):
        with pytest.raises(InputError, match=message):
            named_weights(texts)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["datasets", "--prepared", "x"], "is a plan for prepared sets; leave out --prepared"),
        (["places", "--log", "x"], "is a plan of places; leave out --log"),
        (["pandaset", "--data", "x", "--ray", "local"], "is a plan for one log; leave out --ray"),
        (["places", "--stand-ins"], "is a plan of places; leave out --stand-ins"),
        (["saga", "--allow-leakage"], "is a benchmark of made scenes; leave out --allow-leakage"),
    ],
)
def test_options_of_another_plan_are_refused(tmp_path, capsys, more, message):
    assert main([*more, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err


def test_made_data_have_a_mark_in_every_table_and_one_or_two_sets_share_a_radar():
    protocols = {name: Protocol(name, "probe", figure=name, title=name) for name in ("lp", "knn")}
    found = {
        (name, figure): {("elsewhere", "w"): {"all": Cell((value,), None)}}
        for name, figure, value in (("a", "lp", 1.0), ("b", "lp", 2.0), ("c", "lp", 3.0), ("a", "knn", 4.0))
    }
    sets = {name: SimpleNamespace(real=name != "b") for name in "abc"}
    assert radar_values(found, protocols, sets) == {
        "lp": {"w": {"a": 1.0, "b*": 2.0, "c": 3.0}},
        "knn": {"w": {"a": 4.0, "b*": None, "c": None}},
    }
    assert markdown(found, protocols, sets)[2:] == [
        "| a | w | 1.0 | 4.0 |",
        "| b\\* | w | 2.0 | - |",
        "| c | w | 3.0 | - |",
        "",
        "\\* made data",
    ]
    card = SimpleNamespace(
        name="synthetic", label_set="fine", classes=("a", "b"), hash="0123456789", real=False
    )
    assert label_set(card) == "synthetic fine, 2 classes, 01234567, made data"
    two = {name: sets[name] for name in "ab"}
    assert radar_values(found, protocols, two) == {
        "all protocols": {"w": {"a\nlp": 1.0, "b*\nlp": 2.0, "a\nknn": 4.0, "b*\nknn": None}}
    }
