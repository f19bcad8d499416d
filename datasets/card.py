"""What is known about a dataset before a file of it is read: classes, sensor, intensity, splits, licence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, MissingFileError
from .card_file import (
    check_keys,
    check_splits,
    nearest_name,
    read_categories,
    read_classes,
    read_points,
    read_raw_max,
    read_yaml,
)
from .frame import IGNORE_LABEL

_HERE = Path(__file__).resolve().parent
RAW_FULL = 255.0  # what an intensity of 1 is on the published scale


@dataclass(frozen=True, eq=False)
class DatasetCard:
    """One dataset. ``classes[i]`` is the class with train id i; raw ids of no class become 255."""

    name: str
    real: bool  # False for made data: every result carries this mark
    licence: str
    source: str
    classes: tuple[str, ...]
    palette: NDArray[np.uint8]  # (C, 3) RGB
    class_of: Mapping[str, int]  # category name -> train id
    categories: Mapping[int, str]  # raw id in the label files -> category name
    columns: tuple[str, ...] = ("x", "y", "z", "intensity")  # of a point row on disk
    axes: str = "right-forward-up"  # of the point files; readers turn them to forward-left-up
    intensity_max: float = 255.0  # raw value that becomes 1
    splits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # split -> scene names
    sensor: Mapping[str, Any] = field(default_factory=dict)
    recognise: str = ""  # regular expression of log file names that belong to this dataset

    @cached_property
    def label_map(self) -> NDArray[np.uint8]:
        """(65536,) uint8: raw id -> train id, 255 for every id that belongs to no class."""
        table = np.full(65536, IGNORE_LABEL, dtype=np.uint8)
        for raw, name in self.categories.items():
            table[raw] = self.class_of.get(name, IGNORE_LABEL)
        return table

    def normalise_intensity(
        self, raw: NDArray[np.floating], *, keep_raw: bool = False
    ) -> NDArray[np.float32]:
        """``raw`` intensities of any shape in [0, 1] (clipped).

        With ``keep_raw`` in 0..255, not clipped, as published code uses them: nuScenes' own values, and those of other
        sensors brought to that scale, so that weights mean the same on both.
        """
        if keep_raw:
            scale = np.float32(RAW_FULL / self.intensity_max)
            return np.asarray(raw, dtype=np.float32) * scale
        return np.clip(np.asarray(raw, dtype=np.float32) / np.float32(self.intensity_max), 0.0, 1.0)

    def to_dict(self) -> dict[str, Any]:
        """The card as plain JSON types; ``from_dict`` reads it back."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values["palette"] = self.palette.tolist()
        values["classes"] = list(self.classes)
        values["columns"] = list(self.columns)
        values["categories"] = {str(raw): name for raw, name in sorted(self.categories.items())}
        values["splits"] = {name: list(scenes) for name, scenes in self.splits.items()}
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DatasetCard:
        """The card that ``to_dict`` gave."""
        values = dict(values)
        values["palette"] = np.asarray(values["palette"], dtype=np.uint8).reshape(-1, 3)
        values["classes"] = tuple(values["classes"])
        values["columns"] = tuple(values["columns"])
        values["categories"] = {int(raw): name for raw, name in values["categories"].items()}
        values["splits"] = {name: tuple(scenes) for name, scenes in values["splits"].items()}
        return cls(**values)


def card_names() -> tuple[str, ...]:
    """Names of the cards that come with the package."""
    return tuple(sorted(path.stem for path in (_HERE / "cards").glob("*.yaml")))


def load_card(name_or_path: str | Path) -> DatasetCard:
    """The card ``name`` of this package, or one's own YAML file of the same form.

    Raises:
        InputError: no such card or file, or the file lacks something; the message names it.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = _HERE / "cards" / f"{name_or_path}.yaml"
        if not path.is_file():
            raise MissingFileError(
                f"{name_or_path}: no dataset card has this name; choose one of {', '.join(card_names())} "
                "or give the path of a .yaml file"
            )
    return _parse(path, read_yaml(path))


def recognise_card(categories: Iterable[str], logfiles: Iterable[str], name: str) -> DatasetCard:
    """The packaged card that fits a log in nuScenes schema.

    A dataset is recognised by its log file names; among several cards the one that knows most of the category
    names wins. An unknown log gets the classes of the best card, but its own ``name``, no splits and no licence:
    what is stated of nuScenes must not be stated of somebody's own drive.

    Args:
        categories: names in category.json.
        logfiles: field ``logfile`` of log.json.
        name: what to call a log that belongs to no known dataset.

    Raises:
        InputError: no card knows any of the category names.
    """
    known, logfiles = set(categories), list(logfiles)
    cards = [load_card(card) for card in card_names()]

    def fit(card: DatasetCard) -> int:
        return len(known & set(card.class_of)) if known else 0

    ours = [c for c in cards if logfiles and c.recognise and all(re.search(c.recognise, f) for f in logfiles)]
    if ours and (not known or max(map(fit, ours)) > 0):
        return max(ours, key=fit)
    best = max(cards, key=lambda card: (fit(card), card.name == "nuscenes"))
    if known and fit(best) == 0:
        raise InputError(
            f"category.json: no dataset card knows any of its names ({', '.join(sorted(known)[:3])}, ...); "
            "write a card that says which categories make which class and give it with --card FILE.yaml"
        )
    return replace(
        best, name=name, real=True, licence="not stated", source="not stated", splits={}, sensor={}
    )


def _parse(path: Path, values: dict[str, Any]) -> DatasetCard:
    """The card in ``values`` of the file ``path``."""
    check_keys(path, values)
    columns, axes = read_points(path, values["points"])
    intensity_max = read_raw_max(path, values["intensity"])
    splits = values.get("splits") or {}
    if isinstance(splits, str):  # a list that comes with the package
        path_of_splits = _HERE / "splits" / splits
        splits = check_splits(read_yaml(path_of_splits), path_of_splits)
    else:
        splits = check_splits(splits, path)
    categories: Mapping[int, str]
    class_of: Mapping[str, int]
    if values.get("labels_of"):
        labels = load_card(values["labels_of"])
        classes, palette = labels.classes, labels.palette
        class_of, categories = labels.class_of, labels.categories
    else:
        classes, palette, class_of = read_classes(path, values.get("classes"))
        categories = read_categories(path, values.get("categories"))
        for unknown in sorted(set(class_of) - set(categories.values())) if categories else ():
            raise InputError(
                f"{path}: class {classes[class_of[unknown]]!r} lists the category {unknown!r}, which categories "
                f"lacks; {nearest_name(unknown, categories.values())}"
            )
    return DatasetCard(
        name=values["name"],
        real=values["real"],
        licence=values["licence"],
        source=values["source"],
        classes=classes,
        palette=palette,
        class_of=class_of,
        categories=categories,
        columns=columns,
        axes=axes,
        intensity_max=intensity_max,
        splits=splits,
        sensor=values.get("sensor") or {},
        recognise=values.get("recognise") or "",
    )
