"""Where does a thing stand in the axes of another one?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from ...query_answer import Scenery
from ..bootcamp import Bootcamp
from ..phrases import draw_one, draw_subject, the, things_of
from ..replies import Place


class Pose(Bootcamp):
    """Right up to 1.5 m. Only of annotated boxes: points do not tell which end is the front. hops: of the thing."""

    reply = Place(1.5)
    grid: ClassVar = {"hops": (0, 1)}

    def ask(self, scenery: Scenery) -> dict[str, Any] | None:
        thing = draw_subject(self.rng, scenery, self.difficulty["hops"])
        anchor = draw_one(self.rng, scenery, 0)
        if scenery.scene.source != "boxes" or thing is None or anchor is None:
            return None
        if scenery.only(thing) is scenery.only(anchor):
            return None
        return {"thing": the(thing), "anchor": the(anchor)}

    @classmethod
    def solve(cls, scenery: Scenery, asked: Mapping[str, Any]) -> list[float] | None:
        thing, anchor = scenery.only(things_of(asked["thing"])), scenery.only(things_of(asked["anchor"]))
        if thing is None or anchor is None:
            return None
        dx, dy = thing.center[0] - anchor.center[0], thing.center[1] - anchor.center[1]
        c, s = math.cos(anchor.yaw), math.sin(anchor.yaw)
        return [c * dx + s * dy, c * dy - s * dx]

    @classmethod
    def sentence(cls, asked: Mapping[str, Any]) -> str:
        return (
            f"How many metres forward and how many to the left of the middle of {asked['anchor']}, in its own axes, "
            f"is the middle of {asked['thing']}? Backward and to the right are negative."
        )
