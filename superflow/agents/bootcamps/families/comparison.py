"""Do two things stand alike, or are there more of one kind? NuScenes-QA's "comparison", and one of numbers."""

from __future__ import annotations

from typing import Any, ClassVar

from ... import query as ask
from ...query_answer import Scenery
from ...query_text import text_of
from ..phrases import HOPS, draw_one, draw_things, tells_motion
from ..query_question import QueryBootcamp
from ..replies import YesNo


class Comparison(QueryBootcamp):
    """hops: relations of a phrase to other things. of: what is compared."""

    reply = YesNo()
    grid: ClassVar = {"hops": HOPS, "of": ("status", "number")}

    def ask(self, scenery: Scenery) -> dict[str, Any] | None:
        hops = self.difficulty["hops"]
        if self.difficulty["of"] == "number":
            two = draw_things(self.rng, scenery, hops), draw_things(self.rng, scenery, hops)
            return {"query": text_of(ask.AreThereMore(*two))} if two[0] != two[1] else None
        if not tells_motion(scenery):
            return None
        first, second = draw_one(self.rng, scenery, hops), draw_one(self.rng, scenery, hops)
        if first is None or second is None or scenery.only(first) is scenery.only(second):
            return None
        return {"query": text_of(ask.SameStatus(first, second))}
