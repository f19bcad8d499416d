"""Does something hide a place?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from ...query_answer import Scenery
from ...scene import SceneObject
from ..bootcamp import Bootcamp
from ..ground import Point, crosses, outline
from ..phrases import pick, seen
from ..replies import YesNo


class Occlusion(Bootcamp):
    """far_m: how far away places are."""

    reply = YesNo()
    grid: ClassVar = {"far_m": (25.0, 45.0)}

    def ask(self, scenery: Scenery) -> dict[str, Any] | None:
        far, angle = (
            float(self.rng.uniform(5, self.difficulty["far_m"])),
            float(self.rng.uniform(-math.pi, math.pi)),
        )
        if scenery.objects and self.rng.random() < 0.6:  # behind something
            thing = pick(self.rng, scenery.objects)
            angle = math.atan2(thing.center[1], thing.center[0]) + float(self.rng.normal(0, 0.05))
        place = round(far * math.cos(angle), 1), round(far * math.sin(angle), 1)
        for group in (seen(scenery), scenery.objects):  # a line that grazes a box is no question
            if _hidden(place, group, 0.8) != _hidden(place, group, 1.3):
                return None
        if any(math.dist(place, o.center[:2]) < math.hypot(*o.size[:2]) / 2 + 0.5 for o in scenery.objects):
            return None
        return {"x": place[0], "y": place[1]}

    @classmethod
    def solve(cls, scenery: Scenery, asked: Mapping[str, Any]) -> bool | None:
        place = asked["x"], asked["y"]
        if _hidden(place, seen(scenery)):
            return True
        return None if _hidden(place, scenery.objects) else False

    @classmethod
    def sentence(cls, asked: Mapping[str, Any]) -> str:
        ahead = f"{abs(asked['x']):g} m {'ahead' if asked['x'] >= 0 else 'behind'}"
        beside = f"{abs(asked['y']):g} m to the {'left' if asked['y'] >= 0 else 'right'}"
        return f"Seen from above, does an object stand between the vehicle's middle and the place {ahead} and {beside}?"


def _hidden(place: Point, things: Iterable[SceneObject], scale: float = 1.0) -> bool:
    return any(crosses((0.0, 0.0), place, outline(each, scale)) for each in things)
