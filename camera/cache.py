"""Teacher features computed once: reduced, in float16, in one memory-mapped file beside their record."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import __version__
from ..datasets.frame import Camera
from ..errors import InputError, MissingFileError, write_atomically
from .crops import resize_image
from .images import camera_image
from .progress import Progress
from .reduction import Reduction, ReductionFit
from .teacher import Teacher

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
            MissingFileError, InputError: there is none; it was not finished.
        """
        folder = Path(folder)
        record = _read_record(folder)
        if record is None:
            raise MissingFileError(
                f"{folder / RECORD}: no feature cache here; make it with "
                "`superflow prepare features --index INDEX --teacher NAME`"
            )
        done = np.fromfile(folder / DONE, dtype=np.uint8)
        if not done.all():
            raise InputError(
                f"{folder}: only {int(done.sum())} of {len(done)} images have features; run the same build again"
            )
        return cls(folder, record)

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
            shape = (len(self), self.channels, *self.grid)
            self._values = np.memmap(self.folder / VALUES, dtype=np.float16, mode="r", shape=shape)
        return self._values[row]

    def reduction(self) -> Reduction:
        """The map from teacher features to those stored, for images that are not in the cache."""
        return Reduction.load(self.folder / REDUCTION)

    def _row_of(self) -> dict[str, int]:
        if self._rows is None:
            tokens = (self.folder / TOKENS).read_text().splitlines()
            self._rows = {token: row for row, token in enumerate(tokens)}
        return self._rows

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_rows": None, "_values": None}


def build_feature_cache(
    cameras: Sequence[Camera],
    teacher: Teacher,
    folder: str | Path,
    *,
    size: tuple[int, int] = (448, 832),
    components: int | None = 64,
    fit_tokens: Iterable[str] | None = None,
    fit_images: int = 128,
    batch: int = 1,
    threads: int | None = None,
    device: str | torch.device = "cpu",
    progress: bool = True,
) -> FeatureCache:
    """Features of all ``cameras``' images in ``folder``. A build that was stopped goes on where it was.

    Args:
        cameras: images of a log; tokens must be unique.
        teacher: its features are standardised per channel, each of its scales gets equal weight.
        size: height, width that images are resized to (antialiased); the nearest that the teacher takes is used.
        components: principal directions kept; None stores all channels, standardised and weighted.
        fit_tokens: images that mean, deviation and directions may be fitted on (training images); None is all.
        fit_images: at most so many of them, evenly spaced.
        batch: images a forward pass; 1 is fastest on a CPU.
        threads: torch threads during the build; None leaves the setting.

    Raises:
        InputError: the folder holds features of another teacher, size or set of images; an image is unreadable;
            repeated tokens, an unknown fit token, no images, more components than channels.
    """
    folder = Path(folder)
    tokens = [camera.token for camera in cameras]
    if (fitting := teacher.fit_size(size)) != tuple(size):
        log.info("%s sees images at %d x %d instead of %d x %d", teacher.name, *fitting, *size)
        size = fitting
    fit = _fit_cameras(cameras, fit_tokens, fit_images)
    key = {
        "teacher": teacher.record(),
        "size": list(size),
        "components": components,
        "tokens_sha256": _hash(tokens),
        "fit_sha256": _hash([camera.token for camera in fit]),
    }
    key = json.loads(json.dumps(key))  # as it will be read back
    record = _read_record(folder)
    if record is not None:
        _check_key(folder, record, key)
    with _threads(threads):
        teacher = teacher.to(device)
        if record is None:
            record = _start(folder, cameras, fit, teacher, key, batch=batch, progress=progress)
        cache = FeatureCache(folder, record)
        _fill(cache, cameras, teacher, batch=batch, progress=progress)
    return FeatureCache.open(folder)


def _start(
    folder: Path,
    cameras: Sequence[Camera],
    fit: Sequence[Camera],
    teacher: Teacher,
    key: dict[str, Any],
    *,
    batch: int,
    progress: bool,
) -> dict[str, Any]:
    """Fit the reduction and lay out the empty files; the record is written last, so it vouches for the others."""
    size = (key["size"][0], key["size"][1])
    bar = Progress("feature statistics", len(fit), log=log, enabled=progress)
    sums = ReductionFit(teacher.channels)
    for _, features in _features(fit, range(len(fit)), teacher, size, batch):
        for one in features:
            sums.add(one[None])
        bar.advance(len(features))
    reduction = sums.finish(teacher.scale_channels, key["components"])
    grid = teacher.grid(size)
    record = {
        "schema": SCHEMA,
        "key": key,
        "images": len(cameras),
        "channels": reduction.channels,
        "grid": list(grid),
        "dtype": "float16",
        "kept_variance": round(reduction.kept_variance, 6),
        "fit_images": len(fit),
        "version": __version__,
    }
    reduction.save(folder / REDUCTION)
    with write_atomically(folder / TOKENS, "w") as file:
        file.write("".join(f"{camera.token}\n" for camera in cameras))
    for name, length in (
        (DONE, len(cameras)),
        (VALUES, 2 * len(cameras) * reduction.channels * grid[0] * grid[1]),
    ):
        with write_atomically(folder / name) as file:
            _reserve(file, length)
    with write_atomically(folder / RECORD, "w") as file:
        json.dump(record, file, indent=1)
    return record


def _fill(
    cache: FeatureCache, cameras: Sequence[Camera], teacher: Teacher, *, batch: int, progress: bool
) -> None:
    """Compute what is missing; an image counts as done only after its features have reached the file."""
    shape = (len(cache), cache.channels, *cache.grid)
    done = np.memmap(cache.folder / DONE, dtype=np.uint8, mode="r+")
    todo = np.flatnonzero(done == 0).tolist()
    bar = Progress("features", len(cameras), done=len(cameras) - len(todo), log=log, enabled=progress)
    if not todo:
        return
    values = np.memmap(cache.folder / VALUES, dtype=np.float16, mode="r+", shape=shape)
    reduction = cache.reduction()
    size = (cache.record["key"]["size"][0], cache.record["key"]["size"][1])
    for rows, features in _features(cameras, todo, teacher, size, batch):
        values[rows] = reduction(features).cpu().numpy().astype(np.float16)
        values.flush()
        done[rows] = 1
        done.flush()
        bar.advance(len(rows))


def _features(
    cameras: Sequence[Camera], rows: Sequence[int], teacher: Teacher, size: tuple[int, int], batch: int
) -> Iterator[tuple[list[int], Tensor]]:
    """Rows and their (B, C, h, w) features; the next images are read while the teacher runs."""
    device = next(teacher.buffers()).device

    def load(chunk: Sequence[int]) -> Tensor:
        images = [resize_image(camera_image(cameras[row]), size) for row in chunk]
        return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)

    chunks = [list(rows[start : start + batch]) for start in range(0, len(rows), batch)]
    with ThreadPoolExecutor(1) as pool:
        ahead = [pool.submit(load, chunk) for chunk in chunks[:1]]
        for number, chunk in enumerate(chunks):
            images = ahead.pop().result()
            ahead += [pool.submit(load, following) for following in chunks[number + 1 : number + 2]]
            yield chunk, teacher(images.to(device).float() / 255)


def _reserve(file: IO[bytes], length: int) -> None:
    """Zeros with their disk space: a full disk is an error now, not a crash when the mapped file is written."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, length)
    file.truncate(length)


def _fit_cameras(
    cameras: Sequence[Camera], fit_tokens: Iterable[str] | None, fit_images: int
) -> list[Camera]:
    by_token = {camera.token: camera for camera in cameras}
    if not cameras:
        raise InputError(
            "there is no image to make features of: the chosen frames have no cameras; choose others"
        )
    if len(by_token) < len(cameras):
        raise InputError(f"{len(cameras)} images with {len(by_token)} different tokens; give each image once")
    if fit_tokens is None:
        candidates = list(cameras)
    else:
        wanted = set(fit_tokens)
        if unknown := wanted - by_token.keys():
            raise InputError(
                f"fit_tokens holds {sorted(unknown)[0]!r}, which is no token of the given images; "
                "choose the images to fit on among those that get features"
            )
        candidates = [camera for camera in cameras if camera.token in wanted]
    if not candidates or fit_images < 1:
        raise InputError("no image to fit the reduction on; give fit_tokens or fit_images at least one")
    spaced = np.linspace(0, len(candidates) - 1, min(fit_images, len(candidates)))
    return [candidates[round(place)] for place in spaced]


def _check_key(folder: Path, record: dict[str, Any], key: dict[str, Any]) -> None:
    found = record["key"]
    differing = [name for name in key if found.get(name) != key[name]]
    if differing:
        name = differing[0]
        before, now = (json.dumps(values.get(name))[:120] for values in (found, key))
        raise InputError(
            f"{folder}: holds features made with another {name} ({before} instead of {now}); "
            "choose another folder or delete this one"
        )


def _read_record(folder: Path) -> dict[str, Any] | None:
    path = folder / RECORD
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: is no JSON ({error}); delete the folder and build it again") from error
    if record.get("schema") != SCHEMA:
        raise InputError(
            f"{path}: schema {record.get('schema')} instead of {SCHEMA}; delete it and build it again"
        )
    return record


def _hash(tokens: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(tokens).encode()).hexdigest()


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
