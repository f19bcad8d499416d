"""Builds a feature cache: fits the reduction once, and makes the features of images that have none of theirs yet.

What is kept depends on the maker and on each image alone, never on the log: scenes may be added to it.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .. import __version__
from ..datasets.frame import Camera
from ..errors import InputError
from ..files.writes import building, write_json
from ..progress import LogLines, Progress
from .cache import RECORD, REDUCTION, SCHEMA, FeatureCache, hash_of_file, read_record
from .crops import resize_image
from .identity import ImageIdentity, identified_image
from .reduction import Reduction, ReductionFit
from .shards import ShardWriter
from .teacher import Teacher

log = logging.getLogger(__name__)

_LARGEST_SIDE = 16384  # pixels; more is a slip, and more than a teacher's memory


class _Pace(NamedTuple):
    """Images a forward pass; passes at once, a thread each, or None: one, while the next images are read."""

    batch: int
    at_once: int | None


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
    """Features of all ``cameras``' images in ``folder``; what is there already stays, also of further images.

    A build that was stopped goes on where it was; images that were replaced under their token are made anew.

    Args:
        cameras: images of a log; tokens must be unique.
        teacher: its features are standardised per channel, each of its scales gets equal weight.
        size: height, width that images are resized to (antialiased); the nearest that the teacher takes is used.
        components: principal directions kept; None stores all channels, standardised and weighted.
        fit_tokens: images that mean, deviation and directions may be fitted on (training images); None is all.
            The reduction is fitted when the first image is made, and must have been fitted on some of these.
        fit_images: at most so many of them, evenly spaced.
        reduction_of: folder of a finished cache, of another log, whose statistics and directions are taken instead of
            fitted ones: channels of the two then mean the same. Its ``components`` apply.
        batch: images a forward pass; 1 is fastest on a CPU.
        threads: on a CPU, images a forward pass times so many are made at once, each pass in one thread, with the
            same features as in one alone. None: one pass at a time, with the threads that torch has.
        progress: told how far the work is; None logs it.

    Raises:
        InputError: the folder holds features of another teacher, size or reduction, or damaged ones; an image is
            unreadable; repeated tokens, an unknown fit token, no images, more components than channels.
    """
    folder = Path(folder)
    fit = _fit_cameras(cameras, fit_tokens)
    if fit_images < 1:
        raise InputError(f"fit_images is {fit_images}; at least one image has to be fitted on")
    given = None if reduction_of is None else _given(Path(reduction_of), teacher)
    _check_numbers(size, components if given is None else None, teacher.channels)
    if (fitting := teacher.fit_size(size)) != tuple(size):
        log.info("%s sees images at %d x %d instead of %d x %d", teacher.name, *fitting, *size)
        size = fitting
    kept = components if given is None else given.record["key"]["components"]
    key = {"teacher": teacher.record(), "size": list(size), "components": kept}
    key = json.loads(json.dumps(key))  # as it will be read back
    begun = _begun(folder, key, fit, given)
    todo = list(cameras) if begun is None else _to_make(begun, cameras)
    if begun is not None and not todo:  # also where this user may not write
        return begun
    progress = progress or LogLines(log)
    pace = _Pace(batch, threads if torch.device(device).type == "cpu" else None)
    with _threads(None if pace.at_once is None else 1), building(folder):
        teacher = teacher.to(device)
        begun = _begun(folder, key, fit, given)
        if begun is None:
            spaced = _spaced(fit, fit_images)
            begun = _start(folder, spaced, teacher, key, given, pace=pace, progress=progress)
        todo = _to_make(begun, todo)  # another builder may have made some
        _say_replaced(begun, todo)
        _fill(begun, todo, teacher, ready=len(cameras) - len(todo), pace=pace, progress=progress)
    return _finished(folder, cameras)


def _finished(folder: Path, cameras: Sequence[Camera]) -> FeatureCache:
    cache = FeatureCache.open(folder)
    if lost := cache.lacking(camera.token for camera in cameras):  # on a disk without locks
        raise InputError(
            f"{folder}: another process has built here and taken the place of {len(lost)} images; run the build again"
        )
    return cache


def _begun(
    folder: Path, key: dict[str, Any], fit: Sequence[Camera], given: FeatureCache | None
) -> FeatureCache | None:
    """The cache of this ``key`` in ``folder``, its files looked at; None where there is none."""
    record = read_record(folder)
    if record is None:
        return None
    _check_key(folder, record, key)
    _check_reduction(folder, record, fit, given)
    cache = FeatureCache(folder, record)
    cache.check_files()
    return cache


def _start(
    folder: Path,
    fit: Sequence[Camera],
    teacher: Teacher,
    key: dict[str, Any],
    given: FeatureCache | None,
    *,
    pace: _Pace,
    progress: Progress,
) -> FeatureCache:
    """Fit the reduction, unless it is given. The record is written last, so it vouches for the reduction."""
    size = (key["size"][0], key["size"][1])
    if given is not None:
        reduction, fitted = given.reduction(), given.record["key"]["fit_images_sha256"]
    else:
        reduction, fitted = _fit_reduction(
            fit, teacher, size, key["components"], pace=pace, progress=progress
        )
    reduction.save(folder / REDUCTION)
    record = {
        "schema": SCHEMA,
        "key": {**key, "fit_images_sha256": fitted},
        "reduction_sha256": hash_of_file(folder / REDUCTION),
        "fit_tokens": [camera.token for camera in fit] if given is None else None,
        "channels": reduction.channels,
        "grid": list(teacher.grid(size)),
        "dtype": "float16",
        "kept_variance": round(reduction.kept_variance, 6),
        "version": __version__,
    }
    write_json(folder / RECORD, record)
    cache = FeatureCache(folder, record)
    cache.check_files()  # shards of a cache that has lost its record
    return cache


def _fit_reduction(
    fit: Sequence[Camera],
    teacher: Teacher,
    size: tuple[int, int],
    components: int | None,
    *,
    pace: _Pace,
    progress: Progress,
) -> tuple[Reduction, str]:
    """The reduction, and the hash of the images that it was fitted on."""
    what, seen, digest = "feature statistics", 0, hashlib.sha256()
    progress(what, seen, len(fit))
    sums = ReductionFit(teacher.channels)
    for chunk, images, features in _features(fit, teacher, size, pace):
        for one in features:
            sums.add(one[None])
        for image in images:
            digest.update(f"{image.sha256}\n".encode())
        seen += len(chunk)
        progress(what, seen, len(fit))
    return sums.finish(teacher.scale_channels, components), digest.hexdigest()


def _given(folder: Path, teacher: Teacher) -> FeatureCache:
    """The cache whose reduction is to be taken.

    Raises:
        InputError: it is of another teacher.
    """
    other = FeatureCache.open(folder)
    of = other.record["key"]["teacher"]
    if of != json.loads(json.dumps(teacher.record())):
        raise InputError(
            f"{folder}: has features of {of['name']}, not of {teacher.name} with the same "
            "weights; choose the cache of the same teacher"
        )
    return other


def _to_make(cache: FeatureCache, cameras: Sequence[Camera]) -> list[Camera]:
    """Those that have no features, or features of another image of that name."""
    made = cache.identities()
    return [camera for camera in cameras if camera.token not in made or not made[camera.token].holds(camera)]


def _say_replaced(cache: FeatureCache, todo: Sequence[Camera]) -> None:
    replaced = [camera.token for camera in todo if camera.token in cache]
    if replaced:
        log.info(
            "%s: %d images have changed since their features were made (first: %s); they are made anew",
            cache.folder,
            len(replaced),
            replaced[0],
        )


def _fill(
    cache: FeatureCache,
    todo: Sequence[Camera],
    teacher: Teacher,
    *,
    ready: int,
    pace: _Pace,
    progress: Progress,
) -> None:
    """Compute the features of ``todo``; those that were made stay, whatever ends the work."""
    total = ready + len(todo)
    progress("features", ready, total)
    if not todo:
        return
    reduction = cache.reduction()
    size = (cache.record["key"]["size"][0], cache.record["key"]["size"][1])
    with ShardWriter(cache.folder, cache.kind) as shards:
        for chunk, images, features in _features(todo, teacher, size, pace):
            values = reduction(features).cpu().numpy().astype(np.float16)
            shards.add([camera.token for camera in chunk], images, values)
            ready += len(chunk)
            progress("features", ready, total)


def _features(
    cameras: Sequence[Camera], teacher: Teacher, size: tuple[int, int], pace: _Pace
) -> Iterator[tuple[Sequence[Camera], list[ImageIdentity], Tensor]]:
    """Cameras, which images these were and their (B, C, h, w) features; the next are read while the teacher runs."""
    device, own = next(teacher.buffers()).device, threading.local()

    def load(chunk: Sequence[Camera]) -> tuple[list[ImageIdentity], Tensor]:
        read = [identified_image(camera) for camera in chunk]
        images = np.stack([resize_image(image, size) for image, _ in read])
        return [identity for _, identity in read], torch.from_numpy(images).permute(0, 3, 1, 2)

    def make(chunk: Sequence[Camera]) -> tuple[list[ImageIdentity], Tensor]:
        if "teacher" not in own.__dict__:
            own.teacher = _twin(teacher)
        identities, images = load(chunk)
        return identities, own.teacher(images.float() / 255)

    chunks = [cameras[start : start + pace.batch] for start in range(0, len(cameras), pace.batch)]
    work, at_once = (load, 1) if pace.at_once is None else (make, pace.at_once)
    with ThreadPoolExecutor(at_once) as pool:
        ahead = deque(pool.submit(work, chunk) for chunk in chunks[:at_once])
        for number, chunk in enumerate(chunks):
            identities, made = ahead.popleft().result()
            ahead.extend(pool.submit(work, next_one) for next_one in chunks[number + at_once :][:1])
            yield chunk, identities, teacher(made.to(device).float() / 255) if work is load else made


def _twin(teacher: Teacher) -> Teacher:
    """The same network with the same weights, for another thread: some of timm's keep their maps with themselves."""
    tensors = [*teacher.parameters(), *teacher.buffers()]
    return copy.deepcopy(teacher, {id(tensor): tensor for tensor in tensors})


def _fit_cameras(cameras: Sequence[Camera], fit_tokens: Iterable[str] | None) -> list[Camera]:
    """Those that may be fitted on."""
    tokens = {camera.token for camera in cameras}
    if not cameras:
        raise InputError(
            "there is no image to make features of: the chosen frames have no cameras; choose others"
        )
    if len(tokens) < len(cameras):
        raise InputError(f"{len(cameras)} images with {len(tokens)} different tokens; give each image once")
    if fit_tokens is None:
        return list(cameras)
    wanted = set(fit_tokens)
    if unknown := wanted - tokens:
        raise InputError(
            f"fit_tokens holds {sorted(unknown)[0]!r}, which is no token of the given images; "
            "choose the images to fit on among those that get features"
        )
    if not wanted:
        raise InputError("no image to fit the reduction on; give fit_tokens at least one")
    return [camera for camera in cameras if camera.token in wanted]


def _spaced(cameras: Sequence[Camera], most: int) -> list[Camera]:
    places = np.linspace(0, len(cameras) - 1, min(most, len(cameras)))
    return [cameras[round(place)] for place in places]


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


def _check_reduction(
    folder: Path, record: dict[str, Any], fit: Sequence[Camera], given: FeatureCache | None
) -> None:
    """The reduction that lies there is the one that is given, or was fitted on images that may be fitted on."""
    if given is not None:
        if given.record["reduction_sha256"] != record["reduction_sha256"]:
            raise InputError(
                f"{folder}: holds features of another reduction than that of {given.folder}; "
                "choose another folder or delete this one"
            )
        return
    if record["fit_tokens"] is None:
        raise InputError(
            f"{folder}: holds features whose reduction was taken from another cache; name that one again "
            "(--reduction-of), choose another folder, or delete this one"
        )
    outside = set(record["fit_tokens"]) - {camera.token for camera in fit}
    if outside:
        raise InputError(
            f"{folder}: its reduction was fitted on {len(outside)} images (first: {min(outside)}) that are not among "
            "those that may be fitted on now; name frames that hold them (--fit-frames), choose another folder, or "
            "delete this one"
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
