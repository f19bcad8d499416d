"""Which figures of a table lead it, and which cannot be told from those: seeds say how far one figure may be off."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)


def leaders(seeds: Mapping[Name, Sequence[float]]) -> list[Name]:
    """Who has the highest mean, first, and who ties with it: their seeds' ranges overlap.

    One seed says nothing of its spread: who has no more takes no part, and where it might lead or tie, nobody leads.

    Args:
        seeds: name -> figure of each seed.
    """
    known = {name: values for name, values in seeds.items() if len(values) > 1}
    if not known:
        return []
    ranked = sorted(known, key=lambda name: -sum(known[name]) / len(known[name]))
    lowest = min(known[ranked[0]])
    if any(len(values) == 1 and values[0] >= lowest for values in seeds.values()):
        return []
    return [ranked[0], *(name for name in ranked[1:] if max(known[name]) >= lowest)]
