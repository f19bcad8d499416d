"""Random scenes and queries for properties, and the plain words for making objects in tests."""

from __future__ import annotations

from hypothesis import strategies as st

from superflow.agents import query as ask
from superflow.agents.query_text import NOUNS
from superflow.agents.scene import SceneObject, SceneRecord
from superflow.agents.words import APPLIES, CATEGORIES, MOTIONS, RIDERS, STATUSES

FEW_CATEGORIES = ("car", "truck", "pedestrian", "bicycle")
FEW_NOUNS = ("car", "bicycle", "vehicle", "object", "object")  # of which there are some


def thing(category="car", x=10.0, y=0.0, **changes) -> SceneObject:
    values = {"track": "a", "center": (x, y, 0.5), "size": (4.0, 2.0, 1.5), "yaw": 0.1, "points": 9}
    return SceneObject(category=category, **{**values, **changes})


def scene(*objects: SceneObject) -> SceneRecord:
    return SceneRecord("token", "scene", tuple(objects))


@st.composite
def made_objects(draw, categories=FEW_CATEGORIES):
    category = draw(st.sampled_from(categories))
    metre = st.integers(-4, 4).map(float)  # few places, so that edges of sectors and equal distances occur
    motion = st.sampled_from([(), *((m,) for m in MOTIONS if category in APPLIES[m])])
    rider = st.sampled_from([(), *((r,) for r in RIDERS if category in APPLIES[r])])
    velocity = st.sampled_from([None, (0.0, 0.0), (0.3, 0.4), (0.1, 0.1), (3.0, 0.0), (-6.0, 8.0)])
    return thing(
        category,
        draw(metre),
        draw(metre),
        velocity=draw(velocity),
        status=draw(motion) + draw(rider),
        points=draw(st.sampled_from([4, 5, 9, 60])),
    )


made_scenes = st.lists(made_objects(), min_size=2, max_size=7).map(lambda objects: scene(*objects))
metres = st.one_of(
    st.integers(0, 5).map(float), st.sampled_from([10.0, 0.5, 0.1]), st.floats(0, 8, allow_nan=False)
)
statuses = st.frozensets(st.builds(ask.Status, st.sampled_from(STATUSES), st.booleans()), max_size=1)


@st.composite
def made_things(draw, nouns=FEW_NOUNS, depth=2):
    anchors = st.just(ask.Ego())
    if depth:
        anchors = st.one_of(anchors, made_things(nouns, depth - 1))
    relations = st.one_of(
        st.builds(ask.Within, metres, anchors, st.booleans()),
        st.builds(ask.Toward, st.sampled_from(sorted(ask.DIRECTIONS)), anchors, st.booleans()),
        st.builds(ask.Speed, metres, st.booleans(), st.booleans()),
    )
    return ask.Things(
        draw(st.sampled_from(nouns)),
        draw(st.one_of(st.just(frozenset()), statuses)),
        tuple(draw(st.lists(relations, max_size=2))),
        draw(st.sampled_from([None, None, *ask.PICKS])),
    )


def made_conditions(things):
    amounts = st.builds(ask.Amount, things, st.sampled_from(ask.AMOUNTS), st.integers(0, 4))
    return st.recursive(
        amounts,
        lambda inner: st.one_of(
            st.builds(ask.Not, inner),
            st.builds(ask.And, st.lists(inner, min_size=2, max_size=3).map(tuple)),
            st.builds(ask.Or, st.lists(inner, min_size=2, max_size=3).map(tuple)),
        ),
        max_leaves=4,
    )


def made_queries(nouns=FEW_NOUNS):
    things = made_things(nouns)
    conditions = made_conditions(things)
    return st.one_of(
        conditions,
        st.builds(ask.IsThere, conditions),
        *(st.builds(kind, things) for kind in (ask.HowMany, ask.WhatStatus, ask.WhatKind, ask.HowFar)),
        *(st.builds(kind, things, things) for kind in (ask.SameStatus, ask.AreThereMore)),
    )


ALL_NOUNS = NOUNS
assert set(CATEGORIES) < set(ALL_NOUNS)
