"""A small model trained on the spot on a log: what it learns from, what it answers, and what is said beside it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="needs the extra agents")
from superflow.agents.scene import SceneObject, SceneRecord
from superflow.agents.scene_log import scene_of
from superflow.agents.vlm import ask
from superflow.agents.vlm.bev import scatter
from superflow.agents.vlm.object_tape import HEAD, ask_tape, tape_of
from superflow.agents.vlm.sft import Recipe
from superflow.errors import InputError
from superflow.hub.backbone import save_backbone


def thing(x: float, y: float, category: str = "car", points: int = 50, **more) -> SceneObject:
    return SceneObject(
        f"{x} {y}", category, (x, y, 1.0), (4.0, 2.0, 1.5), more.pop("yaw", 0.3), points=points, **more
    )


def test_planes_and_records_turn_together():
    """The cells of the objects of a turned record are the turned cells of the objects."""
    rng = np.random.default_rng(0)
    scene = SceneRecord("t", "s", tuple(thing(x, y) for x, y in rng.uniform(-31, 31, (40, 2))))

    def planes(record):
        centers = torch.tensor([o.center for o in record.objects], dtype=torch.float64)
        return scatter(torch.arange(40.0)[:, None], ask.GRID.cells(centers), ask.GRID)

    seen = [planes(ask.seen_from(scene, side)) for side in range(ask.SIDES)]
    for side, found in enumerate(seen):
        assert torch.equal(ask.turned(seen[0], side), found)
    assert len({str(found.tolist()) for found in seen}) == 8


def test_points_turn_as_planes_do(small_backbone, scan):
    """What a backbone says of the points lies where the turned planes have it."""
    from superflow.agents.vlm.tower import planes_of

    seen = planes_of(small_backbone, scan(), ask.GRID)
    for side in range(ask.SIDES):
        found = planes_of(small_backbone, scan(), ask.GRID, lidar_to_ego=ask.turn_of(side))
        assert torch.allclose(found, ask.turned(seen, side), atol=1e-6)


@pytest.mark.parametrize(
    ("side", "where"), [(0, "front"), (1, "left"), (2, "back"), (3, "right"), (5, "right")]
)
def test_directions_turn_with_the_scene(side, where):
    """What is ahead is left after a quarter turn of the world to the left, and right where that is mirrored."""
    scene = ask.seen_from(SceneRecord("t", "s", (thing(9.0, 0.0, velocity=(2.0, 1.0), yaw=0.0),)), side)
    texts = {"front": "in front of", "back": "behind", "left": "left of", "right": "right of"}
    family = ask.families()["exist"]
    for name, text in texts.items():
        asked = {"query": f"is there a car {text} me", "min_points": 5, "max_range_m": 30.0}
        assert family.answer(scene, asked) == ("yes" if name == where else "no")
    moved = scene.objects[0]
    assert moved.speed == pytest.approx(5**0.5)
    along = np.cos(moved.yaw) * moved.velocity[0] + np.sin(moved.yaw) * moved.velocity[1]
    assert along == pytest.approx(2.0)  # it still drives along its own axis


def test_no_question_is_about_motion(small_index):
    from superflow.agents.words import STATUSES

    scenes = [scene_of(small_index, int(row), points=False) for row in small_index.rows()]
    cases = ask.cases_of(scenes, 40, seed=0)
    assert [case["family"] for case in cases] == ["exist"] * 40 + ["count"] * 40
    assert not [c for c in cases for word in STATUSES if word in c["asked"]["query"]]
    assert cases == ask.cases_of(scenes, 40, seed=0) != ask.cases_of(scenes, 40, seed=1)
    for case in cases:  # the answer that is learned is one that the verifier takes
        assert ask.families()[case["family"]].check(ask.example_of(case).answer, case).value == 1.0


def test_questions_are_put_into_the_words_of_training():
    assert ask.wording("how many cars are ahead?") == "How many cars in front of me are there?"
    with pytest.raises(InputError, match='knows only "is there'):
        ask.wording("how far is the nearest car?")
    for asked in (
        "how many parked cars?",
        "is there a bicycle without rider?",
        "is there a car slower than 9 m/s",
    ):
        with pytest.raises(InputError, match="without a status or a speed"):
            ask.wording(asked)
    for unknown in ("what is the weather?", "Describe the scene.", "", "why " * 3000):
        with pytest.raises(InputError, match='knows only "is there') as told:
            ask.wording(unknown)
        assert len(str(told.value)) < 300
    # here the mark under it helps
    with pytest.raises(InputError, match="the query cannot be read: at character 10"):
        ask.wording("how many carz are ahead?")


def test_questions_of_other_forms_than_those_of_training_are_refused(small_index):
    scenes = [scene_of(small_index, int(row), points=False) for row in small_index.rows()]
    for case in ask.cases_of(scenes, 60, seed=0):
        assert ask.wording(case["asked"]["query"]) == f"{case['asked']['query'].capitalize()}?"
    for other in (
        "is there no car?",
        "is there a car and a bus?",
        "is there exactly 1 car?",
        "how many nearest cars?",
        "is there the nearest car?",
        "how many cars within 10 m of a truck?",
        "how many cars not ahead?",
        "how many cars within 12 m of me?",
        "is there a car ahead within 10 m of me?",
    ):
        with pytest.raises(InputError, match=r"learned from questions about one kind|means one thing"):
            ask.wording(other)


@pytest.fixture
def run_folder(small_index, small_backbone, tmp_path):
    save_backbone(small_backbone.encoder, tmp_path / "backbone.safetensors", small_backbone.card)
    return tmp_path


def test_the_command_trains_once_and_answers(small_index, run_folder, capsys):
    from small_log import SmallLog

    from superflow.datasets.sets.nuscenes import write_index
    from superflow.tools.ask import main

    given = [
        "--run",
        str(run_folder),
        "--index",
        str(small_index.folder),
        "--steps",
        "2",
        "--questions",
        "10",
    ]
    assert main(["how many cars are ahead?", *given]) == 0
    first = capsys.readouterr()
    assert "How many cars in front of me are there?\nanswer:" in first.out
    assert "the log's labels say: " in first.out
    assert "held-out scans this model answers" in first.err
    made = (run_folder / "ask" / ask.REPORT).stat().st_mtime_ns
    assert main(["how many cars are ahead?", *given]) == 0
    assert capsys.readouterr().out == first.out
    assert (run_folder / "ask" / ask.REPORT).stat().st_mtime_ns == made
    assert "by heart" not in first.err
    assert main(["how many cars are ahead?", *given, "--frame", "scene-0001"]) == 0
    assert "one of those that the model was trained on: it may know it by heart" in capsys.readouterr().err
    for option, value, was in (
        ("--steps", "3", "2"),
        ("--seed", "1", "0"),
        ("--backbone", "street-tiny", "[0-9a-f]+"),
    ):
        assert main(["how many cars are ahead?", *given, option, value]) == 2
        said = capsys.readouterr()
        assert re.search(
            rf"was not made with this {option} \({was}\); leave it out, or name another", said.err
        )
        assert not said.out
    log = SmallLog(run_folder / "log")
    log.tables["sample_annotation"].pop()
    other = write_index(log.write(), run_folder / "index")
    assert main(["how many cars are ahead?", "--run", str(run_folder), "--index", str(other.folder)]) == 2
    shown = capsys.readouterr()
    assert f"ask: this model was trained on another prepared log than {other.folder}" in shown.err
    assert not shown.out


def test_a_log_without_splits_holds_out_what_the_quickstart_does(run_folder, monkeypatch, capsys):
    from small_log import SmallLog

    from superflow.datasets.sets.nuscenes import write_index
    from superflow.tools.ask import main

    log = SmallLog(run_folder / "log")
    for scene, name in zip(log.tables["scene"], ("first", "second")):
        scene["name"] = name
    index = write_index(log.write(), run_folder / "prepared")
    seen = []

    def train_on(*_, frames, **__):
        seen.append(frames)
        raise InputError("enough")

    monkeypatch.setattr(ask, "train_on", train_on)
    assert main(["how many cars are ahead?", "--run", str(run_folder)]) == 2
    assert "ask: enough" in capsys.readouterr().err
    assert seen == [(["first"], ["second"])]
    monkeypatch.setattr("superflow.agents.vlm.pretrained.smollm2", lambda: None)
    monkeypatch.setattr("superflow.agents.vlm.object_tape.ask_tape", lambda *_: "one")
    assert main(["what is near?", "--objects", "--run", str(run_folder)]) == 0
    held_out = index.rows("second")[:1]
    assert (
        capsys.readouterr().out == f"second, scan {index.tokens(held_out)[0]}: what is near?\nanswer: one\n"
    )


def test_without_a_run_of_the_quickstart_that_is_what_to_do(tmp_path, monkeypatch, capsys):
    from superflow.tools.ask import main

    monkeypatch.chdir(tmp_path)
    assert main(["how many cars are ahead?"]) == 2
    said = capsys.readouterr().err
    assert (
        "work_dirs/quickstart: the quickstart has not run into this folder; run it first, as in `superflow"
        in said
    )


def test_paths_lie_where_the_script_was_called(tmp_path):
    from superflow.tools.ask import parse_args

    (tmp_path / "mine").mkdir()
    (tmp_path / "b.safetensors").touch()
    words = ["how many?", "--cwd", str(tmp_path), "--run", "mine", "--backbone"]
    args = parse_args([*words, "b.safetensors"])
    assert (args.run, args.backbone) == (tmp_path / "mine", str(tmp_path / "b.safetensors"))
    assert parse_args([*words, "street-tiny"]).backbone == "street-tiny"
    assert parse_args(words[:3]).run == Path("work_dirs/quickstart")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["what is the weather?"], 'knows only "is there'),
        (["how many carz?"], "the query cannot be read"),
        (["is there a bus?", "--frame", "scene-none"], "scene-none"),
        (
            ["is there a bus?", "--objects", "--seed", "1"],
            "a model that is not trained here; leave --seed out",
        ),
    ],
)
def test_the_command_refuses_before_the_work(small_index, run_folder, capsys, words, said):
    from superflow.tools.ask import main

    assert main([*words, "--run", str(run_folder), "--index", str(small_index.folder)]) == 2
    assert said in capsys.readouterr().err
    assert not (run_folder / "ask").exists()


def test_report_of_a_model_that_was_trained(small_index, small_backbone, tmp_path):
    recipe = Recipe(steps=2, batch=4)
    training = ask.Training(questions=12, examined=5, alignment=recipe, recipe=recipe, seed=3)
    report = ask.train_on(small_index, small_backbone, tmp_path / "ask", training)
    assert report["questions"] == {"train": 24, "val": 10}
    assert not set(report["scans"]["train"]) & set(report["scans"]["val"])
    for name in ("right", "right_without_scan", "right_most_frequent"):
        assert 0 <= report[name] <= 100


def test_scans_are_not_for_training_and_held_out(small_index, small_backbone, tmp_path):
    frames = (("scene-0001",), ("scene-0001[1:2]", "scene-0003"))
    with pytest.raises(InputError, match="1 of the scans are for training and held out"):
        ask.train_on(small_index, small_backbone, tmp_path / "ask", frames=frames)
    assert not (tmp_path / "ask").exists()


def test_objects_as_text():
    scene = SceneRecord(
        "t",
        "s",
        (
            thing(-20.0, 1.0, "bus", status=("parked",)),
            thing(5.0, 0.0, velocity=(3.0, 0.0)),
            thing(3.0, 0.0, "barrier", points=2),  # the sensor cannot tell it
            thing(80.0, 0.0, "truck"),
        ),
    )
    assert tape_of(scene) == f"{HEAD}\ncar, moving, 5 m, front\nbus, parked, 20 m, back"
    assert tape_of(scene, most=1) == f"{HEAD}\ncar, moving, 5 m, front\nand 1 farther away"
    assert tape_of(replace(scene, objects=())) == f"{HEAD}\nnone"
    assert tape_of(replace(scene, objects=(thing(0.0, 0.0),))) == f"{HEAD}\ncar, 0 m, here"


def test_a_language_model_is_asked_with_the_tape(make_vlm):
    """The text before the question is the tape, and only what is written after it is the answer."""
    from superflow.agents.vlm.language import tiny
    from superflow.agents.vlm.tokenizer import chat_template

    torch.manual_seed(0)
    language = tiny(["car"], width=32)
    language.tokenizer.chat_template = chat_template()
    scene = SceneRecord("t", "s", (thing(5.0, 0.0),))
    seen = []
    eos = language.tokenizer.convert_tokens_to_ids("car")

    def generate(input_ids, **options):
        seen.append(language.tokenizer.decode(input_ids[0]))
        return torch.cat([input_ids, torch.tensor([[eos]])], 1)

    model = SimpleNamespace(generate=generate)
    assert ask_tape(replace(language, model=model), scene, "What is ahead?") == "car"
    assert seen == [
        f"<|im_start|>user\n{tape_of(scene)}\n\nWhat is ahead?<|im_end|>\n<|im_start|>assistant\n",
    ]
