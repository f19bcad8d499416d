"""Shards of a feature cache: files of features that also say which image each is of, so that no list lies beside them.

A shard is written once and whole, and never changed: what is in a cache is the union of its shards. Of an image in
several, the one in the last shard counts; the others are of images that were replaced.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ..errors import InputError
from ..files.access import check_readable, reading
from ..files.writes import write_bytes
from .identity import ImageIdentity
from .reduction import AGAIN

SHARDS = "shards"  # folder in that of the cache
_FEATURES = "features"  # the tensor
_NAME = re.compile(r"(\d{6,})\.safetensors")
_MAKE = "prepare the features again, which makes only its images anew"
_AGAIN = f"delete this file and {_MAKE}"
_MOST_IMAGES = 256
_MOST_BYTES = 1 << 27  # what a builder holds in memory before it writes
_MOST_SECONDS = 30.0  # of work that a killed builder loses

Features = NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class Kind:
    """What all shards of a cache have in common: the shape of a feature map and the reduction that it came from."""

    shape: tuple[int, int, int]  # C, h, w
    reduction_sha256: str


def shard_paths(folder: Path) -> list[Path]:
    """The shards of the cache in ``folder``, oldest first."""
    place = folder / SHARDS
    if not os.path.lexists(place):
        return []
    with reading(place, AGAIN):
        found = [(int(match[1]), match[0]) for name in os.listdir(place) if (match := _NAME.fullmatch(name))]
    return [place / name for _, name in sorted(found)]


def read_tokens(path: Path, kind: Kind) -> list[str]:
    """Tokens of the images of a shard, by row; of the features only their shape is looked at.

    Raises:
        MissingFileError, InputError: there is no such file; it is damaged, or of another cache.
    """
    with _opened(path) as file:
        about, part = file.metadata() or {}, file.get_slice(_FEATURES)
        shape, dtype = tuple(part.get_shape()), part.get_dtype()
    if (shape[1:], dtype, about.get("reduction_sha256")) != (kind.shape, "F16", kind.reduction_sha256):
        raise InputError(f"{path}: holds features of another cache; {AGAIN}")
    tokens = _list(path, about, "tokens", shape[0])
    if not all(type(token) is str for token in tokens):
        raise InputError(f"{path}: does not say which images its features are of; {_AGAIN}")
    return tokens


def read_images(path: Path) -> list[ImageIdentity]:
    """Which image each row of a shard is of.

    Raises:
        MissingFileError, InputError: as ``read_tokens``.
    """
    with _opened(path) as file:
        about, rows = file.metadata() or {}, file.get_slice(_FEATURES).get_shape()[0]
    images = [ImageIdentity.from_dict(values) for values in _list(path, about, "images", rows)]
    known = [image for image in images if image is not None]
    if len(known) < rows:
        raise InputError(f"{path}: does not say which images its features are of; {_AGAIN}")
    return known


def map_features(path: Path, shape: tuple[int, int, int, int]) -> Features:
    """(n, C, h, w) float16, the file itself, read-only; only what is looked at is read.

    Raises:
        MissingFileError, InputError: there is no such file; it is damaged, or of another ``shape``.
    """
    with _opened(path) as file:
        part = file.get_slice(_FEATURES)
        if (tuple(part.get_shape()), part.get_dtype()) != (shape, "F16"):
            raise InputError(f"{path}: was replaced while it was in use; start again")
        features: Features = file.get_tensor(_FEATURES).numpy()
    features.flags.writeable = False
    return features


class ShardWriter:
    """Collects features and writes a shard whenever enough lie here, and at the end of the block, however it ends.

    Args:
        folder: of the cache; its only writer holds `files.writes.building`.
    """

    def __init__(self, folder: Path, kind: Kind) -> None:
        self._folder, self._kind = folder, kind
        self._begin()

    def _begin(self) -> None:
        self._tokens: list[str] = []
        self._images: list[ImageIdentity] = []
        self._features: list[Features] = []
        self._since = time.monotonic()

    def add(self, tokens: Sequence[str], images: Sequence[ImageIdentity], features: Features) -> None:
        """Take in ``features`` (n, C, h, w) of n images.

        Raises:
            InputError: the disk is full or may not be written to.
        """
        self._tokens += tokens
        self._images += images
        self._features.append(features)
        full = (
            len(self._tokens) >= _MOST_IMAGES
            or sum(part.nbytes for part in self._features) >= _MOST_BYTES
            or time.monotonic() - self._since >= _MOST_SECONDS
        )
        if full:
            self._write()

    def _write(self) -> None:
        if not self._tokens:
            return
        about = {
            "reduction_sha256": self._kind.reduction_sha256,
            "tokens": json.dumps(self._tokens),
            "images": json.dumps([image.to_dict() for image in self._images]),
        }
        before = shard_paths(self._folder)
        number = int(before[-1].stem) + 1 if before else 0
        features = np.ascontiguousarray(np.concatenate(self._features))  # what is saved is memory, not order
        write_bytes(
            self._folder / SHARDS / f"{number:06d}.safetensors", save({_FEATURES: features}, metadata=about)
        )
        self._begin()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._write()


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A shard through the safetensors library, which maps it, with words for what is wrong with the file."""
    check_readable(path, _MAKE)
    try:
        with reading(path, _MAKE), safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise InputError(f"{path}: is damaged ({error}); {_AGAIN}") from error


def _list(path: Path, about: dict[str, str], name: str, rows: int) -> list[Any]:
    try:
        values = json.loads(about[name])
    except (KeyError, ValueError, RecursionError):
        values = None
    if not isinstance(values, list) or len(values) != rows:
        raise InputError(f"{path}: does not say which images its features are of; {_AGAIN}")
    return values
