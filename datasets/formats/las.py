"""Points out of LAS and LAZ files, as `readers.READERS` wants them: laspy decodes what its header can truly hold."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError, first_line, require
from .read import check_rows, check_unpacked, choose, no_parts, read_bytes

_SCALED = ("x", "y", "z")  # offset + scale * the whole numbers of the file
_SMALLEST_HEADER, _HEADER_14 = 227, 375  # bytes, before version 1.4 and of it
_LAZ = 5000  # so many bytes at most come out of one: more is no scan, but a bomb


def read_las(path: Path, key: str, names: Sequence[str]) -> Mapping[str, NDArray[Any]]:
    """The named dimensions of a LAS or LAZ file; x, y and z in its unit, float64, the others as they are stored."""
    no_parts(path, key, "a LAS file")
    data = read_bytes(path)
    points = _read(path, data)
    choose(path, names, las_dimensions(path, points))
    with np.errstate(over="ignore"):  # of a damaged scale; what is not finite is told of later
        return {name: np.asarray(points[name]) for name in names}


def las_dimensions(path: Path, points: Any = None) -> tuple[str, ...]:
    """Names of the dimensions, with x, y and z as they are read."""
    points = _read(path, read_bytes(path)) if points is None else points
    stored = points.point_format.dimension_names
    return (*_SCALED, *(name for name in stored if name not in ("X", "Y", "Z")))


def _read(path: Path, data: bytes) -> Any:
    _check(path, data)
    laspy = require("laspy", "las")
    try:
        return laspy.read(BytesIO(data))
    except (MemoryError, KeyboardInterrupt):
        raise
    # laspy and its Rust decoder have many errors of their own for damaged files, of which a panic is no Exception
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise InputError(
            f"{path}: its points cannot be read ({first_line(error)[:150]}); copy it again"
        ) from error


def _check(path: Path, data: bytes) -> None:
    """What the header claims can be in the file; laspy would believe it."""
    if not data.startswith(b"LASF") or len(data) < _SMALLEST_HEADER:
        raise InputError(f"{path}: is no LAS or LAZ file, or cut off in its header; copy it again")
    header_bytes, first, records = struct.unpack_from("<HII", data, 94)
    kind, row_bytes, rows = struct.unpack_from("<BHI", data, 104)
    extended = (0, 0)
    if data[25] >= 4 and len(data) >= _HEADER_14:
        extended = struct.unpack_from("<QI", data, 235)
        rows = struct.unpack_from("<Q", data, 247)[0] or rows
    check_rows(path, rows)
    check_unpacked(path, rows * row_bytes, len(data))
    packed = bool(kind & 0xC0)
    held = max(len(data) - first, 0)
    if (
        not _SMALLEST_HEADER <= header_bytes <= first <= len(data)
        or records * 54 > first - header_bytes
        or extended[1] * 60 > max(len(data) - extended[0], 0)
        or rows * row_bytes > held * (_LAZ if packed else 1)
        or row_bytes < 20
        or (packed and not _has_chunks(data, first, row_bytes))
    ):
        raise InputError(
            f"{path}: its header claims {rows} points of {row_bytes} bytes and {records} records, and the file has "
            f"{len(data)} bytes; it is cut off or damaged, copy it again"
        )


def _has_chunks(data: bytes, first: int, row_bytes: int) -> bool:
    """The table of a LAZ file's chunks lies in it and lists no more of them than it can hold.

    lazrs ends the process where there is no memory for as many as the table claims.
    """
    if len(data) < first + 8:
        return False
    (table,) = struct.unpack_from("<q", data, first)
    if table == -1:  # written as a stream: the place stands at the end
        (table,) = struct.unpack_from("<q", data, len(data) - 8)
    if not first + 8 <= table <= len(data) - 8:
        return False
    (chunks,) = struct.unpack_from("<I", data, table + 4)
    return bool(chunks * row_bytes <= table - first)  # the first point of each is not packed
