"""How far away is a thing?"""

from __future__ import annotations

from typing import Any, ClassVar

from ... import query as ask
from ...query_answer import Scenery
from ...query_text import text_of
from ..phrases import HOPS, draw_subject
from ..query_question import QueryBootcamp
from ..replies import Measure


class Distance(QueryBootcamp):
    """Right up to 1 m or a tenth. hops: relations of a phrase to other things."""

    reply = Measure("m")
    grid: ClassVar = {"hops": HOPS}

    def ask(self, scenery: Scenery) -> dict[str, Any] | None:
        things = draw_subject(self.rng, scenery, self.difficulty["hops"])
        return None if things is None else {"query": text_of(ask.HowFar(things))}
