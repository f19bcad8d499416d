"""Is there such a thing? NuScenes-QA's "exist"."""

from __future__ import annotations

from typing import Any, ClassVar

from ... import query as ask
from ...query_answer import Scenery
from ...query_text import text_of
from ..phrases import HOPS, draw_things
from ..query_question import QueryBootcamp
from ..replies import YesNo


class Exist(QueryBootcamp):
    """hops: relations of a phrase to other things."""

    reply = YesNo()
    grid: ClassVar = {"hops": HOPS}

    def ask(self, scenery: Scenery) -> dict[str, Any]:
        things = draw_things(self.rng, scenery, self.difficulty["hops"])
        return {"query": text_of(ask.IsThere(ask.Amount(things)))}
