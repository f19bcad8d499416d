"""Points out of PCD files, as `readers.READERS` wants them.

pypcd4 decodes the rows. It refuses headers that drivers of sensors write (padding of COUNT 0, names with odd signs, no
COUNT at all) and believes whatever a header claims, so that is read and held against the file here, and pypcd4 is
given a plain one.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError, first_line, require
from .read import check_rows, choose, no_parts, read_bytes

_KINDS = {"F": (4, 8), "I": (1, 2, 4, 8), "U": (1, 2, 4, 8)}  # type -> sizes
_KEYS = ("VERSION", "FIELDS", "SIZE", "TYPE", "COUNT", "WIDTH", "HEIGHT", "VIEWPOINT", "POINTS", "DATA")
_DATA = ("ascii", "binary", "binary_compressed")
_ORIGIN = tuple("0001000")  # of VIEWPOINT: x y z, then the quaternion w x y z
_LONGEST_HEADER = 1 << 16  # bytes
_MOST_COUNT = 1 << 16  # values of a field of one point
_LZF = 88  # so many bytes at most come out of one: a run of 264 is written in 3


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a point: its name in the file, F, I or U, bytes of a value, and values a point."""

    name: str
    kind: str
    size: int
    count: int


@dataclass(frozen=True, slots=True)
class PcdHeader:
    """What the header of a PCD file says, held against the file: fields with values, rows, how they are written."""

    fields: tuple[Field, ...]
    rows: int
    data: str
    body: int  # where the rows begin [byte]
    width: int
    height: int
    viewpoint: tuple[str, ...]

    @property
    def row_bytes(self) -> int:
        """Bytes of a point."""
        return sum(field.size * field.count for field in self.fields)


def read_pcd(path: Path, key: str, names: Sequence[str]) -> Mapping[str, NDArray[Any]]:
    """The named fields of a PCD file, ascii, binary or compressed."""
    no_parts(path, key, "a PCD file")
    data = read_bytes(path)
    header = read_header(path, data)
    where = {field.name: number for number, field in enumerate(header.fields) if field.count == 1}
    choose(path, names, where)
    if twice := [name for name in names if [field.name for field in header.fields].count(name) > 1]:
        raise InputError(f"{path}: its header names the field {twice[0]} twice; rename one of them")
    if not header.rows:
        return {name: np.empty(0, _dtype(header.fields[where[name]])) for name in names}
    rows = _rows(path, header, data[header.body :])
    return {name: rows[f"f{where[name]}"] for name in names}


def pcd_fields(path: Path) -> tuple[str, ...]:
    """Names of the fields of a PCD file that have one value a point."""
    return tuple(field.name for field in read_header(path, read_bytes(path)).fields if field.count == 1)


def has_viewpoint(path: Path) -> bool:
    """Whether the header of a PCD file says that its points were seen from elsewhere than their origin."""
    return read_header(path, read_bytes(path)).viewpoint != _ORIGIN


def with_column(path: Path, name: str, values: NDArray[np.uint32]) -> bytes:
    """The PCD file ``path``, binary, with all that it holds and one column more of whole numbers (rows,).

    Raises:
        InputError: it cannot be read, has such a field, or another number of points.
    """
    data = read_bytes(path)
    header = read_header(path, data)
    if len(values) != header.rows or any(field.name == name for field in header.fields):
        raise InputError(
            f"{path}: has {header.rows} points for {len(values)} numbers, or a field {name!r} already; prepare the log "
            "again, or rename the field"
        )
    fields = (*header.fields, Field(name, "U", 4, 1))
    rows = np.zeros(header.rows, [(f"f{i}", _dtype(field), (field.count,)) for i, field in enumerate(fields)])
    if header.rows:
        own = _rows(path, header, data[header.body :])
        for i in range(len(header.fields)):
            rows[f"f{i}"] = _values(header, own, i)
    rows[f"f{len(header.fields)}"] = values[:, None]
    columns = zip(*((field.name, field.size, field.kind, field.count) for field in fields))
    lines = (f"{key} {' '.join(map(str, column))}\n" for key, column in zip(_KEYS[1:5], columns))
    head = f"VERSION 0.7\n{''.join(lines)}WIDTH {header.width}\nHEIGHT {header.height}\n"
    head += f"VIEWPOINT {' '.join(header.viewpoint)}\nPOINTS {header.rows}\nDATA binary\n"
    return head.encode() + rows.tobytes()


def read_header(path: Path, data: bytes) -> PcdHeader:
    """The header of the PCD file whose content is ``data``.

    Raises:
        InputError: it is none, contradicts itself, or claims more rows than the file holds.
    """
    words, body = _words(path, data)
    names, kinds = words.get("FIELDS", ()), words.get("TYPE", ())
    sizes = _numbers(path, "SIZE", words)
    counts = _numbers(path, "COUNT", words) if "COUNT" in words else [1] * len(names)
    if not names or not len(names) == len(kinds) == len(sizes) == len(counts):
        raise InputError(
            f"{path}: its header has {len(names)} FIELDS, {len(sizes)} SIZE, {len(kinds)} TYPE and {len(counts)} "
            "COUNT, which must be as many; export the scan again"
        )
    for name, kind, size, count in zip(names, kinds, sizes, counts):
        if size not in _KINDS.get(kind, ()) or count > _MOST_COUNT:
            raise InputError(
                f"{path}: the field {name[:40]!r} of its header is {kind[:9]} of {size} bytes, {count} times, which "
                "no PCD file can hold; export the scan again"
            )
    fields = tuple(Field(*row) for row in zip(names, kinds, sizes, counts) if row[3])
    shape = [_numbers(path, key, words)[0] for key in ("WIDTH", "HEIGHT") if key in words]
    rows = _numbers(path, "POINTS", words)[0] if "POINTS" in words else int(np.prod(shape, dtype=object))
    if rows != (int(np.prod(shape, dtype=object)) if len(shape) == 2 else rows) or not (
        shape or "POINTS" in words
    ):
        raise InputError(
            f"{path}: its header has WIDTH and HEIGHT of other than its POINTS; export the scan again"
        )
    kind = words["DATA"][0] if words["DATA"] else ""
    if kind not in _DATA:
        raise InputError(f"{path}: its rows are written as {kind[:40]!r}; export it as {', '.join(_DATA)}")
    width, height = shape if len(shape) == 2 else (rows, 1)
    viewpoint = words.get("VIEWPOINT", ())
    if len(viewpoint) != 7 or all(map(_is_same, viewpoint, _ORIGIN)):
        viewpoint = _ORIGIN
    header = PcdHeader(fields, rows, kind, body, width, height, viewpoint)
    _check_size(path, header, data)
    return header


def _words(path: Path, data: bytes) -> tuple[dict[str, tuple[str, ...]], int]:
    """The words of each line of the header by the first of them, and where the rows begin."""
    words: dict[str, tuple[str, ...]] = {}
    start = 0
    while "DATA" not in words:
        stop = data.find(b"\n", start, _LONGEST_HEADER)
        line = data[start : stop if stop >= 0 else start + 200].decode("latin-1").split("#")[0].split()
        if (line and line[0] not in _KEYS) or (stop < 0 and (not line or line[0] != "DATA")):
            raise InputError(f"{path}: is no PCD file, whose header ends with DATA; copy it again")
        start = stop + 1 if stop >= 0 else len(data)
        if line:
            words[line[0]] = tuple(line[1:])
    return words, start


def _is_same(word: str, other: str) -> bool:
    try:
        return float(word) == float(other)
    except ValueError:
        return False


def _numbers(path: Path, key: str, words: Mapping[str, Sequence[str]]) -> list[int]:
    values = words.get(key, ())
    if not values or not all(re.fullmatch("[0-9]{1,18}", value) for value in values):
        raise InputError(
            f"{path}: {key} of its header is {' '.join(values)[:60]!r}, and it must be whole numbers; "
            "export the scan again"
        )
    return [int(value) for value in values]


def _check_size(path: Path, header: PcdHeader, data: bytes) -> None:
    """The file can hold as many rows as its header claims."""
    check_rows(path, header.rows)
    held, needed = len(data) - header.body, header.rows * header.row_bytes
    if header.data == "ascii":
        needed = header.rows * 2 * sum(field.count for field in header.fields) - 1  # a digit and a space each
    elif header.data == "binary_compressed" and header.rows:
        packed, unpacked = struct.unpack("<II", data[header.body : header.body + 8].ljust(8, b"\0"))
        if unpacked != needed or unpacked > _LZF * packed:
            raise InputError(
                f"{path}: unpacks to {unpacked} bytes out of {packed}, where its {header.rows} points have {needed}; "
                "copy it again"
            )
        needed = packed + 8
    if header.rows and held < needed:
        raise InputError(
            f"{path}: holds {held} bytes of points where its header claims {header.rows} points of {needed}; "
            "it is cut off, copy it again"
        )


def _values(header: PcdHeader, rows: NDArray[Any], place: int) -> NDArray[Any]:
    """(rows, count) of the field at ``place`` of what `_rows` gave."""
    count = header.fields[place].count
    if count == 1:
        return rows[f"f{place}"][:, None]
    parts = [rows[f"f{place}__{k:04d}"] for k in range(count)]
    if header.data == "binary_compressed":
        # PCL packs a field point by point, and pypcd4 takes that for the first value of all points, then the second
        return np.concatenate(parts).reshape(-1, count)
    return np.stack(parts, axis=1)


def _dtype(field: Field) -> np.dtype[Any]:
    return np.dtype(f"<{field.kind.lower()}{field.size}")


def _rows(path: Path, header: PcdHeader, body: bytes) -> NDArray[Any]:
    """The rows with fields f0, f1, ... in the order of the header."""
    pypcd4 = require("pypcd4", "pcd")
    if header.data == "ascii":
        lines = [line.split(b"#")[0].split() for line in body.split(b"\n")]
        body = b"\n".join(b" ".join(line) for line in lines if line)
    columns = list(zip(*((field.size, field.kind, field.count) for field in header.fields)))
    plain = (
        f"VERSION 0.7\nFIELDS {' '.join(f'f{number}' for number in range(len(header.fields)))}\n"
        + "".join(f"{key} {' '.join(map(str, values))}\n" for key, values in zip(_KEYS[2:5], columns))
        + f"WIDTH {header.rows}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {header.rows}\nDATA {header.data}\n"
    )
    try:
        rows = np.atleast_1d(pypcd4.PointCloud.from_fileobj(BytesIO(plain.encode() + body)).pc_data)
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:  # TypeError: LZF gave nothing
        raise InputError(
            f"{path}: its points cannot be read ({first_line(error)[:150]}); copy it again"
        ) from error
    if len(rows) < header.rows:
        raise InputError(f"{path}: holds {len(rows)} of {header.rows} points; it is cut off, copy it again")
    return rows[: header.rows]
