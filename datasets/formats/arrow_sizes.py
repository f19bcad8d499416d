"""What a feather file (the file form of Arrow IPC) unpacks to, out of its heads alone: rows, and bytes of its buffers.

pyarrow takes memory for as much as a head claims and tells nothing of it before. Heads are flatbuffers; the numbers of
fields are those of the published File.fbs and Message.fbs of Apache Arrow.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

MAGIC = b"ARROW1"
_FOOTER_DICTIONARIES, _FOOTER_BATCHES = 2, 3
_MESSAGE_KIND, _MESSAGE_HEAD = 1, 2
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3  # kinds
_DICTIONARY_DATA = 1
_BATCH_ROWS, _BATCH_BUFFERS, _BATCH_COMPRESSION = 0, 2, 3
_BLOCK = struct.Struct("<qi4xq")  # of a footer: offset, bytes of the head, bytes of the body
_BUFFER = struct.Struct("<qq")  # offset in the body, bytes
_CONTINUED = b"\xff\xff\xff\xff"  # before the length of a head, since version 0.15


class Unpacked(NamedTuple):
    """Rows of all batches, and bytes of all buffers as they lie in memory."""

    rows: int
    size: int


def unpacked(path: Path) -> Unpacked:
    """What the file claims to unpack to.

    Raises:
        ValueError, OSError: it is no such file, or its heads lead out of it.
    """
    rows = size = 0
    with open(path, "rb") as file:
        end = os.fstat(file.fileno()).st_size
        for offset, head_bytes, body_bytes in _blocks(file, end):
            head = _read(file, offset, head_bytes, end)
            batch_rows, batch_size = _batch(file, head, offset + head_bytes, body_bytes, end)
            rows, size = rows + batch_rows, size + batch_size
    return Unpacked(rows, size)


class _Table(NamedTuple):
    """A table of a flatbuffer: the bytes, and where it begins in them."""

    data: bytes
    at: int

    def place(self, field: int) -> int:
        """Where a field lies; 0 where it is left out."""
        listing = self.at - _number("<i", self.data, self.at)
        has = 4 + 2 * field < _number("<H", self.data, listing)
        offset = _number("<H", self.data, listing + 4 + 2 * field) if has else 0
        return self.at + offset if offset else 0

    def whole(self, field: int, form: str) -> int:
        """A number, 0 where it is left out."""
        place = self.place(field)
        return _number(form, self.data, place) if place else 0

    def table(self, field: int) -> _Table:
        """A table in this one."""
        place = self.place(field)
        if not place:
            raise ValueError("a head lacks a part")
        return _Table(self.data, place + _number("<I", self.data, place))

    def structs(self, field: int, form: struct.Struct) -> Iterator[tuple[int, ...]]:
        """The entries of a vector of structs."""
        place = self.place(field)
        if not place:
            return
        start = place + _number("<I", self.data, place)
        count = _number("<I", self.data, start)
        if start + 4 + count * form.size > len(self.data):
            raise ValueError(f"a head lists {count} things")
        yield from form.iter_unpack(self.data[start + 4 : start + 4 + count * form.size])


def _number(form: str, data: bytes, at: int) -> int:
    if not 0 <= at <= len(data) - struct.calcsize(form):
        raise ValueError("a head leads out of itself")
    value: int = struct.unpack_from(form, data, at)[0]
    return value


def _root(data: bytes) -> _Table:
    return _Table(data, _number("<I", data, 0))


def _read(file: BinaryIO, offset: int, count: int, end: int) -> bytes:
    if offset < 0 or count < 0 or offset + count > end:
        raise ValueError(f"{count} bytes at {offset} are beyond its end")
    file.seek(offset)
    return file.read(count)


def _blocks(file: BinaryIO, end: int) -> Iterator[tuple[int, ...]]:
    """Offset, bytes of the head and bytes of the body of every batch and dictionary."""
    tail = 4 + len(MAGIC)
    last = _read(file, end - tail, tail, end)
    (length,) = struct.unpack_from("<i", last)
    if last[4:] != MAGIC:
        raise ValueError("it does not end as a feather file does")
    footer = _root(_read(file, end - tail - length, length, end))
    for field in (_FOOTER_DICTIONARIES, _FOOTER_BATCHES):
        yield from footer.structs(field, _BLOCK)


def _batch(file: BinaryIO, head: bytes, body: int, body_bytes: int, end: int) -> Unpacked:
    message = _root(head[8 if head.startswith(_CONTINUED) else 4 :])
    kind = message.whole(_MESSAGE_KIND, "<B")
    if kind not in (_RECORD_BATCH, _DICTIONARY_BATCH):
        raise ValueError(f"a batch is a message of the kind {kind}")
    batch = message.table(_MESSAGE_HEAD)
    rows = 0
    if kind == _DICTIONARY_BATCH:
        batch = batch.table(_DICTIONARY_DATA)
    else:
        rows = batch.whole(_BATCH_ROWS, "<q")
    is_packed = bool(batch.place(_BATCH_COMPRESSION))
    size = 0
    for offset, length in batch.structs(_BATCH_BUFFERS, _BUFFER):
        if offset < 0 or length < 0 or offset + length > body_bytes:
            raise ValueError(f"a buffer of {length} bytes is beyond its batch")
        claimed = -1
        if is_packed and length >= 8:  # the first number is the unpacked size, -1 where it is stored as it is
            (claimed,) = struct.unpack("<q", _read(file, body + offset, 8, end))
        if rows < 0 or claimed < -1:
            raise ValueError("a batch is of a negative size")
        size += length if claimed == -1 else claimed
    return Unpacked(rows, size)
