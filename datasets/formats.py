"""Arrays out of files by the name of their format; a file that cannot be right is one clear error.

A new format is one function here and one line in ``READERS``; cards and readers of datasets name it.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .read import of_the_log, read_bytes

UNKNOWN_ID = 65535  # raw ids from here on are one: no label set can name them

_Array = NDArray[Any]


class OpenFiles:
    """Files that stay open in this process, so that a scan is not paid with opening what holds a thousand of them."""

    def __init__(self, most: int = 16) -> None:
        self._most = most
        self._files: OrderedDict[Path, Any] = OrderedDict()

    def get(self, path: Path, opener: Callable[[Path], Any]) -> Any:
        """What ``opener(path)`` gave when it was first asked for; the longest unused is let go."""
        if path not in self._files:
            self._files[path] = opener(path)
            if len(self._files) > self._most:
                self._files.popitem(last=False)
        self._files.move_to_end(path)
        return self._files[path]

    def clear(self) -> None:
        """Let all go."""
        self._files.clear()


_open_files = OpenFiles()
if hasattr(os, "register_at_fork"):  # a shared descriptor has one position for all processes
    os.register_at_fork(after_in_child=_open_files.clear)


def _bare(path: Path, key: str, columns: int, dtype: str) -> _Array:
    """Little-endian numbers of a file that holds nothing else."""
    if key:
        raise InputError(
            f"{path}: a file of bare numbers has no part {key!r}; give its rows a format that has parts"
        )
    data = read_bytes(path)
    if data.startswith((b"# .PCD", b"VERSION")):
        raise InputError(
            f"{path}: is a PCD file with a header; the schema's .pcd.bin holds bare float32 rows, convert it"
        )
    item = np.dtype(dtype)
    width = item.itemsize * columns
    if len(data) % width:
        rows = "labels" if columns == 1 else f"points of {columns}"
        raise InputError(
            f"{path}: {len(data)} bytes are not whole {rows} {item.name} ({width} bytes); "
            "the file is cut off (copy it again) or has other columns than its card says (docs/own_data.md)"
        )
    return np.frombuffer(data, dtype=item).reshape(-1, columns)


def _npy(path: Path, key: str, columns: int) -> _Array:
    """The array of a NumPy file, or the entry ``key`` along its first axis; of the file, only that is read."""
    if not key:  # a file a scan: nothing is gained by keeping it open
        array = np.array(_open_npy(path))
    else:
        stack = _open_files.get(path, _open_npy)
        if not key.isdecimal() or int(key) >= len(stack):
            raise InputError(
                f"{path}: holds {len(stack)} entries, and {key!r} is none of them; prepare the log again"
            )
        array = np.array(stack[int(key)])
    if columns == 1:
        array = array.reshape(-1, 1)
    if array.ndim != 2 or array.shape[1] != columns:
        raise InputError(
            f"{path}: holds an array of shape {array.shape} where its card says {columns} columns; mend the card"
        )
    return array


def _open_npy(path: Path) -> _Array:
    with of_the_log(path):
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise InputError(
                f"{path}: is no NumPy file of plain numbers ({str(error).splitlines()[0]}); copy it again"
            ) from error


READERS: dict[str, Callable[[Path, str, int], _Array]] = {  # format -> (N, columns) of (path, key, columns)
    "f4": partial(_bare, dtype="<f4"),
    "u1": partial(_bare, dtype="u1"),
    "u2": partial(_bare, dtype="<u2"),
    "u4": partial(_bare, dtype="<u4"),
    "i4": partial(_bare, dtype="<i4"),
    "npy": _npy,
}


def read_points(path: Path, columns: int, *, format: str = "f4", key: str = "") -> NDArray[np.float32]:
    """(N, columns) float32 rows of points, in the file's axes; N may be 0.

    Raises:
        InputError: the file is missing, cut off, of another format, or holds NaN or infinity.
    """
    values = READERS[format](path, key, columns)
    if values.dtype.kind not in "fiu":
        raise InputError(f"{path}: holds {values.dtype} where points are numbers; export the scan again")
    points = values.astype(np.float32)
    broken = int((~np.isfinite(points)).any(axis=1).sum())
    if broken:
        raise InputError(
            f"{path}: {broken} of {len(points)} points hold NaN or infinity; "
            "remove these rows (and their labels) or export the scan again"
        )
    return points


def read_labels(
    path: Path, points: int, *, format: str = "u1", key: str = "", mask: int = 0xFFFFFFFF, shift: int = 0
) -> NDArray[np.uint32]:
    """(N,) uint32 raw ids from a file of one whole number a point: ``(number & mask) >> shift``.

    Args:
        points: number of points of the scan.

    Raises:
        InputError: the file is missing, holds no whole numbers, or another number of them than ``points``.
    """
    values = READERS[format](path, key, 1)[:, 0]
    if values.dtype.kind not in "iu":
        raise InputError(
            f"{path}: holds {values.dtype} where labels are whole numbers; mend the card's labels"
        )
    if len(values) != points:
        raise InputError(
            f"{path}: {len(values)} labels for a scan of {points} points; one of the two files is cut off or belongs "
            "to another version of the log, copy both again"
        )
    return (values.astype(np.uint32) & np.uint32(mask)) >> np.uint32(shift)


def look_up(table: NDArray[np.uint8], raw: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """``table`` (65536,) at the ``raw`` ids (N,); those beyond it, as negative numbers are, count as the last."""
    return table[np.minimum(raw, UNKNOWN_ID)]
