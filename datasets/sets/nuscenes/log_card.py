"""Which card belongs to a log in nuScenes schema."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ....errors import InputError
from ...card import DatasetCard
from ...stated import overruled, read_stated, stated_card
from .log import Log
from .recognition import recognise_card
from .schema import table_path


def choose_card(root: Path, log: Log, card: DatasetCard | None, label_set: str = "") -> DatasetCard:
    """The card given or recognised, with the log's own category indices and what ``dataset.json`` overrules.

    Raises:
        InputError: ``dataset.json`` is malformed, categories have no usable index, no card knows them, or they do not
            tell the classes of ``label_set`` apart.
    """
    names = [name for name, _ in log.categories.values()]
    path, labels = (table_path(log.folder, name) for name in log.label_tables)
    stated = read_stated(root)
    card = card or stated_card(root, stated, label_set=label_set)
    name = root.absolute().name
    values = (card or recognise_card(names, log.logfiles, name, label_set=label_set)).to_dict()
    if label_set:
        _check_classes(path, names, values, label_set)
    unknown = sorted(set(names) - set(values["class_of"]) - set(values["categories"].values()))
    if unknown:
        log.warnings.append(
            f"{path.name}: {', '.join(unknown)} belong to no class of the card {values['name']}"
        )
    indexed = {index: name for name, index in log.categories.values() if index is not None}
    if log.label_paths and not indexed and names:
        raise InputError(
            f"{path}: {labels.name} gives point labels but the categories have no index; "
            "take the category.json that came with the labels (the lidarseg archive replaces it)"
        )
    # a recognised card says which names make a class, not what the numbers of these label files mean
    if log.label_paths and not names and (card is None or not card.categories):
        raise InputError(
            f"{path}: {labels.name} gives point labels but no table says what their numbers "
            "mean; take the category.json that came with the labels, or name the numbers under categories in a card "
            "and give it with --card FILE.yaml"
        )
    if indexed:
        if len(indexed) < len(names):
            raise InputError(
                f"{path}: {len(names)} categories share {len(indexed)} different index values; "
                "give every category an index of its own, or none"
            )
        values["categories"] = {str(index): name for index, name in indexed.items()}
    return overruled(DatasetCard.from_dict(values), root, stated)


def _check_classes(path: Path, names: list[str], values: Mapping[str, Any], label_set: str) -> None:
    """The log has categories of every class: a set of classes was asked for, not what is left of it."""
    there = {values["class_of"][name] for name in names if name in values["class_of"]}
    absent = [name for number, name in enumerate(values["classes"]) if number not in there]
    if absent:
        raise InputError(
            f"{path}: the labels of this log do not tell {', '.join(absent)} apart, classes of "
            f"the label set {label_set!r}; prepare it without --label-set, or make it again (drives of superflow "
            "make-drive have finer categories from format 3 on)"
        )
