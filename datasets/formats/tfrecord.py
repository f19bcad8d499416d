"""TFRecord files without TensorFlow: each record with its length, and a checksum of either.

A record is an 8-byte length, the masked CRC-32C of these bytes, the data, and the masked CRC-32C of the data; numbers
are little-endian. Source: tensorflow.org, "TFRecord and tf.train.Example"; the checksum is that of RFC 3720.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from ...errors import InputError
from .read import of_the_log

LONGEST_RECORD = 1 << 26  # bytes; a frame of five cameras and five LiDARs has some 5 million
_HEAD, _FOOT = struct.Struct("<QI"), struct.Struct("<I")
_MASK = 0xA282EAD8


def records(path: Path) -> Iterator[tuple[int, bytes]]:
    """Offset [bytes] and data of every record of a file, in its order; both checksums are compared.

    Raises:
        MissingFileError, InputError: there is no such file; it is cut off, damaged, or no such file.
    """
    with of_the_log(path), open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if not size:
            raise InputError(f"{path}: is empty; copy it again")
        offset = 0
        while offset < size:
            data = _record(path, file, offset, size)
            yield offset, data
            offset += _HEAD.size + len(data) + _FOOT.size


def read_record(path: Path, offset: int) -> bytes:
    """The record that begins at ``offset`` [bytes]; the last ones are kept, as points, labels and images share one.

    Raises:
        MissingFileError, InputError: as of ``records``.
    """
    with of_the_log(path):
        found = path.stat()
    return _kept(path, offset, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=2)
def _kept(path: Path, offset: int, size: int, changed_ns: int) -> bytes:
    with of_the_log(path), open(path, "rb") as file:
        return _record(path, file, offset, size)


def _record(path: Path, file: BinaryIO, offset: int, size: int) -> bytes:
    """The record at ``offset`` of a file of ``size`` bytes."""
    file.seek(offset)
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        raise InputError(f"{path}: is cut off in the record at byte {offset}; copy it again")
    length, checksum = _HEAD.unpack(head)
    if masked_crc32c(head[:8]) != checksum:
        raise InputError(
            f"{path}: the length at byte {offset} has another checksum than it should, so this is a damaged or "
            "compressed file, or no TFRecord file; copy it again"
        )
    if length > LONGEST_RECORD:
        raise InputError(
            f"{path}: the record at byte {offset} claims {length} bytes, more than the {LONGEST_RECORD} that any frame "
            "has; copy it again"
        )
    data = file.read(length) if offset + length + _HEAD.size + _FOOT.size <= size else b""
    foot = file.read(_FOOT.size)
    if len(data) < length or len(foot) < _FOOT.size:
        raise InputError(f"{path}: is cut off in the record at byte {offset}; copy it again")
    if masked_crc32c(data) != _FOOT.unpack(foot)[0]:
        raise InputError(
            f"{path}: the record at byte {offset} has another checksum than its data; copy it again"
        )
    return data


def masked_crc32c(data: bytes) -> int:
    """The checksum of the format: CRC-32C, turned right by 15 bits, plus a constant."""
    from .crc32c import crc32c  # numba is not waited for by those who read other files

    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF
