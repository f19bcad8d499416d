"""The answer of every family a second time, written from its sentence with other means than the family's own.

A family whose question is a query is answered by the twin of the executor; the others stand in ``ANSWERS``. Complex
numbers instead of angles and turns, steps of time instead of a quadratic, points of boxes instead of clipped polygons.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from superflow.agents.query_parse import parse_query

from ..query_twin import TwinOf, twin_answer

SECTORS = ("front", "front left", "back left", "back", "back right", "front right")
TURNS = {"ahead": 1, "to the left": -1j, "behind": -1, "to the right": 1j}


def again(scene, identity):
    """The answer of a case by its second implementation."""
    asked = identity["asked"]
    if identity["family"] in ANSWERS:
        near = [o for o in scene.objects if abs(complex(*o.center[:2])) <= asked["max_range_m"]]
        return ANSWERS[identity["family"]](near, asked)
    assert "query" in asked, f"write the answer of {identity['family']} a second time, in ANSWERS"
    return twin_answer(
        parse_query(asked["query"]), scene, min_points=asked["min_points"], max_range_m=asked["max_range_m"]
    )


def one(objects, text, asked):
    row = TwinOf(objects, asked["min_points"]).one(parse_query(f"how far is {text}").things)
    return None if row is None else objects[row]


def place(thing):
    return complex(*thing.center[:2])


def inside(things, places):
    """Which complex places lie in a box of some things."""
    found = np.zeros(np.shape(places), bool)
    for each in things:
        local = (places - place(each)) * np.exp(-1j * each.yaw)
        found |= (abs(local.real) <= each.size[0] / 2) & (abs(local.imag) <= each.size[1] / 2)
    return found


def told(things, asked):
    return [o for o in things if o.points >= asked["min_points"]]


def direction(objects, asked):
    thing = one(objects, asked["thing"], asked)
    anchor = 0 if asked["anchor"] == "me" else one(objects, asked["anchor"], asked)
    if thing is None or anchor is None:
        return None
    turn = np.angle(place(thing) - (place(anchor) if anchor else 0)) / (2 * np.pi)
    return SECTORS[int(np.floor(6 * turn + 0.5)) % 6]


def nearest(objects, asked):
    walls = ("pedestrian", "traffic cone", "barrier", "other object")
    rows = sorted(
        (abs(place(o)), o.points >= asked["min_points"], o.category)
        for o in objects
        if asked["noun"] == "object" or o.category not in walls
    )[: asked["k"]]
    return [category for _, _, category in rows] if all(sure for _, sure, _ in rows) else None


def order(objects, asked):
    things = [one(objects, text, asked) for text in asked["things"]]
    if None in things:
        return None
    return [asked["names"][i] for i in np.argsort([abs(place(o)) for o in things])]


STEP = 0.1  # of places [m]


def free(things, way, low, high, limit):
    """First x at which a box reaches into a strip, by a grid of places; the limit where there is none."""
    x, y = np.arange(0, limit + 10, STEP), np.arange(low, high + 1e-9, STEP)
    hit = inside(things, (x[:, None] + 1j * y[None]) / TURNS[way]).any(axis=1)
    return float(x[hit.argmax()]) if hit.any() else np.inf


def free_way(objects, asked):
    half = asked["width_m"] / 2
    sure, perhaps = (free(group, asked["way"], -half, half, 60) for group in (told(objects, asked), objects))
    return None if perhaps < sure else "free" if np.isinf(sure) else sure


def gap(objects, asked):
    edges = np.array([-1.5, -0.5, 0.5, 1.5]) * asked["lane_m"]
    lanes = dict(zip(("right", "own", "left"), pairwise(edges)))
    limit = asked["max_range_m"]
    ways = {
        name: [
            min(limit, free(group, asked["way"], *lane, limit)) for group in (objects, told(objects, asked))
        ]
        for name, lane in lanes.items()
    }
    best = [name for name in ways if all(ways[name][0] > ways[other][1] for other in ways if other != name)]
    return best[0] if best else None


def time_to_collision(objects, asked):
    thing = one(objects, asked["thing"], asked)
    if thing is None or thing.velocity is None:
        return None
    times = np.arange(0, 20, 0.01)
    near = abs(place(thing) + times * complex(*thing.velocity)) <= asked["near_m"]
    return float(times[near.argmax()]) if near.any() else "never"


def occlusion(objects, asked):
    line = np.linspace(0, 1, 2500) * complex(asked["x"], asked["y"])
    if inside(told(objects, asked), line).any():
        return True
    return None if inside(objects, line).any() else False


def pose(objects, asked):
    thing, anchor = one(objects, asked["thing"], asked), one(objects, asked["anchor"], asked)
    if thing is None or anchor is None:
        return None
    local = (place(thing) - place(anchor)) / np.exp(1j * anchor.yaw)
    return [local.real, local.imag]


ANSWERS = {
    "direction": direction,
    "nearest": nearest,
    "order": order,
    "free_way": free_way,
    "gap": gap,
    "time_to_collision": time_to_collision,
    "occlusion": occlusion,
    "pose": pose,
}
