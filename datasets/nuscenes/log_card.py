"""Which card belongs to a log in nuScenes schema."""

from __future__ import annotations

import logging
from pathlib import Path

from ...errors import InputError
from ..card import DatasetCard
from ..stated import overruled, read_stated, stated_card
from .log import Log
from .recognition import recognise_card

logger = logging.getLogger(__name__)


def choose_card(root: Path, log: Log, card: DatasetCard | None) -> DatasetCard:
    """The card given or recognised, with the log's own category indices and what ``dataset.json`` overrules.

    Raises:
        InputError: ``dataset.json`` is malformed, categories have no usable index, or no card knows them.
    """
    names = [name for name, _ in log.categories.values()]
    stated = read_stated(root)
    card = card or stated_card(root, stated)
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
    return overruled(DatasetCard.from_dict(values), root, stated)
