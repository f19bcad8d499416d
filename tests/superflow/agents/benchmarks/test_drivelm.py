"""DriveLM's files and scores: small frames, the traps of its evaluation, and its real samples where at hand."""

from __future__ import annotations

import json
import random
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from superflow.agents.benchmarks.drivelm import (
    DriveQuestion,
    KeyFrame,
    KeyObject,
    ObjectTag,
    paired,
    read_answers,
    read_frames,
    tags_in,
    write_answers,
    write_frames,
)
from superflow.agents.benchmarks.drivelm_challenge import BEHAVIOURS, MOTIONS, challenge_frames
from superflow.agents.benchmarks.drivelm_scores import answered, meaning, options_of, scores
from superflow.datasets.index import LogIndex
from superflow.errors import InputError
from superflow.tools.score_answers import main as score

SUV, LIGHT = ObjectTag("c1", "CAM_BACK", 1088.3, 497.5), ObjectTag("c2", "CAM_FRONT", 864.5, 293.6)
CHOICE = "What is it? Please select the correct answer from the following options: "
CHOICE += "A. Going ahead. B. Stopped. C. Back up."
QUESTIONS = (
    DriveQuestion("perception", "What matters?", f"A brown SUV {SUV.text} and a light {LIGHT.text}.", (2,)),
    DriveQuestion("perception", f"{SUV.text}: {CHOICE}", "B", (0,), {"con_up": [1], "C": None}),
    DriveQuestion("prediction", "What first?", f"First {LIGHT.text}, then {SUV.text}.", (3,)),
    DriveQuestion("prediction", f"Is {LIGHT.text} a sign?", "No.", (0,)),
    DriveQuestion("planning", "What is safe?", "Keep going.", (1,)),
)
OBJECTS = (
    KeyObject(SUV, "Vehicle", "Moving", "Brown SUV.", (966.6, 403.3, 1224.1, 591.7)),
    KeyObject(LIGHT, "Traffic element", None, "Green light.", (1.0, 2.0, 3.0, 4.0)),
)
FRAME = KeyFrame("s", "t", QUESTIONS, OBJECTS, {"CAM_BACK": "samples/CAM_BACK/1.jpg"}, "A street.")
GOLD = {name: question.answer for name, question in FRAME.named()}


def changed(**answers):
    """The golds with other answers to the questions of these numbers."""
    return {**GOLD, **{f"s_t_{key[1:]}": text for key, text in answers.items()}}


def figures(answers, frames=(FRAME,)):
    return {row.name: row.figures for row in scores(frames, answers)}


def written(folder, value, name="q.json"):
    path = folder / name
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_files_are_read_as_they_were_written(tmp_path):
    other = KeyFrame("s", "u", QUESTIONS[:1], (), {}, "A street.")
    write_frames([FRAME, other, replace(FRAME, scene="z", description=None)], tmp_path / "q.json")
    again = read_frames(tmp_path / "q.json", scored=True)
    assert again == [FRAME, other, replace(FRAME, scene="z", description=None)]
    write_answers([FRAME], GOLD, tmp_path / "a.json")
    assert read_answers(tmp_path / "a.json", [FRAME]) == GOLD
    submission = {"method": "m", "results": json.loads((tmp_path / "a.json").read_text())}
    assert read_answers(written(tmp_path, submission, "s.json"), [FRAME]) == GOLD


def test_real_samples_round_trip_and_give_the_challenge_its_questions(shared_data, tmp_path):
    folder = shared_data / "fragments/drivelm"
    training, test = (read_frames(folder / name) for name in ("train_sample.json", "test_eval.json"))
    for frames, name in ((training, "train_sample.json"), (test, "test_eval.json")):
        write_frames(frames, tmp_path / name)
        assert json.loads((tmp_path / name).read_text()) == json.loads((folder / name).read_text())
    assert (len(training), sum(len(f.questions) for f in training)) == (9, 790)
    for frame in training:
        known = {o.tag for o in frame.objects}
        assert all(known >= set(tags_in(f"{q.question} {q.answer}")) for q in frame.questions)

    def without_options(frame):
        return [(q.part, q.tags, q.question.partition(" Please select")[0]) for q in frame.questions]

    ours = challenge_frames(training, seed=0)
    assert list(map(without_options, ours)) == list(map(without_options, test))
    for one, other in zip(ours, test):
        for mine, theirs in zip(one.questions, other.questions):
            if options_of(theirs.question):
                texts = [options_of(q.question)[q.answer] for q in (mine, theirs)]
                assert texts[0] == texts[1]
            else:
                assert mine.answer == theirs.answer
    golds = {name: q.answer for frame in test for name, q in frame.named()}
    assert all(
        value == pytest.approx(100)
        for row in scores(test, golds)
        for name, value in row.figures.items()
        if name != "frequent" and value is not None
    )


def test_questions_of_the_challenge_keep_their_options():
    """Trap E4: options are drawn at random; a seed makes them the same, the right one among them once."""
    motion = "What is the moving status of object <c1,CAM_BACK,1088.3,497.5>?"
    frame = replace(
        FRAME,
        questions=(
            DriveQuestion("perception", motion, "Stopped."),
            DriveQuestion("prediction", "Where is it?", "It is not moving at normal speed."),
            DriveQuestion("prediction", "Is it far?", "No, it is near."),
            DriveQuestion("behavior", "Predict.", BEHAVIOURS[0]),
            DriveQuestion("behavior", "Predict.", "It flies."),
        ),
    )
    made = [challenge_frames([frame], seed=seed)[0].questions for seed in range(20)]
    assert made[0] == challenge_frames([frame], seed=0)[0].questions
    assert len({questions[0].answer for questions in made}) > 1
    for first, second, third in made:
        assert second.answer == "No, it is near."  # "not" and "normal" are no "no"
        for question, right, known in ((first, "Stopped.", MOTIONS), (third, BEHAVIOURS[0], BEHAVIOURS)):
            options = options_of(question.question)
            assert len(set(options.values())) == 4
            assert options[question.answer] == right.lower().removesuffix(".")
            assert set(options.values()) <= {text.lower().removesuffix(".") for text in known}


def test_an_option_is_read_in_whatever_words_it_comes():
    """Traps E4 and B4: the challenge calls all but "B" wrong; several answers are none."""
    right = (
        "B",
        "b",
        "B.",
        "(B)",
        "B. Stopped.",
        "Stopped",
        "The correct answer is B.",
        "Answer: B",
        "option B: stopped",
    )
    assert [meaning(text, CHOICE) for text in right] == ["B"] * len(right)
    wrong = (
        "",
        "A or B",
        "A. Going ahead. B. Stopped. C. Back up.",
        "B. Going ahead",
        "D",
        "Be careful",
        "A B",
        "bus",
    )
    assert [meaning(text, CHOICE) for text in wrong] == [None] * len(wrong)
    assert [meaning(text, "Is it?") for text in ("No.", "no", "No, it is near.")] == ["no"] * 3
    assert meaning("Yes and no", "Is it?") is None
    assert meaning("Not now.", "Is it?") == "not now"
    row = figures(changed(_1="The answer is B.", _3="no"))["accuracy"]
    assert (row["exact"], row["read"]) == (0, 100)


def plain_match(answer, gold):
    """F1 of numbers with a dot, by hand: each pair of the answer takes the nearest gold pair that is left."""

    def pairs(text):
        found = [
            float(w) for w in "".join(c if c.isdigit() or c == "." else " " for c in text).split() if "." in w
        ]
        return [(found[i], found[i + 1]) for i in range(0, len(found) - 1, 2)]

    given, left, hits = pairs(answer), pairs(gold), 0
    total = len(left)
    for x, y in given:
        near = sorted((abs(a - x) + abs(b - y), a, b) for a, b in left)
        if near and near[0][0] < 16:
            hits += 1
            left.remove(near[0][1:])
    precision, recall = hits / max(1, len(given)), hits / max(1, total)
    return 200 * precision * recall / (precision + recall) if hits else 0.0


def test_coordinates_match_as_the_challenge_counts_them():
    draw = random.Random(0)
    for _ in range(50):
        golds, given = (
            [
                ObjectTag(f"c{i}", "CAM_FRONT", round(draw.uniform(0, 60), 1), round(draw.uniform(0, 60), 1))
                for i in range(draw.randint(low, 4))
            ]
            for low in (1, 0)
        )
        frame = replace(
            FRAME, questions=(DriveQuestion("prediction", "?", " ".join(t.text for t in golds), (3,)),)
        )
        row = figures({"s_t_0": " ".join(t.text for t in given)}, [frame])["match"]
        assert row["exact"] == pytest.approx(
            plain_match(*(" ".join(t.text for t in some) for some in (given, golds)))
        )
        assert row["exact"] <= row["read"] + 1e-9  # the best pairing is never worse than a greedy one


def test_tags_are_read_with_whole_numbers_signs_and_cameras():
    """Trap E4: the challenge takes only numbers with a dot, without their sign, of whatever camera."""
    assert tags_in("< c1, CAM_BACK, 540 , -7.5 >, <c2,LIDAR,1.0,2.0>") == [
        ObjectTag("c1", "CAM_BACK", 540, -7.5)
    ]
    whole = f"First {LIGHT.text}, then <c1,CAM_BACK,1088,498>."
    row = figures(changed(_2=whole))["match"]
    assert (row["exact"], row["read"]) == (pytest.approx(200 / 3), 100)
    elsewhere = f"First {replace(LIGHT, camera='CAM_BACK').text}, then {SUV.text}. {SUV.text} moves."
    row = figures(changed(_2=elsewhere))["match"]
    assert (row["exact"], row["read"]) == (pytest.approx(80), 50)


def test_a_model_that_finds_nothing_is_asked_all_the_same():
    """Trap E4: the challenge leaves out questions about objects that were not found, and scores what is left."""
    blind = changed(_0="Nothing matters.", _1="A", _3="Yes.")
    row = figures(blind)["accuracy"]
    assert (row["exact"], row["gated"], row["asked"]) == (0, None, 0)
    half = changed(_0=f"A light {LIGHT.text}.", _1="A")
    row = figures(half)["accuracy"]
    assert (row["exact"], row["gated"], row["asked"]) == (50, 100, 50)
    assert [r.asked for r in answered([FRAME], half)] == [True, False, True, True, True]


def test_a_tag_without_questions_has_no_figure_and_no_division():
    """Trap E4: the challenge ends with a division by zero."""
    found = figures({"s_t_0": "x"}, [replace(FRAME, questions=QUESTIONS[:1])])
    assert found["accuracy"]["exact"] is found["match"]["read"] is None
    assert found["BLEU_1"]["exact"] is not None
    assert found["GPT"] == {}


def test_the_command_prints_what_it_computes_and_what_not(tmp_path, capsys):
    write_frames([FRAME], tmp_path / "q.json")
    write_answers([FRAME], GOLD, tmp_path / "a.json")
    given = [
        "--form",
        "drivelm",
        "--questions",
        str(tmp_path / "q.json"),
        "--answers",
        str(tmp_path / "a.json"),
    ]
    assert score(given) == 0
    shown = capsys.readouterr()
    lines = {line[:20].strip(): line[20:].split() for line in shown.out.splitlines()}
    assert lines["accuracy"][:3] == ["2", "100.00", "100.00"]
    assert lines["GPT"] == ["1", "-", "-", "-", "-", "-"]
    assert (
        "The GPT score, and the half of match and the final score that need it, are not computed" in shown.err
    )
    write_frames(
        [replace(FRAME, questions=(QUESTIONS[0], replace(QUESTIONS[1], tags=())))], tmp_path / "q.json"
    )
    assert score(given) == 2
    assert (
        "s.key_frames.t.QA.perception[1] has no 'tag'; give a file of the challenge"
        in capsys.readouterr().err
    )


def test_frames_are_paired_with_those_of_a_log(small_index):
    index = LogIndex.open(small_index.folder)
    row = int(index.rows()[3])
    mine = replace(FRAME, token=index.sample_tokens([row])[0])
    assert paired([FRAME, mine], index) == [(mine, row)]
    with pytest.raises(InputError, match="none of the 1 frames"):
        paired([FRAME], index)


QA = {"Q": "q", "A": "a", "tag": [0]}


def with_frame(**values):
    return {"s": {"key_frames": {"t": {"QA": {"perception": [QA]}, **values}}}}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[", "no valid JSON"),
        ([], "the file is a list and not an object"),
        ({"s": {}}, "s has no 'key_frames'"),
        ({"s": {"key_frames": []}}, "s.key_frames is a list and not an object"),
        (with_frame(QA=None), "s.key_frames.t.QA is None and not an object"),
        (with_frame(QA={"planing": []}), "QA.planing is none of perception"),
        (with_frame(QA={"planning": [{"A": "a"}]}), r"QA.planning\[0\] has no 'Q'"),
        (with_frame(QA={"planning": [{**QA, "tag": [4]}]}), r"tag is \[4\], and there are only 0, 1, 2, 3"),
        (with_frame(QA={"planning": [{**QA, "A": 1}]}), r"A is 1 and not text"),
        (with_frame(key_object_infos={"c1": {}}), "c1 is named by no tag"),
        (with_frame(key_object_infos={SUV.text: {"2d_bbox": [1, 2]}}), "2d_bbox has 2 numbers and not four"),
        (
            with_frame(key_object_infos={SUV.text: {"2d_bbox": [1, 2, 3, 10**400]}}),
            r"\[3\] is a number that is not",
        ),
        (with_frame(image_paths={"CAM_BACK": 3}), "image_paths.CAM_BACK is 3 and not text"),
    ],
)
def test_a_wrong_file_is_named_with_its_entry(tmp_path, content, said):
    path = written(tmp_path, content)
    with pytest.raises(InputError, match=said) as caught:
        read_frames(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "; give a file of DriveLM-nuScenes' form" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "the file has no 'results'"),
        ([3], r"\[0\] is 3 and not an object"),
        ([{"id": "s_t_0"}], r"\[0\] has no 'answer'"),
        ([{"id": "a", "answer": "b"}] * 2, r"\[1\] answers 'a' a second time"),
        (
            [{"id": "s_t_0", "answer": "b"}],
            "the file has no answer to the question s_t_1; give what the challenge",
        ),
    ],
)
def test_wrong_answers_are_named(tmp_path, content, said):
    with pytest.raises(InputError, match=said):
        read_answers(written(tmp_path, content), [FRAME])


@given(st.data())
def test_broken_files_end_with_one_sentence(tmp_path_factory, data):
    """Something in a right file becomes something else: it is read, or refused, and nothing else happens."""
    anything = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
        max_leaves=3,
    )
    folder = tmp_path_factory.mktemp("fuzz")
    write_frames([FRAME], folder / "q.json")
    content = json.loads((folder / "q.json").read_text())
    place, steps = content, data.draw(st.integers(0, 6))
    for step in range(steps + 1):
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if step == steps or not isinstance(place[key], dict | list) or not place[key]:
            place[key] = data.draw(anything)
            break
        place = place[key]
    path = written(folder, content)
    with suppress(InputError):
        frames = read_frames(path, scored=True)
        scores(frames, {name: "A <c1,CAM_BACK,1.5,2.5>" for frame in frames for name, _ in frame.named()})
    with suppress(InputError):
        read_answers(path, [FRAME])


@given(st.text(max_size=40) | st.text("ABCD.()<c1,CAM_-+ 0123456789", max_size=60))
def test_any_answer_has_its_scores(text):
    for row in scores([FRAME], dict.fromkeys(GOLD, text)):
        assert all(value is None or 0 <= value <= 100 + 1e-6 for value in row.figures.values())
