"""What is known about a dataset before a file of it is read: classes, sensor, intensity, splits, licence."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, MissingFileError
from ..files.access import file_in
from ..geometry import Transform, rotation_z
from .card_file import (
    check_splits,
    read_categories,
    read_classes,
    read_format,
    read_fractions,
    read_intensity,
    read_numbers,
    read_points,
)
from .card_keys import CARD, CARD_NEEDS, check_keys, nearest_name
from .formats.readers import IMAGE_READERS
from .formats.yaml_files import read_yaml
from .frame import IGNORE_LABEL

_HERE = Path(__file__).resolve().parent
CARDS = _HERE / "cards"
RAW_FULL = 255.0  # what an intensity of 1 is on the published scale
_FILE_TO_LIDAR = {"forward-left-up": np.eye(4), "right-forward-up": rotation_z(-np.pi / 2).round(15)}


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
    # what the files call those with another name there
    stored: Mapping[str, str] = field(default_factory=dict)
    # of the point files, or (4, 4) from theirs to forward-left-up, to which readers turn them
    axes: str | tuple[tuple[float, ...], ...] = "right-forward-up"
    intensity_max: float = 255.0  # raw value that becomes 1
    intensity_rule: str = "linear"  # how; none: what the files have is no intensity
    point_format: str = "f4"  # see `formats.readers.READERS`
    no_return: tuple[str, ...] = ()  # rows of the files that are no points, see `formats.readers.read_points`
    range_m: tuple[float, float] | None = None
    time: Mapping[str, Any] = field(default_factory=dict)  # of points: column, unit_s, since
    compensated: bool | None = (
        None  # whether the points of a scan are of one instant in the files; None: not known
    )
    image_format: str = "file"  # see `formats.readers.IMAGE_READERS`
    # see `card_file.read_numbers`
    labels: Mapping[str, Any] = field(default_factory=lambda: {"format": "u1"})
    instances: Mapping[str, Any] = field(default_factory=dict)  # the same
    label_set: str = ""  # which of the card's the classes are
    splits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # split -> scene names
    # split -> list of scans, below the log's root
    split_files: Mapping[str, str] = field(default_factory=dict)
    sensor: Mapping[str, Any] = field(default_factory=dict)
    # of a published k % of the labels: what is counted, scenes or scans, and where that is from
    fractions: Mapping[str, str] = field(default_factory=dict)
    recognise: str = ""  # regular expression of log file names that belong to this dataset

    @cached_property
    def label_map(self) -> NDArray[np.uint8]:
        """(65536,) uint8: raw id -> train id, 255 for every id that belongs to no class."""
        table = np.full(65536, IGNORE_LABEL, dtype=np.uint8)
        for raw, name in self.categories.items():
            table[raw] = self.class_of.get(name, IGNORE_LABEL)
        return table

    @cached_property
    def hash(self) -> str:
        """sha256 of all that the card says."""
        # how scans are read is the index's to say: that of cards of before `compensated` stays
        said = {
            key: value for key, value in self.to_dict().items() if key not in ("compensated", "fractions")
        }
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    @property
    def file_to_lidar(self) -> Transform:
        """(4, 4) from the axes of the point files to x forward, y left, z up."""
        if isinstance(self.axes, str):
            return _FILE_TO_LIDAR[self.axes]
        return np.array(self.axes, dtype=np.float64)

    @property
    def has_intensity(self) -> bool:
        """Whether the point files give one."""
        return "intensity" in self.columns and self.intensity_rule != "none"

    def normalise_intensity(
        self, raw: NDArray[np.floating], *, keep_raw: bool = False
    ) -> NDArray[np.float32]:
        """``raw`` intensities of any shape in [0, 1] (clipped).

        By the card's rule: ``linear`` raw / max; ``log`` ln(1 + raw) / ln(1 + max); ``tanh`` of raw / max, for heavy
        tails.

        With ``keep_raw`` in 0..255, not clipped, as published code uses them: nuScenes' own values, and those of other
        sensors brought to that scale, so that weights mean the same on both.
        """
        # what no float32 holds is full intensity, as all beyond the largest value is
        with np.errstate(over="ignore"):
            raw = np.asarray(raw, dtype=np.float32)
            if self.intensity_rule == "linear":
                if keep_raw:
                    return raw * np.float32(RAW_FULL / self.intensity_max)
                return np.clip(raw / np.float32(self.intensity_max), 0.0, 1.0)
        positive = np.maximum(raw, 0)
        if self.intensity_rule == "log":
            full = np.float32(np.log1p(self.intensity_max))
            scaled = np.minimum(np.log1p(positive) / full, np.float32(1))
        else:
            scaled = np.tanh(positive / np.float32(self.intensity_max))
        return scaled * np.float32(RAW_FULL) if keep_raw else scaled

    def to_dict(self) -> dict[str, Any]:
        """The card as plain JSON types; ``from_dict`` reads it back."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        for key in ("stored", "fractions"):  # what a card does not say leaves its text as it was
            if not values[key]:
                del values[key]
        values["palette"] = self.palette.tolist()
        values["classes"] = list(self.classes)
        values["columns"], values["no_return"] = list(self.columns), list(self.no_return)
        values["range_m"] = None if self.range_m is None else list(self.range_m)
        values["categories"] = {str(raw): name for raw, name in sorted(self.categories.items())}
        values["splits"] = {name: list(scenes) for name, scenes in self.splits.items()}
        values["axes"] = self.axes if isinstance(self.axes, str) else [list(row) for row in self.axes]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DatasetCard:
        """The card that ``to_dict`` gave."""
        values = dict(values)
        values["palette"] = np.asarray(values["palette"], dtype=np.uint8).reshape(-1, 3)
        values["classes"] = tuple(values["classes"])
        values["columns"], values["no_return"] = tuple(values["columns"]), tuple(values["no_return"])
        values["range_m"] = None if values["range_m"] is None else tuple(values["range_m"])
        values["categories"] = {int(raw): name for raw, name in values["categories"].items()}
        values["splits"] = {name: tuple(scenes) for name, scenes in values["splits"].items()}
        if not isinstance(values["axes"], str):
            values["axes"] = tuple(map(tuple, values["axes"]))
        return cls(**values)


def card_names() -> tuple[str, ...]:
    """Names of the cards that come with the package."""
    return tuple(sorted(path.stem for path in CARDS.glob("*.yaml")))


def load_card(name_or_path: str | Path, *, splits: bool = True, label_set: str = "") -> DatasetCard:
    """The card ``name`` of this package, or one's own YAML file of the same form.

    Args:
        splits: False leaves out the scenes of a packaged card, for a log to which they do not belong.
        label_set: which of the card's ``label_sets`` makes the classes; "" takes its ``classes``.

    Raises:
        InputError: no such card or file, or the file lacks something; the message names it.
    """
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        return parse_card(path, read_yaml(path), label_set)
    path = CARDS / f"{name_or_path}.yaml"
    if str(name_or_path) not in card_names():
        raise MissingFileError(
            f"{name_or_path}: no dataset card has this name; choose one of {', '.join(card_names())} "
            "or give the path of a .yaml file"
        )
    return parse_card(path, _packaged(path) if splits else {**_packaged(path), "splits": {}}, label_set)


@cache
def _packaged(path: Path) -> dict[str, Any]:
    """Content of a YAML file of this package, which is parsed once; not to be changed."""
    return read_yaml(path)


def parse_card(path: Path, values: dict[str, Any], label_set: str = "") -> DatasetCard:
    """The card in ``values`` of the file ``path``.

    Raises:
        InputError: they lack something, or a key is not as it must be.
    """
    check_keys(path, values, CARD, needs=CARD_NEEDS)
    points = read_points(path, values["points"])
    rule, intensity_max = read_intensity(path, values["intensity"])
    _check_rule(path, points["columns"], rule)
    splits, split_files = _splits(path, values.get("splits") or {})
    sets = values.get("label_sets") or {}
    if label_set and label_set not in sets:
        raise InputError(f"{path}: has no label set {label_set!r}; {nearest_name(label_set, sets)}")
    classes, palette, class_of, categories = _labels(
        path, {**values, "labels_of": None, **sets[label_set]} if label_set else values
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
        **points,
        intensity_max=intensity_max,
        intensity_rule=rule,
        image_format=read_format(
            path, "images", (values.get("images") or {}).get("format", "file"), IMAGE_READERS
        ),
        labels=read_numbers(path, "labels", values.get("labels") or {"format": "u1"}),
        instances=read_numbers(path, "instances", values["instances"]) if values.get("instances") else {},
        label_set=label_set,
        splits=splits,
        split_files=split_files,
        sensor=values.get("sensor") or {},
        fractions=read_fractions(path, values.get("fractions")),
        recognise=values.get("recognise") or "",
    )


def _check_rule(path: Path, columns: tuple[str, ...], rule: str) -> None:
    """There is a rule of intensity where the files have one, and else none."""
    if ("intensity" in columns) != (rule == "none"):
        return
    advice = (
        "say which value becomes 1, as in intensity: {raw_max: 255}, or give that column another name"
        if rule == "none"
        else "name the column intensity, or write intensity: {rule: none} for files without"
    )
    raise InputError(
        f"{path}: points has columns {', '.join(columns)} but the rule of intensity is {rule}; {advice}"
    )


def _splits(path: Path, said: Any) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    if isinstance(said, str):  # a list that comes with the package
        path = file_in(_HERE / "splits", said)
        said = _packaged(path)
    return check_splits(said, path)


def _labels(
    path: Path, values: Mapping[str, Any]
) -> tuple[tuple[str, ...], NDArray[np.uint8], Mapping[str, int], Mapping[int, str]]:
    """Classes, palette, class of each category, and category of each raw id."""
    if values.get("labels_of"):
        if values["labels_of"] not in card_names():
            raise InputError(
                f"{path}: labels_of is {values['labels_of']!r}, which is no packaged card; "
                f"{nearest_name(values['labels_of'], card_names())}"
            )
        card = load_card(values["labels_of"], splits=False)
        return card.classes, card.palette, card.class_of, card.categories
    classes, palette, class_of = read_classes(path, values.get("classes"))
    categories = read_categories(path, values.get("categories"))
    for unknown in sorted(set(class_of) - set(categories.values())) if categories else ():
        raise InputError(
            f"{path}: class {classes[class_of[unknown]]!r} lists the category {unknown!r}, which categories "
            f"lacks; {nearest_name(unknown, categories.values())}"
        )
    return classes, palette, class_of, categories
