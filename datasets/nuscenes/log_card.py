"""Which card belongs to a log in nuScenes schema, and what the log says of itself in ``dataset.json``."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...files.access import read_json
from ..card import DatasetCard, load_card
from ..card_file import CARD_WORDS, check_splits, check_stated, read_intensity
from .log import Log
from .recognition import recognise_card

logger = logging.getLogger(__name__)


def choose_card(root: Path, log: Log, card: DatasetCard | None) -> DatasetCard:
    """The card given or recognised, with the log's own category indices and what ``dataset.json`` overrules.

    Raises:
        InputError: ``dataset.json`` is malformed, categories have no usable index, or no card knows them.
    """
    names = [name for name, _ in log.categories.values()]
    stated = _read_stated(root / "dataset.json")
    if card is None and "card" in stated:
        card = _stated_card(root, stated["card"])
    values = (card or recognise_card(names, log.logfiles, root.absolute().name)).to_dict()
    unknown = sorted(set(names) - set(values["class_of"]) - set(values["categories"].values()))
    if unknown:
        log.warnings.append(
            f"category.json: {', '.join(unknown)} belong to no class of the card {values['name']}"
        )
        logger.warning("%s: their points are ignored", log.warnings[-1])
    indexed = {index: name for name, index in log.categories.values() if index is not None}
    if log.label_paths and not indexed and names:
        raise InputError(
            f"{log.folder / 'category.json'}: lidarseg.json gives point labels but the categories have no index; "
            "take the category.json that came with the labels (the lidarseg archive replaces it)"
        )
    # a recognised card says which names make a class, not what the numbers of these label files mean
    if log.label_paths and not names and (card is None or not card.categories):
        raise InputError(
            f"{log.folder / 'category.json'}: lidarseg.json gives point labels but no table says what their numbers "
            "mean; take the category.json that came with the labels, or name the numbers under categories in a card "
            "and give it with --card FILE.yaml"
        )
    if indexed:
        if len(indexed) < len(names):
            raise InputError(
                f"{log.folder / 'category.json'}: {len(names)} categories share {len(indexed)} different index values; "
                "give every category an index of its own, or none"
            )
        values["categories"] = {str(index): name for index, name in indexed.items()}
    for key in ("name", "real", "licence", "source", "sensor"):
        if key in stated:
            values[key] = stated[key]
    if "splits" in stated:
        values["splits"], values["split_files"] = check_splits(stated["splits"], root / "dataset.json")
    if "intensity" in stated:
        values["intensity_rule"], values["intensity_max"] = read_intensity(
            root / "dataset.json", stated["intensity"]
        )
    return DatasetCard.from_dict(values)


def _read_stated(path: Path) -> dict[str, Any]:
    """What the optional ``dataset.json`` in the root says about the log itself; keys that are null are left out."""
    if not os.path.lexists(path):
        return {}
    stated = read_json(
        path, 'mend or remove it; it must be a JSON object such as {"name": "my-drive", "real": true}'
    )
    check_stated(path, stated)
    return {key: value for key, value in stated.items() if value is not None}


def _stated_card(root: Path, name: str) -> DatasetCard:
    """The packaged card ``name``, or the one in the file of that name below ``root``."""
    parts = re.split(r"[/\\]", name)
    if not name.isprintable() or ".." in parts or not parts[0] or Path(name).is_absolute():
        raise InputError(
            f"{root / 'dataset.json'}: card is {name!r}; it must be {CARD_WORDS}, "
            "for one elsewhere use --card FILE.yaml"
        )
    if not name.endswith((".yaml", ".yml")):
        return load_card(name)
    return load_card(root.joinpath(*parts))
