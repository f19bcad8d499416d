"""A benchmark of questions: its plan, its controls, its intervals, and a small one from end to end."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

pytest.importorskip("transformers", reason="needs the extra agents")
pytest.importorskip("sklearn", reason="needs the extra agents")
from superflow.agents.bootcamps.report import interval
from superflow.agents.scene_log import scene_of
from superflow.benchmark.plan_file import find_plan, kind_of_plan
from superflow.benchmark.questions import run as questions
from superflow.benchmark.questions.arms import Study, ZeroTokens, elsewhere
from superflow.benchmark.questions.data import Scans, part_of
from superflow.benchmark.questions.plan import KINDS, ROUTERS, load_questions_plan
from superflow.errors import InputError
from superflow.hub.backbone import BackboneCard, save_backbone
from superflow.lidar.encoder import LidarEncoder
from superflow.tools.benchmark import main

SMALL = {
    "logs": {"log": {"root": "ROOT"}},
    "parts": {
        "train": {"log": "log", "frames": ["scene-0001[:2]", "scene-0003[:2]"], "questions": 8},
        "held_out": {"log": "log", "frames": ["scene-0001[2:]", "scene-0003[2:]"], "questions": 6},
    },
    "backbones": {"own": None, "random": "random of own"},
    "families": {"exist": {"hops": 0}, "count": {"hops": 0}},
    "still": ["exist", "count"],
    "max_range_m": 50.0,
    "grid": {"rows": 8, "columns": 8, "cell_m": 8.0, "tile": 8},
    "merge": 4,
    "recipe": {"steps": 2, "batch": 4},
    "sides": 3,
    "cell_width": 4,
    "alignment": {"steps": 2, "batch": 4, "parts": 2},
    "question_first": True,
    "pointing": True,
    "language": {"width": 32},
    "arms": {
        "majority": {"kind": "majority"},
        "blind": {"kind": "blind"},
        "zero": {"kind": "zero"},
        "moved": {"kind": "shuffled", "of": "own"},
        "own": {"kind": "planes", "backbone": "own"},
        "random": {"kind": "planes", "backbone": "random"},
        "large": {
            "kind": "planes",
            "backbone": "own",
            "language": "tiny",
            "lora": {"rank": 2},
            "recipe": {"batch": 2, "answers_only": True, "bfloat16": True},
        },
        "open": {"kind": "open", "backbone": "own", "of": "own"},
        "opened": {
            "kind": "open",
            "backbone": "own",
            "of": "own",
            "frozen_first": 0.5,
            "recipe": {"batch": 2},
        },
        "tape": {"kind": "tape", "backbone": "own"},
        "symbolic": {"kind": "symbolic", "backbone": "own"},
        "labelled": {"kind": "labelled"},
        "vir": {"kind": "routed", "backbone": "own"},
    },
    "routing": {
        "tile": 4,
        "merge": 2,
        "short_merge": 4,
        "consistency": 1,
        "router": 2,
        "shares": [0.25, 0.75],
    },
    "differences": [["own", "random"], ["vir, router, 25 %", "vir, points, 25 %"]],
}


def changed(**parts) -> dict:
    return {**json.loads(json.dumps(SMALL)), **parts}


def written(folder: Path, content: dict) -> Path:
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def ran(tmp_path_factory, small_index):
    """All kinds of arms over the small log, from the command line: folder of the benchmark and what to call again."""
    folder = tmp_path_factory.mktemp("questions")
    torch.manual_seed(0)
    encoder = LidarEncoder({"type": "cubic", "size_m": 0.5}, {"depth": "tiny", "output": 6})
    save_backbone(encoder, folder / "own.safetensors", BackboneCard("own"))
    plan = written(folder, SMALL)
    words = [str(plan), "--root", f"log={small_index.root}", "--root", f"own={folder / 'own.safetensors'}"]
    words += ["--out", str(folder / "out")]
    with pytest.MonkeyPatch.context() as patch:
        # spawned processes for nine arms would take a minute to import
        patch.setattr("superflow.benchmark.units.run_units", in_this_process)
        assert main(words) == 0
        yield folder / "out", words


def rows_of(rows, **values):
    return [row for row in rows if all(row[name] == value for name, value in values.items())]


def in_this_process(units, *, jobs, ray):
    for unit in units:
        assert unit.run() == []
        yield unit.name()


def test_every_kind_of_arm_answers_every_question(ran):
    out, _ = ran
    assert {arm["kind"] for arm in SMALL["arms"].values()} == set(KINDS)
    rows = questions.questions_rows(out).read()
    names = [*SMALL["arms"], *(f"vir, {how}, {share} %" for how in ROUTERS for share in (25, 75))]
    for arm in names[:-9] + names[-8:]:
        own = {row["questions"]: row for row in rows if row["arm"] == arm and not row["minus"]}
        assert {name: row["answers"] for name, row in own.items()} == {
            "all": "12",
            "exist": "6",
            "count": "6",
        }
        given = [json.loads(line) for line in questions.answers_path(out, arm, 0).read_text().splitlines()]
        right = 100 * np.mean([each["right"] for each in given])
        assert float(own["all"]["exact match"]) == pytest.approx(right, abs=0.01)
    # four tiles, one or three of them at four tokens, the others at one: equally many for all ways of routing
    for how in ROUTERS:
        few, many = (
            rows_of(rows, arm=f"vir, {how}, {share} %", questions="all")[0]["tokens"] for share in (25, 75)
        )
        assert (float(few), float(many)) == (7.0, 13.0)
    # four by four tokens a scan; without a scan none
    tokens = {row["arm"]: row["tokens"] for row in rows if row["questions"] == "all" and not row["minus"]}
    assert tokens["own"] == tokens["zero"] == tokens["moved"] == tokens["open"] == "4"
    assert tokens["blind"] == tokens["tape"] == "0"
    # perfect objects answer all: the bound above the other arms
    assert rows_of(rows, arm="labelled", questions="all")[0]["exact match"] == "100.00"


def test_an_arm_may_have_a_language_model_and_a_recipe_of_its_own(ran):
    """With additions of low rank the words' embeddings stay as they were drawn; nothing is left half done."""
    from superflow.agents.vlm import load_vlm

    out, _ = ran
    plan = questions.with_places(
        load_questions_plan(find_plan(written(out.parent, SMALL))),
        {"log": "x", "own": str(out.parent / "own.safetensors")},
    )
    study = Study(plan, plan.arms["large"], 0, out)
    assert (study.recipe.steps, study.recipe.batch, study.recipe.answers_only) == (2, 2, True)
    model, _ = load_vlm(out / "models" / "large-0")
    drawn, _ = study.build(study.examples(study.train), backbone=study.backbone[0])
    assert model.config.text_config.hidden_size == 64  # not the plan's 32
    name = "model.language_model.layers.0.self_attn.q_proj.weight"
    assert torch.equal(model.get_input_embeddings().weight, drawn.get_input_embeddings().weight)
    assert not torch.equal(model.state_dict()[name], drawn.state_dict()[name])
    assert not list(out.glob("models/*.pt"))


def test_keys_of_an_arm_that_came_later_leave_older_rows_valid(ran):
    plan = load_questions_plan(find_plan(written(ran[0].parent, SMALL)))
    assert set(plan.arms["own"].settings()) == {"name", "kind", "backbone", "of"}
    other = replace(plan.arms["own"], language="tiny")
    changed_plan = replace(plan, arms={**plan.arms, "own": other})
    assert changed_plan.settings_hash("own", "x") != plan.settings_hash("own", "x")
    assert changed_plan.settings_hash("moved", "x") != plan.settings_hash("moved", "x")
    assert changed_plan.settings_hash("blind", "x") == plan.settings_hash("blind", "x")


def test_a_backbone_is_opened_after_its_share_of_the_time(ran, monkeypatch):
    """One step of the plan's two while it is frozen, which leaves it as it was, then steps of the arm's own recipe."""
    from superflow.benchmark.questions import arms as questions_arms

    out, _ = ran
    plan = questions.with_places(
        load_questions_plan(find_plan(written(out.parent, SMALL))),
        {"log": "x", "own": str(out.parent / "own.safetensors")},
    )
    study, told = Study(plan, plan.arms["opened"], 0, out), []
    before = {name: value.clone() for name, value in study.backbone[0].encoder.state_dict().items()}
    fit = Study.fit

    def watched(own, model, processor, examples, recipe, halfway=None):
        spent = fit(own, model, processor, examples, recipe, halfway)
        now = model.model.lidar_tower.backbone.encoder.state_dict()
        told.append((recipe.batch, all(torch.equal(now[name], value) for name, value in before.items())))
        return spent

    monkeypatch.setattr(Study, "fit", watched)
    questions_arms.ANSWERS["open"](study)
    assert told == [(4, True), (2, False), (2, False), (2, False)]


def test_a_difference_is_that_of_the_two_arms(ran):
    rows = questions.questions_rows(ran[0])
    (gap,) = rows.find(arm="own", minus="random", questions="all")
    one, other = (
        float(rows.find(arm=arm, minus="", questions="all")[0]["exact match"]) for arm in ("own", "random")
    )
    assert float(gap["exact match"]) == pytest.approx(one - other, abs=0.02)
    assert "exact match" in questions.COLUMNS
    assert "own - random" in questions.markdown(rows.read())


def test_several_seeds_have_rows_of_their_mean(ran, tmp_path):
    """The mean of an arm and of a difference is that of the seeds; the interval is over scenes."""
    _, words = ran
    words = [*words[:-1], str(tmp_path), "--arms", "own", "random", "--seeds", "0", "2"]
    assert main(words) == 0
    rows = questions.questions_rows(tmp_path)
    right = {
        (arm, seed): [
            json.loads(line)["right"]
            for line in questions.answers_path(tmp_path, arm, seed).read_text().splitlines()
        ]
        for arm in ("own", "random")
        for seed in (0, 2)
    }
    for arm, minus in (("own", ""), ("random", ""), ("own", "random")):
        for kind in ("all", "exist", "count"):
            both = rows.find(arm=arm, minus=minus, seed="0 2", questions=kind)
            each = [rows.find(arm=arm, minus=minus, seed=seed, questions=kind)[0] for seed in (0, 2)]
            mean = np.mean([float(row["exact match"]) for row in each])
            assert float(both[0]["exact match"]) == pytest.approx(mean, abs=0.02)
            assert both[0]["answers"] == each[0]["answers"]
    gaps = [
        50 * (right["own", 0][n] + right["own", 2][n] - right["random", 0][n] - right["random", 2][n])
        for n in range(12)
    ]
    scenes = [
        json.loads(line)["scene"]
        for line in questions.answers_path(tmp_path, "own", 0).read_text().splitlines()
    ]
    row = rows.find(arm="own", minus="random", seed="0 2", questions="all")[0]
    assert (float(row["low"]), float(row["high"])) == pytest.approx(
        interval(np.array(gaps), scenes), abs=0.01
    )


def test_what_is_there_is_not_made_again_and_other_settings_are_refused(ran, capsys):
    out, words = ran
    before = {path: path.read_bytes() for path in out.rglob("*.jsonl")}
    table = (out / "questions.csv").read_text()
    times = {path: path.stat().st_mtime_ns for path in before}
    assert main(words) == 0
    assert (out / "questions.csv").read_text() == table
    assert {path: path.stat().st_mtime_ns for path in before} == times
    written(out.parent, changed(recipe={"steps": 3, "batch": 4}))
    assert main([*words, "--arms", "own"]) == 2
    assert "was made with other settings" in capsys.readouterr().err
    written(out.parent, SMALL)


def test_a_stopped_arm_is_made_alone(ran):
    """Rows of one arm and its answers are gone, as after a stop; those of the others stay as they are."""
    out, words = ran
    path = out / "questions.csv"
    before = path.read_text()
    kept = [line for line in before.splitlines() if not line.startswith("blind,")]
    path.write_text("\n".join(kept) + "\n")
    given = questions.answers_path(out, "blind", 0).read_text()
    questions.answers_path(out, "blind", 0).unlink()
    assert main(words) == 0
    assert questions.answers_path(out, "blind", 0).read_text() == given  # the same seed, the same answers
    assert len(path.read_text().splitlines()) == len(before.splitlines())
    assert set(kept) <= set(path.read_text().splitlines())


def test_nobody_looks_at_the_own_scene(ran):
    plan = load_questions_plan(find_plan(written(ran[0].parent, SMALL)))
    part = part_of(questions.with_places(plan, {"log": "x"}), "train", ran[0])
    both = replace(part, cases=[{"scene": token} for token in part.index.tokens(part.index.rows(None))])
    for seed in range(3):
        for token, instead in elsewhere(both, seed).items():
            scene = {name: both.index.scene(both.row_of[name]) for name in (token, instead)}
            assert scene[token] != scene[instead]
    first = both.index.tokens(both.index.rows("scene-0001"))
    with pytest.raises(
        InputError, match=r"are about one scene, so none can be asked with another scene's scan"
    ):
        elsewhere(replace(both, cases=[{"scene": token} for token in first]), 0)


def test_training_scans_are_asked_about_from_all_sides(ran):
    """Planes, points and records of a view are turned alike; held-out scans are asked about as they are."""
    plan = questions.with_places(
        load_questions_plan(find_plan(written(ran[0].parent, SMALL))), {"log": "x", "own": "y"}
    )
    part, held_out = (part_of(plan, name, ran[0]) for name in ("train", "held_out"))
    assert {side for _, side in part.views.values()} == {0, 1, 2}
    assert {side for _, side in held_out.views.values()} == {0}
    name, (token, _) = next(view for view in part.views.items() if view[1][1] == 1)
    assert name in {case["scene"] for case in part.cases}
    frame = part.index.frame(part.row_of[token], cameras=(), labels=False, images=False)
    place = np.array([3.0, 2.0, 0.0, 1.0])
    here, turned = (to_ego @ place for to_ego in (frame.lidar_to_ego, Scans(part)[name]["lidar_to_ego"]))
    assert turned[:2] == pytest.approx([-here[1], here[0]])
    labelled = {view: record for view, record in part.labelled().items() if part.views[view][0] == token}
    own = scene_of(part.index, part.row_of[token], points=False).objects[0].center
    assert labelled[name].objects[0].center[:2] == pytest.approx([-own[1], own[0]])


def test_zero_tokens_say_nothing():
    tokens = ZeroTokens(5, 7)(torch.randn(3, 2, 4, 4))
    assert tokens.shape == (3, 5, 7)
    assert not tokens.any()
    assert not list(ZeroTokens(5, 7).parameters())


def test_interval_against_a_loop():
    """Scenes are drawn, not answers: those of one scene come together."""
    rng = np.random.default_rng(1)
    scenes = [f"s{i}" for i in rng.integers(6, size=40)]
    values = rng.random(40)
    names = sorted(set(scenes))
    drawn = np.random.default_rng(3).integers(len(names), size=(1000, len(names)))
    means = []
    for row in drawn:
        chosen = [values[i] for name in row for i in range(40) if scenes[i] == names[name]]
        means.append(np.mean(chosen))
    assert interval(values, scenes, seed=3) == pytest.approx(np.quantile(means, [0.025, 0.975]))
    assert interval(values, ["one"] * len(values)) is None
    row = {
        "arm": "a",
        "minus": "",
        "seed": "0",
        "questions": "all",
        "exact match": "40.00",
        "low": "",
        "high": "",
    }
    assert questions.markdown([row]).splitlines()[-1].split("|")[-2].strip() == "40.0"


@pytest.mark.parametrize("name", ["questions", "questions_small"])
def test_shipped_plans(name):
    path = find_plan(Path(name))
    assert kind_of_plan(path) == "questions"
    plan = load_questions_plan(path)
    drives = {part.name: plan.logs[part.log].drive for part in plan.parts.values()}
    assert drives["train"]["seed"] != drives["held_out"]["seed"]
    assert {arm.kind for arm in plan.arms.values()} == set(KINDS)


def test_the_shipped_plan_of_one_street_holds_back_later_scans():
    plan = load_questions_plan(find_plan(Path("questions_pandaset")))
    assert plan.logs["street"].root is None  # given on the command line
    assert plan.parts["train"].frames == ["scene-9002[0:40]"]
    assert plan.parts["held_out"].frames[0] == "scene-9002[50:]"
    tiny, large = (plan.arms[name] for name in ("street-tiny frozen", "SmolLM2 on street-tiny"))
    assert (tiny.backbone, tiny.kind) == (large.backbone, large.kind)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"families": {"exists": {}}}, "there is no 'exists'"),
        ({"recipes": {}}, "'recipes' is unknown"),
        ({"parts": {"train": SMALL["parts"]["train"]}}, "give train and held_out"),
        ({"arms": {"a": {"kind": "deaf"}}}, "kind 'deaf' is unknown"),
        ({"arms": {"a": {"kind": "planes", "backbone": "none"}}}, "there is no 'none'"),
        (
            {"arms": {"a": {"kind": "shuffled", "of": "b"}, "b": {"kind": "blind"}}, "differences": []},
            "must be an arm of kind planes",
        ),
        (
            {"arms": {"a": {"kind": "open", "backbone": "own", "frozen_first": 1}}, "differences": []},
            "a share from 0 to below 1",
        ),
        ({"differences": [["own"]]}, "is no pair"),
        ({"differences": [["own", "vir, router, 30 %"]]}, "there is no 'vir, router, 30 %'"),
        ({"families": {"gap": {}}, "still": [], "pointing": True}, "questions of 'gap' are no queries"),
        ({"sides": 9}, "a scan has 1 to 8 sides"),
        ({"routing": {"tile": 4}}, "routing lacks merge"),
        ({"logs": {"log": {"drive": {}}, "own": {"drive": {"seed": 0}}}}, "two drives have one seed"),
        ({"logs": {"log": {"root": "R"}, "own": {"root": "R"}}}, "is a log and a backbone"),
    ],
)
def test_wrong_plans(tmp_path, parts, said):
    with pytest.raises(InputError, match=said):
        load_questions_plan(written(tmp_path, changed(**parts)))


@pytest.mark.parametrize("other", ["log", "again"])
def test_parts_that_share_scans_are_refused(tmp_path, small_index, capsys, other):
    plan = changed(arms={"majority": {"kind": "majority"}}, differences=[])
    plan["logs"] = {name: {"root": "ROOT"} for name in ("log", other)}
    plan["parts"]["held_out"] |= {"frames": ["scene-0001[2:]", "scene-0003"], "log": other}
    roots = [word for name in plan["logs"] for word in ("--root", f"{name}={small_index.root}")]
    assert main([str(written(tmp_path, plan)), *roots, "--out", str(tmp_path / "out")]) == 2
    assert "2 scans are in train and in held_out" in capsys.readouterr().err


def test_damaged_questions_and_answers_are_named(ran, tmp_path):
    whole = {"right": True, "family": "exist", "scene": "a"}
    for text, message in (
        ('{"right": tr', "line 1 is no valid JSON .*"),
        (json.dumps(whole), "holds 1 answers, and questions.csv says 2"),
        (
            f"{json.dumps(whole)}\n{json.dumps({**whole, 'right': 1})}",
            "line 2 has no 'right' as answers have it",
        ),
        ('{"right": true}\n' * 2, "line 1 has no 'family' as answers have it"),
    ):
        (tmp_path / "a.jsonl").write_text(text)
        with pytest.raises(InputError, match=rf"a\.jsonl: {message}; delete .*a\.\*, and the arm's rows"):
            questions._read(tmp_path / "a.jsonl", {"answers": "2"})
    plan = questions.with_places(load_questions_plan(find_plan(written(ran[0].parent, SMALL))), {"log": "x"})
    path = ran[0] / "questions" / "train.jsonl"
    whole = path.read_text()
    try:
        path.write_text(whole[:-20])
        with pytest.raises(InputError, match=r"train\.jsonl: line \d+ is no valid JSON"):
            part_of(plan, "train", ran[0])
    finally:
        path.write_text(whole)


def test_questions_are_not_those_of_as_many_other_scans(tmp_path, small_index, capsys):
    """Held-out scans became those for training, and the questions about them stayed where they were."""
    plan = changed(arms={"majority": {"kind": "majority"}}, differences=[])
    words = [
        str(written(tmp_path, plan)),
        "--root",
        f"log={small_index.root}",
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(words) == 0
    frames = {name: plan["parts"][name]["frames"] for name in ("train", "held_out")}
    assert len({len(small_index.rows(each)) for each in frames.values()}) == 1
    plan["parts"]["train"]["frames"], plan["parts"]["held_out"]["frames"] = (
        frames["held_out"],
        frames["train"],
    )
    written(tmp_path, plan)
    assert main(words) == 2
    assert "was made with other scans" in capsys.readouterr().err
    plan["parts"]["train"]["frames"], plan["parts"]["held_out"]["frames"] = (
        frames["train"],
        frames["held_out"],
    )
    written(tmp_path, plan)
    for path in (tmp_path / "out").rglob("*.made_of.json"):  # as before it was written there
        said = json.loads(path.read_text())
        path.write_text(json.dumps({name: value for name, value in said.items() if name != "scans"}))
    assert main(words) == 0


def test_a_backbone_without_a_file_is_asked_for(tmp_path, small_index, capsys):
    words = [
        str(written(tmp_path, SMALL)),
        "--root",
        f"log={small_index.root}",
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(words) == 2
    assert "give it with --root own=FILE" in capsys.readouterr().err
    assert main([*words, "--arms", "nobody"]) == 2
    assert main([*words, "--teacher", "x"]) == 2
    assert "is a plan of questions" in capsys.readouterr().err
    assert main([*words, "--root", "nowhere=x"]) == 2
    assert "no such log or backbone" in capsys.readouterr().err
    assert main([*words, "--root", "own=nowhere.pth"]) == 2
    assert "nowhere.pth: there is no such file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists(), "it is refused before scenes and questions are made"
