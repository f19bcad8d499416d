"""Answers of the problems a second time, written from their statements, with arrays, sets and complex numbers."""

from __future__ import annotations

import numpy as np


def again(name, case):
    return ANSWERS[name](case.scene.objects, **case.arguments)


def place(each):
    return complex(*each.center[:2])


def sure(objects):
    return [each for each in objects if each.points >= 5]


def far(each):
    return np.hypot(*each.center[:2])


def apart(first, second):
    return np.hypot(first.center[0] - second.center[0], first.center[1] - second.center[1])


def velocity(each):
    return None if each.velocity is None else complex(*each.velocity)


def count_toward(objects, category, start_deg):
    """Sector as the part of a turn from its beginning."""
    found = [each for each in sure(objects) if each.category == category]
    turns = [np.rad2deg(np.arctan2(each.center[1], each.center[0])) - start_deg for each in found]
    return sum(any(0 <= turn + 360 * k < 60 for k in (-1, 0, 1)) for turn in turns)


def nearest_kind(objects):
    return min(sure(objects), key=far).category if sure(objects) else None


def kinds_by_range(objects, metres):
    order = np.argsort([far(each) for each in objects], kind="stable")
    return [objects[i].category for i in order if far(objects[i]) <= metres]


def closest_pair(objects):
    gaps = [float(apart(a, b)) for a in objects for b in objects if a is not b]
    return min(gaps, default=None)


def widest_gap(objects):
    if len(objects) < 2:
        return 360.0
    turns = np.sort(np.rad2deg(np.arctan2(*np.array([each.center[:2] for each in objects]).T[::-1])))
    return float(np.diff([*turns, turns[0] + 360]).max())


def is_crowded(objects, metres, number):
    gaps = np.array([[apart(a, b) for b in objects] for a in objects]).reshape(len(objects), len(objects))
    return bool((gaps <= metres).sum(axis=1).max(initial=0) - 1 >= number)  # each is near itself


def count_in_strip(objects, metres, width):
    x, y = np.array([each.center[:2] for each in objects]).reshape(-1, 2).T
    return int(np.count_nonzero((x > 0) & (x <= metres) & (y >= -width / 2) & (y <= width / 2)))


def time_to_near(objects, near_m):
    """Roots of the squared distance as a polynomial of time."""
    times = []
    for each in objects:
        v = velocity(each)
        if v is None:
            continue
        p = place(each)
        if p.real**2 + p.imag**2 <= near_m**2:
            times.append(0.0)
        elif v:
            roots = np.roots([abs(v) ** 2, 2 * (p * v.conjugate()).real, abs(p) ** 2 - near_m**2])
            times += [float(root.real) for root in roots if abs(root.imag) < 1e-9 and root.real > 0]
    return min(times, default=None)


def count_oncoming(objects, tolerance_deg):
    known = [each for each in objects if each.velocity is not None and each.center[0] > 0]
    found = [each for each in known if np.hypot(*each.velocity) >= 1]
    return sum(
        abs(np.rad2deg(np.arctan2(each.velocity[1], -each.velocity[0]))) <= tolerance_deg for each in found
    )


def moving_share(objects):
    speeds = [np.hypot(*each.velocity) for each in objects if each.velocity is not None]
    return float(np.mean(np.array(speeds) >= 0.5)) if speeds else None


def fastest_kind(objects, metres):
    rows = [
        (-np.hypot(*each.velocity), i) for i, each in enumerate(objects)
        if far(each) <= metres and each.velocity not in (None, (0.0, 0.0))
    ]  # fmt: skip
    return objects[min(rows)[1]].category if rows and min(rows)[0] else None


def closing_speed(objects):
    known = [each for each in objects if each.velocity is not None and far(each) >= 0.1]
    if not known:
        return None
    each = min(known, key=far)
    return float(-(velocity(each) * place(each).conjugate()).real / abs(place(each)))


def range_after(objects, seconds):
    return min(
        (float(abs(place(each) + seconds * (velocity(each) or 0))) for each in sure(objects)), default=None
    )


def stops_in_time(objects, speed, reaction_s):
    ways = [
        each.center[0] - each.size[0] / 2
        for each in objects
        if each.center[0] > 0 and -2 <= each.center[1] <= 2
    ]
    return all(speed * reaction_s + speed * speed / 8 <= way for way in ways)


def boxes_over(objects, x, y):
    """Seen from the middle of the box, in its axes: the other way of turning."""
    found = 0
    for each in objects:
        turn = np.array([[np.cos(each.yaw), np.sin(each.yaw)], [-np.sin(each.yaw), np.cos(each.yaw)]])
        local = turn @ [x - each.center[0], y - each.center[1]]
        found += bool((abs(local) <= np.array(each.size[:2]) / 2).all())
    return found


def heading_spread(objects, category):
    ways = [np.exp(1j * each.yaw) for each in objects if each.category == category]
    turns = [abs(np.rad2deg(np.angle(a / b))) for a in ways for b in ways]
    return float(max(turns)) if len(ways) > 1 else None


def count_facing(objects, tolerance_deg):
    found = 0
    for each in sure(objects):
        home = np.rad2deg(np.arctan2(-each.center[1], -each.center[0]))
        turn = np.rad2deg(each.yaw) - home
        found += any(abs(turn + 360 * k) <= tolerance_deg for k in (-1, 0, 1))
    return found


def hit_at_height(objects, height_m, metres):
    return sum(
        far(each) <= metres
        and each.center[2] - each.size[2] / 2 <= height_m
        and height_m <= each.center[2] + each.size[2] / 2
        for each in objects
    )


def count_hidden(objects):
    """The angle between two directions by their scalar and cross product."""
    found = 0
    for each in objects:
        for other in objects:
            near = far(other)
            if 0 < near < far(each):
                product = place(each) * place(other).conjugate()
                angle = abs(np.arctan2(product.imag, product.real))
                if angle < np.arctan(np.hypot(*other.size[:2]) / 2 / near):
                    found += 1
                    break
    return found


def ground_taken(objects, metres):
    return float(sum(each.size[0] * each.size[1] for each in sure(objects) if far(each) <= metres))


def commonest_kind(objects, metres):
    near = [each.category for each in objects if far(each) <= metres]
    return max(near, key=near.count, default=None)


def closing_pairs(objects, metres):
    """A pair comes closer where the relative velocity, turned into the direction between them, points back."""
    known = [each for each in objects if each.velocity is not None]
    found = 0
    for k, second in enumerate(known):
        for first in known[:k]:
            gap, drift = place(second) - place(first), velocity(second) - velocity(first)
            if apart(first, second) <= metres and (gap.conjugate() * drift).real < 0:
                found += 1
    return found


ANSWERS = {name: function for name, function in globals().items() if callable(function) and name not in {
    "again", "place", "sure", "far", "apart", "velocity"
}}  # fmt: skip
