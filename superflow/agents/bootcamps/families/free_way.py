"""How far is the way free?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from ...query_answer import Scenery
from ..bootcamp import Bootcamp
from ..ground import WAYS, way_to
from ..phrases import pick, seen
from ..replies import Measure

GRAZES_M = 0.2


class FreeWay(Bootcamp):
    """width_m: of the strip."""

    reply = Measure("m", instead=("free",))
    grid: ClassVar = {"width_m": (4.0, 3.0, 2.0)}

    def ask(self, scenery: Scenery) -> dict[str, Any] | None:
        way, half = pick(self.rng, tuple(WAYS)), self.difficulty["width_m"] / 2
        for group in (seen(scenery), scenery.objects):  # what only grazes the strip is no question
            narrow, wide = (way_to(group, way, -half - more, half + more) for more in (-GRAZES_M, GRAZES_M))
            if narrow - wide > 2 * GRAZES_M:
                return None
        return {"way": way}

    @classmethod
    def solve(cls, scenery: Scenery, asked: Mapping[str, Any]) -> float | str | None:
        half = asked["width_m"] / 2
        way = way_to(seen(scenery), asked["way"], -half, half)
        if way_to(scenery.objects, asked["way"], -half, half) < way:
            return None  # something stands nearer, perhaps
        return "free" if math.isinf(way) else way

    @classmethod
    def sentence(cls, asked: Mapping[str, Any]) -> str:
        return (
            f"How many metres from the middle of the vehicle straight {asked['way']} is a strip "
            f"{asked['width_m']:g} m wide free of objects, or is all of it free?"
        )
