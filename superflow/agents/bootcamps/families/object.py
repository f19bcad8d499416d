"""What kind of thing is it? NuScenes-QA's "object"."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from ... import query as ask
from ...query_answer import Scenery
from ...query_text import text_of
from ...words import CATEGORIES, GROUPS
from ..phrases import HOPS, draw_subject, is_doubtful
from ..query_question import QueryBootcamp
from ..replies import Choice


class Object(QueryBootcamp):
    """hops: relations of a phrase to other things."""

    reply = Choice(CATEGORIES)
    grid: ClassVar = {"hops": HOPS}

    def ask(self, scenery: Scenery) -> dict[str, Any] | None:
        things = draw_subject(self.rng, scenery, self.difficulty["hops"])
        if things is None:
            return None
        if things.noun not in GROUPS:  # the noun would be the answer
            things = replace(things, noun="object")
        if scenery.only(things) is None and not is_doubtful(scenery, things):
            return None
        return {"query": text_of(ask.WhatKind(things))}
