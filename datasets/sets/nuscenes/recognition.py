"""Which packaged card fits a log in nuScenes schema."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import cache

from ....errors import InputError
from ....files.access import read_text
from ...card import CARDS, DatasetCard, card_names, load_card

_RECOGNISE = re.compile(r"^recognise:", re.MULTILINE)


def recognise_card(
    categories: Iterable[str], logfiles: Iterable[str], name: str, *, label_set: str = ""
) -> DatasetCard:
    """The packaged card that fits a log in nuScenes schema.

    A dataset is recognised by its log file names; among several cards the one that knows most of the category
    names wins. An unknown log gets the classes of the best card, but its own ``name``, no splits and no licence:
    what is stated of nuScenes must not be stated of somebody's own drive.

    Args:
        categories: names in category.json.
        logfiles: field ``logfile`` of log.json.
        name: what to call a log that belongs to no known dataset.
        label_set: as in ``load_card``.

    Raises:
        InputError: no card knows any of the category names, or the card has no such label set.
    """
    known, logfiles = set(categories), list(logfiles)
    cards = candidates()

    def fit(card: DatasetCard) -> int:
        return len(known & card.class_of.keys())

    ours = [c for c in cards if logfiles and c.recognise and all(re.search(c.recognise, f) for f in logfiles)]
    if ours and (not known or max(map(fit, ours)) > 0):
        return load_card(max(ours, key=fit).name, label_set=label_set)
    best = max(cards, key=lambda card: (fit(card), card.name == "nuscenes"))
    if known and fit(best) == 0:
        raise InputError(
            f"category.json: no dataset card knows any of its names ({', '.join(sorted(known)[:3])}, ...); "
            "write a card that says which categories make which class and give it with --card FILE.yaml"
        )
    card = load_card(best.name, splits=False, label_set=label_set)
    return replace(card, name=name, real=True, licence="not stated", source="not stated", sensor={})


@cache
def candidates() -> tuple[DatasetCard, ...]:
    """The packaged cards that say how their log files are called, without their splits; no other card is parsed."""
    named = [name for name in card_names() if _RECOGNISE.search(read_text(CARDS / f"{name}.yaml"))]
    return tuple(load_card(name, splits=False) for name in named)
