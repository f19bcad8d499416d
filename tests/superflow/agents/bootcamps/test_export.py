"""Cases as lines, as verl's parquet, under reward functions and as an environment; the report of answers."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pyarrow.parquet
import pytest

from superflow.agents.bootcamps.export import compute_score, mixed_cases, reward_function
from superflow.agents.bootcamps.made_scenes import made_scenes
from superflow.agents.bootcamps.openenv import QuestionEnvironment, openenv_environment
from superflow.agents.bootcamps.registry import families, family_of
from superflow.agents.bootcamps.report import report
from superflow.errors import InputError
from superflow.tools.make_questions import main

SCENES = list(made_scenes(np.random.default_rng(2), 30))


def cases(seed=0, count=32, **options):
    return mixed_cases(SCENES, count, seed=seed, **options)


def gold(case):
    return family_of(case).reply.text(case["gold"])


def test_families_take_turns_and_names_are_known():
    made = list(cases())
    assert [case["family"] for case in made[: len(families())]] == sorted(families())
    assert made == list(cases())
    with pytest.raises(InputError, match="no family 'counts'"):
        list(cases(names=["counts"]))


def test_scenes_without_enough_objects_are_asked_what_they_allow(tmp_path, capsys):
    """Of two things, there are no three nearest, no order of three, and no others where nothing stands."""
    two = [replace(scene, objects=scene.objects[:2]) for scene in SCENES]
    made = list(mixed_cases(two, 90))
    assert len(made) == 90
    assert {case["asked"]["k"] for case in made if case["family"] == "nearest"} == {2}
    assert {case["family"] for case in made} == set(families()) - {"order"}
    with pytest.raises(InputError, match="allows a question of order"):
        list(mixed_cases(two, 4, names=["exist", "order"]))
    with pytest.raises(InputError, match="allows a question of"):
        list(mixed_cases([replace(scene, objects=()) for scene in SCENES], 2, names=["pose", "order"]))
    assert main(["--made", "1", "--seed", "4", "--count", "40", "--out", str(tmp_path / "q.jsonl")]) == 0
    assert len((tmp_path / "q.jsonl").read_text().splitlines()) == 40
    told = capsys.readouterr()
    assert "40 questions about 1 scenes" in told.out
    lines = [json.loads(line) for line in (tmp_path / "q.jsonl").read_text().splitlines()]
    different = {(line["ground_truth"]["scene"], line["prompt"]) for line in lines}
    assert f"scenes, {40 - len(different)} of them a second time" in told.out
    assert "another file of --seed 4 asks about the same thrown scenes" in told.err


def test_thrown_scenes_of_two_seeds_have_two_names(tmp_path):
    names = []
    for seed in ("4", "5", "4"):
        words = ["--made", "2", "--families", "exist", "--count", "20", "--out", str(tmp_path / "q.jsonl")]
        assert main([*words, "--seed", seed]) == 0
        lines = (tmp_path / "q.jsonl").read_text().splitlines()
        names.append({json.loads(line)["ground_truth"]["scene"] for line in lines})
    assert not names[0] & names[1]
    assert names[0] == names[2]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--made", "3", "--frames", "val"], "--made asks about no log"),
        (["--made", "3", "--predictions", "run"], "--made asks about no log"),
        (["--made", "3", "--split", "val"], "a .jsonl has no place for it"),
    ],
)
def test_options_that_cannot_serve_are_refused(tmp_path, capsys, options, said):
    assert main([*options, "--out", str(tmp_path / "q.jsonl")]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_was_not_asked_is_said(tmp_path, capsys):
    given = ["--made", "9", "--count", "1", "--families", "exist", "gap", "--out", str(tmp_path / "q.jsonl")]
    assert main(given) == 0
    assert "none of gap:" in capsys.readouterr().err


def test_lines_and_parquet_are_scored_from_the_file_alone(tmp_path, capsys):
    arguments = ["--made", "12", "--count", "18", "--out"]
    assert main([*arguments, str(tmp_path / "q.jsonl"), "--with-scene"]) == 0
    lines = [json.loads(line) for line in (tmp_path / "q.jsonl").read_text().splitlines()]
    assert len(lines) == 18
    for line in lines:
        case = line["ground_truth"]
        assert line["data_source"] == case["family"]
        assert " m/s, heading " in line["prompt"] or "velocity unknown" in line["prompt"]
        assert line["prompt"].endswith(family_of(case).prompt_func(case))
        assert reward_function([gold(case), "no idea"], identity=[case, json.dumps(case)]) == [1.0, 0.0]
        parts = [{"type": "image"}, {"type": "text", "text": gold(case)}]
        assert reward_function([[{"role": "assistant", "content": parts}]], [case]) == [1.0]
        for nothing in (
            "",
            None,
            [],
            [{"role": "assistant", "content": None}],
            [{"role": "assistant"}],
            ["content", 7],
            7,
        ):
            assert reward_function([nothing], [case]) == [0.0], nothing
            assert compute_score("bootcamp", nothing, json.dumps(case)) == 0.0
        assert reward_function([[{"role": "assistant", "content": gold(case)}]], [case], prompts=[""]) == [
            1.0
        ]
    assert main([*arguments, str(tmp_path / "q.parquet"), "--split", "test"]) == 0
    rows = pyarrow.parquet.read_table(tmp_path / "q.parquet").to_pylist()
    for i, (row, line) in enumerate(zip(rows, lines, strict=True)):
        truth = row["reward_model"]["ground_truth"]
        assert row["data_source"] == f"bootcamp/{line['data_source']}"
        assert (row["extra_info"]["index"], row["extra_info"]["split"]) == (i, "test")
        assert compute_score(row["data_source"], gold(json.loads(truth)), truth, row["extra_info"]) == 1.0
        assert line["prompt"].endswith(row["prompt"][0]["content"])
    assert "18 questions about 12 scenes" in capsys.readouterr().out
    assert main([*arguments, str(tmp_path / "q.txt")]) == 2
    assert "is none of .jsonl, .parquet, .json; choose" in capsys.readouterr().err


def test_an_episode_is_a_question_and_an_answer():
    environment = QuestionEnvironment(lambda seed: cases(seed, 3))
    with pytest.raises(InputError, match="no question is open"):
        environment.step("yes")
    first = next(iter(cases(7, 3)))
    assert environment.reset(seed=7) == family_of(first).prompt_func(first)
    assert "gold" not in environment.state
    assert environment.step(gold(first)).value == 1.0
    assert environment.state["step_count"] == 1
    with pytest.raises(InputError, match="no question is open"):
        environment.step("again")
    environment.reset()
    environment.reset()
    with pytest.raises(InputError, match="no further question"):
        environment.reset()


def test_openenv_is_asked_for_only_where_it_is_used(monkeypatch):
    monkeypatch.setitem(sys.modules, "openenv", None)
    with pytest.raises(ImportError, match="pip install openenv"):
        openenv_environment(cases)


def test_openenv_runs_an_episode():
    pytest.importorskip("openenv.core.env_server.interfaces", exc_type=ImportError)
    environment = openenv_environment(cases)
    first = next(iter(cases(7)))
    assert environment.reset(seed=7).prompt == family_of(first).prompt_func(first)
    told = environment.step(environment.Answer(text=gold(first)))
    assert (told.reward, told.done, environment.state.step_count) == (1.0, True, 1)


def test_the_report_counts_what_the_sensor_cannot_tell_apart():
    made = list(cases(count=60))
    silent = [case for case in made if case["gold"] is None]
    assert 0 < len(silent) < len(made)
    perfect = report((case, gold(case)) for case in made)["all"]
    assert (perfect.accuracy, perfect.told, perfect.abstained, perfect.doubted, perfect.unread) == (
        1,
        1,
        1,
        0,
        0,
    )
    assert perfect.interval == (1.0, 1.0)
    coward = report((case, "cannot tell") for case in made)["all"]
    assert (coward.told, coward.abstained, coward.doubted) == (0, 1, 1)
    assert coward.accuracy == pytest.approx(len(silent) / len(made))
    assert coward.interval[0] < coward.accuracy < coward.interval[1]
    drive = [({**case, "drive": "one"}, gold(case)) for case in made]  # scans of one drive are no scenes
    assert (report(drive)["all"].scenes, report(drive)["all"].interval) == (1, None)
    before = [({k: v for k, v in case.items() if k != "drive"}, gold(case)) for case in made]
    assert report(before)["all"] == perfect
    mute = report((case, "") for case in made)
    assert mute["all"].unread == 1.0
    assert set(mute) == {*families(), "all"}
    assert report([]) == {}
