"""Teacher features computed once: reduced, in float16, in memory-mapped shards beside the record of what made them."""

from __future__ import annotations

import hashlib
import itertools
import os
import shlex
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, MissingFileError
from ..files.access import read_json, reading
from .identity import ImageIdentity
from .reduction import AGAIN, Reduction
from .shards import Features, Kind, map_features, read_images, read_tokens, shard_paths

SCHEMA = 2
RECORD, REDUCTION = "features.json", "reduction.safetensors"


class FeatureCache:
    """Read-only reduced features of images. Cheap to pickle: workers map the files themselves.

    It may hold the images of more frames than are asked for, or of fewer; see `lacking`.

    Attributes:
        channels: C of a feature map.
        grid: h, w of a feature map; cell (i, j) stands for position ((i + 0.5) H / h - 0.5, ...) of an image of H rows.
        record: what made the features; plain values. Its ``key`` has teacher, size, components, and the hash of the
            images that the reduction was fitted on; ``fit_tokens`` names these, None where it is that of another log.
    """

    def __init__(self, folder: Path, record: dict[str, Any]) -> None:
        self.folder = folder
        self.record = record
        self.channels: int = record["channels"]
        self.grid: tuple[int, int] = (record["grid"][0], record["grid"][1])
        self._paths: list[Path] = []  # of the shards
        # row at which each shard begins, counted through all of them; then how many there are
        self._first = [0]
        self._rows: dict[str, int] | None = None  # token -> row, counted likewise
        self._maps: dict[int, Features] = {}

    @classmethod
    def open(cls, folder: str | Path) -> FeatureCache:
        """The cache in ``folder``, every file of it looked at; only the features themselves are not read.

        Raises:
            MissingFileError, InputError: there is none; a file of it is missing, damaged, or of another cache.
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
        return cache

    def __len__(self) -> int:
        """Images that have features."""
        return len(self._row_of())

    def __contains__(self, token: str) -> bool:
        return token in self._row_of()

    @property
    def tokens(self) -> tuple[str, ...]:
        """Camera tokens in the order in which they were first made."""
        return tuple(self._row_of())

    def lacking(self, tokens: Iterable[str]) -> list[str]:
        """Those of ``tokens`` whose images have no features."""
        rows = self._row_of()
        return [token for token in tokens if token not in rows]

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
        shard = bisect_right(self._first, row) - 1
        first = self._first[shard]
        if shard not in self._maps:
            shape = (self._first[shard + 1] - first, *self.kind.shape)
            self._maps[shard] = map_features(self._paths[shard], shape)
        return self._maps[shard][row - first]

    def identities(self) -> dict[str, ImageIdentity]:
        """Token -> which image its features are of.

        Raises:
            InputError: a shard is damaged.
        """
        rows = self._row_of()
        images = [image for path in self._paths for image in read_images(path)]
        return {token: images[row] for token, row in rows.items()}

    def command(self, index: Path, frames: Sequence[str] = ()) -> str:
        """What makes features of further images here, for messages."""
        key = self.record["key"]
        size, components = map(str, key["size"]), str(key["components"] or 0)
        words = ["--index", str(index), "--out", str(self.folder), "--teacher", key["teacher"]["name"]]
        words += ["--size", *size, *(["--frames", *frames] if frames else [])]
        words += (
            ["--reduction-of", "FOLDER"]
            if self.record["fit_tokens"] is None
            else ["--components", components]
        )
        return f"superflow prepare features {shlex.join(words)}"

    def reduction(self) -> Reduction:
        """The map from teacher features to those stored, for images that are not in the cache."""
        return Reduction.load(self.folder / REDUCTION)

    @property
    def kind(self) -> Kind:
        """What its shards have in common."""
        return Kind((self.channels, *self.grid), self.record["reduction_sha256"])

    def check_files(self) -> None:
        """Every file is whole, and of this cache; only the features themselves are not read.

        Raises:
            MissingFileError, InputError: one is not.
        """
        path = self.folder / REDUCTION
        if (
            self.reduction().channels != self.channels
            or hash_of_file(path) != self.record["reduction_sha256"]
        ):
            raise InputError(f"{path}: belongs to another cache; {AGAIN}")
        self._row_of()

    def _row_of(self) -> dict[str, int]:
        if self._rows is None:
            paths, first, rows = shard_paths(self.folder), [0], dict[str, int]()
            for path in paths:
                tokens = read_tokens(path, self.kind)
                rows.update(zip(tokens, itertools.count(first[-1])))
                first.append(first[-1] + len(tokens))
            self._paths, self._first, self._rows = paths, first, rows
        return self._rows

    def __reduce__(self) -> tuple[Any, ...]:
        return FeatureCache, (self.folder, self.record)


def read_record(folder: Path) -> dict[str, Any] | None:
    """What made the features in ``folder``; None where there are none.

    Raises:
        InputError: the record is damaged or of another schema.
    """
    path = folder / RECORD
    if not os.path.lexists(path):
        return None
    record = read_json(path, AGAIN)
    if record.get("schema") == 1:
        raise InputError(
            f"{path}: is of an earlier version, whose features do not say which image each is of; delete its folder "
            "and prepare it again with `superflow prepare features`"
        )
    if record.get("schema") != SCHEMA:
        raise InputError(f"{path}: schema {record.get('schema')} instead of {SCHEMA}; {AGAIN}")
    if not _is_whole(record):
        raise InputError(f"{path}: lacks what a record of features holds; {AGAIN}")
    return record


def _is_whole(record: dict[str, Any]) -> bool:
    key, grid, fitted = record.get("key"), record.get("grid"), record.get("fit_tokens", ())
    numbers = [record.get("channels"), *(grid if isinstance(grid, list) else [])]
    return (
        isinstance(key, dict)
        and {"teacher", "size", "components", "fit_images_sha256"} <= key.keys()
        and len(numbers) == 3
        and all(type(number) is int and number > 0 for number in numbers)
        and type(record.get("reduction_sha256")) is str
        and (fitted is None or (isinstance(fitted, list) and all(type(token) is str for token in fitted)))
    )


def hash_of_file(path: Path) -> str:
    """Hex sha256 of a part of a cache.

    Raises:
        MissingFileError, InputError: there is no such file; it cannot be read.
    """
    with reading(path, AGAIN):
        return hashlib.sha256(path.read_bytes()).hexdigest()
