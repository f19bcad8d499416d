"""What can be asked of a scene, as a tree: things, how they stand to each other, conditions, questions.

`query_text` writes a tree as a sentence, `query_parse` reads one, `query_answer` answers it on a `SceneRecord`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

# Sectors around a place in the ego frame, as NuScenes-QA has them: 60 degrees each, half open, the first one straight
# ahead. name -> from, to [degrees, counter-clockwise from x]; the last but one spans the jump of the angle.
SECTORS = {
    "front": (-30.0, 30.0),
    "front left": (30.0, 90.0),
    "back left": (90.0, 150.0),
    "back": (150.0, 210.0),
    "back right": (210.0, 270.0),
    "front right": (270.0, 330.0),
}
# direction of a relation -> the sectors that it means
DIRECTIONS = {
    **{name: (name,) for name in SECTORS},
    "left": ("front left", "back left"),
    "right": ("front right", "back right"),
}
PICKS = ("nearest", "farthest")
AMOUNTS = ("at least", "at most", "exactly")


@dataclass(frozen=True, slots=True)
class Ego:
    """The vehicle that carries the sensor, at the origin of the scene."""


@dataclass(frozen=True, slots=True)
class Status:
    """A word of ``words.STATUSES`` that is true of a thing, or not true of it."""

    word: str
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Within:
    """The centre is no farther than ``metres`` over ground from that of an anchor; ``negated``: of no anchor."""

    metres: float
    anchor: Anchor
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Toward:
    """As seen from an anchor, in the axes of the ego frame, it lies in a direction of ``DIRECTIONS``."""

    direction: str
    anchor: Anchor
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Speed:
    """It moves over ground faster than ``metres_per_s``, or with ``slower`` slower."""

    metres_per_s: float
    slower: bool = False
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Things:
    """The objects of a noun for which every status and relation is true.

    noun: of ``words.CATEGORIES`` or ``words.GROUPS``. pick: of ``PICKS``, only the one nearest to (farthest from) the
    vehicle of those.
    """

    noun: str
    statuses: frozenset[Status] = frozenset()
    relations: tuple[Relation, ...] = ()
    pick: str | None = None


Anchor: TypeAlias = Ego | Things
Relation: TypeAlias = Within | Toward | Speed


@dataclass(frozen=True, slots=True)
class Amount:
    """So many things are there; ``comparison`` of ``AMOUNTS``."""

    things: Things
    comparison: str = "at least"
    number: int = 1


@dataclass(frozen=True, slots=True)
class Not:
    condition: Condition


@dataclass(frozen=True, slots=True)
class And:
    """All of two or more."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """At least one of two or more."""

    conditions: tuple[Condition, ...]


Condition: TypeAlias = Amount | Not | And | Or


@dataclass(frozen=True, slots=True)
class IsThere:
    """Whether a condition is true: yes or no."""

    condition: Condition


@dataclass(frozen=True, slots=True)
class HowMany:
    """The number of things."""

    things: Things


@dataclass(frozen=True, slots=True)
class WhatStatus:
    """How the one thing that is meant moves: a word of ``words.MOTIONS``."""

    things: Things


@dataclass(frozen=True, slots=True)
class WhatKind:
    """Category of the one thing that is meant."""

    things: Things


@dataclass(frozen=True, slots=True)
class HowFar:
    """Distance of the one thing that is meant from the vehicle over ground [m]."""

    things: Things


@dataclass(frozen=True, slots=True)
class SameStatus:
    """Whether two things, each the only one that is meant, have the same status: yes or no."""

    first: Things
    second: Things


@dataclass(frozen=True, slots=True)
class AreThereMore:
    """Whether there are more of the first things than of the second: yes or no."""

    first: Things
    second: Things


Question: TypeAlias = IsThere | HowMany | WhatStatus | WhatKind | HowFar | SameStatus | AreThereMore
Query: TypeAlias = Condition | Question
