"""CRC-32C (Castagnoli), the checksum of RFC 3720, of megabytes at a time."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...compiled import compiled

_POLYNOMIAL = 0x82F63B78


def crc32c(data: bytes) -> int:
    """The checksum of ``data``, 32 bits."""
    return int(_crc32c(np.frombuffer(data, np.uint8), _tables()))


@cache
def _tables() -> NDArray[np.uint32]:
    """(8, 256) what a byte does to the checksum that lies 0 to 7 bytes before the end of a step."""
    tables = np.zeros((8, 256), np.uint32)
    values = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        values = np.where(
            values & 1, (values >> np.uint32(1)) ^ np.uint32(_POLYNOMIAL), values >> np.uint32(1)
        )
    tables[0] = values
    for i in range(1, 8):
        tables[i] = (tables[i - 1] >> np.uint32(8)) ^ tables[0][tables[i - 1] & np.uint32(255)]
    return tables


@compiled()
def _crc32c(data: NDArray[np.uint8], tables: NDArray[np.uint32]) -> Any:
    """Eight bytes a step: a table each, so that a step need not wait for eight."""
    crc = np.uint32(0xFFFFFFFF)
    steps = len(data) // 8
    for step in range(steps):
        i = 8 * step
        value = np.uint32(0)
        for k in range(4):
            low = (crc >> np.uint32(8 * k)) & np.uint32(255)
            value ^= tables[7 - k, low ^ data[i + k]]
            value ^= tables[3 - k, data[i + 4 + k]]
        crc = value
    for i in range(8 * steps, len(data)):
        crc = (crc >> np.uint32(8)) ^ tables[0, (crc ^ data[i]) & np.uint32(255)]
    return crc ^ np.uint32(0xFFFFFFFF)
