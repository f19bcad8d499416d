"""Queries: reading what was written, both executors, all possible worlds, and sentences that cannot be read."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from math import cos, radians, sin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy import array

from superflow.agents import query as ask
from superflow.agents.find import match, parse_condition
from superflow.agents.query_answer import Scenery, answer, sector_of
from superflow.agents.query_parse import NOUN_WORDS, parse_query
from superflow.agents.query_text import text_of
from superflow.agents.words import MOTIONS
from superflow.errors import InputError

from .made_queries import ALL_NOUNS, made_queries, made_scenes, made_things, scene, thing
from .query_twin import TwinOf, twin_answer


def asked(text, *objects, **options):
    return answer(parse_query(text), scene(*objects), **options)


def counts_one(query):
    """Whether it says how many nearest things there are."""
    match query:
        case ask.IsThere(inner) | ask.Not(inner):
            return counts_one(inner)
        case ask.And(parts) | ask.Or(parts):
            return any(map(counts_one, parts))
        case ask.Amount(things, comparison, number):
            return things.pick is not None and (comparison, number) not in [("at least", 1), ("exactly", 0)]
    return isinstance(query, ask.HowMany) and query.things.pick is not None


@settings(max_examples=200)
@given(made_queries(ALL_NOUNS))
def test_a_query_reads_as_it_was_written(query):
    if counts_one(query):
        with pytest.raises(InputError, match=r"means one thing, of which there are never several"):
            parse_query(text_of(query))
        return
    assert parse_query(text_of(query)) == query
    assert parse_query(text_of(query).upper() + "?") == query


@settings(max_examples=300)
@given(made_things(), made_scenes)
def test_both_executors_agree_on_each_object(things, record):
    bounds = TwinOf(record.objects).of(things)
    told = [True if low else None if high else False for low, high in zip(bounds.surely, bounds.possibly)]
    assert list(Scenery(record).truths(things)) == told


@settings(max_examples=150)
@given(made_queries(), made_scenes, st.sampled_from([1, 5]), st.sampled_from([10.0, 15.0, float("inf")]))
def test_both_executors_agree(query, record, min_points, max_range_m):
    options = {"min_points": min_points, "max_range_m": max_range_m}
    assert answer(query, record, **options) == twin_answer(query, record, **options)


DOUBTFUL = (
    thing("car", 5, 5, points=2),
    thing("car", 8, -3, status=("parked",)),
    thing("pedestrian", -4, 2),
    thing("pedestrian", 4, 0, points=0, velocity=(3.0, 0.0)),
)


def worlds(record):
    """Every scene that may be behind a record: what is hardly hit is there or not, an unknown status is any."""
    choices = []
    for each in record.objects:
        motions = [each.motion] if each.motion else [m for m in MOTIONS if each.is_in(m) is not False]
        moving = {"moving": (6.0, 0.0)}
        seen = [
            replace(
                each,
                points=9,
                status=(m, *each.status[1:]) if m else (),
                velocity=each.velocity or moving.get(m, (0.0, 0.0)),
            )
            for m in motions
        ]
        choices.append(seen + ([None] if each.points < 5 else []))
    for world in product(*choices):
        yield replace(record, objects=tuple(o for o in world if o is not None))


@settings(max_examples=100)
@given(
    made_queries(("car", "pedestrian", "object")),
    st.lists(st.sampled_from(DOUBTFUL), max_size=3),
)
def test_what_is_answered_is_true_in_every_world(query, objects):
    record = scene(*objects)
    told = answer(query, record)
    if told is None or "still" in text_of(query) or told == "still":
        return
    assert {answer(query, world) for world in worlds(record)} == {told}


def test_amounts_and_what_the_sensor_cannot_tell():
    car, hidden = thing(), thing(points=4)
    assert asked("a car", car) is True
    assert asked("a car") is False
    assert asked("a car", hidden) is None
    assert asked("a car", hidden, car) is True
    assert asked("exactly 1 car", hidden, car) is None
    assert asked("at most 2 cars", hidden, car) is True
    assert asked("no truck", hidden, car) is True
    assert asked("how many cars are there?", hidden, car) is None
    assert asked("how many cars are there?", hidden, car, min_points=4) == 2
    assert asked("how many cars are there?", car, thing(x=30.0), max_range_m=20.0) == 1
    assert asked("a parked car", car) is None
    assert asked("a parked car or a car", car) is True
    assert asked("not a car and a parked car", car) is False


def test_relations_hold_of_another_object_and_belong_to_the_nearest_noun():
    walker, truck = thing("pedestrian", 10, 0), thing("truck", 10, 15, status=("parked",))
    assert asked("a pedestrian within 15 m of a parked truck", walker, truck) is True
    assert asked("a pedestrian within 14.9 m of a parked truck", walker, truck) is False
    assert asked("a car within 5 m of a car", thing()) is False  # not of itself
    assert asked("a car within 5 m of a car", thing(), thing(x=14.0)) is True
    bus = thing("bus", -10, 15)
    # the truck is in front of the bus, the pedestrian is not
    assert asked("a pedestrian within 15 m of a truck in front of a bus", walker, truck, bus) is True
    assert asked("a pedestrian within 15 m of (a truck) in front of a bus", walker, truck, bus) is False
    assert asked("how far is the nearest object", walker, truck, bus) == 10.0
    assert asked("what kind is the farthest object", walker, truck, bus) in ("truck", "bus")
    assert asked("what kind is the object", walker, truck) is None  # several could be meant


@pytest.mark.parametrize(
    ("degrees", "name"),
    [
        *((0, "front"), (29.9, "front"), (30.1, "front left"), (89.9, "front left"), (90, "back left")),
        *((149.9, "back left"), (150.1, "back"), (180, "back"), (209.9, "back"), (210.1, "back right")),
        *((269.9, "back right"), (270, "front right"), (329.9, "front right"), (330.1, "front")),
    ],
)
def test_sectors_are_half_open(degrees, name):
    x = 0.0 if degrees in (90, 270) else cos(radians(degrees))
    y = 0.0 if degrees == 180 else sin(radians(degrees))
    assert sector_of(7 * x, 7 * y) == name
    assert sector_of(0.0, 0.0) is None


def test_a_place_just_beside_an_edge_is_in_the_sector_on_its_side():
    """1e-14 degrees below the first sector there was none; below 270 it was the next."""
    assert sector_of(1.0, -0.5773502691896258) == "front right"
    assert sector_of(-9.7e-15, -53.0) == "back right"
    for edge in (30.0, 90.0, 150.0, -150.0, -90.0, -30.0):
        for turn in range(-400, 401):
            angle = radians(edge) + turn * 1e-16
            x, y = 3 * cos(angle), 3 * sin(angle)
            there = next(
                name for name in ask.SECTORS if TwinOf([]).stands(array([x, y]), ask.Toward(name, ask.Ego()))
            )
            assert sector_of(x, y) in (there, *(BESIDE[there] if abs(turn) < 30 else ()))


BESIDE = {
    name: (list(ask.SECTORS)[k - 1], list(ask.SECTORS)[(k + 1) % 6]) for k, name in enumerate(ask.SECTORS)
}


def test_status_questions():
    parked, still = thing(status=("parked",)), thing("truck", 5, 5, velocity=(0.0, 0.1))
    walker = thing("pedestrian", 3, 3, velocity=(1.0, 1.0))
    assert asked("what is the status of the car", parked) == "parked"
    assert asked("what is the status of the truck", still) == "still"
    assert asked("what is the status of the car", thing()) is None
    assert asked("do the car and the truck have the same status", parked, still) is None
    assert asked("do the pedestrian and the truck have the same status", walker, still) is False
    # a pedestrian of whom nobody knows more is never parked, and may stand as well as the truck
    who = thing("pedestrian", 3, 3)
    assert asked("do the pedestrian and the car have the same status", who, parked) is False
    assert asked("do the car and the pedestrian have the same status", who, parked) is False
    assert asked("do the pedestrian and the truck have the same status", who, still) is None
    assert asked("do the truck and the pedestrian have the same status", who, still) is None
    assert asked("do the pedestrian and the car have the same status", who, thing()) is None
    assert asked("are there more cars than trucks", parked, still) is False
    assert asked("are there more than 1 vehicle", parked, still) is True
    assert asked("a pedestrian faster than 5 km/h", walker) is True
    assert asked("a pedestrian slower than 1 m/s", walker) is False
    assert asked("a car faster than 1 m/s", parked) is None


@pytest.mark.parametrize("word", sorted(NOUN_WORDS))
def test_every_noun_can_be_asked_for(word):
    assert parse_query(f"the {word} ahead").things.noun == NOUN_WORDS[word]


@pytest.mark.parametrize(
    ("text", "place", "expected"),
    [
        ("", 1, "a noun"),
        ("a pedestrain within 15 m of a truck", 3, "nearest known one is 'pedestrian'"),
        ("a car within of me", 14, "a number"),
        ("a car within 5 of me", 16, '"m of"'),
        ("a car near a truck", 7, "a direction"),
        ("a car (", 7, "the end"),
        ("at least cars", 10, "a whole number"),
        ("at least 2.5 cars", 10, "a whole number"),
        ("a car\nbehind the\tblimp", 18, "a noun"),
        ("a car faster than 5", 20, '"m/s"'),
        ("a car within 5 m of (a truck", 29, '"\\)"'),
        ("a car within 99999999999999 m of me", 14, "a smaller number"),
        ("a car within 1e999 m of me", 14, "a smaller number"),
        ("a car within ٣ m of me", 14, "a number"),
        ("do the car and the bus", 23, '"have the same status"'),
        ("(" * 200 + "a car", 51, "more than 50 phrases"),
        ("not " * 60 + "a car", 201, "more than 50 phrases"),
        ("a car behind " * 60 + "a bus", 640, "more than 50 phrases"),
    ],
)
def test_a_sentence_that_cannot_be_read_says_where_and_what_was_expected(text, place, expected):
    with pytest.raises(InputError, match=f"at character {place} .*{expected}") as error:
        parse_query(text)
    sentence, *marked = str(error.value).split("\n")
    assert sentence.count(". ") == 0
    if marked:
        assert marked[1].index("^") == place + 1  # below its character, two further in


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("a car or truck", "a car or a truck"),
        ("cars and trucks and buses", "a car and a truck and a bus"),
        ("a car or a truck behind me", "a car or a truck behind me"),
        ("(no car) or (truck)", "no car or a truck"),
        ("no car and not trucks", "no car and not a truck"),
        *((text, None) for text in ("no car or truck", "no cars and trucks", "not a car or truck")),
        *(
            (text, None)
            for text in ("at least 2 cars or trucks", "a parked car or truck", "cars or trucks behind me")
        ),
        *((text, None) for text in ("a car within 5 m of a truck or bus", "cars and no trucks or buses")),
    ],
)
def test_a_noun_alone_is_joined_only_where_that_means_one_thing(text, read):
    """ "no car or truck" was read as "no car or a truck", and found every scan with a truck."""
    if read is not None:
        assert text_of(parse_query(text)) == read
        return
    with pytest.raises(InputError, match="can be meant in two ways"):
        parse_query(text)


def test_a_place_may_follow_are_there():
    assert parse_query("how many cars are there behind me?") == parse_query(
        "how many cars behind me are there?"
    )
    assert parse_query("how many cars are there?") == ask.HowMany(ask.Things("car"))


SAYING = (
    "not ( a car within 5 m of the nearest truck behind me ) and at least 2 moving cars faster than 3 m/s or no how "
    "many are there more what is status kind bicycle with rider ? left to my farthest ahead . do have same"
)


@settings(max_examples=150)
@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(SAYING.split()), max_size=12).map(" ".join)))
def test_no_text_breaks_the_reader(text):
    try:
        query = parse_query(text)
    except InputError:
        return
    assert parse_query(text_of(query)) == query


def test_long_and_impossible_queries_are_refused():
    with pytest.raises(InputError, match="3000 characters; use 2000"):
        parse_query("a" * 3000)
    with pytest.raises(InputError, match="fewer than 0"):
        parse_query("fewer than 0 cars")
    with pytest.raises(InputError, match="is a question"):
        parse_condition("how many cars")
    assert parse_condition("Is there a car?") == parse_condition("a car")


def test_a_match_holds_what_was_asked_for_and_what_it_stands_by():
    walker, other = thing("pedestrian", 10, 0), thing("pedestrian", -30, 0)
    truck, far = thing("truck", 10, 5), thing("truck", 60, 0)
    record = scene(walker, other, truck, far)
    found = match(parse_condition("a pedestrian within 9 m of a truck and no bus"), record)
    assert (found.truth, found.objects, found.anchors) == (True, (walker,), (truck,))
    found = match(parse_condition("a bus or a truck behind me"), record)
    assert (found.truth, found.objects, found.anchors) == (False, (), ())
    found = match(parse_condition("a pedestrian not within 9 m of a truck"), record)
    assert (found.objects, found.anchors) == ((other,), ())
    found = match(parse_condition("at least 3 trucks or a pedestrian behind me"), record)
    assert (found.truth, found.objects) == (True, (other,))  # the trucks do not make it true
    assert match(parse_condition("a parked truck"), record).truth is None
    assert match(parse_condition("not a bus"), record).objects == ()


def test_anchors_are_those_of_what_was_found():
    """Two trucks stand by buses, and only one of them by a car."""
    car = thing("car", 10, 0)
    truck, bus, truck_alone, bus_alone = (
        thing(kind, x, 0)
        for kind, x in (
            (
                "truck",
                15,
            ),
            ("bus", 20),
            ("truck", -15),
            ("bus", -20),
        )
    )
    found = match(
        parse_condition("a car within 6 m of a truck within 6 m of a bus"),
        scene(car, truck, bus, truck_alone, bus_alone),
    )
    assert (found.objects, found.anchors) == ((car,), (truck, bus))


def test_the_only_query_parts_without_words_are_the_tree_itself():
    assert text_of(ask.Amount(ask.Things("car"), "exactly", 0)) == "no car"
    assert text_of(ask.IsThere(ask.Amount(ask.Things("bus"), "at least", 2))) == "are there at least 2 buses"


def test_a_word_that_a_category_does_not_have_is_the_same_for_two():
    """A log may call a pedestrian parked: "what is the status" repeats it, and two of them have the same one."""
    one, other = thing("pedestrian", 5, 0, status=("parked",)), thing("pedestrian", -5, 0, status=("parked",))
    both = parse_query("do the nearest pedestrian and the pedestrian behind me have the same status")
    assert answer(both, scene(one, other)) is True
    assert twin_answer(both, scene(one, other)) is True
    assert answer(both, scene(one, thing("pedestrian", -5, 0, status=("standing",)))) is False
