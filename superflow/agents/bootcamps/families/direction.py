"""In which direction does a thing lie, seen from the vehicle or from another thing?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from ...query import SECTORS
from ...query_answer import Scenery, sector_of
from ..bootcamp import Bootcamp
from ..phrases import draw_one, draw_subject, the, things_of
from ..replies import Choice

MARGIN_DEG = 5.0  # from the edge of a sector, which nobody sees so well


class Direction(Bootcamp):
    """of: from where it is seen, by turns of the axes of the vehicle."""

    reply = Choice(tuple(SECTORS))
    grid: ClassVar = {"of": ("me", "a thing")}

    def ask(self, scenery: Scenery) -> dict[str, Any] | None:
        thing = draw_subject(self.rng, scenery, 0)
        anchor = draw_one(self.rng, scenery, 0) if self.difficulty["of"] == "a thing" else None
        if thing is None or (anchor is None and self.difficulty["of"] == "a thing"):
            return None
        asked = {"thing": the(thing), "anchor": "me" if anchor is None else the(anchor)}
        offset = _offset(scenery, asked)
        if offset is None:
            return asked
        # sectors begin at 30 degrees and every 60 from there: 0 in the middle of one, 30 at its edges
        off_middle = abs((math.degrees(math.atan2(offset[1], offset[0])) + 30) % 60 - 30)
        return asked if 30 - off_middle >= MARGIN_DEG and math.hypot(*offset) > 1 else None

    @classmethod
    def solve(cls, scenery: Scenery, asked: Mapping[str, Any]) -> str | None:
        offset = _offset(scenery, asked)
        return None if offset is None else sector_of(*offset)

    @classmethod
    def sentence(cls, asked: Mapping[str, Any]) -> str:
        seen_from = "the vehicle" if asked["anchor"] == "me" else asked["anchor"]
        return f"In which direction from {seen_from} lies {asked['thing']}, in the axes of the vehicle?"


def _offset(scenery: Scenery, asked: Mapping[str, Any]) -> tuple[float, float] | None:
    """From the anchor to the thing [m]; None where nobody can tell which they are."""
    thing = scenery.only(things_of(asked["thing"]))
    if asked["anchor"] == "me":
        return None if thing is None else thing.center[:2]
    anchor = scenery.only(things_of(asked["anchor"]))
    if thing is None or anchor is None:
        return None
    return thing.center[0] - anchor.center[0], thing.center[1] - anchor.center[1]
