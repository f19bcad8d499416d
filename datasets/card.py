"""What is known about a dataset before a file of it is read: classes, sensor, intensity, splits, licence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, MissingFileError
from ..files.access import file_in
from .card_file import (
    check_card,
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
CARDS = _HERE / "cards"
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
    return tuple(sorted(path.stem for path in CARDS.glob("*.yaml")))


def load_card(name_or_path: str | Path, *, splits: bool = True) -> DatasetCard:
    """The card ``name`` of this package, or one's own YAML file of the same form.

    Args:
        splits: False leaves out the scenes of a packaged card, for a log to which they do not belong.

    Raises:
        InputError: no such card or file, or the file lacks something; the message names it.
    """
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        return _parse(path, read_yaml(path))
    path = CARDS / f"{name_or_path}.yaml"
    if str(name_or_path) not in card_names():
        raise MissingFileError(
            f"{name_or_path}: no dataset card has this name; choose one of {', '.join(card_names())} "
            "or give the path of a .yaml file"
        )
    return _parse(path, _packaged(path) if splits else {**_packaged(path), "splits": {}})


@cache
def _packaged(path: Path) -> dict[str, Any]:
    """Content of a YAML file of this package, which is parsed once; not to be changed."""
    return read_yaml(path)


def _parse(path: Path, values: dict[str, Any]) -> DatasetCard:
    """The card in ``values`` of the file ``path``."""
    check_card(path, values)
    columns, axes = read_points(path, values["points"])
    intensity_max = read_raw_max(path, values["intensity"])
    splits = values.get("splits") or {}
    if isinstance(splits, str):  # a list that comes with the package
        path_of_splits = file_in(_HERE / "splits", splits)
        splits = check_splits(_packaged(path_of_splits), path_of_splits)
    else:
        splits = check_splits(splits, path)
    categories: Mapping[int, str]
    class_of: Mapping[str, int]
    if values.get("labels_of"):
        if values["labels_of"] not in card_names():
            raise InputError(
                f"{path}: labels_of is {values['labels_of']!r}, which is no packaged card; "
                f"{nearest_name(values['labels_of'], card_names())}"
            )
        labels = load_card(values["labels_of"], splits=False)
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
