"""Which packaged card fits a log in nuScenes schema, found without parsing the cards.

What recognition needs of each card stands in ``cards/recognition.json``, with the hash of the cards that it was made
of. ``python -m superflow.datasets.nuscenes.recognition`` makes it anew when a card has changed; until then the cards
themselves are read, so a table that is out of date costs time and is never believed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...files.writes import write_atomically
from ..card import CARDS, DatasetCard, card_names, load_card

TABLE = CARDS / "recognition.json"


@dataclass(frozen=True)
class CardFacts:
    """What a log is recognised by: log file names that match ``recognise``, and names of ``categories``."""

    name: str
    recognise: str
    categories: frozenset[str]


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
    cards = card_facts()

    def fit(card: CardFacts) -> int:
        return len(known & card.categories)

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
def card_facts(table: Path = TABLE) -> tuple[CardFacts, ...]:
    """The facts of all packaged cards by name, from ``table`` where that was made of these very cards."""
    stored: dict[str, Any] = json.loads(table.read_text(encoding="utf-8")) if table.is_file() else {}
    if stored.get("cards_sha256") != _hash_of_cards():
        return read_card_facts()
    return tuple(
        CardFacts(name, facts["recognise"], frozenset(facts["categories"]))
        for name, facts in stored["cards"].items()
    )


def read_card_facts() -> tuple[CardFacts, ...]:
    """The facts of all packaged cards by name, from the cards themselves."""
    cards = [card for name in card_names() if (card := load_card(name, splits=False)).recognise]
    return tuple(CardFacts(card.name, card.recognise, frozenset(card.class_of)) for card in cards)


def write_table(table: Path = TABLE) -> None:
    """Write the facts of the packaged cards for ``card_facts``."""
    cards = {
        facts.name: {"recognise": facts.recognise, "categories": sorted(facts.categories)}
        for facts in read_card_facts()
    }
    with write_atomically(table, "w") as file:
        file.write(json.dumps({"cards_sha256": _hash_of_cards(), "cards": cards}, indent=1) + "\n")


def _hash_of_cards() -> str:
    """Of names and contents, whatever the line ends of this checkout are."""
    digest = hashlib.sha256()
    for name in card_names():
        content = (CARDS / f"{name}.yaml").read_bytes().replace(b"\r\n", b"\n")
        digest.update(name.encode() + b"\0" + content + b"\0")
    return digest.hexdigest()


if __name__ == "__main__":
    write_table()
