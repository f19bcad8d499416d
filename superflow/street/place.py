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
        curb: height [m]; walk: width of the sidewalk [m]; strip: chance of a parking strip, each side.
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
    walk: Range = (1.6, 4.2)
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
# What is plainly said of such places, not measured on data sets. Factors are powers of two, but for mounds. Sidewalks
# are as wide as guides ask (NACTO, Urban Street Design Guide: 1.5 to 2.1 m to walk on in residential streets, 2.4 to
# 3.7 m in busy ones, frontage and furniture beside it; RASt 06: 2.5 m at roads), narrower or none where few walk.
KINDS = (
    Place(
        "city", wide=0.6, slope=0.02, rough=0.5, walk=(2.4, 6.0), setback=(0.0, 4.0), storeys=(8.0, 30.0),
        boundaries=0.5, furniture=2.0, traffic=2.0, people=2.0, bushes=0.5, tall=(4.0, 15.0), grass=5.0,
    ),
    Place(
        "suburb", walk=(1.5, 2.5), wide=0.05, slope=0.07, lane=(2.6, 3.3), strip=0.5, setback=(3.0, 15.0), works=0.5,
        storeys=(2.6, 9.0), boundaries=2.0, traffic=0.5, people=0.5, trees=4.0, bushes=4.0, tall=(3.0, 16.0),
        grass=20.0, bumps=0.02,
    ),
    Place(
        "main road", lane=(3.3, 3.8), wide=0.9, strip=0.1, slope=0.03, walk=(1.5, 3.7), buildings=0.5,
        setback=(4.0, 25.0), storeys=(5.0, 22.0), parked=0.25, traffic=2.0, people=0.25, trees=2.0, tall=(3.0, 16.0),
        grass=20.0, bumps=0.02,
    ),
    Place(
        "country road", lane=(2.6, 3.3), wide=0.0, strip=0.05, slope=0.08, rough=1.5, bumps=0.04, curb=(0.0, 0.03),
        walk=(0.0, 1.5), paved=0.25, junction=0.3, buildings=0.125, setback=(6.0, 30.0), storeys=(2.5, 8.0),
        boundaries=0.5, furniture=0.25, works=0.125, parked=0.125, traffic=0.5, people=0.125, trees=8.0, bushes=8.0,
        tall=(3.0, 20.0), grass=80.0,
    ),
    Place(
        "track", lane=(2.2, 2.9), wide=0.0, strip=0.0, slope=0.1, rough=2.0, bumps=0.08, curb=(0.0, 0.0),
        walk=(0.0, 0.0), paved=0.0, junction=0.0, marked=False, buildings=0.0625, setback=(8.0, 30.0),
        storeys=(2.5, 6.0), boundaries=0.25, furniture=0.0625, works=0.0, parked=0.125, traffic=0.25, people=0.125,
        trees=8.0, bushes=8.0, tall=(3.0, 20.0), grass=80.0,
    ),
)  # fmt: skip
_FACTORS = (
    "rough", "buildings", "boundaries", "furniture", "works", "parked", "traffic", "people", "trees", "bushes",
    "grass", "bumps",
)  # fmt: skip


def draw_place(rng: np.random.Generator) -> Place:
    """One of the kinds, all as likely, the factors of which are halved to doubled, so that kinds overlap."""
    kind = KINDS[int(rng.integers(len(KINDS)))]
    changes = {name: getattr(kind, name) * float(2.0 ** rng.uniform(-1.0, 1.0)) for name in _FACTORS}
    return replace(
        kind, **changes, slope=kind.slope * float(rng.uniform(0.2, 1.2)), rare=bool(rng.random() < 0.5)
    )
