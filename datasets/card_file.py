"""What stands under the keys of a dataset card, brought to the fields of `card.DatasetCard`; a slip is one sentence."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..files.access import is_text
from .card_keys import only_keys, shorten
from .formats.readers import NO_RETURNS, READERS, UNKNOWN_ID
from .frame import IGNORE_LABEL

AXES = ("forward-left-up", "right-forward-up")  # of the point files
RULES = ("linear", "log", "tanh", "none")  # of intensity
_SMALLEST, _LARGEST = (float(edge) for edge in (np.finfo(np.float32).tiny, np.finfo(np.float32).max))


def as_number(value: Any) -> Any:
    """``value``, or the number that it is written as: YAML takes 1e-9 without a dot for text."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]{1,3}", value):
        return float(value)
    return value


def check_splits(splits: Any, path: Path) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """The scenes of each split, and the list of scans of each that has one.

    Raises:
        InputError: it is not split -> [scene, ...], or split -> a file below the log's root.
    """
    if not isinstance(splits, dict) or not all(
        is_text(str(name))
        and (_is_list_file(scenes) or (isinstance(scenes, list) and all(map(is_text, scenes))))
        for name, scenes in splits.items()
    ):
        raise InputError(
            f"{path}: splits must give a list of scene names for each split, as in train: [scene-0001], or a text file "
            "below the log's root that names a scan a line, as in train: lists/train.txt; put names that are numbers "
            "in quotes"
        )
    of_scenes = {str(name): tuple(scenes) for name, scenes in splits.items() if isinstance(scenes, list)}
    return of_scenes, {str(name): scenes for name, scenes in splits.items() if isinstance(scenes, str)}


def _is_list_file(value: Any) -> bool:
    parts = value.split("/") if is_text(value) else [""]
    return "." in parts[-1] and all(part not in ("", ".", "..") and "\\" not in part for part in parts)


def read_fractions(path: Path, said: Any) -> dict[str, str]:
    """How published subsets of k % of a set's labels are drawn: of ``scenes`` or ``scans``, and whose rule it is."""
    if said is None:
        return {}
    if said.get("of") not in ("scenes", "scans") or not is_text(said.get("source")):
        raise InputError(
            f"{path}: fractions must say what is counted, scenes or scans, and who published it, as in "
            "{of: scenes, source: SLidR}"
        )
    return {"of": said["of"], "source": said["source"]}


def read_points(path: Path, points: dict[str, Any]) -> dict[str, Any]:
    """What a card says of the point files, as fields of `DatasetCard`."""
    columns = points.get("columns")
    stored: dict[str, str] = {}
    if isinstance(columns, dict) and all(is_text(name) and is_text(own) for name, own in columns.items()):
        stored = {name: own for name, own in columns.items() if name != own}
        columns = list(columns)
    axes = points.get("axes")
    if not isinstance(axes, str):
        axes = _rigid(axes)
    if (
        (axes not in AXES if isinstance(axes, str) else axes is None)
        or not isinstance(columns, list)
        or not all(is_text(column) or isinstance(column, int | float) for column in columns)
        or len(set(map(str, columns))) < len(columns)
        or not {"x", "y", "z"} <= set(map(str, columns))
    ):
        raise InputError(
            f"{path}: points needs columns that hold x, y, z (and intensity, if the files do), each once, as a list or "
            "as {intensity: NAME IN THE FILES}, and axes, "
            f"one of {', '.join(AXES)} or four rows of a rigid 4 x 4 from theirs to the first of these"
        )
    columns = tuple(map(str, columns))
    return {
        "columns": columns,
        "stored": stored,
        "axes": axes,
        "point_format": read_format(path, "points", points.get("format", "f4")),
        "no_return": _read_no_return(path, points.get("no_return")),
        "range_m": _read_range(path, points.get("range_m")),
        "time": _read_time(path, points.get("time"), columns),
        "compensated": _read_compensated(path, points.get("compensated")),
    }


def _read_no_return(path: Path, names: Any) -> tuple[str, ...]:
    if names is None:
        return ()
    if not isinstance(names, list) or not all(name in NO_RETURNS for name in names):
        raise InputError(
            f"{path}: no_return of points is {shorten(names)}; it must be a list out of {', '.join(NO_RETURNS)}"
        )
    return tuple(names)


def _read_range(path: Path, pair: Any) -> tuple[float, float] | None:
    if pair is None:
        return None
    if (
        not isinstance(pair, list)
        or len(pair) != 2
        or not all(type(end) in (int, float) for end in pair)
        or not 0 <= pair[0] < pair[1]
    ):
        raise InputError(
            f"{path}: range_m of points is {shorten(pair)}; it must be the nearest and the farthest distance of a "
            "point in metres, as in [0.5, 120]"
        )
    return float(pair[0]), float(pair[1])


def _read_time(path: Path, time: Any, columns: tuple[str, ...]) -> dict[str, Any]:
    if time is None:
        return {}
    time = time if isinstance(time, dict) else {}
    only_keys(path, time, ("column", "unit_s", "since"), of="points.time")
    read = {
        "column": time.get("column"),
        "unit_s": as_number(time.get("unit_s", 1.0)),
        "since": time.get("since", "scan"),
    }
    unit = read["unit_s"]
    if (
        read["column"] not in set(columns) - {"x", "y", "z", "intensity"}
        or type(unit) not in (int, float)
        or not 0 < unit <= _LARGEST
        or read["since"] not in ("scan", "epoch")
    ):
        raise InputError(
            f"{path}: time of points must name one of their columns, the seconds of its unit and since when it counts, "
            "scan or epoch, as in {column: offset_ns, unit_s: 1.0e-9, since: scan}"
        )
    return read


def _read_compensated(path: Path, value: Any) -> bool | None:
    if value is not None and type(value) is not bool:
        raise InputError(
            f"{path}: compensated of points is {shorten(value)}; it must be true where the points of a scan were "
            "brought to one instant already, else false"
        )
    return value


def _rigid(rows: Any) -> tuple[tuple[float, ...], ...] | None:
    """The rows of a rigid transform, or None where it is none."""
    try:
        matrix = np.array(rows, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or matrix[3].tolist() != [0, 0, 0, 1]:
        return None
    turn = matrix[:3, :3]
    if not np.allclose(turn @ turn.T, np.eye(3), atol=1e-6) or np.linalg.det(turn) < 0:
        return None
    return tuple(map(tuple, matrix.tolist()))


def read_format(path: Path, key: str, name: Any, known: Collection[str] = READERS) -> str:
    """The name of a format that can be read."""
    if name not in known:
        raise InputError(f"{path}: the format of {key} is {shorten(name)}; choose one of {', '.join(known)}")
    return str(name)


def read_numbers(path: Path, key: str, values: dict[str, Any]) -> dict[str, Any]:
    """Format, mask, shift, column and columns of ``labels`` or ``instances``, those that are stated."""
    read: dict[str, Any] = {"format": read_format(path, key, values.get("format"))}
    for name, most in (("mask", 0xFFFFFFFF), ("shift", 31)):
        value = values.get(name)
        if value is None:
            continue
        if type(value) is not int or not 0 <= value <= most:
            raise InputError(
                f"{path}: {name} of {key} is {shorten(value)}; it must be a whole number, 0 to {most}"
            )
        read[name] = value
    if values.get("column") is not None:
        if not is_text(values["column"]):
            raise InputError(
                f"{path}: column of {key} is {shorten(values['column'])}; it must be the name of a column"
            )
        read["column"] = values["column"]
    if values.get("columns") is not None:
        columns = values["columns"]
        if (
            not isinstance(columns, list)
            or not all(map(is_text, columns))
            or read.get("column") not in columns
        ):
            raise InputError(
                f"{path}: column of {key} is {shorten(read.get('column'))}, which is none of the columns of its files, "
                f"{shorten(columns)}; name it among these"
            )
        read["columns"] = columns
    return read


def read_intensity(path: Path, intensity: dict[str, Any]) -> tuple[str, float]:
    """The rule that brings intensities to [0, 1], and the raw value that becomes 1."""
    rule = intensity.get("rule", "linear")
    if rule not in RULES:
        raise InputError(
            f"{path}: the rule of intensity is {shorten(rule)}; choose one of {', '.join(RULES)}"
        )
    return rule, 1.0 if rule == "none" else read_raw_max(path, intensity)


def read_raw_max(path: Path, intensity: dict[str, Any]) -> float:
    """The intensity in the files that becomes 1."""
    raw_max = intensity.get("raw_max")
    if (
        isinstance(raw_max, bool)
        or not isinstance(raw_max, int | float)
        or not _SMALLEST <= raw_max <= _LARGEST
    ):
        raise InputError(
            f"{path}: intensity needs raw_max, the value above 0 in the files that becomes 1, as in {{raw_max: 255}}; "
            f"it is {shorten(intensity)}"
        )
    return float(raw_max)


def read_categories(path: Path, categories: dict[Any, Any] | None) -> dict[int, str]:
    """Number in the label files -> name."""
    named: dict[int, str] = {}
    for raw, name in (categories or {}).items():
        number = int(raw) if re.fullmatch("[0-9]{1,9}", str(raw)) else -1
        if not 0 <= number < UNKNOWN_ID or not is_text(name):
            raise InputError(
                f"{path}: categories holds {shorten(raw)}: {shorten(name)}; it must give a name for each number (0 to "
                f"{UNKNOWN_ID - 1}, beyond which numbers are unknown) of the label files, as in {{1: car}}"
            )
        if number in named:  # as 1 and "01" are
            raise InputError(
                f"{path}: categories gives {number} two names, {shorten(named[number])} and {shorten(name)}; keep one"
            )
        named[number] = name
    return named


def read_classes(
    path: Path, rows: list[Any] | None
) -> tuple[tuple[str, ...], NDArray[np.uint8], dict[str, int]]:
    """Names (C), palette (C, 3) RGB, and the class of each category."""
    form = "as in {name: vehicle, colour: [0, 150, 245], categories: [car, truck]}"
    rows = rows or []
    if len(rows) > IGNORE_LABEL:
        raise InputError(
            f"{path}: holds {len(rows)} classes; make at most {IGNORE_LABEL}, labels are one byte"
        )
    names, colours = list[str](), list[list[int]]()
    class_of: dict[str, int] = {}
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or not is_text(row.get("name")):
            raise InputError(
                f"{path}: entry {number} of classes is {shorten(row)} and has no name; write it {form}"
            )
        only_keys(path, row, ("name", "colour", "categories"), of=f"class {row['name']!r}")
        colour: Any = row.get("colour")
        categories: Any = row.get("categories")
        if not _is_colour(colour):
            raise InputError(
                f"{path}: the colour of class {row['name']!r} is {shorten(colour)}; "
                "it must be three whole numbers of 0 to 255, as in colour: [0, 150, 245]"
            )
        if not isinstance(categories, list) or not all(map(is_text, categories)):
            raise InputError(
                f"{path}: the categories of class {row['name']!r} are {shorten(categories)}; "
                "they must be a list of names, as in categories: [car, truck]"
            )
        if row["name"] in names:
            raise InputError(f"{path}: two classes have the name {row['name']!r}; give each its own")
        for name in (name for name in categories if name in class_of):
            raise InputError(f"{path}: the category {name!r} stands in two classes; leave it in one of them")
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
