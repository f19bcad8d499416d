"""Answers of queries on a scene: true, false, or None where nobody can tell.

An object that the labels know and the sensor hardly hit may be there or not: it can make an answer unknown, and never a
silent no. The logic is Kleene's: what is unknown makes "and" false only beside something false, "or" true only beside
something true.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from . import query as ask
from .scene import SceneObject, SceneRecord
from .words import GROUPS

Truth = bool | None
Answer = bool | int | float | str | None
MIN_POINTS = 5  # LiDAR points from which on the sensor can tell an object


def all_of(truths: Iterable[Truth]) -> Truth:
    """Kleene's "and"; true of nothing."""
    found = set(truths)
    return False if False in found else None if None in found else True


def any_of(truths: Iterable[Truth]) -> Truth:
    """Kleene's "or"; false of nothing."""
    found = set(truths)
    return True if True in found else None if None in found else False


def opposite(truth: Truth) -> Truth:
    """Kleene's "not"."""
    return None if truth is None else not truth


def answer(
    query: ask.Query, scene: SceneRecord, *, min_points: int = MIN_POINTS, max_range_m: float = math.inf
) -> Answer:
    """The answer on one scene; None: nobody can tell.

    Args:
        min_points: an object with fewer is perhaps not there. max_range_m: what is farther is not asked about.

    Returns:
        yes or no of a condition and of `query.IsThere`, `query.SameStatus`, `query.AreThereMore`; the number of
        `query.HowMany`; metres of `query.HowFar`; a word of `query.WhatStatus` and `query.WhatKind`. A question for the
        one thing that is meant has no answer where there are none or several.
    """
    return Scenery(scene, min_points, max_range_m).answer(query)


@dataclass(slots=True)
class Scenery:
    """A scene as queries see it. objects: those that are asked about, in the order of the record."""

    scene: SceneRecord
    min_points: int = MIN_POINTS
    max_range_m: float = math.inf
    objects: tuple[SceneObject, ...] = field(init=False)
    _known: dict[ask.Things, tuple[Truth, ...]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.objects = tuple(o for o in self.scene.objects if o.range_m <= self.max_range_m)

    def answer(self, query: ask.Query) -> Answer:
        """See `answer`."""
        if isinstance(query, ask.IsThere):
            return self.holds(query.condition)
        if isinstance(query, ask.HowMany):
            low, high = self.count(query.things)
            return low if low == high else None
        if isinstance(query, ask.SameStatus):
            return self._same_status(self.only(query.first), self.only(query.second))
        if isinstance(query, ask.AreThereMore):
            (low, high), (other_low, other_high) = self.count(query.first), self.count(query.second)
            return True if low > other_high else False if high <= other_low else None
        if isinstance(query, ask.WhatStatus | ask.WhatKind | ask.HowFar):
            found = self.only(query.things)
            if found is None:
                return None
            if isinstance(query, ask.HowFar):
                return found.range_m
            return found.category if isinstance(query, ask.WhatKind) else found.motion
        return self.holds(query)

    def holds(self, condition: ask.Condition) -> Truth:
        """Whether the condition is true."""
        if isinstance(condition, ask.Not):
            return opposite(self.holds(condition.condition))
        if isinstance(condition, ask.And):
            return all_of(map(self.holds, condition.conditions))
        if isinstance(condition, ask.Or):
            return any_of(map(self.holds, condition.conditions))
        (low, high), number = self.count(condition.things), condition.number
        enough = True if low >= number else None if high >= number else False
        few = True if high <= number else None if low <= number else False
        if condition.comparison == "exactly":
            return all_of([enough, few])
        return enough if condition.comparison == "at least" else few

    def count(self, things: ask.Things) -> tuple[int, int]:
        """The fewest and the most that there can be."""
        truths = self.truths(things)
        return truths.count(True), len(truths) - truths.count(False)

    def only(self, things: ask.Things) -> SceneObject | None:
        """The one object that is meant; None where there is none, or may be another."""
        truths = self.truths(things)
        return self.objects[truths.index(True)] if self.count(things) == (1, 1) else None

    def found(self, things: ask.Things) -> tuple[SceneObject, ...]:
        """The objects that are surely meant."""
        return tuple(o for o, truth in zip(self.objects, self.truths(things)) if truth)

    def truths(self, things: ask.Things) -> tuple[Truth, ...]:
        """Of each object, whether it is one of the things."""
        if things not in self._known:
            truths = tuple(self._is_one(i, things) for i in range(len(self.objects)))
            if things.pick is not None:
                sign = 1 if things.pick == "nearest" else -1
                order = sorted(range(len(truths)), key=lambda i: (sign * self.objects[i].range_m, i))
                before: Truth = (
                    False  # whether one of the things comes before, of those as far the first in the record
                )
                picked: dict[int, Truth] = {}
                for i in order:
                    picked[i] = all_of([truths[i], opposite(before)])
                    before = any_of([before, truths[i]])
                truths = tuple(picked[i] for i in range(len(truths)))
            self._known[things] = truths
        return self._known[things]

    def _is_one(self, i: int, things: ask.Things) -> Truth:
        thing = self.objects[i]
        if thing.category not in GROUPS.get(things.noun, {things.noun}):
            return False
        there: Truth = True if thing.points >= self.min_points else None
        statuses = (_signed(thing.is_in(status.word), status.negated) for status in things.statuses)
        relations = (_signed(self._stands(i, each), each.negated) for each in things.relations)
        return all_of([there, *statuses, *relations])

    def _stands(self, i: int, relation: ask.Relation) -> Truth:
        """Whether the relation, without its "not", is true of an object."""
        thing = self.objects[i]
        if isinstance(relation, ask.Speed):
            if thing.speed is None:
                return None
            limit = relation.metres_per_s
            return thing.speed < limit if relation.slower else thing.speed > limit
        if isinstance(relation.anchor, ask.Ego):
            return related(thing, None, relation)
        anchors = enumerate(zip(self.objects, self.truths(relation.anchor)))
        return any_of(
            all_of([truth, related(thing, o, relation)])
            for k, (o, truth) in anchors
            if k != i and truth is not False
        )

    @staticmethod
    def _same_status(first: SceneObject | None, second: SceneObject | None) -> Truth:
        if first is None or second is None:
            return None
        words = first.motion, second.motion
        # also one that its category does not have by `words.APPLIES`
        if words[0] == words[1] and words[0] is not None:
            return True
        # whether the one of which less is known can be what the other is
        vague, word = (first, words[1]) if words[0] in (None, "still") else (second, words[0])
        return None if word is None else vague.is_in(word)


def sector_of(x: float, y: float) -> str | None:
    """The sector of ``query.SECTORS`` in which a place lies, seen from the origin; None of the origin itself."""
    if x == 0 and y == 0:
        return None
    angle = math.degrees(math.atan2(y, x))
    # edges are shifted by a turn instead of the angle: a sum of it would be rounded onto the edge that it is just below
    turn = 360.0 if angle < ask.SECTORS["front"][0] else 0.0
    return next(name for name, (_, end) in ask.SECTORS.items() if angle < end - turn)


def related(thing: SceneObject, anchor: SceneObject | None, relation: ask.Within | ask.Toward) -> bool:
    """Whether the relation, without its "not", is true of a thing and one anchor; None is the vehicle."""
    x, y = (0.0, 0.0) if anchor is None else anchor.center[:2]
    return _stands_so(thing.center[0] - x, thing.center[1] - y, relation)


def _stands_so(x: float, y: float, relation: ask.Within | ask.Toward) -> bool:
    """Whether a place [m] stands so to an anchor at the origin."""
    if isinstance(relation, ask.Within):
        return math.hypot(x, y) <= relation.metres
    return sector_of(x, y) in ask.DIRECTIONS[relation.direction]


def _signed(truth: Truth, negated: bool) -> Truth:
    return opposite(truth) if negated else truth
