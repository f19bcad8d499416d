"""Of what kinds are the nearest things?"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar

from ... import query as ask
from ...query_answer import Scenery
from ...query_text import plural_of
from ...words import CATEGORIES
from ..bootcamp import Bootcamp
from ..phrases import pick
from ..replies import Listing

GAP_M = 1.0  # between things whose order is asked for


class Nearest(Bootcamp):
    """k: how many."""

    reply = Listing(CATEGORIES)
    grid: ClassVar = {"k": (2, 3, 4)}

    def ask(self, scenery: Scenery) -> dict[str, Any] | None:
        asked = {"k": self.difficulty["k"], "noun": pick(self.rng, ("object", "vehicle"))}
        ranges = sorted(o.range_m for o in scenery.found(ask.Things(asked["noun"])))[: asked["k"] + 1]
        if len(ranges) < asked["k"] or any(b - a < GAP_M for a, b in pairwise(ranges)):
            return None
        return asked

    @classmethod
    def solve(cls, scenery: Scenery, asked: Mapping[str, Any]) -> list[str] | None:
        truths = scenery.truths(ask.Things(asked["noun"]))
        possible = [(o.range_m, truth, o) for o, truth in zip(scenery.objects, truths) if truth is not False]
        first = sorted(possible, key=lambda each: each[0])[: asked["k"]]
        if len(first) < asked["k"] or not all(truth for _, truth, _ in first):
            return None
        return [o.category for _, _, o in first]

    @classmethod
    def sentence(cls, asked: Mapping[str, Any]) -> str:
        return f"What kinds are the {asked['k']} nearest {plural_of(asked['noun'])}, the nearest first?"
