"""Answers of queries a second time, by sets: what surely is one of the things, and what possibly is.

Written from the sentences in docs/agents.md; knows none of `superflow.agents.query_answer`. Matrices over all pairs,
sectors by half planes instead of angles.
"""

from __future__ import annotations

import numpy as np

from superflow.agents import query as ask
from superflow.agents.words import APPLIES, GROUPS, MOTIONS, RIDERS

TAN_30 = 1 / np.sqrt(3)


class Bounds:
    """Rows of two masks over the objects: surely, possibly; surely implies possibly."""

    def __init__(self, surely, possibly):
        self.surely, self.possibly = np.asarray(surely, bool), np.asarray(possibly, bool)

    def __and__(self, other):
        return Bounds(self.surely & other.surely, self.possibly & other.possibly)

    def __invert__(self):
        return Bounds(~self.possibly, ~self.surely)


def twin_answer(query, scene, min_points=5, max_range_m=np.inf):
    objects = [o for o in scene.objects if np.hypot(*o.center[:2]) <= max_range_m]
    return TwinOf(objects, min_points).answer(query)


class TwinOf:
    def __init__(self, objects, min_points=5):
        self.objects, self.min_points = objects, min_points
        self.places = np.array([o.center[:2] for o in objects], float).reshape(-1, 2)

    def answer(self, query):
        kind = type(query).__name__
        if kind == "HowMany":
            low, high = self.sizes(query.things)
            return low if low == high else None
        if kind == "AreThereMore":
            low = self.sizes(query.first)[0] - self.sizes(query.second)[1]
            high = self.sizes(query.first)[1] - self.sizes(query.second)[0]
            return None if low <= 0 < high else low > 0
        if kind in ("WhatStatus", "WhatKind", "HowFar"):
            one = self.one(query.things)
            if one is None:
                return None
            if kind == "HowFar":
                return float(np.hypot(*self.places[one]))
            return self.objects[one].category if kind == "WhatKind" else self.word(one)
        if kind == "SameStatus":
            words = [
                None if one is None else (self.word(one), one)
                for one in map(self.one, (query.first, query.second))
            ]
            return self.same(words)
        low, high = self.condition(query.condition if kind == "IsThere" else query)
        return low if low == high else None

    def same(self, words):
        if None in words:
            return None
        (first, i), (second, k) = words
        if first == second and first is not None:
            return True
        return None if self.possible(first, i) & self.possible(second, k) else False

    def possible(self, word, i):
        """The words that can be true of a thing of which this one is known, or none."""
        own = {each for each in MOTIONS if self.objects[i].category in APPLIES[each]}
        return own if word is None else own - {"moving"} if word == "still" else {word}

    def word(self, i):
        said = [word for word in self.objects[i].status if word in MOTIONS]
        if said:
            return said[0]
        velocity = self.objects[i].velocity
        return (
            None if velocity is None else "still" if velocity[0] ** 2 + velocity[1] ** 2 < 0.25 else "moving"
        )

    def one(self, things):
        found = self.of(things)
        return int(found.surely.argmax()) if found.surely.sum() == found.possibly.sum() == 1 else None

    def sizes(self, things):
        found = self.of(things)
        return int(found.surely.sum()), int(found.possibly.sum())

    def condition(self, condition):
        """Whether it is surely true, and whether possibly."""
        kind = type(condition).__name__
        if kind == "Not":
            surely, possibly = self.condition(condition.condition)
            return not possibly, not surely
        if kind in ("And", "Or"):
            join = np.all if kind == "And" else np.any
            return tuple(bool(join(column)) for column in zip(*map(self.condition, condition.conditions)))
        low, high = self.sizes(condition.things)
        number = condition.number
        if condition.comparison == "at least":
            return low >= number, high >= number
        if condition.comparison == "at most":
            return high <= number, low <= number
        return low == high == number, low <= number <= high

    def of(self, things):
        category = np.array(
            [o.category in GROUPS.get(things.noun, [things.noun]) for o in self.objects], bool
        )
        enough = np.array([o.points >= self.min_points for o in self.objects], bool)
        found = Bounds(category & enough, category)
        for status in things.statuses:
            each = [self.status(i, status.word) for i in range(len(self.objects))]
            bounds = Bounds([low for low, _ in each], [high for _, high in each])
            found &= ~bounds if status.negated else bounds
        for relation in things.relations:
            bounds = self.relation(relation)
            found &= ~bounds if relation.negated else bounds
        return found if things.pick is None else self.pick(found, things.pick)

    def pick(self, found, pick):
        """Surely: surely one of them, and none possibly before it; possibly: the other way round."""
        far = np.hypot(*self.places.T) * (1 if pick == "nearest" else -1)
        before = (far[None] < far[:, None]) | (
            (far[None] == far[:, None]) & np.tri(len(far), k=-1, dtype=bool)
        )
        return Bounds(
            found.surely & ~(before & found.possibly).any(1), found.possibly & ~(before & found.surely).any(1)
        )

    def status(self, i, word):
        if self.objects[i].category not in APPLIES[word]:
            return False, False
        if word in RIDERS:
            said = [known for known in self.objects[i].status if known in RIDERS]
            return (said[:1] == [word], said[:1] in ([], [word]))
        known = self.word(i)
        if known is None:
            return False, True
        if word == "moving" or known == "moving":
            return (known == word,) * 2
        if word == "still":
            return True, True
        return known == word, known in ("still", word)

    def relation(self, relation):
        if isinstance(relation, ask.Speed):
            speed = [np.nan if o.velocity is None else np.hypot(*o.velocity) for o in self.objects]
            speed = np.array(speed, float)
            true = speed < relation.metres_per_s if relation.slower else speed > relation.metres_per_s
            return Bounds(true, true | np.isnan(speed))
        if isinstance(relation.anchor, ask.Ego):
            stands = self.stands(self.places, relation)
            return Bounds(stands, stands)
        stands = self.stands(self.places[:, None] - self.places[None], relation)
        stands &= ~np.eye(len(self.objects), dtype=bool)
        anchors = self.of(relation.anchor)
        return Bounds((stands & anchors.surely).any(1), (stands & anchors.possibly).any(1))

    def stands(self, offset, relation):
        x, y = offset[..., 0], offset[..., 1]
        if isinstance(relation, ask.Within):
            return np.hypot(x, y) <= relation.metres
        # sides of the lines at 30 and at 150 degrees; each place is in one sector, whatever is rounded
        over_30, over_150 = y - x * TAN_30, y + x * TAN_30
        sectors = {
            "front": (x > 0) & (over_150 >= 0) & (over_30 < 0),
            "front left": (x > 0) & (over_30 >= 0),
            "back left": (x <= 0) & (over_150 > 0),
            "back": (x < 0) & (over_150 <= 0) & (over_30 > 0),
            "back right": (x < 0) & (over_30 <= 0),
            "front right": (x >= 0) & (over_150 < 0),
        }
        nowhere = (x == 0) & (y == 0)
        wanted = (
            [relation.direction]
            if relation.direction in sectors
            else [f"{end} {relation.direction}" for end in ("front", "back")]
        )
        return np.any([sectors[name] for name in wanted], axis=0) & ~nowhere
