"""Teacher features computed once: reduced, in float16, in one memory-mapped file beside their record."""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, MissingFileError
from ..files.access import read_json, read_text, reading
from .reduction import AGAIN, Reduction

log = logging.getLogger(__name__)

SCHEMA = 1
RECORD, TOKENS, DONE = "features.json", "tokens.txt", "done.bin"
VALUES, REDUCTION = "features.f16", "reduction.safetensors"


class FeatureCache:
    """Read-only reduced features of the images of a log. Cheap to pickle: workers map the file themselves.

    Attributes:
        channels: C of a feature map.
        grid: h, w of a feature map; cell (i, j) stands for position ((i + 0.5) H / h - 0.5, ...) of an image of H rows.
        record: what made the features (teacher, size, reduction, hashes); plain values.
    """

    def __init__(self, folder: Path, record: dict[str, Any]) -> None:
        self.folder = folder
        self.record = record
        self.channels: int = record["channels"]
        self.grid: tuple[int, int] = (record["grid"][0], record["grid"][1])
        self._rows: dict[str, int] | None = None
        self._values: NDArray[np.float16] | None = None

    @classmethod
    def open(cls, folder: str | Path) -> FeatureCache:
        """The finished cache in ``folder``.

        Raises:
            MissingFileError, InputError: there is none; it was not finished; a file of it is missing or damaged.
        """
        folder = Path(folder)
        record = read_record(folder)
        if record is None:
            raise MissingFileError(
                f"{folder / RECORD}: no feature cache here; make it with "
                "`superflow prepare features --index INDEX --teacher NAME`"
            )
        cache = cls(folder, record)
        cache.check_files()
        done = cache.map_done("r")
        if not done.all():
            raise InputError(
                f"{folder}: only {np.count_nonzero(done)} of {len(done)} images have features; run the same build again"
            )
        return cache

    def __len__(self) -> int:
        return self.record["images"]

    def __contains__(self, token: str) -> bool:
        return token in self._row_of()

    @property
    def tokens(self) -> tuple[str, ...]:
        """Camera tokens in the order of the file."""
        return tuple(self._row_of())

    def read(self, token: str) -> NDArray[np.float16]:
        """(C, h, w) float16, a read-only view of the file.

        Raises:
            InputError: the cache has no image of that token.
        """
        row = self._row_of().get(token)
        if row is None:
            raise InputError(
                f"{self.folder}: no features of image {token!r}; build the cache over the same log"
            )
        if self._values is None:
            self._values = self.map_values("r")
        return self._values[row]

    def reduction(self) -> Reduction:
        """The map from teacher features to those stored, for images that are not in the cache."""
        return Reduction.load(self.folder / REDUCTION)

    def map_values(self, mode: Literal["r", "r+"]) -> np.memmap[Any, Any]:
        """(images, C, h, w) float16, the file itself; whether finished or not."""
        return _map(self.folder / VALUES, np.float16, (len(self), self.channels, *self.grid), mode)

    def map_done(self, mode: Literal["r", "r+"]) -> np.memmap[Any, Any]:
        """(images,) uint8, the file itself: 1 where the image has its features."""
        return _map(self.folder / DONE, np.uint8, (len(self),), mode)

    def check_files(self) -> None:
        """Every file is there, whole, and of this cache; only the features themselves are not read.

        Raises:
            MissingFileError, InputError: one is not.
        """
        self.map_values("r")
        self.map_done("r")
        if self.reduction().channels != self.channels:
            raise InputError(f"{self.folder / REDUCTION}: belongs to another cache; {AGAIN}")
        if hash_of_tokens(list(self._row_of())) != self.record["key"]["tokens_sha256"]:
            raise InputError(
                f"{self.folder / TOKENS}: is damaged, or names the images of another cache; {AGAIN}"
            )

    def _row_of(self) -> dict[str, int]:
        if self._rows is None:
            *tokens, rest = read_text(self.folder / TOKENS, AGAIN).split("\n")  # a line end after each
            if rest:
                raise InputError(f"{self.folder / TOKENS}: is damaged or cut off; {AGAIN}")
            self._rows = {token: row for row, token in enumerate(tokens)}
        return self._rows

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_rows": None, "_values": None}


def read_record(folder: Path) -> dict[str, Any] | None:
    """What made the features in ``folder``; None where there are none.

    Raises:
        InputError: the record is damaged or of another schema.
    """
    path = folder / RECORD
    if not os.path.lexists(path):
        return None
    record = read_json(path, AGAIN)
    if record.get("schema") != SCHEMA:
        raise InputError(f"{path}: schema {record.get('schema')} instead of {SCHEMA}; {AGAIN}")
    key, grid = record.get("key"), record.get("grid")
    whole = isinstance(key, dict) and {"tokens_sha256", "teacher", "size"} <= key.keys()
    numbers = [record.get("images"), record.get("channels"), *(grid if isinstance(grid, list) else [])]
    if not whole or len(numbers) != 4 or not all(type(number) is int and number > 0 for number in numbers):
        raise InputError(f"{path}: lacks what a record of features holds; {AGAIN}")
    return record


def _map(path: Path, dtype: Any, shape: tuple[int, ...], mode: Literal["r", "r+"]) -> np.memmap[Any, Any]:
    """The file as an array.

    Raises:
        MissingFileError, InputError: there is no such file; it is shorter or longer than the array.
    """
    with reading(path, AGAIN):
        size, due = path.stat().st_size, math.prod(shape) * np.dtype(dtype).itemsize
        if size != due:
            raise InputError(
                f"{path}: holds {size} bytes instead of {due}, so it is damaged or cut off; {AGAIN}"
            )
        return np.memmap(path, dtype=dtype, mode=mode, shape=shape)


def hash_of_tokens(tokens: Sequence[str]) -> str:
    """Hex sha256 of the tokens in their order."""
    return hashlib.sha256("\n".join(tokens).encode()).hexdigest()
