"""Builds a feature cache: fits the reduction, lays the files out, and fills them; a stopped build goes on."""

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
from torch import Tensor

from .. import __version__
from ..datasets.frame import Camera
from ..errors import InputError
from ..files.access import reading
from ..files.writes import building, write_atomically
from ..progress import LogLines, Progress
from .cache import DONE, RECORD, REDUCTION, SCHEMA, TOKENS, VALUES, FeatureCache, hash_of_tokens, read_record
from .crops import resize_image
from .images import camera_image
from .reduction import Reduction, ReductionFit
from .teacher import Teacher

log = logging.getLogger(__name__)

_LARGEST_SIDE = 16384  # pixels; more is a slip, and more than a teacher's memory


def build_feature_cache(
    cameras: Sequence[Camera],
    teacher: Teacher,
    folder: str | Path,
    *,
    size: tuple[int, int] = (448, 832),
    components: int | None = 64,
    fit_tokens: Iterable[str] | None = None,
    fit_images: int = 128,
    reduction_of: str | Path | None = None,
    batch: int = 1,
    threads: int | None = None,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> FeatureCache:
    """Features of all ``cameras``' images in ``folder``. A build that was stopped goes on where it was.

    Args:
        cameras: images of a log; tokens must be unique.
        teacher: its features are standardised per channel, each of its scales gets equal weight.
        size: height, width that images are resized to (antialiased); the nearest that the teacher takes is used.
        components: principal directions kept; None stores all channels, standardised and weighted.
        fit_tokens: images that mean, deviation and directions may be fitted on (training images); None is all.
        fit_images: at most so many of them, evenly spaced.
        reduction_of: folder of a finished cache, of another log, whose statistics and directions are taken instead of
            fitted ones: channels of the two then mean the same. Its ``components`` apply.
        batch: images a forward pass; 1 is fastest on a CPU.
        threads: torch threads during the build; None leaves the setting.
        progress: told how far the work is; None logs it.

    Raises:
        InputError: the folder holds features of another teacher, size or set of images, or damaged ones; an image is
            unreadable; repeated tokens, an unknown fit token, no images, more components than channels.
    """
    folder = Path(folder)
    tokens = [camera.token for camera in cameras]
    fit = _fit_cameras(cameras, fit_tokens, fit_images)
    _check_numbers(size, components if reduction_of is None else None, teacher.channels)
    if (fitting := teacher.fit_size(size)) != tuple(size):
        log.info("%s sees images at %d x %d instead of %d x %d", teacher.name, *fitting, *size)
        size = fitting
    key = {
        "teacher": teacher.record(),
        "size": list(size),
        "components": components,
        "tokens_sha256": hash_of_tokens(tokens),
        "fit_sha256": hash_of_tokens([camera.token for camera in fit]),
    }
    if reduction_of is not None:
        key |= _key_of_reduction(Path(reduction_of), key)
    key = json.loads(json.dumps(key))  # as it will be read back
    begun = _begun(folder, key)
    if begun is not None and begun.map_done("r").all():  # also where this user may not write
        return FeatureCache.open(folder)
    progress = progress or LogLines(log)
    with _threads(threads), building(folder):
        teacher = teacher.to(device)
        begun = _begun(folder, key)
        if begun is None:
            given = None if reduction_of is None else FeatureCache.open(reduction_of).reduction()
            record = _start(folder, cameras, fit, teacher, key, given, batch=batch, progress=progress)
            begun = FeatureCache(folder, record)
        _fill(begun, cameras, teacher, batch=batch, progress=progress)
    return FeatureCache.open(folder)


def _begun(folder: Path, key: dict[str, Any]) -> FeatureCache | None:
    """The cache of this ``key`` in ``folder``, finished or not, its files looked at; None where there is none."""
    record = read_record(folder)
    if record is None:
        return None
    _check_key(folder, record, key)
    cache = FeatureCache(folder, record)
    cache.check_files()
    return cache


def _start(
    folder: Path,
    cameras: Sequence[Camera],
    fit: Sequence[Camera],
    teacher: Teacher,
    key: dict[str, Any],
    given: Reduction | None,
    *,
    batch: int,
    progress: Progress,
) -> dict[str, Any]:
    """Fit the reduction, unless it is given, and lay out the empty files.

    The record is written last, so it vouches for the others.
    """
    size = (key["size"][0], key["size"][1])
    fit = [] if given is not None else fit
    reduction = given or _fit_reduction(fit, teacher, size, key["components"], batch=batch, progress=progress)
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


def _fit_reduction(
    fit: Sequence[Camera],
    teacher: Teacher,
    size: tuple[int, int],
    components: int | None,
    *,
    batch: int,
    progress: Progress,
) -> Reduction:
    what, seen = "feature statistics", 0
    progress(what, seen, len(fit))
    sums = ReductionFit(teacher.channels)
    for _, features in _features(fit, range(len(fit)), teacher, size, batch):
        for one in features:
            sums.add(one[None])
        seen += len(features)
        progress(what, seen, len(fit))
    return sums.finish(teacher.scale_channels, components)


def _key_of_reduction(folder: Path, key: dict[str, Any]) -> dict[str, Any]:
    """What a key says of a reduction that was taken from another cache.

    Raises:
        InputError: that cache is of another teacher.
    """
    other = FeatureCache.open(folder).record["key"]
    if other["teacher"] != json.loads(json.dumps(key["teacher"])):
        raise InputError(
            f"{folder}: has features of {other['teacher']['name']}, not of {key['teacher']['name']} with the same "
            "weights; choose the cache of the same teacher"
        )
    with reading(folder / REDUCTION):
        digest = hashlib.sha256((folder / REDUCTION).read_bytes()).hexdigest()
    return {"components": other["components"], "fit_sha256": other["fit_sha256"], "reduction_sha256": digest}


def _fill(
    cache: FeatureCache, cameras: Sequence[Camera], teacher: Teacher, *, batch: int, progress: Progress
) -> None:
    """Compute what is missing; an image counts as done only after its features have reached the file."""
    done = cache.map_done("r+")
    todo = np.flatnonzero(done == 0).tolist()
    progress("features", len(cameras) - len(todo), len(cameras))
    if not todo:
        return
    values = cache.map_values("r+")
    reduction = cache.reduction()
    size = (cache.record["key"]["size"][0], cache.record["key"]["size"][1])
    for rows, features in _features(cameras, todo, teacher, size, batch):
        values[rows] = reduction(features).cpu().numpy().astype(np.float16)
        values.flush()
        done[rows] = 1
        done.flush()
        progress("features", int(np.count_nonzero(done)), len(cameras))


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


def _check_numbers(size: tuple[int, int], components: int | None, channels: int) -> None:
    """Said before a teacher looks at the first image."""
    if not all(1 <= side <= _LARGEST_SIDE for side in size):
        raise InputError(
            f"size is {size[0]} x {size[1]}; height and width that a teacher sees must be 1 to {_LARGEST_SIDE} pixels"
        )
    if components is not None and not 1 <= components <= channels:
        raise InputError(f"components must be in 1..{channels} (the teacher's channels), not {components}")


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
