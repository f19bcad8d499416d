"""Does it move, and if not, how does it stand? NuScenes-QA's "status"."""

from __future__ import annotations

from typing import Any, ClassVar

from ... import query as ask
from ...query_answer import Scenery
from ...query_text import text_of
from ...words import MOTIONS
from ..phrases import HOPS, draw_one, tells_motion
from ..query_question import QueryBootcamp
from ..replies import Choice


class Status(QueryBootcamp):
    """hops: relations of a phrase to other things."""

    reply = Choice(MOTIONS)
    grid: ClassVar = {"hops": HOPS}

    def ask(self, scenery: Scenery) -> dict[str, Any] | None:
        if not tells_motion(scenery):
            return None
        things = draw_one(self.rng, scenery, self.difficulty["hops"])
        # it would be the answer
        if things is None or any(status.word in MOTIONS for status in things.statuses):
            return None
        return {"query": text_of(ask.WhatStatus(things))}
