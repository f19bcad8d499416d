"""Is a sentence about the scene true?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ... import query as ask
from ...query import Condition
from ...query_answer import Scenery
from ...query_text import text_of
from ..phrases import HOPS, draw_things, pick
from ..query_question import QueryBootcamp
from ..replies import YesNo


class FactCheck(QueryBootcamp):
    """parts: amounts in the sentence. hops: relations of a phrase to other things."""

    reply = YesNo(("true", "false"))
    grid: ClassVar = {"parts": (1, 2, 3), "hops": HOPS}

    def ask(self, scenery: Scenery) -> dict[str, Any]:
        parts = [self._part(scenery) for _ in range(self.difficulty["parts"])]
        joint = pick(self.rng, (ask.And, ask.Or))
        return {"query": text_of(joint(tuple(parts)) if len(parts) > 1 else parts[0])}

    @classmethod
    def sentence(cls, asked: Mapping[str, Any]) -> str:
        return f'Is this true of the scene: "{asked["query"]}"?'

    def _part(self, scenery: Scenery) -> Condition:
        things = draw_things(self.rng, scenery, self.difficulty["hops"])
        low, high = scenery.count(things)
        number = max(0, pick(self.rng, (low, high)) + pick(self.rng, (-1, 0, 0, 1)))
        comparison = pick(self.rng, ask.AMOUNTS)
        amount = ask.Amount(things, comparison, max(number, int(comparison == "at least")))
        return ask.Not(amount) if self.rng.random() < 0.2 else amount
