"""What stands in the YAML file of a dataset card, with one sentence for every slip."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from ..errors import InputError, MissingFileError

AXES = ("forward-left-up", "right-forward-up")  # of the point files
_REQUIRED = ("name", "real", "licence", "source", "points", "intensity")
_OPTIONAL = ("recognise", "sensor", "splits", "classes", "categories", "labels_of")
_KINDS = {  # key -> its type, and in words
    "name": (str, "text"),
    "real": (bool, "true or false"),
    "licence": (str, "text"),
    "source": (str, "text"),
    "points": (dict, "keys and values, as in {columns: [x, y, z, intensity], axes: forward-left-up}"),
    "intensity": (dict, "keys and values, as in {raw_max: 255}"),
    "recognise": (str, "text"),
    "sensor": (dict, "keys and values"),
    "classes": (list, "a list, as in [{name: vehicle, colour: [0, 150, 245], categories: [car, truck]}]"),
    "categories": (dict, "numbers of the label files with their names, as in {1: car}"),
    "labels_of": (str, "the name of a packaged card"),
}


def nearest_name(name: str, known: Iterable[str]) -> str:
    """Words that name the likeliest of ``known`` for a mistyped ``name``, or list them all."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known) or 'none'}"


def read_yaml(path: Path) -> dict[str, Any]:
    """Keys and values of a YAML file.

    Raises:
        MissingFileError, InputError: there is no such file; it is no YAML, or holds something else.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingFileError(f"{path}: there is no such file; check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({error}); check the file") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: is no valid YAML ({str(error).splitlines()[0]}); mend the file") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: must hold keys and values, see the packaged cards for the form")
    return values


def check_splits(splits: Any, path: Path) -> dict[str, tuple[str, ...]]:
    """``splits`` with its lists as tuples, or ``InputError`` where it is not split -> [scene, ...]."""
    if not isinstance(splits, dict) or not all(
        isinstance(scenes, list) and all(isinstance(scene, str) for scene in scenes)
        for scenes in splits.values()
    ):
        raise InputError(
            f"{path}: splits must give a list of scene names for each split, as in train: [scene-0001]; "
            "put names that are numbers in quotes"
        )
    return {str(name): tuple(scenes) for name, scenes in splits.items()}


def check_keys(path: Path, values: dict[str, Any]) -> None:
    """Every required key is there and no unknown one; each has the type it needs, or is optional and left empty.

    Raises:
        InputError: one is not so; the message names it.
    """
    for key in sorted(set(_REQUIRED) - set(values)):
        raise InputError(f"{path}: the key {key!r} is missing; add it, see the packaged cards for the form")
    for key in sorted(set(values) - {*_REQUIRED, *_OPTIONAL}, key=str):
        known = sorted((*_REQUIRED, *_OPTIONAL))
        raise InputError(f"{path}: unknown key {key!r}; {nearest_name(str(key), known)}")
    for key, (kind, words) in _KINDS.items():
        empty = values.get(key) is None and key in _OPTIONAL
        if not empty and not isinstance(values[key], kind):
            raise InputError(f"{path}: {key} is {values[key]!r}; it must be {words}")


def read_points(path: Path, points: dict[str, Any]) -> tuple[tuple[str, ...], str]:
    """Columns and axes of the point files."""
    columns = points.get("columns")
    if (
        points.get("axes") not in AXES
        or not isinstance(columns, list)
        or columns[:4] != ["x", "y", "z", "intensity"]
    ):
        raise InputError(
            f"{path}: points needs columns that start with x, y, z, intensity and axes, one of {', '.join(AXES)}"
        )
    return tuple(str(column) for column in columns), points["axes"]


def read_raw_max(path: Path, intensity: dict[str, Any]) -> float:
    """The intensity in the files that becomes 1."""
    raw_max = intensity.get("raw_max")
    if isinstance(raw_max, bool) or not isinstance(raw_max, int | float) or not 0 < raw_max < math.inf:
        raise InputError(
            f"{path}: intensity needs raw_max, the value above 0 in the files that becomes 1, as in {{raw_max: 255}}; "
            f"it is {intensity!r}"
        )
    return float(raw_max)


def read_categories(path: Path, categories: dict[Any, Any] | None) -> dict[int, str]:
    """Number in the label files -> name."""
    named: dict[int, str] = {}
    for raw, name in (categories or {}).items():
        number = int(raw) if str(raw).isdecimal() else -1
        if not 0 <= number < 65536 or not isinstance(name, str):
            raise InputError(
                f"{path}: categories holds {raw!r}: {name!r}; it must give a name for each number (0 to 65535) of "
                "the label files, as in {1: car}"
            )
        named[number] = name
    return named


def read_classes(
    path: Path, rows: list[Any] | None
) -> tuple[tuple[str, ...], NDArray[np.uint8], dict[str, int]]:
    """Names (C), palette (C, 3) RGB, and the class of each category."""
    form = "as in {name: vehicle, colour: [0, 150, 245], categories: [car, truck]}"
    names, colours = list[str](), list[list[int]]()
    class_of: dict[str, int] = {}
    for number, row in enumerate(rows or []):
        if not isinstance(row, dict) or not isinstance(row.get("name"), str):
            raise InputError(f"{path}: entry {number} of classes is {row!r} and has no name; write it {form}")
        colour: Any = row.get("colour")
        categories: Any = row.get("categories")
        if not _is_colour(colour):
            raise InputError(
                f"{path}: the colour of class {row['name']!r} is {colour!r}; "
                "it must be three whole numbers of 0 to 255, as in colour: [0, 150, 245]"
            )
        if not isinstance(categories, list) or not all(isinstance(name, str) for name in categories):
            raise InputError(
                f"{path}: the categories of class {row['name']!r} are {categories!r}; they must be a list of names, "
                "as in categories: [car, truck]"
            )
        names.append(row["name"])
        colours.append(colour)
        class_of |= dict.fromkeys(categories, number)
    return tuple(names), np.array(colours, dtype=np.uint8).reshape(-1, 3), class_of


def _is_colour(colour: Any) -> bool:
    return (
        isinstance(colour, list)
        and len(colour) == 3
        and all(type(part) is int and 0 <= part <= 255 for part in colour)
    )
