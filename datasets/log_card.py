"""Which card belongs to a log in nuScenes schema, and what the log says of itself in ``dataset.json``."""

from __future__ import annotations

import difflib
import json
import logging
from pathlib import Path
from typing import Any

from ..errors import InputError
from .card import DatasetCard, load_card
from .card_file import check_splits, nearest_name
from .nuscenes_tables import Log
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
        card = load_card(root / stated["card"] if str(stated["card"]).endswith(".yaml") else stated["card"])
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
    for key in ("name", "real", "licence", "source", "sensor", "splits"):
        if key in stated:
            values[key] = stated[key]
    if "intensity" in stated:
        values["intensity_max"] = float(stated["intensity"]["raw_max"])
    return DatasetCard.from_dict(values)


def _read_stated(path: Path) -> dict[str, Any]:
    """What the optional ``dataset.json`` in the root says about the log itself."""
    if not path.is_file():
        return {}
    known = ("name", "real", "licence", "source", "sensor", "splits", "intensity", "card")
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))
        for key in sorted(stated.keys() - set(known)):  # other facts are welcome, mistyped ones are not
            if difflib.get_close_matches(key, known, n=1, cutoff=0.75):
                raise InputError(f"{path}: unknown key {key!r}; {nearest_name(key, known)}")
        if "intensity" in stated:
            float(stated["intensity"]["raw_max"])
    except InputError:
        raise
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise InputError(
            f'{path}: must be a JSON object such as {{"name": "my-drive", "real": true}} ({error!r}); '
            "mend or remove it"
        ) from error
    if "splits" in stated:
        check_splits(stated["splits"], path)
    return stated
