"""What the fields of a table may hold: each kind says in words what is due, and tells whether a value is that.

A kind judges one value (``accepts``) and may look at a whole column at once (``is_plain``), which is what makes
millions of rows cheap: a column that is plain needs no look at its values.
"""

from __future__ import annotations

import json
import math
import re
import reprlib
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np

LONGEST_NAME = 200  # bytes of a token: files are named by some, and file names of 255 bytes have endings
_LONGEST_TEXT = 1024  # bytes; columns are as wide as their longest text
_LONGEST_PART = 255  # bytes between two slashes of a path, on every usual file system
_LARGEST = 1e12  # of coordinates: float64 tells millimetres apart up to there
# differences of two such times are int64; nanoseconds of our century are below it
_LARGEST_TIME_US = 4 * 10**18
# norm of a unit quaternion: room for three decimals, not for another kind of rotation
_UNIT = (1 - 1e-3, 1 + 1e-3)
_NOT_ZERO = (1e-3, math.inf)
# what breaks lines, or is no UTF-8
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_PRINTABLE = bytes(range(0x20, 0x7F))  # of ASCII
_DRIVE = re.compile(r"[A-Za-z]:[/\\]")
_NUMBERS = {int, float}

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 60
_repr.maxlist = _repr.maxdict = 5
_repr.maxlevel = 3


def shorten(value: Any) -> str:
    """Any JSON value on one line, with dots where it is long or deep."""
    return json.dumps(value) if value is None or type(value) is bool else _repr.repr(value)


@dataclass(frozen=True)
class Kind:
    """A kind of field.

    due: what it must be, in words. accepts: whether one JSON value is that. is_plain: False, or True where every value
    of a column is accepted and needs no ``convert``. convert: an accepted value as the program uses it.
    needed: without a field that is not needed the row gets ``convert(None)``. is_key: no two rows share the value.
    """

    due: str
    accepts: Callable[[Any], bool]
    is_plain: Callable[[Sequence[Any]], bool] = lambda column: False
    convert: Callable[[Any], Any] = lambda value: value
    needed: bool = True
    is_key: bool = False


# ---- text -------------------------------------------------------------------------------------------------------


def _are_strings(column: Sequence[Any]) -> bool:
    return set(map(type, column)) == {str}


def _is_text(value: Any, longest: int = _LONGEST_TEXT, shortest: int = 0) -> bool:
    return (
        type(value) is str
        and not _UNPRINTABLE.search(value)
        and shortest <= len(value)
        and len(value.encode()) <= longest
    )


def _are_text(column: Sequence[Any], longest: int = _LONGEST_TEXT, shortest: int = 0) -> bool:
    if not _are_strings(column):
        return False
    text, lengths = "".join(column), set(map(len, column))
    # far faster than isprintable and than a regular expression
    odd = not text.isascii() or text.encode().translate(None, _PRINTABLE)
    return not odd and shortest <= min(lengths) and max(lengths) <= longest


def _is_key(value: Any) -> bool:
    return _is_text(value, LONGEST_NAME, 1)


def _are_keys(column: Sequence[Any]) -> bool:
    return _are_text(column, LONGEST_NAME, 1)


def _is_path(value: Any) -> bool:
    if not _is_text(value, shortest=1) or value[0] in "/\\" or _DRIVE.match(value):
        return False
    parts = re.split(r"[/\\]", value)
    return ".." not in parts and max(len(part.encode()) for part in parts) <= _LONGEST_PART


def _are_paths(column: Sequence[Any]) -> bool:
    if not _are_text(column, _LONGEST_PART, 1) or "/" in set(map(itemgetter(0), column)):
        return False
    text = "".join(column)
    return not any(sign in text for sign in ("\\", ":", ".."))


TEXT = Kind("text without line breaks and other control characters", _is_text, _are_text)
KEY = Kind(
    f"text of 1 to {LONGEST_NAME} bytes without line breaks and other control characters",
    _is_key,
    _are_keys,
    is_key=True,
)
OPTIONAL_KEY = replace(
    KEY, accepts=lambda value: value is None or _is_key(value), needed=False, due=f"{KEY.due}, or left out"
)
# what they name is a token that was looked at, or is not there: their type is enough
REFERENCE = Kind("text, the token of another row", lambda value: type(value) is str, _are_strings)
OPTIONAL_REFERENCE = replace(
    REFERENCE,
    accepts=lambda value: value is None or type(value) is str,
    convert=lambda value: value or "",
    needed=False,
    due=f"{REFERENCE.due}, or left out",
)
REFERENCES = Kind(
    "a list of texts, tokens of other rows, or left out",
    lambda value: value is None or (type(value) is list and all(type(token) is str for token in value)),
    lambda column: set(map(type, column)) == {list} and set(map(type, chain.from_iterable(column))) <= {str},
    convert=lambda value: value or [],
    needed=False,
)
LINK = Kind(
    'text, the token of the row before or after, or "" at an end',
    lambda value: value is None or type(value) is str,
    _are_strings,
    convert=lambda value: value or "",
)
PATH = Kind(
    "a path below the log's root, without .. and not absolute, of parts that can be file names",
    _is_path,
    _are_paths,
)
OPTIONAL_PATH = replace(PATH, accepts=lambda value: value == "" or _is_path(value), due=f'{PATH.due}, or ""')


# ---- numbers ----------------------------------------------------------------------------------------------------


def _whole(due: str, low: int, high: int, *, needed: bool = True, absent: int | None = None) -> Kind:
    """Whole numbers, also written as 1.0; one that is not needed may be null, too, and is then ``absent``."""

    def accepts(value: Any) -> bool:
        if value is None:
            return not needed
        whole = type(value) is int or (type(value) is float and value.is_integer())
        return whole and low <= value <= high

    return Kind(
        due,
        accepts,
        is_plain=lambda column: (
            set(map(type, column)) == {int} and low <= min(column) and max(column) <= high
        ),
        convert=lambda value: absent if value is None else int(value),
        needed=needed,
    )


def _vector(due: str, count: int, *, norm: tuple[float, float] = (0.0, math.inf)) -> Kind:
    """A list of ``count`` finite numbers whose norm lies between the two of ``norm``."""

    def accepts(value: Any) -> bool:
        return (
            type(value) is list
            and len(value) == count
            and all(type(number) in _NUMBERS and abs(number) <= _LARGEST for number in value)
            and norm[0] <= math.hypot(*value) <= norm[1]
        )

    def is_plain(column: Sequence[Any]) -> bool:
        if set(map(type, column)) != {list} or set(map(len, column)) != {count}:
            return False
        flat = list(chain.from_iterable(column))
        if not set(map(type, flat)) <= _NUMBERS:
            return False
        try:
            numbers = np.frombuffer(array("d", flat))  # twice as fast as np.array
        except OverflowError:  # an int beyond float64
            return False
        if not np.abs(numbers).max() <= _LARGEST:  # not so either where one is NaN
            return False
        if norm == (0.0, math.inf):
            return True
        squares = np.square(numbers.reshape(-1, count)).sum(axis=1)
        # the last bits of hypot are others: what is so near to a border is looked at value by value
        return norm[0] ** 2 * 1.00001 < squares.min() and squares.max() < norm[1] ** 2 * 0.99999

    return Kind(due, accepts, is_plain)


def _flat_matrix(value: Any) -> list[Any]:
    """The numbers of a list of lists, or of a list that is flat already."""
    if type(value) is list and value and all(type(row) is list for row in value):
        return list(chain.from_iterable(value)) if {len(row) for row in value} == {3} else []
    return value


TIME_US = _whole(
    "a whole number of microseconds (times in another unit: convert them)",
    -_LARGEST_TIME_US,
    _LARGEST_TIME_US,
)
PIXELS = _whole(
    "a whole number of pixels that fits into 32 bits", -(2**31), 2**31 - 1, needed=False, absent=0
)
COUNT = _whole("a whole number of points, or null", -1, 2**31 - 1, needed=False, absent=-1)  # -1: not counted
LABEL = _whole(
    "a whole number of 0 to 255, since labels of this schema are one byte, or left out", 0, 255, needed=False
)
FLAG = Kind(
    "true or false",
    lambda value: type(value) in (bool, int, float) and value in (0, 1),
    lambda column: set(map(type, column)) == {bool},
    convert=bool,
)
_UP_TO = f"up to {_LARGEST:g}"
POSITION = _vector(f"three finite numbers (x, y, z) in metres, {_UP_TO}", 3)
SIZE = _vector(f"three finite numbers (width, length, height) in metres, {_UP_TO}", 3)
ROTATION = _vector("a quaternion (w, x, y, z) of finite numbers, not all 0", 4, norm=_NOT_ZERO)
UNIT_ROTATION = _vector("a unit quaternion (w, x, y, z)", 4, norm=_UNIT)
_MATRIX = _vector("", 9)
INTRINSICS = Kind(
    f"3 x 3 finite numbers for a camera, {_UP_TO}, and [] for another sensor",
    lambda value: value is None or value == [] or _MATRIX.accepts(_flat_matrix(value)),
    convert=lambda value: _flat_matrix(value) or [],
    needed=False,
)
