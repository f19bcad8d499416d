"""Protocol buffers without their schema compiler: the fields of one message by their numbers, read and written.

Nothing is taken apart but what is asked for, and nothing is copied, so that a message of many megabytes costs its
few fields; what no reader names is passed over. A message is written as the bytes of its fields, one behind the
other. Source: protobuf.dev, "Encoding".
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5  # kinds of a field on the wire
_SIZES = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}
_MOST_FIELDS = 1 << 16  # of one message: arrays are one field each
_LONGEST_VARINT = 10  # bytes
_64_BITS = (1 << 64) - 1


class WireError(ValueError):
    """Bytes that are no message, or none with the fields that are asked for; its text says why."""


class Message:
    """The fields of a message.

    Of a field that occurs several times and is asked for as one, the last counts. Raises:
        WireError: the bytes are no message; a field is of another kind than asked for.
    """

    def __init__(self, data: bytes | memoryview) -> None:
        self._fields: dict[int, list[tuple[int, Any]]] = {}
        view, at, count = memoryview(data), 0, 0
        while at < len(view):
            tag, at = _varint(view, at)
            number, kind = tag >> 3, tag & 7
            value: int | memoryview
            if kind == _VARINT:
                value, at = _varint(view, at)
            else:
                if kind == _BYTES:
                    length, at = _varint(view, at)
                elif kind in _SIZES:
                    length = _SIZES[kind]
                else:
                    raise WireError(f"a field is of the unknown kind {kind}")
                if length > len(view) - at:
                    raise WireError(f"the field {number} is cut off")
                value, at = view[at : at + length], at + length
            count += 1
            if not number or count > _MOST_FIELDS:
                raise WireError(
                    "it has a field 0" if not number else f"it has more than {_MOST_FIELDS} fields"
                )
            self._fields.setdefault(number, []).append((kind, value))

    def __contains__(self, number: int) -> bool:
        return number in self._fields

    def integer(self, number: int) -> int:
        """A whole number with sign; 0 where it is not there, as the format has it."""
        value: int = self._last(number, _VARINT, 0)
        return value - (1 << 64) if value >> 63 else value

    def double(self, number: int) -> float:
        """A number of 8 bytes; 0 where it is not there."""
        return float(np.frombuffer(self._last(number, _EIGHT_BYTES, bytes(8)), "<f8")[0])

    def data(self, number: int) -> memoryview:
        """Bytes; none where they are not there."""
        value: memoryview = self._last(number, _BYTES, memoryview(b""))
        return value

    def text(self, number: int) -> str:
        """Text; "" where it is not there."""
        try:
            return str(self.data(number), "utf-8")
        except UnicodeDecodeError:
            raise WireError(f"the field {number} is no UTF-8 text") from None

    def message(self, number: int) -> Message:
        """A message in this one; one without fields where it is not there."""
        return Message(self.data(number))

    def messages(self, number: int) -> list[Message]:
        """All messages of this number."""
        return [Message(self._of_kind(number, field, _BYTES)) for field in self._fields.get(number, ())]

    def numbers(self, number: int, dtype: str) -> NDArray[Any]:
        """(N,) of ``dtype`` ``<f4`` or ``<f8``: one field each, or packed."""
        width = np.dtype(dtype).itemsize
        single = next(kind for kind, size in _SIZES.items() if size == width)
        parts = []
        for kind, value in self._fields.get(number, ()):
            if kind not in (single, _BYTES) or len(value) % width:
                raise WireError(f"the field {number} holds no whole numbers of {width} bytes")
            parts.append(np.frombuffer(value, dtype))
        return np.concatenate(parts) if parts else np.zeros(0, dtype)

    def integers(self, number: int) -> NDArray[np.int32]:
        """(N,) int32: one field each, or packed."""
        parts = []
        for kind, value in self._fields.get(number, ()):
            if kind == _VARINT:
                parts.append(np.array([value], np.uint64))
            else:
                parts.append(_varints(self._of_kind(number, (kind, value), _BYTES)))
        values = np.concatenate(parts) if parts else np.zeros(0, np.uint64)
        return values.astype(np.uint32).view(np.int32)  # as the format says: the lower half

    def _last(self, number: int, kind: int, default: Any) -> Any:
        fields = self._fields.get(number)
        return self._of_kind(number, fields[-1], kind) if fields else default

    @staticmethod
    def _of_kind(number: int, field: tuple[int, Any], kind: int) -> Any:
        if field[0] != kind:
            raise WireError(f"the field {number} is of the kind {field[0]} in place of {kind}")
        return field[1]


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and where it ends."""
    value = 0
    for place, byte in enumerate(view[at : at + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            if value >> 64:
                break
            return value, at + place + 1
    raise WireError("a number is cut off or too long")


def _varints(data: memoryview) -> NDArray[np.uint64]:
    """(N,) of numbers that stand one behind the other."""
    octets = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(octets < 0x80)
    if not len(octets):
        return np.zeros(0, np.uint64)
    if not len(ends) or ends[-1] != len(octets) - 1:
        raise WireError("a list of numbers is cut off")
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > _LONGEST_VARINT:
        raise WireError("a number of a list is too long")
    values = np.zeros(len(starts), np.uint64)
    for place in range(int(lengths.max())):
        there = np.flatnonzero(lengths > place)
        part = octets[starts[there] + place].astype(np.uint64) & np.uint64(0x7F)
        values[there] |= part << np.uint64(7 * place)
    return values


def integer_field(number: int, value: int) -> bytes:
    """A field of a whole number with sign, of at most 64 bits."""
    return _varint_bytes(number << 3 | _VARINT) + _varint_bytes(value & _64_BITS)


def bytes_field(number: int, data: bytes) -> bytes:
    """A field of bytes, of a message, or of text in UTF-8."""
    return _varint_bytes(number << 3 | _BYTES) + _varint_bytes(len(data)) + data


def integers_field(number: int, values: NDArray[np.integer]) -> bytes:
    """A packed field of (N,) whole numbers with sign."""
    return bytes_field(number, _packed(values.astype(np.int64).view(np.uint64)))


def _varint_bytes(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _packed(values: NDArray[np.uint64]) -> bytes:
    """Numbers one behind the other, each with as many bytes as it needs."""
    longest = max(1, -(-int(values.max(initial=0)).bit_length() // 7))  # bytes
    places = np.uint64(7) * np.arange(longest, dtype=np.uint64)
    groups = values[:, None] >> places  # of each number what is left of it at each byte
    there = groups > 0
    there[:, 0] = True
    goes_on = (groups >> np.uint64(7)) > 0
    octets = (groups & np.uint64(0x7F)).astype(np.uint8) | (goes_on.astype(np.uint8) << 7)
    return octets[there].tobytes()
