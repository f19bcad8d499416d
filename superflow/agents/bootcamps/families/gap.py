"""Which of three lanes is free the farthest?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ...query_answer import Scenery
from ..bootcamp import Bootcamp
from ..ground import way_to
from ..phrases import pick, seen
from ..replies import Choice

LANES = ("left", "own", "right")
MARGIN_M = 2.0  # by which the best lane is free farther than the others


class Gap(Bootcamp):
    """lane_m: width of a lane."""

    reply = Choice(LANES)
    grid: ClassVar = {"lane_m": (3.5, 3.0)}

    def ask(self, scenery: Scenery) -> dict[str, Any] | None:
        asked = {**self.difficulty, "way": pick(self.rng, ("ahead", "behind"))}
        second, best = sorted(high for _, high in _ways(scenery, asked).values())[1:]
        return {"way": asked["way"]} if best - second >= MARGIN_M else None

    @classmethod
    def solve(cls, scenery: Scenery, asked: Mapping[str, Any]) -> str | None:
        ways = _ways(scenery, asked)
        best = max(LANES, key=lambda lane: ways[lane][0])
        others = (high for lane, (_, high) in ways.items() if lane != best)
        return best if ways[best][0] > max(others) else None

    @classmethod
    def sentence(cls, asked: Mapping[str, Any]) -> str:
        return (
            f"Of three lanes {asked['lane_m']:g} m wide straight {asked['way']}, the vehicle's own and those to its "
            "left and right as one faces that way, which is free the farthest?"
        )


def _ways(scenery: Scenery, asked: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Lane -> how far it is surely free, and possibly [m]."""
    width, limit = asked["lane_m"], asked["max_range_m"]
    edges = {
        "left": (width / 2, 1.5 * width),
        "own": (-width / 2, width / 2),
        "right": (-1.5 * width, -width / 2),
    }
    return {
        lane: (
            min(limit, way_to(scenery.objects, asked["way"], *strip)),
            min(limit, way_to(seen(scenery), asked["way"], *strip)),
        )
        for lane, strip in edges.items()
    }
