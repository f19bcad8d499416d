"""Phrases for the things of a scene, as parts of questions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from .. import query as ask
from ..query_answer import Scenery, related
from ..query_parse import parse_query
from ..query_text import text_of
from ..scene import SceneObject
from ..words import APPLIES, CATEGORIES, GROUPS, MOTIONS, RIDERS, VEHICLES

NEAR_M = (5.0, 10.0, 15.0, 20.0, 30.0)
HOPS = (0, 1, 2)  # relations to other things in a phrase
ONE_TRIES = 12  # phrases
DOUBTFUL = 0.25  # share of questions that mean nobody knows whom


def pick(rng: np.random.Generator, items: Any) -> Any:
    """One of some items that are in an order."""
    return items[int(rng.integers(len(items)))]


def seen(scenery: Scenery) -> list[SceneObject]:
    """The objects that are surely there."""
    return [o for o in scenery.objects if o.points >= scenery.min_points]


def tells_motion(scenery: Scenery) -> bool:
    """Whether anything is known of how the objects move; else a question for it would have one answer to all."""
    return any(o.motion is not None for o in scenery.objects)


def draw_things(rng: np.random.Generator, scenery: Scenery, hops: int) -> ask.Things:
    """A phrase that is mostly true of something in the scene, and sometimes of nothing.

    Args:
        hops: relations to things of the scene, one in another.
    """
    there = seen(scenery)
    subject = pick(rng, there) if there and rng.random() < 0.75 else None
    noun = pick(rng, CATEGORIES) if subject is None else subject.category
    if rng.random() < 0.3:
        noun = "vehicle" if noun in VEHICLES and rng.random() < 0.7 else "object"
    statuses = frozenset([ask.Status(_status(rng, noun, subject))]) if rng.random() < 0.4 else frozenset()
    relations: tuple[ask.Relation, ...] = ()
    if hops:
        relations = (_relation(rng, scenery, subject, draw_things(rng, scenery, hops - 1)),)
    elif rng.random() < 0.6:
        relations = (_relation(rng, scenery, subject, ask.Ego()),)
    return ask.Things(noun, statuses, relations)


def draw_one(rng: np.random.Generator, scenery: Scenery, hops: int) -> ask.Things | None:
    """A phrase that means exactly one object that is surely there; None where no such was found."""
    for _ in range(ONE_TRIES):
        things = draw_things(rng, scenery, hops)
        if rng.random() < 0.5:
            things = replace(things, pick=pick(rng, ask.PICKS))
        if scenery.only(things) is not None:
            return things
    return None


def draw_subject(rng: np.random.Generator, scenery: Scenery, hops: int) -> ask.Things | None:
    """Mostly as `draw_one`; sometimes a phrase of which nobody can tell which object it means."""
    doubtful = draw_doubtful(rng, scenery, hops) if rng.random() < DOUBTFUL else None
    return draw_one(rng, scenery, hops) if doubtful is None else doubtful


def draw_doubtful(rng: np.random.Generator, scenery: Scenery, hops: int) -> ask.Things | None:
    """A phrase of which nobody can tell which object it means; None where no such was found."""
    for _ in range(ONE_TRIES):
        things = replace(draw_things(rng, scenery, hops), pick=pick(rng, ask.PICKS))
        if is_doubtful(scenery, things):
            return things
    return None


def is_doubtful(scenery: Scenery, things: ask.Things) -> bool:
    """Whether the phrase may mean one object, and nobody can tell which, or whether."""
    return things.pick is not None and scenery.only(things) is None and scenery.count(things)[1] > 0


def describe(rng: np.random.Generator, scenery: Scenery, thing: SceneObject) -> ask.Things | None:
    """A phrase that means this object and no other; None where none of those that were tried does."""
    for _ in range(ONE_TRIES):
        statuses = (
            frozenset([ask.Status(_status(rng, thing.category, thing))])
            if rng.random() < 0.5
            else frozenset()
        )
        relations = (_relation(rng, scenery, thing, ask.Ego()),) if rng.random() < 0.8 else ()
        things = ask.Things(thing.category, statuses, relations, pick(rng, (None, *ask.PICKS)))
        if scenery.only(things) is thing:
            return things
    return None


def the(things: ask.Things) -> str:
    """The phrase with its article, as `things_of` reads it again."""
    return text_of(ask.HowFar(things)).removeprefix("how far is ")


def things_of(text: str) -> ask.Things:
    """The phrase that `the` wrote."""
    query = parse_query(f"how far is {text}")
    assert isinstance(query, ask.HowFar)
    return query.things


def _status(rng: np.random.Generator, noun: str, subject: SceneObject | None) -> str:
    """A word that can be true of the noun; mostly one that is true of the subject."""
    members = GROUPS.get(noun, frozenset({noun}))
    words = [word for word in (*MOTIONS, *RIDERS) if members & APPLIES[word]]
    true = [] if subject is None else [word for word in words if subject.is_in(word)]
    return str(pick(rng, true if true and rng.random() < 0.7 else words))


def _relation(
    rng: np.random.Generator, scenery: Scenery, subject: SceneObject | None, anchor: ask.Anchor
) -> ask.Relation:
    """A relation to an anchor; mostly one that is true of the subject."""
    kinds: list[ask.Within | ask.Toward] = [
        *(ask.Within(metres, anchor) for metres in NEAR_M),
        *(ask.Toward(direction, anchor) for direction in ask.DIRECTIONS),
    ]
    if subject is not None and rng.random() < 0.7:
        anchors: list[SceneObject | None] = [None]
        if not isinstance(anchor, ask.Ego):
            anchors = [o for o in scenery.found(anchor) if o is not subject]
        kinds = [kind for kind in kinds if any(related(subject, o, kind) for o in anchors)] or kinds
    relation: ask.Within | ask.Toward = pick(rng, kinds)
    return relation
