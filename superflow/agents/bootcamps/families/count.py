"""How many such things are there? NuScenes-QA's "count"."""

from __future__ import annotations

from typing import Any, ClassVar

from ... import query as ask
from ...query_answer import Scenery
from ...query_text import plural_of, text_of
from ..phrases import HOPS, draw_things
from ..query_question import QueryBootcamp
from ..replies import Number


class Count(QueryBootcamp):
    """hops: relations of a phrase to other things."""

    reply = Number()
    grid: ClassVar = {"hops": HOPS}

    def ask(self, scenery: Scenery) -> dict[str, Any]:
        things = draw_things(self.rng, scenery, self.difficulty["hops"])
        return {"query": text_of(ask.HowMany(things)), "nouns": [things.noun, plural_of(things.noun)]}
