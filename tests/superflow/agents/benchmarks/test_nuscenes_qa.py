"""NuScenes-QA files: reading, writing, pairing with a log, exact match against a plain twin, and the traps."""

from __future__ import annotations

import json
from collections import defaultdict
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from superflow.agents.benchmarks.frames import frame_names
from superflow.agents.benchmarks.nuscenes_qa import (
    ANSWERS,
    TYPES,
    Question,
    paired,
    read_answer,
    read_answers,
    read_questions,
    scores,
    write_answers,
    write_questions,
)
from superflow.agents.benchmarks.nuscenes_qa_made import INFO, made_questions, question_of
from superflow.agents.bootcamps.export import mixed_cases
from superflow.agents.bootcamps.made_scenes import made_scenes
from superflow.agents.bootcamps.registry import family_of
from superflow.agents.bootcamps.replies import NUMBER_WORDS
from superflow.datasets.index import LogIndex
from superflow.errors import InputError
from superflow.tools.make_questions import main as make
from superflow.tools.score_answers import main as score

SCENES = list(made_scenes(np.random.default_rng(2), 30))
ROW = {
    "split": "val",
    "sample_token": "a1",
    "question": "How many cars are there?",
    "answer": 3,
    "num_hop": 0,
    "template_type": "count",
}


def made(count=60, **options):
    return list(made_questions(SCENES, count, **options))


QUESTIONS = made(100)


def written(tmp_path, value, name="q.json"):
    path = tmp_path / name
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def published(questions, answers):
    """Right answers and questions of each name, as the published evaluation counts them, by position alone."""
    found = defaultdict(list)
    for i in range(len(questions)):
        right = str(questions[i].answer) == answers[i]
        found["Overall"].append(right)
        found[questions[i].template_type].append(right)
        found[questions[i].template_type + "_" + str(questions[i].num_hop)].append(right)
    return {name: (sum(each), len(each)) for name, each in found.items()}


def test_files_are_read_as_they_were_written(tmp_path):
    questions = made(10, split="val")
    path = tmp_path / "q.json"
    write_questions(questions, path, INFO)
    assert read_questions(path) == questions
    file = json.loads(path.read_text())
    assert set(file) == {"info", "questions"}
    assert all(set(row) == set(ROW) for row in file["questions"])
    assert read_questions(written(tmp_path, {"questions": [ROW]})) == [
        Question("a1", ROW["question"], "3", 0, "count", "val")  # a count may stand as a number
    ]


def test_exact_match_is_the_published_one():
    questions = QUESTIONS
    rng = np.random.default_rng(0)
    answers = [q.answer if rng.random() < 0.6 else str(rng.choice(ANSWERS)) for q in questions]
    rows, wanted = scores(questions, answers), published(questions, answers)
    assert [row.name for row in rows] == sorted(wanted)
    assert rows[0].name == "Overall"
    for row in rows:
        right, count = wanted[row.name]
        assert row.questions == count
        assert row.figures["exact"] == pytest.approx(100 * right / count)
        assert row.figures["read"] == row.figures["exact"]
        assert row.figures["unread"] == 0
    perfect = scores(questions, [q.answer for q in questions])
    assert all(row.figures["exact"] == 100 for row in perfect)


def test_what_the_most_frequent_answer_gives_stands_beside():
    """Trap B5: without it, a model that never looks seems to see."""
    questions = [Question("a", f"q{i}", "no" if i else "yes", 0, "exist") for i in range(4)]
    questions += [Question("a", "r", "3", 1, "count")]
    overall = scores(questions, ["no"] * 5)[0]
    assert overall.figures == {"exact": 60, "read": 60, "frequent": 80, "unread": 0}


@pytest.mark.parametrize("answer", ANSWERS)
def test_each_of_the_answers_is_read_as_written(answer):
    """Trap B1: an answer of three letters is not punished for being short."""
    assert read_answer(answer) == answer
    assert read_answer(f" {answer.upper()}.\n") == answer


def test_numbers_are_read_in_words_and_with_their_noun():
    """Trap B4: one answer, never one of several."""
    assert [read_answer(text) for text in ("three", "3 cars", "Three traffic cones.", "03")] == ["3"] * 4
    assert read_answer(NUMBER_WORDS[10]) == "10"
    refused = ("3 or 4", "3, 4", "eleven", "-3", "3.5", "yes and no", "yes no", " ".join(ANSWERS), "", "not")
    assert [read_answer(text) for text in refused] == [None] * len(refused)


@given(st.text(max_size=30))
def test_a_text_is_an_answer_or_none(text):
    assert read_answer(text) in (*ANSWERS, None)


def test_words_around_an_answer_cost_the_published_figure_alone():
    """Trap E4's kind: equal strings call "No." wrong; both figures are told."""
    row = scores([Question("a", "q", "no", 0, "exist")], ["No."])[0]
    assert (row.figures["exact"], row.figures["read"]) == (0, 100)


def test_answers_of_another_order_are_refused(tmp_path):
    """Trap E3: the published evaluation pairs by position, and would count them as wrong."""
    questions = QUESTIONS[:20]
    path = tmp_path / "a.json"
    write_answers(questions, ["yes"] * 20, path)
    assert read_answers(path, questions) == ["yes"] * 20
    swapped = [questions[1], questions[0], *questions[2:]]
    assert questions[0] != questions[1]
    with pytest.raises(InputError, match=r"questions\[0\] answers .* stands in the file of questions"):
        read_answers(path, swapped)
    with pytest.raises(InputError, match="is not of these questions, which are 19; its answers are 20"):
        read_answers(path, questions[:-1])
    assert read_answers(written(tmp_path, ["yes", 3]), questions[:2]) == ["yes", "3"]


def test_a_gold_outside_of_the_answers_is_named(tmp_path):
    """Trap E3: the published training code ends with a KeyError at it."""
    path = written(tmp_path, {"questions": [ROW, {**ROW, "answer": "11"}]})
    with pytest.raises(
        InputError, match=r"q\.json: questions\[1\]\.answer is '11', none of the 30 answers; give"
    ):
        read_questions(path)


WRONG = [
    ("{", "is no valid JSON"),
    ("[1]", "the file is a list and not an object"),
    ({"info": {}}, "has no 'questions'"),
    ({"questions": {}}, "questions is an object and not a list"),
    ({"questions": [3]}, r"questions\[0\] is 3 and not an object"),
    ({"questions": [{**ROW, "sample_token": None}]}, r"sample_token is None and not text"),
    ({"questions": [{**ROW, "question": "\ud800"}]}, r"question holds half a character"),
    ({"questions": [{**ROW, "num_hop": -1}]}, r"num_hop is -1, and must be 0 or more"),
    ({"questions": [{**ROW, "num_hop": True}]}, r"num_hop is True and not a whole number"),
    ({"questions": [{**ROW, "template_type": "exists"}]}, r"is 'exists', no type .* 'exist'"),
    ({"questions": [{**ROW, "answer": True}]}, r"answer is True and not"),
]


@pytest.mark.parametrize(("content", "said"), WRONG)
def test_a_wrong_file_is_named_with_its_entry(tmp_path, content, said):
    path = written(tmp_path, content)
    with pytest.raises(InputError, match=said) as caught:
        read_questions(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@given(st.data())
def test_broken_files_end_with_one_sentence(tmp_path_factory, data):
    """One value of a right file becomes something else: it is read, or refused, and nothing else happens."""
    anything = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
        max_leaves=3,
    )
    row = {**ROW, data.draw(st.sampled_from([*ROW, "more"])): data.draw(anything)}
    content = data.draw(st.sampled_from([{"questions": [ROW, row]}, {"questions": row}, [row], row]))
    path = written(tmp_path_factory.mktemp("fuzz"), content)
    for read in (
        read_questions,
        lambda each: read_answers(each, [Question("a1", ROW["question"], "3", 0, "count")]),
    ):
        with suppress(InputError):  # and nothing else
            read(path)


def test_our_cases_become_questions_with_the_same_gold():
    found = [(case, question_of(case, {})) for case in mixed_cases(SCENES, 100, names=TYPES)]
    assert any(question is None for _, question in found)
    for case, question in found:
        gold = family_of(case).reply.text(case["gold"])
        if question is None:
            assert gold in ("cannot tell", "still", "other vehicle", "other object") or int(gold) > 10
        else:
            assert question.answer == gold or (gold, question.answer) == ("sitting", "not standing")
            assert read_answer(question.answer) == question.answer
            assert question.sample_token == case["scene"]


def test_made_questions_are_of_all_types_of_one_range_and_no_numbers_are_compared():
    questions = QUESTIONS
    assert len(questions) == 100
    assert {q.template_type for q in questions} == set(TYPES)
    assert {q.num_hop for q in questions} == {0, 1}
    assert not any(q.question.startswith("Are there more") for q in questions)
    assert made(20) == questions[:20]
    with pytest.raises(InputError, match="no family 'gap'"):
        made(names=["gap"])
    hidden = [replace(scene, objects=()) for scene in SCENES]
    with pytest.raises(InputError, match="allows a question of status"):
        list(made_questions(hidden, 3, names=["status"]))


def test_questions_about_a_log_name_its_key_frames_and_find_them_again(small_index, tmp_path, capsys):
    index = LogIndex.open(small_index.folder)
    out = tmp_path / "q.json"
    given = ["--index", str(index.folder), "--count", "12", "--families", "exist", "count", "--split", "val"]
    assert make([*given, "--out", str(out)]) == 0
    told = capsys.readouterr()
    assert "12 questions about 8 scenes" in told.out
    assert "--split val is a name alone: the questions are about all key frames" in told.err
    assert make([*given, "--frames", "scene-0001", "--out", str(tmp_path / "one.json")]) == 0
    assert "a name alone" not in capsys.readouterr().err
    questions = read_questions(out)
    rows = index.rows()
    assert {q.sample_token for q in questions} <= set(index.sample_tokens(rows))
    found = paired([*questions, Question("of another log", "q", "no", 0, "exist")], index)
    assert [q for q, _ in found] == questions
    for question, row in found:
        assert index.sample_tokens([row]) == [question.sample_token]
        assert index.is_key[row]
    assert set(frame_names(index)) == set(index.tokens(rows))
    with pytest.raises(InputError, match="none of the 1 frames"):
        paired([Question("of another log", "q", "no", 0, "exist")], index)
    assert paired([], index) == []
    assert make([*given, "--out", str(out), "--with-scene"]) == 2
    assert "no place for scenes" in capsys.readouterr().err


def test_the_command_prints_the_table(tmp_path, capsys):
    questions = tmp_path / "q.json"
    assert make(["--made", "9", "--count", "30", "--out", str(questions)]) == 0
    asked = read_questions(questions)
    write_answers(asked, [f"{q.answer.capitalize()}." for q in asked], tmp_path / "a.json")
    capsys.readouterr()
    given = ["--form", "nuscenes-qa", "--questions", str(questions), "--answers", str(tmp_path / "a.json")]
    assert score([*given, "--json", str(tmp_path / "s.json")]) == 0
    shown = capsys.readouterr()
    lines = [line.split() for line in shown.out.splitlines()]
    assert lines[0] == ["questions", "exact", "read", "frequent", "unread"]
    assert lines[1][:4] == ["Overall", "30", "0.00", "100.00"]
    assert "most frequent gold" in shown.err
    kept = json.loads((tmp_path / "s.json").read_text())
    assert kept["scores"][0]["figures"]["read"] == 100
    assert score([*given[:-1], str(tmp_path / "none.json")]) == 2
    assert "none.json: there is no such file; give the file of a model's answers" in capsys.readouterr().err
    assert score([*given[:-1], str(questions.parent / "." / "q.json")]) == 2
    assert "q.json: is the file of questions itself, whose golds are all right" in capsys.readouterr().err
    write_questions([], questions)
    written(tmp_path, [], "a.json")
    assert score(given) == 2
    assert "no questions to score" in capsys.readouterr().err


@pytest.mark.parametrize("read", ["questions", "answers"])
def test_figures_are_not_written_over_what_is_read(read, tmp_path, capsys):
    paths = {name: tmp_path / f"{name}.json" for name in ("questions", "answers")}
    write_questions(made(10), paths["questions"])
    paths["answers"].write_text(json.dumps(["yes"] * 10))
    before = paths[read].read_bytes()
    (tmp_path / "link.json").symlink_to(paths[read])
    for out in (paths[read], tmp_path / "link.json"):
        words = ["--form", "nuscenes-qa", "--json", str(out)]
        assert score([*words, *(w for name, path in paths.items() for w in (f"--{name}", str(path)))]) == 2
        assert "is a file that is read, and would be written over; name another" in capsys.readouterr().err
    assert paths[read].read_bytes() == before


def test_questions_are_not_written_over_the_index_that_they_are_about(tmp_path, capsys):
    (tmp_path / "index.json").write_text("{}")
    assert make(["--index", str(tmp_path), "--out", str(tmp_path / "index.json")]) == 2
    assert "is a file that is read, and would be written over" in capsys.readouterr().err
    assert (tmp_path / "index.json").read_text() == "{}"
