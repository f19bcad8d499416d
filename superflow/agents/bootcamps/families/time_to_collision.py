"""When does a thing come near, if it goes on as it goes?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from ...query_answer import Scenery
from ...scene import SceneObject
from ..bootcamp import Bootcamp
from ..phrases import describe, draw_subject, pick, seen, the, things_of
from ..replies import Measure

HORIZON_S = 20.0
MARGIN_M = 0.5  # by which a way that passes is farther off than the one that is asked for


class TimeToCollision(Bootcamp):
    """near_m: distance of centres that counts as near, while the vehicle stands still."""

    reply = Measure("s", absolute=0.5, instead=("never",))
    grid: ClassVar = {"near_m": (6.0, 4.0)}

    def ask(self, scenery: Scenery) -> dict[str, Any] | None:
        if all(o.velocity is None for o in scenery.objects):
            return None  # a log that knows none would have one answer to all
        near = self.difficulty["near_m"]
        clear = [
            o
            for o in seen(scenery)
            if _time(o, near) == _time(o, near + MARGIN_M) or _time(o, near) < HORIZON_S
        ]
        coming = [o for o in clear if 0 < _time(o, near) < HORIZON_S - 1]
        if coming and self.rng.random() < 0.6:
            things = describe(self.rng, scenery, pick(self.rng, coming))
        else:
            things = draw_subject(self.rng, scenery, 0)
        one = None if things is None else scenery.only(things)
        if things is None or (one is not None and (one not in clear or one.range_m <= near)):
            return None
        return {"thing": the(things)}

    @classmethod
    def solve(cls, scenery: Scenery, asked: Mapping[str, Any]) -> float | str | None:
        thing = scenery.only(things_of(asked["thing"]))
        if thing is None or thing.velocity is None:
            return None
        time = _time(thing, asked["near_m"])
        return time if time <= HORIZON_S else "never"

    @classmethod
    def sentence(cls, asked: Mapping[str, Any]) -> str:
        return (
            f"If the vehicle stands still and {asked['thing']} keeps its velocity, in how many seconds is its centre "
            f"within {asked['near_m']:g} m, or never in the next {HORIZON_S:g} s?"
        )


def _time(thing: SceneObject, near_m: float) -> float:
    """Seconds until the centre is so near; infinite where it never is, or the velocity is not known."""
    (x, y), (u, v) = thing.center[:2], thing.velocity or (0.0, 0.0)
    square, half, gap = u * u + v * v, x * u + y * v, x * x + y * y - near_m**2
    if gap <= 0:
        return 0.0
    inside = half * half - square * gap
    # a speed that is all but none has a square of 0, and stands as one of 0 does
    return math.inf if half >= 0 or inside < 0 or square == 0 else (-half - math.sqrt(inside)) / square
