"""A sentence as a query.

    query      = condition | "is there" condition | "how many" things ["are there"] | "what is the status of" things
               | "what kind is" things | "how far is" things | "do" things "and" things "have the same status"
               | "are there more" things "than" things
    condition  = all {"or" all}          all = part {"and" part}          part = "not" part | "(" condition ")" | amount
    amount     = ["a" | "the" | "no" | "at least" N | "at most" N | "exactly" N | "more than" N | "fewer than" N] things
                 (what is counted is not the nearest or farthest; with nothing before it after "and" or "or" only a noun
                 alone, behind a noun alone: "no car or truck" could mean two things)
    things     = ["nearest" | "farthest"] {["not"] status} noun {["and"] ["that is"] ["not"] (status | relation)}
    relation   = "within" N "m of" anchor | "more than" N "m from" anchor | direction anchor | "ahead"
               | ("faster" | "slower") "than" N ("m/s" | "km/h")
    anchor     = "me" | ["a" | "the"] things | "(" ["a" | "the"] things ")"

A relation belongs to the nearest noun before it: in "a car near a truck behind a bus" the truck is behind the bus.
Brackets end a phrase: "a car within 9 m of (a truck) behind a bus".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..errors import InputError
from . import query as ask
from .query_text import DIRECTION_WORDS, NOUNS, plural_of
from .query_words import MAX_DEPTH, Words
from .words import STATUSES

NOUN_WORDS = (
    {noun: noun for noun in NOUNS}
    | {plural_of(noun): noun for noun in NOUNS}
    | {"person": "pedestrian", "persons": "pedestrian", "people": "pedestrian", "motorbike": "motorcycle"}
    | {"motorbikes": "motorcycle", "cone": "traffic cone", "cones": "traffic cone", "thing": "object"}
    | {"things": "object", "obstacle": "object", "obstacles": "object", "bike": "bicycle", "bikes": "bicycle"}
)
STATUS_WORDS = {word: word for word in STATUSES}
ARTICLES = dict.fromkeys(("a", "an", "the", "some", "any"), True)
DIRECTION_OF = {text: name for name, text in DIRECTION_WORDS.items()} | {
    **{f"to the {name} of": name for name in ask.DIRECTIONS},
    **{f"on the {name} of": name for name in ("left", "right")},
    "ahead of": "front",
    "in the back of": "back",
}
HERE = {"ahead": "front", "in front": "front", "to my left": "left", "to my right": "right"}
EGO = dict.fromkeys(("me", "us", "ego", "the ego", "the ego vehicle"), True)
FILLERS = dict.fromkeys(("that is", "that are", "which is", "which are", "is", "are", "are there"), True)
METRES_FROM = dict.fromkeys(("m from", "metres from", "meters from"), True)
METRES_OF = dict.fromkeys(("m of", "metres of", "meters of"), True)
SPEED_UNITS = {"m/s": 1.0, "km/h": 1 / 3.6}


def parse_query(text: str) -> ask.Query:
    """The query that a sentence says; case, a mark at its end and line breaks do not matter.

    Raises:
        InputError: it cannot be read; the message says at which character, what was expected, and marks the place.
    """
    return _Parser(Words(text)).query()


class _Parser:
    """Each method reads one line of the grammar above; what may be missing gives None and takes nothing."""

    def __init__(self, words: Words) -> None:
        self.words = words
        self.depth = 0
        # the part of a condition that "and" or "or" joins the next one to
        self.before: ask.Condition | None = None

    def query(self) -> ask.Query:
        found = self._question() or self._condition()
        while self.words.take("?", expected="the end") or self.words.take(".", expected="the end"):
            pass
        if not self.words.ended:
            raise self.words.error()
        return found

    def _question(self) -> ask.Question | None:
        take, things, start = self.words.take, self._the_things, self.words.at
        if take("are there more than", expected="a question"):
            self.words.at = start  # than a number: a condition
        elif take("are there more", expected="a question"):
            first = things()
            self._must("than")
            return ask.AreThereMore(first, things())
        if take("is there", expected="a question") or take("are there", expected="a question"):
            return ask.IsThere(self._condition())
        if take("how many", expected="a question"):
            found = ask.HowMany(self._several())
            _ = take("are there", expected="the end") or take("are visible", expected="the end")
            return found
        if take("do", expected="a question"):
            first = things()
            self._must("and")
            found_same = ask.SameStatus(first, things())
            self._must("have the same status")
            return found_same
        if take("what is the status of", expected="a question"):
            return ask.WhatStatus(things())
        if take("what kind is", expected="a question"):
            return ask.WhatKind(things())
        return ask.HowFar(things()) if take("how far is", expected="a question") else None

    def _condition(self) -> ask.Condition:
        return self._joined("or", ask.Or, lambda: self._joined("and", ask.And, self._part))

    def _joined(
        self, word: str, kind: type[ask.And] | type[ask.Or], part: Callable[[], ask.Condition]
    ) -> ask.Condition:
        parts = [part()]
        while self.words.take(word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else kind(tuple(parts))

    def _part(self) -> ask.Condition:
        self._enter()
        if self.words.take("not"):
            self.before = None
            found: ask.Condition = ask.Not(self._part())
        elif self.words.take("("):
            self.before = None
            found = self._condition()
            self._must(")")
        else:
            found = self._amount()
        self.depth -= 1
        self.before = found
        return found

    def _amount(self) -> ask.Amount:
        words = self.words
        if words.take("no"):
            return ask.Amount(self._things(), "exactly", 0)
        comparisons = {name: (name, 0) for name in ask.AMOUNTS} | {
            "more than": ("at least", 1), "fewer than": ("at most", -1), "less than": ("at most", -1)
        }  # fmt: skip
        found = words.take_of(comparisons, 'an amount as "at least 2"')
        if found is None:
            return self._one_or_more()
        number = words.number(whole=True)
        if number is None:
            raise words.error()
        if number + found[1] < 0:
            raise InputError('the query asks for fewer than 0; ask for at most 0, or for none with "no"')
        return ask.Amount(self._several(), found[0], int(number) + found[1])

    def _one_or_more(self) -> ask.Amount:
        """Things without a number; a noun of which nothing is said shares nobody knows what with the part before it."""
        before, said = self.before, self.words.take_of(ARTICLES, '"a" or "the"')
        found = ask.Amount(self._things())
        if not said and before is not None and not (_is_noun_alone(before) and _is_noun_alone(found)):
            raise InputError(
                f'the query can be meant in two ways, since what is said of the part before "{found.things.noun}" may '
                'be said of it, too; put "a", "no" or "at least 1" before it, as in "no car and no truck"'
            )
        return found

    def _several(self) -> ask.Things:
        """Things that are counted."""
        found = self._things()
        if found.pick is not None:
            raise InputError(
                f'"{found.pick}" means one thing, of which there are never several; ask for "the {found.pick}", or '
                f'count without it, as in "at least 2 cars within 10 m of me"'
            )
        return found

    def _the_things(self) -> ask.Things:
        self.words.take_of(ARTICLES, '"a" or "the"')
        return self._things()

    def _things(self) -> ask.Things:
        self._enter()
        words = self.words
        pick = words.take_of({pick: pick for pick in ask.PICKS}, '"nearest"')
        statuses = set[ask.Status]()
        while (status := self._status()) is not None:
            statuses.add(status)
        noun = words.take_of(
            NOUN_WORDS, "a noun as " + ", ".join(f'"{noun}"' for noun in ("car", "pedestrian", "vehicle"))
        )
        if noun is None:
            raise words.error()
        relations: list[ask.Relation] = []
        while (more := self._attribute()) is not None:
            statuses.update([more] if isinstance(more, ask.Status) else [])
            relations += [] if isinstance(more, ask.Status) else [more]
        self.depth -= 1
        return ask.Things(noun, frozenset(statuses), tuple(relations), pick)

    def _attribute(self) -> ask.Status | ask.Relation | None:
        """What may follow a noun; where it does not, nothing is taken, so that the word belongs to what comes next."""
        words, start = self.words, self.words.at
        words.take("and")
        words.take_of(FILLERS, '"that is"')
        found = self._status() or self._relation()
        if found is None:
            words.at = start
        return found

    def _status(self) -> ask.Status | None:
        start = self.words.at
        negated = self.words.take("not")
        word = self.words.take_of(STATUS_WORDS, 'a status as "parked"')
        if word is None:
            self.words.at = start
            return None
        return ask.Status(word, negated)

    def _relation(self) -> ask.Relation | None:
        start = self.words.at
        negated = self.words.take("not")
        found = self._distance() or self._direction() or self._speed()
        if found is None:
            self.words.at = start
            return None
        return replace(found, negated=found.negated != negated)

    def _distance(self) -> ask.Within | None:
        words, start = self.words, self.words.at
        if words.take("within", expected='a relation as "within 15 m of"'):
            metres = words.number()
            if metres is None or not words.take_of(METRES_OF, '"m of"'):
                raise words.error()
            return ask.Within(metres, self._anchor())
        if words.take("more than", expected='"more than 15 m from"'):
            metres = words.number()
            if metres is not None and words.take_of(METRES_FROM, '"m from"'):
                return ask.Within(metres, self._anchor(), negated=True)
        words.at = start  # "more than 2 cars" is another part
        return None

    def _direction(self) -> ask.Toward | None:
        direction = self.words.take_of(DIRECTION_OF, 'a direction as "behind"')
        if direction is not None:
            return ask.Toward(direction, self._anchor())
        here = self.words.take_of(HERE, 'a direction as "behind"')
        return None if here is None else ask.Toward(here, ask.Ego())

    def _speed(self) -> ask.Speed | None:
        slower = self.words.take_of({"faster than": False, "slower than": True}, '"faster than 5 m/s"')
        if slower is None:
            return None
        number = self.words.number()
        unit = None if number is None else self.words.take_of(SPEED_UNITS, '"m/s" or "km/h"')
        if number is None or unit is None:
            raise self.words.error()
        return ask.Speed(number * unit, slower)

    def _anchor(self) -> ask.Anchor:
        if self.words.take_of(EGO, '"me"'):
            return ask.Ego()
        if not self.words.take("("):
            return self._the_things()
        found = self._the_things()
        self._must(")")
        return found

    def _must(self, phrase: str) -> None:
        if not self.words.take(phrase):
            raise self.words.error()

    def _enter(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.words.too_deep()


def _is_noun_alone(condition: ask.Condition) -> bool:
    """Whether it says nothing but that something is there: "a car"."""
    return isinstance(condition, ask.Amount) and condition == ask.Amount(ask.Things(condition.things.noun))
