"""Tensors and graph of an ONNX file, read straight from its protocol-buffer bytes; the onnx package is not needed.

Field numbers: ModelProto 7 graph; GraphProto 1 node, 5 initializer; NodeProto 1 input, 2 output, 4 op_type;
TensorProto 1 dims, 2 data_type, 4 float_data, 8 name, 9 raw_data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..files.access import reading

_DTYPES = {1: np.float32, 6: np.int32, 7: np.int64, 10: np.float16, 11: np.float64}


@dataclass(frozen=True, slots=True)
class Node:
    """One operation of the graph, with the names of what goes in and out."""

    operation: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def read_onnx(path: str | Path) -> tuple[dict[str, NDArray], list[Node]]:
    """Initialisers by name and nodes in file order. Types other than float and int32/64 are left out.

    Raises:
        InputError: the bytes are no ONNX model.
    """
    with reading(path):
        data = memoryview(Path(path).read_bytes())
    tensors: dict[str, NDArray] = {}
    nodes: list[Node] = []
    try:
        for number, graph in _fields(data):
            if number != 7:
                continue
            for field, value in _fields(graph):
                if field == 1:
                    nodes.append(_node(value))
                elif field == 5:
                    name, tensor = _tensor(value)
                    if tensor is not None:
                        tensors[name] = tensor
    except (IndexError, ValueError, TypeError) as error:
        raise InputError(f"{path}: not readable as an ONNX model ({error}); copy the file again") from error
    if not nodes:
        raise InputError(f"{path}: holds no ONNX graph; give a model in ONNX format")
    return tensors, nodes


def _node(data: memoryview) -> Node:
    parts: dict[int, list[str]] = {1: [], 2: [], 4: []}
    for field, value in _fields(data):
        if field in parts:
            parts[field].append(bytes(value).decode())
    return Node(parts[4][0], tuple(parts[1]), tuple(parts[2]))


def _tensor(data: memoryview) -> tuple[str, NDArray | None]:
    dims: list[int] = []
    kind, name, raw = 0, "", b""
    for field, value in _fields(data):
        if field == 1:  # packed or one by one
            dims += [value] if isinstance(value, int) else _varints(value)
        elif field == 2:
            kind = value
        elif field == 8:
            name = bytes(value).decode()
        elif field in (4, 9):
            raw += bytes(value)
    if kind not in _DTYPES:
        return name, None
    return name, np.frombuffer(raw, dtype=_DTYPES[kind]).reshape(dims)


def _fields(data: memoryview) -> Iterator[tuple[int, Any]]:
    """Field numbers with their values: int, or a memoryview of the bytes of a text, message or packed list."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if kind == 2:
            length, at = _varint(data, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind} at byte {at}")
        if at + length > len(data):
            raise ValueError(f"field of {length} bytes reaches over the end")
        yield key >> 3, data[at : at + length]
        at += length


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def _varints(data: memoryview) -> list[int]:
    values, at = [], 0
    while at < len(data):
        value, at = _varint(data, at)
        values.append(value)
    return values
