"""A query as a sentence. ``parse_query(text_of(query)) == query``, so the words here are those of the parser, too; only
numbers of the nearest thing, which is one, are not read again."""

from __future__ import annotations

from . import query as ask
from .words import CATEGORIES, GROUPS, RIDERS, STATUSES

NOUNS = (*CATEGORIES, *GROUPS)
DIRECTION_WORDS = {"front": "in front of", "back": "behind"} | {
    name: f"{name} of" for name in ask.DIRECTIONS if name not in ("front", "back")
}
QUESTIONS = {
    ask.IsThere: "is there",
    ask.HowMany: "how many",
    ask.WhatStatus: "what is the status of",
    ask.WhatKind: "what kind is",
    ask.HowFar: "how far is",
    ask.SameStatus: "do",
    ask.AreThereMore: "are there more",
}


def text_of(query: ask.Query) -> str:
    """The query as a sentence without its capital and its mark: "a pedestrian within 15 m of a parked truck"."""
    if isinstance(query, ask.Amount | ask.Not | ask.And | ask.Or):
        return _condition(query)
    start = QUESTIONS[type(query)]
    if isinstance(query, ask.IsThere):
        several = isinstance(query.condition, ask.Amount) and query.condition.number > 1
        return f"{'are there' if several else start} {_condition(query.condition)}"
    if isinstance(query, ask.HowMany):
        return f"{start} {_things(query.things, plural=True)} are there"
    if isinstance(query, ask.SameStatus):
        return f"{start} {_the(query.first)} and {_the(query.second)} have the same status"
    if isinstance(query, ask.AreThereMore):
        return f"{start} {_things(query.first, plural=True)} than {_things(query.second, plural=True)}"
    return f"{start} {_the(query.things)}"


def plural_of(noun: str) -> str:
    """ "buses" of "bus"."""
    return f"{noun}es" if noun.endswith("s") else f"{noun}s"


def number_text(number: float) -> str:
    """The shortest text that reads as the same number: "15" and not "15.0"."""
    return str(int(number)) if number == int(number) and abs(number) < 1e15 else repr(float(number))


def _condition(condition: ask.Condition) -> str:
    if isinstance(condition, ask.Amount):
        return _amount(condition)
    if isinstance(condition, ask.Not):
        return f"not {_part(condition.condition)}"
    joint = " and " if isinstance(condition, ask.And) else " or "
    return joint.join(map(_part, condition.conditions))


def _part(condition: ask.Condition) -> str:
    text = _condition(condition)
    return f"({text})" if isinstance(condition, ask.And | ask.Or) else text


def _amount(amount: ask.Amount) -> str:
    if (amount.comparison, amount.number) == ("at least", 1):
        return _some(amount.things)
    if (amount.comparison, amount.number) == ("exactly", 0):
        return f"no {_things(amount.things)}"
    return f"{amount.comparison} {amount.number} {_things(amount.things, plural=amount.number != 1)}"


def _some(things: ask.Things) -> str:
    text = _things(things)
    return f"{'the' if things.pick else 'an' if text[0] in 'aeiou' else 'a'} {text}"


def _the(things: ask.Things) -> str:
    return f"the {_things(things)}"


def _things(things: ask.Things, *, plural: bool = False) -> str:
    """The noun with everything that belongs to it, without an article."""
    statuses = sorted(things.statuses, key=lambda status: (STATUSES.index(status.word), status.negated))
    words = [("not " if status.negated else "") + status.word for status in statuses]
    before = [text for text, status in zip(words, statuses) if status.word not in RIDERS]
    after = [text for text, status in zip(words, statuses) if status.word in RIDERS]
    noun = plural_of(things.noun) if plural else things.noun
    last = len(things.relations) - 1
    relations = [_relation(each, last=i == last) for i, each in enumerate(things.relations)]
    return " ".join([*([things.pick] if things.pick else []), *before, noun, *after, *relations])


def _relation(relation: ask.Relation, *, last: bool) -> str:
    start = "not " if relation.negated else ""
    if isinstance(relation, ask.Speed):
        word = "slower" if relation.slower else "faster"
        return f"{start}{word} than {number_text(relation.metres_per_s)} m/s"
    if isinstance(relation, ask.Within):
        start += f"within {number_text(relation.metres)} m of"
    else:
        start += DIRECTION_WORDS[relation.direction]
    if isinstance(relation.anchor, ask.Ego):
        return f"{start} me"
    # a relation belongs to the nearest noun before it, so one that follows must not see the anchor
    anchor = _some(relation.anchor)
    return f"{start} ({anchor})" if relation.anchor.relations or not last else f"{start} {anchor}"
