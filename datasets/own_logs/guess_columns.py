"""What the columns of an unknown file of points are: by their names, or by what the numbers can be."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from ..file_cloud import COARSEST_S, smallest_step_s
from ..formats.probe_columns import stored_names
from ..formats.read import read_bytes
from ..formats.readers import READERS, Columns

_INTENSITY = ("intensity", "reflectivity", "reflectance", "i", "remission")
_TIMES = (  # name of a column, seconds of its unit, since; as the drivers of sensors write them
    *(("offset_ns", 1e-9, "scan"), ("t", 1e-9, "scan"), ("offset_time", 1e-9, "scan")),
    *(("time", 1.0, "scan"), ("timestamp", 1.0, "epoch"), ("gps_time", 1.0, "epoch")),
)
_UNITS_S = (1.0, 1e-3, 1e-6, 1e-9)
_SHORTEST_S, _LONGEST_S = 5e-3, 1.0  # of a scan, so far apart that one unit fits
_WIDTHS = (4, 5, 6, 3, 7, 8)  # columns of bare files, the usual ones first
_FAR_M = 2000.0  # no LiDAR sees so far
_RAW_MAX = (1.0, 255.0, 65535.0)


@dataclass(frozen=True, slots=True)
class ColumnGuess:
    """As a ``folder.yaml`` writes them: columns and time, a remark, and what the first file holds."""

    columns: str
    remark: str
    time: str
    scale: tuple[str, float] | None  # rule and full scale; None without an intensity
    largest: float
    no_return: bool
    rows: int


def guess_points(path: Path, format: str) -> ColumnGuess:
    """A guess from one file.

    Raises:
        InputError: it cannot be read.
    """
    names = stored_names(path, format)
    # exact names count more than those in capitals or behind the scalar_ of an editor
    own = {_plain(name): name for name in reversed(names)} | {name: name for name in names}
    if {"x", "y", "z"} <= own.keys():
        return _of_names(path, format, names, own)
    return _of_numbers(path, format, names)


def _plain(name: str) -> str:
    return name.strip("/ ").lower().removeprefix("scalar_")


def time_column(names: tuple[str, ...]) -> tuple[str, float, str] | None:
    """Name, unit [s] and beginning (scan, epoch) of the column of times, by what drivers call it."""
    return next((known for known in _TIMES if known[0] in names), None)


def time_of_values(columns: Columns) -> dict[str, Any] | None:
    """What a card says of the time of points, by the name of the column and by how large its values are.

    A column of one value, as converters write it that know no times, says nothing. Clocks count seconds or parts of
    them in our century; others count from the beginning of the scan, in the unit in which that takes as long as scans
    do. Those that begin with the hour or the week say nothing, nor do clocks in numbers that are too coarse for one.
    """
    known = time_column(tuple(columns))
    if known is None or not len(columns[known[0]]):
        return None
    name, unit, since = known
    largest = float(np.nanmax(columns[name]))
    span = largest - float(np.nanmin(columns[name]))
    if not span > 0:
        return None
    for clock_unit in _UNITS_S:
        if 1e9 <= largest * clock_unit < 1e10:
            if smallest_step_s(columns[name], clock_unit) > COARSEST_S:  # as of a float32
                return None
            return {"column": name, "unit_s": clock_unit, "since": "epoch"}
    if since == "epoch":  # no clock of our century
        unit = 1.0 if largest < 10 else 1e-9
    fitting = (own for own in _UNITS_S if _SHORTEST_S < span * own <= _LONGEST_S)
    unit = next(fitting, unit)
    if max(largest, span - largest) * unit > 2 * _LONGEST_S:
        return None
    return {"column": name, "unit_s": unit, "since": "scan"}


def intensity_column(names: tuple[str, ...]) -> str | None:
    """Name of the column of intensities among ``names``, by what drivers call it."""
    return next((name for name in _INTENSITY if name in names), None)


def intensity_scale(largest: float) -> tuple[str, float]:
    """Rule and full scale of a sensor whose intensities reach ``largest``: those of 16 bits are mostly far below it."""
    full = next((full for full in _RAW_MAX if largest <= full), largest)
    return ("log" if full > 255 else "linear"), full


def _of_names(path: Path, format: str, names: tuple[str, ...], own: dict[str, str]) -> ColumnGuess:
    """``own``: the plain form of each of ``names`` -> that name."""
    intensity, known = intensity_column(tuple(own)), time_column(tuple(own))
    wanted = ["x", "y", "z", *([intensity] if intensity else []), *([known[0]] if known else [])]
    read = READERS[format](path, "", [own[name] for name in wanted])
    columns = {name: read[own[name]] for name in wanted}
    time = time_of_values(columns)
    if intensity and not _is_lit(columns[intensity]):
        intensity = None
    written = {axis: own[axis] for axis in "xyz"}
    written |= {"intensity": own[intensity]} if intensity else {}
    written |= {time["column"]: own[time["column"]]} if time else {}
    text = f"[{', '.join(written)}]"
    if any(name != stored for name, stored in written.items()):
        text = "{" + ", ".join(f"{name}: {_written(stored)}" for name, stored in written.items()) + "}"
    rest = [name for name in names if name not in written.values()]
    return _guess(
        columns,
        text,
        f"  # also there: {', '.join(rest)}" if rest else "",
        columns[intensity] if intensity else None,
        f"{{column: {time['column']}, unit_s: {time['unit_s']:.1e}, since: {time['since']}}}" if time else "",
    )


def _written(name: str) -> str:
    """A name as YAML reads it back."""
    return name if re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name) else json.dumps(name)


def _of_numbers(path: Path, format: str, stored: tuple[str, ...]) -> ColumnGuess:
    """Bare rows: the first width at which the file is whole and the numbers can be points."""
    fitting = []
    for width in _WIDTHS:
        names = ("x", "y", "z", *(f"column_{i}" for i in range(3, width)))
        try:
            columns = READERS[format](path, "", names)
        except InputError:
            continue
        if _can_be_points(columns, names):
            fitting.append(names)
    if not fitting and stored:
        raise InputError(
            f"{path}: holds {', '.join(stored)[:200]}, and nothing that is called x, y and z; write folder.yaml by "
            "hand, as in columns: {x: NAME, y: NAME, z: NAME}"
        )
    if not fitting:
        size = len(read_bytes(path))
        raise InputError(
            f"{path}: its {size} bytes are no rows of {', '.join(map(str, _WIDTHS))} numbers that can be points; write "
            "folder.yaml by hand, with the columns that the files have"
        )
    names = fitting[0]
    columns = READERS[format](path, "", names)
    lit = len(names) > 3 and _is_lit(columns["column_3"])
    written = ["intensity" if lit and name == "column_3" else name for name in names]
    remark = "  # a guess from the numbers"
    if len(fitting) > 1:
        remark += f"; {' or '.join(str(len(other)) for other in fitting[1:])} columns fit as well"
    return _guess(columns, f"[{', '.join(written)}]", remark, columns["column_3"] if lit else None, "")


def _is_lit(intensity: np.ndarray) -> bool:
    """Whether a column holds intensities: converters that know none fill it with zeros."""
    return bool(np.nanmax(intensity, initial=0) > 0)


def _guess(columns: Columns, text: str, remark: str, intensity: np.ndarray | None, time: str) -> ColumnGuess:
    xyz = np.stack([columns[axis] for axis in "xyz"], axis=1)
    largest = float(np.nanmax(intensity, initial=0)) if intensity is not None else 0.0
    missing = ~np.isfinite(xyz).all(axis=1) | ~xyz.any(axis=1)
    return ColumnGuess(
        columns=text,
        remark=remark,
        time=time,
        scale=intensity_scale(largest) if intensity is not None else None,
        largest=largest,
        no_return=bool(missing.any()),
        rows=len(xyz),
    )


def _can_be_points(columns: Columns, names: tuple[str, ...]) -> bool:
    values = np.stack([columns[name] for name in names], axis=1)
    xyz = values[np.isfinite(values).all(axis=1), :3]
    if len(xyz) < 0.2 * len(values) or not len(xyz) or np.abs(xyz).max() > _FAR_M:
        return False
    if not (np.ptp(xyz, axis=0) > 0.1).all() or np.abs(xyz[:, 2]).max() > np.abs(xyz[:, :2]).max() * 2:
        return False
    # an intensity is not negative: where it is, the rows are of another width
    return len(names) == 3 or bool((values[np.isfinite(values[:, 3]), 3] >= 0).all())
