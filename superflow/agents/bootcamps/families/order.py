"""In which order do some things stand, from the nearest to the farthest?"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar

from ...query_answer import Scenery
from ..bootcamp import Bootcamp
from ..phrases import DOUBTFUL, describe, draw_doubtful, seen, the, things_of
from ..replies import Listing

NAMES = ("a", "b", "c", "d", "e")
GAP_M = 1.0  # between things whose order is asked for


class Order(Bootcamp):
    """k: how many things."""

    reply = Listing(by="names")
    grid: ClassVar = {"k": (3, 4, 5)}

    def ask(self, scenery: Scenery) -> dict[str, Any] | None:
        k, there = self.difficulty["k"], seen(scenery)
        if len(there) < k:
            return None
        chosen = [there[i] for i in self.rng.permutation(len(there))[:k]]
        if any(b - a < GAP_M for a, b in pairwise(sorted(o.range_m for o in chosen))):
            return None
        phrases = [describe(self.rng, scenery, each) for each in chosen]
        if self.rng.random() < DOUBTFUL:
            phrases[int(self.rng.integers(k))] = draw_doubtful(self.rng, scenery, 0)
        known = [the(each) for each in phrases if each is not None]
        return {"names": list(NAMES[:k]), "things": known} if len(known) == k else None

    @classmethod
    def solve(cls, scenery: Scenery, asked: Mapping[str, Any]) -> list[str] | None:
        objects = [scenery.only(things_of(text)) for text in asked["things"]]
        ranges = {name: o.range_m for name, o in zip(asked["names"], objects) if o is not None}
        return sorted(ranges, key=ranges.__getitem__) if len(ranges) == len(objects) else None

    @classmethod
    def sentence(cls, asked: Mapping[str, Any]) -> str:
        named = "; ".join(f"{name}: {text}" for name, text in zip(asked["names"], asked["things"]))
        return f"In which order do these stand, from the nearest to the farthest? {named}."
