"""How files tell their times; times and poses of scans out of text files.

A time a line, KITTI's twelve numbers a line, or TUM's time and pose.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...files.access import read_text
from ...geometry import make_transform, matrix_of
from ..card_file import as_number
from ..card_keys import only_keys, shorten
from ..trajectory import Trajectory
from .file_pattern import is_path_below

_LARGEST_US = 4 * 10**18  # as in `kinds`: differences of two such times are int64
_LARGEST_M = 1e12  # as there: float64 tells millimetres apart up to there
# room for two decimals of a quaternion; numbers of an inertial unit are further off
_NOT_UNIT = 0.02
_SEPARATORS = re.compile(r"[,;\s]+")
_WHOLE = re.compile("[-+]?[0-9]+")
_LATEST_S = 60
_FINE_S = 1e-5  # whole numbers of so small a unit, or a smaller one, need no fraction


class Times(NamedTuple):
    """How a file tells its time: by the number in its name, or by a line of a text file; the unit in seconds."""

    file: str  # below the root, "" for the name
    unit_s: float


def read_time(path: Path, key: str, value: Any) -> Times | None:
    """How files tell their times, under ``key``; None where they do not."""
    if value is None:
        return None
    if isinstance(value, dict):
        only_keys(path, value, ("name", "file", "unit_s"), of=key)
        unit: Any = as_number(value.get("name", value.get("unit_s", 1.0)))
        file = value.get("file", "")
        if ("name" in value) != ("file" in value) and is_unit(unit) and (not file or is_path_below(file)):
            return Times(file, float(unit))
    raise InputError(
        f"{path}: {key} is {shorten(value)}; it must be {{name: 1.0e-9}}, the seconds of the unit of the numbers "
        "in the files' names, or {file: times.txt, unit_s: 1}, a text file below the root of one time a line"
    )


def read_late(path: Path, of: str, value: Any) -> float:
    """Seconds by which the times of images come after the shutter, as those of a driver do; negative: before it."""
    number = as_number(value)
    if type(number) in (int, float) and abs(number) <= _LATEST_S:
        return float(number)
    raise InputError(
        f"{path}: late_s of {of} is {shorten(value)}; it must be the seconds that its times come after the shutter, "
        f"at most {_LATEST_S}"
    )


def is_unit(value: Any) -> bool:
    """Whether ``value`` can be the seconds of a unit of times."""
    return type(value) in (int, float) and 1e-12 <= value <= 1e6


def read_times(path: Path, unit_s: float) -> NDArray[np.int64]:
    """(S,) microseconds of a text file of one time a line; further columns are passed over.

    Raises:
        InputError: a line begins with no number, or all begin with a whole one before another number: seconds beside
            their nanoseconds, a decimal comma, or a number of the line, by which times would be others.
    """
    rows = _rows(path)
    if rows and unit_s > _FINE_S and all(_WHOLE.fullmatch(row[0]) and _is_number(row[1:]) for row in rows):
        raise InputError(
            f"{path}: its lines begin with two numbers ({' '.join(rows[0][:2])[:60]}), of which the first is whole; "
            "write a time a line, with a point before its fraction"
        )
    return np.array([to_us(row[0], unit_s, path) for row in rows], np.int64)


def _is_number(words: list[str]) -> bool:
    return bool(words) and re.fullmatch(r"[-+]?[0-9.]+([eE][-+]?[0-9]+)?", words[0]) is not None


def to_us(text: str, unit_s: float, path: Path) -> int:
    """The microseconds of a number as it is written: nanoseconds of our century are more than a float can hold.

    Raises:
        InputError: it is no number, or out of reach.
    """
    try:
        micros = Decimal(text) * Decimal(repr(unit_s)) * 1_000_000
        if micros.is_finite() and abs(micros) <= _LARGEST_US:
            return round(micros)
    except InvalidOperation:
        pass
    raise InputError(
        f"{path}: {text[:60]!r} is no time in units of {unit_s:g} s; mend the times or their unit_s"
    )


def read_kitti_poses(path: Path) -> NDArray[np.float64]:
    """(S, 4, 4) of a text file of the twelve numbers of a pose's upper rows a line.

    Raises:
        InputError: a line has other than twelve finite numbers, or they are no rigid transform.
    """
    values = _numbers(path, 12)
    poses = matrix_of(values)
    turn = poses[:, :3, :3]
    wrong = np.abs(turn @ np.swapaxes(turn, 1, 2) - np.eye(3)).max(axis=(1, 2), initial=0) > 1e-2
    wrong |= np.linalg.det(turn) < 0
    if wrong.any():
        raise InputError(
            f"{path}: line {int(np.flatnonzero(wrong)[0]) + 1} is no rigid transform; each has the twelve numbers of "
            "the upper rows, row by row"
        )
    return poses


def read_tum_poses(path: Path, unit_s: float = 1.0) -> Trajectory:
    """The poses of a text file of TUM's form, time x y z qx qy qz qw a line, metres; times in units of ``unit_s``.

    Raises:
        InputError: a line has other than eight finite numbers, a quaternion is not of length one or by its names begins
            with w, or there is no pose.
    """
    rows = _rows(path)
    if not rows:
        raise InputError(f"{path}: holds no pose; write time x y z qx qy qz qw a line")
    if _axes_named(path).startswith("xyzwxyz"):
        raise InputError(f"{path}: its names say that w comes first; write time x y z qx qy qz qw a line")
    times = np.array([to_us(row[0], unit_s, path) for row in rows], np.int64)
    values = _numbers(path, 8, first=1)
    far = np.abs(np.linalg.norm(values[:, 4:], axis=1) - 1) > _NOT_UNIT
    if far.any():
        raise InputError(
            f"{path}: the last four numbers of pose {int(np.flatnonzero(far)[0]) + 1} are no unit quaternion; a line "
            "is time x y z qx qy qz qw"
        )
    return Trajectory.of(times, make_transform(np.roll(values[:, 4:], 1, axis=1), values[:, 1:4]))


def _rows(path: Path) -> list[list[str]]:
    """The words of each line that holds some; what stands behind # is passed over, as is a first line of names."""
    rows = [_SEPARATORS.split(line) for line in _lines(path) if line]
    return rows[1:] if rows and _is_name(rows[0][0]) else rows


def _lines(path: Path) -> list[str]:
    return [line.split("#")[0].strip() for line in read_text(path).splitlines()]


def _axes_named(path: Path) -> str:
    """The axes that the first line of names, or a remark in its place, has in a row: of TUM's form xyzxyzw."""
    lines = [line.strip() for line in read_text(path).splitlines()]
    first = next((line for line in lines if line), "")
    if not first.startswith("#") and not _is_name(first):
        return ""
    words = _SEPARATORS.split(first.lstrip("#").lower())
    return "".join(
        found[1] for word in words if (found := re.fullmatch(r"(?:.*[^a-z])?[pqtr]?([xyzw])", word))
    )


def _is_name(word: str) -> bool:
    """Whether a word names a column, and is no number that is not finite."""
    return re.match("[A-Za-z_]", word) is not None and word.lower() not in ("nan", "inf", "infinity")


def check_every_line(path: Path) -> None:
    """Refuse a blank line, or one of a remark alone, between lines of numbers that are counted.

    Raises:
        InputError: there is one; all lines behind it would be those of other scans.
    """
    lines = _lines(path)
    held = [i for i, line in enumerate(lines) if line]
    if held and _is_name(_SEPARATORS.split(lines[held[0]])[0]):
        del held[0]
    for i in range(held[0], held[-1]) if held else ():
        if not lines[i]:
            raise InputError(
                f"{path}: line {i + 1} holds no number, and lines are counted by the numbers of the scans; fill it, or "
                "write a line for each scan that is there"
            )


def _numbers(path: Path, width: int, first: int = 0) -> NDArray[np.float64]:
    """(S, width) numbers a line; those from column ``first`` on are metres or parts of a turn."""
    rows = _rows(path)
    for number, row in enumerate(rows, start=1):
        if len(row) < width or (width == 12 and len(row) > width):
            raise InputError(
                f"{path}: pose {number} has {len(row)} numbers instead of {width}; mend the file"
                f"{', of 4 x 4 write the first three rows' if (len(row), width) == (16, 12) else ''}"
            )
    try:
        values = np.array([row[:width] for row in rows], np.float64).reshape(-1, width)
    except ValueError as error:
        raise InputError(f"{path}: must hold {width} numbers a line ({error}); mend the file") from error
    if not (np.abs(values[:, first:]) <= _LARGEST_M).all():  # False also for NaN
        raise InputError(f"{path}: holds numbers that are not finite, or out of reach; mend the file")
    return values
