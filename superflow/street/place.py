"""Places that a street may lie in: how wide, steep, green and busy it is. The plain street is one of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Place:
    """What tells one place from another. Factors are relative to the plain street; ranges are drawn from evenly.

    Attributes:
        name: for the scene's description.
        lane: width of a lane [m]; wide: chance that a direction has two lanes.
        slope: of the ground at most, along x and y each; rough: factor of its mounds; bumps: height of small ones [m].
        curb: height [m]; walk: factor of the sidewalk's width; strip: chance of a parking strip, each side.
        junction: chance of a side road; paved: factor of lots, squares and islands; marked: lane marks.
        buildings, setback, storeys: factor of their number, distance behind the sidewalk [m], height [m].
        boundaries, furniture, works, parked, traffic, people: factors of their numbers; works may be none.
        trees, bushes: factors of their numbers; tall: height of single trees [m]; grass: clumps on 100 m.
        rare: whether every class of things is sure to stand near the vehicle.
    """

    name: str = "plain"
    lane: Range = (3.1, 3.6)
    wide: float = 0.35
    slope: float = 0.045
    rough: float = 1.0
    bumps: float = 0.0
    curb: Range = (0.06, 0.16)
    walk: float = 1.0
    strip: float = 0.75
    junction: float = 0.6
    paved: float = 1.0
    marked: bool = True
    buildings: float = 1.0
    setback: Range = (0.5, 9.0)
    storeys: Range = (4.5, 18.0)
    boundaries: float = 1.0
    furniture: float = 1.0
    works: float = 1.0
    parked: float = 1.0
    traffic: float = 1.0
    people: float = 1.0
    trees: float = 1.0
    bushes: float = 1.0
    tall: Range = (2.0, 11.0)
    grass: float = 0.0
    rare: bool = True


PLAIN_PLACE = Place()
KINDS = (
    Place(
        "city", wide=0.6, slope=0.02, rough=0.5, walk=1.8, buildings=1.2, setback=(0.0, 4.0), storeys=(8.0, 30.0),
        boundaries=0.5, furniture=1.5, traffic=1.5, people=2.0, trees=1.0, bushes=0.6, tall=(4.0, 15.0), grass=4.0,
    ),
    Place(
        "suburb", walk=1.5, wide=0.05, slope=0.07, lane=(2.6, 3.3), strip=0.5, buildings=0.8, setback=(3.0, 15.0),
        works=0.4, storeys=(2.6, 9.0), boundaries=1.8, furniture=0.7, traffic=0.5, people=0.6, trees=4.0, bushes=5.0,
        tall=(3.0, 16.0), grass=25.0, bumps=0.02,
    ),
    Place(
        "main road", lane=(3.3, 3.8), wide=0.9, strip=0.1, slope=0.03, walk=1.0, buildings=0.4, setback=(4.0, 25.0),
        storeys=(5.0, 22.0), boundaries=1.5, furniture=0.8, parked=0.3, traffic=1.5, people=0.2, trees=2.5,
        tall=(3.0, 16.0), grass=20.0, bumps=0.03,
    ),
    Place(
        "country road", lane=(2.6, 3.3), wide=0.0, strip=0.05, slope=0.08, rough=1.5, bumps=0.05, curb=(0.0, 0.03),
        walk=0.1, paved=0.3, junction=0.3, buildings=0.12, setback=(6.0, 30.0), storeys=(2.5, 8.0), boundaries=0.7,
        furniture=0.3, works=0.1, parked=0.15, traffic=0.7, people=0.1, trees=6.0, bushes=6.0, tall=(3.0, 20.0),
        grass=70.0,
    ),
    Place(
        "track", lane=(2.2, 2.9), wide=0.0, strip=0.0, slope=0.1, rough=2.0, bumps=0.09, curb=(0.0, 0.0), walk=0.0,
        paved=0.0, junction=0.0, marked=False, buildings=0.05, setback=(8.0, 30.0), storeys=(2.5, 6.0), boundaries=0.3,
        furniture=0.05, works=0.0, parked=0.1, traffic=0.3, people=0.15, trees=8.0, bushes=6.0, tall=(3.0, 20.0),
        grass=110.0,
    ),
)  # fmt: skip
_FACTORS = (
    "rough", "buildings", "boundaries", "furniture", "works", "parked", "traffic", "people", "trees", "bushes",
    "grass", "bumps", "walk",
)  # fmt: skip


def draw_place(rng: np.random.Generator) -> Place:
    """One of the kinds, the factors of which are halved to doubled, so that kinds overlap."""
    kind = KINDS[int(rng.choice(len(KINDS), p=(0.26, 0.3, 0.16, 0.18, 0.1)))]
    changes = {name: getattr(kind, name) * float(2.0 ** rng.uniform(-1.0, 1.0)) for name in _FACTORS}
    return replace(
        kind, **changes, slope=kind.slope * float(rng.uniform(0.2, 1.2)), rare=bool(rng.random() < 0.5)
    )
