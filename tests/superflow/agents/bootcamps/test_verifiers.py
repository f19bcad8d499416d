"""How answers are read and judged, by hand; scenes that are thrown; names of families that there are not."""

from __future__ import annotations

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
