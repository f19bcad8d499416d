"""Points out of PLY files, as `readers.READERS` wants them: the element ``vertex``, ascii or binary of either order."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from .read import check_rows, choose, no_parts, read_bytes

_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4"},
    **{"float": "f4", "float32": "f4", "double": "f8", "float64": "f8"},
}
_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_LONGEST_HEADER = 1 << 16  # bytes


class _Element(NamedTuple):
    name: str
    rows: int
    properties: list[tuple[str, str]]  # name, NumPy's type; a list has ""


class _Header(NamedTuple):
    order: str
    elements: list[_Element]
    body: int  # where the rows begin [byte]


def read_ply(path: Path, key: str, names: Sequence[str]) -> Mapping[str, NDArray[Any]]:
    """The named properties of the vertices of a PLY file."""
    no_parts(path, key, "a PLY file")
    data = read_bytes(path)
    header = _header(path, data)
    before, vertex = _vertex(path, header)
    choose(path, names, [name for name, _ in vertex.properties])
    if header.order == "":
        return _ascii(path, data[header.body :], sum(element.rows for element in before), vertex, names)
    start = header.body + sum(element.rows * _row(header, element).itemsize for element in before)
    row = _row(header, vertex)
    if len(data) < start + vertex.rows * row.itemsize:
        raise InputError(
            f"{path}: is {len(data)} bytes long and its header claims {vertex.rows} vertices of {row.itemsize}; it is "
            "cut off, copy it again"
        )
    rows = np.frombuffer(data, row, vertex.rows, start)
    return {name: rows[name].astype(rows[name].dtype.newbyteorder("=")) for name in names}


def ply_properties(path: Path) -> tuple[str, ...]:
    """Names of the properties of the vertices."""
    header = _header(path, read_bytes(path))
    return tuple(name for name, kind in _vertex(path, header)[1].properties if kind)


def _header(path: Path, data: bytes) -> _Header:
    end = re.search(rb"\nend_header[^\n]*\n", data[:_LONGEST_HEADER])
    if not data.startswith(b"ply") or end is None:
        raise InputError(f"{path}: is no PLY file, whose header ends with end_header; copy it again")
    order, elements = None, list[_Element]()
    for line in data[: end.start()].decode("latin-1").splitlines()[1:]:
        match line.split():
            case ["format", word, _] if word in _ORDERS:
                order = _ORDERS[word]
            case ["element", name, count] if re.fullmatch("[0-9]{1,18}", count):
                elements.append(_Element(name, int(count), []))
            case ["property", "list", _, _, name] if elements:
                elements[-1].properties.append((name, ""))
            case ["property", kind, name] if elements and kind in _TYPES:
                elements[-1].properties.append((name, _TYPES[kind]))
            case ["comment" | "obj_info", *_] | []:
                pass
            case _:
                raise InputError(f"{path}: its header has the line {line[:60]!r}; export the scan again")
    if order is None:
        raise InputError(
            f"{path}: its header names none of the formats {', '.join(_ORDERS)}; export it again"
        )
    return _Header(order, elements, end.end())


def _vertex(path: Path, header: _Header) -> tuple[list[_Element], _Element]:
    """The elements before the vertices, and these."""
    place = next((i for i, element in enumerate(header.elements) if element.name == "vertex"), None)
    if place is None:
        raise InputError(f"{path}: has no element vertex; export the scan as points")
    before, vertex = header.elements[:place], header.elements[place]
    names = [name for name, _ in vertex.properties]
    lists = any(not kind for element in (*before, vertex) for _, kind in element.properties)
    if len(set(names)) < len(names) or (lists and (header.order or not all(k for _, k in vertex.properties))):
        raise InputError(
            f"{path}: its vertices have lists, stand behind some, or name a property twice; export the scan with a "
            "plain list of points"
        )
    check_rows(path, sum(element.rows for element in (*before, vertex)))
    return before, vertex


def _row(header: _Header, element: _Element) -> np.dtype[Any]:
    return np.dtype([(f"{name}", header.order + kind) for name, kind in element.properties])


def _ascii(
    path: Path, body: bytes, skip: int, vertex: _Element, names: Sequence[str]
) -> Mapping[str, NDArray[Any]]:
    rows = [line.split() for line in body.split(b"\n")]
    rows = [row for row in rows if row][skip : skip + vertex.rows]
    wide = len(vertex.properties)
    if len(rows) < vertex.rows or any(len(row) != wide for row in rows):
        raise InputError(
            f"{path}: does not hold {vertex.rows} lines of {wide} numbers; it is cut off, copy it again"
        )
    where = {name: (i, kind) for i, (name, kind) in enumerate(vertex.properties)}
    try:
        return {
            name: np.array([row[where[name][0]] for row in rows]).astype(where[name][1]) for name in names
        }
    except (ValueError, OverflowError) as error:
        raise InputError(f"{path}: holds a word where numbers are due ({error}); export it again") from error
