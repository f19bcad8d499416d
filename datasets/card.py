"""What is known about a dataset before a file of it is read: classes, sensor, intensity, splits, licence."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from ..errors import InputError, MissingFileError
from .frame import IGNORE_LABEL

_HERE = Path(__file__).resolve().parent
RAW_FULL = 255.0  # what an intensity of 1 is on the published scale
AXES = ("forward-left-up", "right-forward-up")  # of the point files


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
    return _parse(path, _read_yaml(path))


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


def nearest_name(name: str, known: Iterable[str]) -> str:
    """Words that name the likeliest of ``known`` for a mistyped ``name``, or list them all."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known) or 'none'}"


def read_splits(path: Path) -> dict[str, tuple[str, ...]]:
    """Lists of scene names from a YAML file of split -> [scene, ...]."""
    return check_splits(_read_yaml(path), path)


def check_splits(splits: Any, path: Path) -> dict[str, tuple[str, ...]]:
    """``splits`` with its lists as tuples, or ``InputError`` where it is not split -> [scene, ...]."""
    if not isinstance(splits, dict) or not all(
        isinstance(scenes, list) and all(isinstance(scene, str) for scene in scenes)
        for scenes in splits.values()
    ):
        raise InputError(
            f"{path}: splits must give a list of scene names for each split, as in train: [scene-0001]"
        )
    return {str(name): tuple(scenes) for name, scenes in splits.items()}


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingFileError(f"{path}: there is no such file; check the path") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: is no valid YAML ({str(error).splitlines()[0]}); mend the file") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: must hold keys and values, see the packaged cards for the form")
    return values


def _parse(path: Path, values: dict[str, Any]) -> DatasetCard:
    """The card in ``values`` of the file ``path``."""
    required = {"name", "real", "licence", "source", "points", "intensity"}
    optional = {"recognise", "sensor", "splits", "classes", "categories", "labels_of"}
    for key in sorted(required - set(values)):
        raise InputError(f"{path}: the key {key!r} is missing; add it, see the packaged cards for the form")
    for key in sorted(set(values) - required - optional):
        raise InputError(f"{path}: unknown key {key!r}; {nearest_name(key, sorted(required | optional))}")
    points = values["points"]
    if points.get("axes") not in AXES or points.get("columns", [])[:4] != ["x", "y", "z", "intensity"]:
        raise InputError(
            f"{path}: points needs columns that start with x, y, z, intensity and axes, one of {', '.join(AXES)}"
        )
    splits = values.get("splits") or {}
    splits = (
        check_splits(splits, path) if isinstance(splits, dict) else read_splits(_HERE / "splits" / splits)
    )
    if "labels_of" in values:
        labels = load_card(values["labels_of"])
        classes, palette, class_of, categories = (
            labels.classes,
            labels.palette,
            labels.class_of,
            labels.categories,
        )
    else:
        rows, categories = (
            values.get("classes", []),
            {int(k): v for k, v in values.get("categories", {}).items()},
        )
        classes = tuple(row["name"] for row in rows)
        palette = np.array([row["colour"] for row in rows], dtype=np.uint8).reshape(-1, 3)
        class_of = {category: i for i, row in enumerate(rows) for category in row["categories"]}
        for unknown in sorted(set(class_of) - set(categories.values())) if categories else ():
            raise InputError(
                f"{path}: class {classes[class_of[unknown]]!r} lists the category {unknown!r}, which categories "
                f"lacks; {nearest_name(unknown, categories.values())}"
            )
    return DatasetCard(
        name=values["name"],
        real=bool(values["real"]),
        licence=values["licence"],
        source=values["source"],
        classes=classes,
        palette=palette,
        class_of=class_of,
        categories=categories,
        columns=tuple(points["columns"]),
        axes=points["axes"],
        intensity_max=float(values["intensity"]["raw_max"]),
        splits=splits,
        sensor=values.get("sensor") or {},
        recognise=values.get("recognise", ""),
    )
