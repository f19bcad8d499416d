"""How answers are read and judged, by hand; scenes that are thrown; names of families that there are not."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from superflow.agents.bootcamps.made_scenes import made_scenes
from superflow.agents.bootcamps.registry import families, family_of
from superflow.agents.scene import SceneObject, SceneRecord
from superflow.errors import InputError

COMMON = {"min_points": 5, "max_range_m": 50.0}


def case(family, gold, **asked):
    return {"family": family, "scene": "s", "asked": {**COMMON, **asked}, "gold": gold}


CARS = case("count", 3, query="how many cars are there", nouns=["car", "cars"])


@pytest.mark.parametrize(
    "text", ["3", "three", " 3 cars. ", "Three Cars", "I see them.\n[answer]3[/answer] That is all."]
)
def test_a_number_may_be_a_word_and_have_its_noun(text):
    assert family_of(CARS).verify_score(text, CARS) == 1.0


@pytest.mark.parametrize(
    "text",
    [
        "3 or 4",
        "3 trucks",
        "4",
        "3.0",
        "03 04",
        "+3",
        "-3",
        "33",
        "3 3",
        "cars",
        "³",
        "[answer]3[/answer]4[/answer]",
    ],
)
def test_other_texts_are_not_that_number(text):
    assert family_of(CARS).verify_score(text, CARS) == 0.0


FAR = case("distance", 12.34, query="how far is the car")
SOON = case("time_to_collision", 12.34, thing="the car", near_m=4.0)
THERE = case("pose", [12.34, -3.0], thing="the car", anchor="the bus")


@pytest.mark.parametrize(
    ("asked", "right", "wrong"),
    [
        (
            FAR,
            ("12", "12.", "12 .", "12m", "12.0 metres", "12 meters", "12 METRE"),
            ("12 metres per second", "12 s"),
        ),
        (
            SOON,
            ("12.3", "12.3 s", "12.3 seconds", "12.3 second"),
            ("12.3 m", "12.3 minutes", "12.3 secondsm"),
        ),
        (
            THERE,
            ("12, -3", "(12.0, -3.0)", "12 m, -3 metres"),
            ("12, -3 feet", "12 metres", "12 m -3 m", "12, 3"),
        ),
    ],
)
def test_a_unit_may_be_written_as_the_question_has_it(asked, right, wrong):
    score = family_of(asked).verify_score
    assert [score(text, asked) for text in right] == [1.0] * len(right)
    others = (
        "12 feet",
        "40 feet",
        "1234 cm",
        "12 km",
        "about 12 m",
        "12 to 13 m",
        "12-13",
        "12 or 13 metres",
        "~12",
    )
    assert [score(text, asked) for text in (*wrong, *others)] == [0.0] * (len(wrong) + len(others))


def test_marks_that_are_never_closed_take_no_time():
    """Each was looked for an end to the end of the text: 4 seconds for a model that says nothing else."""
    before = time.process_time()
    for text in ("[answer]" * 12_000, "[answer]" * 12_000 + "[/answer]", "[/answer]" * 11_000):
        assert family_of(CARS).check(text, CARS).reason == "several answers"
    assert time.process_time() - before < 1


def test_where_no_motion_is_known_nobody_is_asked_for_it():
    """One answer to all of it, "cannot tell", would tell nothing of a model."""
    scenes = list(made_scenes(np.random.default_rng(0), 20, objects=(8, 12)))
    mute = [
        replace(scene, objects=tuple(replace(o, status=(), velocity=None) for o in scene.objects))
        for scene in scenes
    ]
    for name, options in (("status", {}), ("comparison", {"of": "status"}), ("time_to_collision", {})):
        assert families()[name](scenes, **options).case_generator()
        with pytest.raises(InputError, match=f"allows a question of {name}"):
            families()[name](mute, **options).case_generator()
    assert families()["comparison"](mute, of="number").case_generator()


def test_reasons_and_the_score_of_a_form():
    check = family_of(CARS).check
    assert check("3", CARS).reason == "right"
    assert check("4", CARS).reason == "wrong"
    assert check("cannot tell", CARS).reason == "wrong"
    assert check("maybe", CARS).reason == "unreadable"
    assert check("", CARS).reason == "no answer"
    assert check("[answer]3[/answer][answer]3[/answer]", CARS).reason == "several answers"
    assert family_of(CARS).verify_score("4", CARS, format_score=0.1) == 0.1
    assert family_of(CARS).verify_score("maybe", CARS, format_score=0.1) == 0.0
    assert family_of(CARS).verify_score("3", CARS, format_score=0.1) == 1.0


def test_who_cannot_tell_must_say_so():
    unknown = case("exist", None, query="is there a car")
    verify = family_of(unknown).verify_score
    assert verify("Cannot tell.", unknown) == 1.0
    assert [
        verify(text, unknown) for text in ("no", "yes", "unknown", "cannot", "None", "cannot tell no")
    ] == [0.0] * 6


@pytest.mark.parametrize(
    ("query", "is_open"),
    [
        ("are there more moving trucks than moving vehicles", False),  # all of those are of these
        ("are there more parked cars than still cars", False),
        ("are there more moving trucks than moving cars", True),
        ("are there more parked vehicles than still trucks", True),
        ("do the car and the truck have the same status", True),
        ("do the nearest vehicle and the nearest pedestrian have the same status", True),
        (
            "do the nearest pedestrian and the nearest parked bus have the same status",
            True,
        ),  # perhaps there is no bus
        ("a parked bus or no parked bus", False),
        ("at least 1 bicycle with rider or at least 1 bicycle without rider", False),
        ("at least 1 bicycle with rider", True),
    ],
)
def test_a_status_that_nobody_knows_leaves_open_what_hangs_on_it_alone(query, is_open):
    kinds = ("car", "truck", "pedestrian", "bus", "bicycle")
    things = [
        SceneObject(k, k, (9.0 + i, 1.0, 0.5), (2.0, 1.0, 1.5), 0.0, points=9) for i, k in enumerate(kinds)
    ]
    hidden = SceneObject("b", "bicycle", (30.0, 5.0, 0.5), (2.0, 1.0, 1.5), 0.0, points=2)
    scene, asked = SceneRecord("t", "s", (*things, hidden)), {**COMMON, "query": query}
    camp = families()["comparison"]
    assert camp.solve(camp.scenery(scene, asked), asked) is None
    assert camp._is_open(scene, asked) is is_open


def test_a_family_that_there_is_not():
    with pytest.raises(InputError, match="no family 'exists' of questions; the nearest known one is 'exist'"):
        family_of({"family": "exists"})
    with pytest.raises(InputError, match="no family 'None'"):
        family_of({})


def test_the_question_types_of_nuscenes_qa_are_there():
    assert {"exist", "count", "object", "status", "comparison"} <= set(families())


def test_thrown_objects_do_not_overlap_and_scenes_are_json():
    for scene in made_scenes(np.random.default_rng(0), 20, objects=(3, 9)):
        assert 1 <= len(scene.objects) <= 9
        assert SceneRecord.from_json(scene.to_json()) == scene
        for i, first in enumerate(scene.objects):
            for second in scene.objects[:i]:
                gap = np.subtract(first.center, second.center)[:2]
                assert np.hypot(*gap) > (np.hypot(*first.size[:2]) + np.hypot(*second.size[:2])) / 2


def test_scenes_without_anything_allow_no_question_for_one_thing():
    with pytest.raises(InputError, match="no scene of 300 allows a question of status"):
        families()["status"]([SceneRecord("t", "s", ())]).case_generator()


def test_what_all_but_stands_never_comes_near():
    """The square of its speed is 0, by which the time was divided."""
    thing = SceneObject("a", "car", (30.0, 0.0, 0.5), (4.0, 2.0, 1.5), 0.0, (-1e-200, 0.0), (), 9)
    camp = families()["time_to_collision"]
    asked = {**COMMON, "thing": "the car", "near_m": 4.0}
    for velocity, gold in (
        ((-1e-200, 0.0), "never"),
        ((0.0, 0.0), "never"),
        ((-2.0, 0.0), 13.0),
        (None, None),
    ):
        scene = SceneRecord("s", "s", (replace(thing, velocity=velocity),))
        assert camp.answer(scene, asked) == camp.reply.text(gold)
