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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import __version__
from ..datasets.frame import Camera
from ..devices import usable_device
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


_KEPT_BYTES = 2**29  # of features that a reduction is fitted on, so that they need not be made again


@dataclass(frozen=True)
class _Passes:
    """Passes of a teacher over images of one ``size``.

    batch: images of a pass. at_once: passes at a time, a thread each; None: one, while the next images are read. kept:
    by token, what was made before and is taken from here: the image and its (1, C, h, w).
    """

    teacher: Teacher
    size: tuple[int, int]
    batch: int
    at_once: int | None
    kept: dict[str, tuple[ImageIdentity, Tensor]] = field(default_factory=dict)

    def over(
        self, cameras: Sequence[Camera]
    ) -> Iterator[tuple[Sequence[Camera], list[ImageIdentity], Tensor]]:
        """Cameras, which images these were and their (B, C, h, w) features."""
        device, own = next(self.teacher.buffers()).device, threading.local()

        def work(chunk: Sequence[Camera]) -> tuple[list[ImageIdentity], Tensor, bool]:
            """Images, or their features already."""
            known = [self.kept.pop(camera.token) for camera in chunk if camera.token in self.kept]
            if len(known) == len(chunk):
                return [identity for identity, _ in known], torch.cat([one for _, one in known]), True
            read = [identified_image(camera) for camera in chunk]
            identities = [identity for _, identity in read]
            images = np.stack([resize_image(image, self.size) for image, _ in read])
            given = torch.from_numpy(images).permute(0, 3, 1, 2)
            if self.at_once is None:
                return identities, given, False
            if "teacher" not in own.__dict__:
                own.teacher = _twin(self.teacher)
            return identities, own.teacher(given.float() / 255), True

        chunks = [cameras[start : start + self.batch] for start in range(0, len(cameras), self.batch)]
        ready = self.at_once or 1
        with ThreadPoolExecutor(ready) as pool:
            ahead = deque(pool.submit(work, chunk) for chunk in chunks[:ready])
            for number, chunk in enumerate(chunks):
                identities, made, done = ahead.popleft().result()
                ahead.extend(pool.submit(work, following) for following in chunks[number + ready :][:1])
                features = made if done else self.teacher(made.to(device).float() / 255)
                self._check(chunk, features)
                yield chunk, identities, features

    def _check(self, chunk: Sequence[Camera], features: Tensor) -> None:
        finite = features.flatten(1).isfinite().all(1)
        if not bool(finite.all()):
            path = chunk[int((~finite).nonzero()[0])].path
            raise InputError(
                f"{path}: {self.teacher.name} sees what is not finite in this image, and a loss with it would not be "
                "either; run it on a CPU, where it computes in float32, or take another teacher"
            )

    def keep(self, camera: Camera, image: ImageIdentity, features: Tensor) -> None:
        """For a later pass over the same images, as many as fit into memory."""
        if features.device.type == "cpu" and (len(self.kept) + 1) * features.nbytes <= _KEPT_BYTES:
            self.kept[camera.token] = image, features


def _twin(teacher: Teacher) -> Teacher:
    """The same network with the same weights, for another thread: some of timm's keep their maps with themselves."""
    tensors = [*teacher.parameters(), *teacher.buffers()]
    return copy.deepcopy(teacher, {id(tensor): tensor for tensor in tensors})


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
            unreadable, or the teacher's features of it are not finite; repeated tokens, an unknown fit token, no
            images, more components than channels; the device cannot be used.
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
    place = usable_device(device)
    at_once = threads if place.type == "cpu" else None
    with _threads(None if at_once is None else 1), building(folder):
        passes = _Passes(teacher.to(place), (size[0], size[1]), batch, at_once)
        begun = _begun(folder, key, fit, given)
        if begun is None:
            spaced = _spaced(fit, fit_images)
            begun = _start(folder, spaced, passes, key, given, progress)
        todo = _to_make(begun, todo)  # another builder may have made some
        _say_replaced(begun, todo)
        _fill(begun, todo, passes, ready=len(cameras) - len(todo), progress=progress)
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
    passes: _Passes,
    key: dict[str, Any],
    given: FeatureCache | None,
    progress: Progress,
) -> FeatureCache:
    """Fit the reduction, unless it is given. The record is written last, so it vouches for the reduction."""
    if given is not None:
        reduction, fitted = given.reduction(), given.record["key"]["fit_images_sha256"]
    else:
        reduction, fitted = _fit_reduction(fit, passes, key["components"], progress)
    reduction.save(folder / REDUCTION)
    record = {
        "schema": SCHEMA,
        "key": {**key, "fit_images_sha256": fitted},
        "reduction_sha256": hash_of_file(folder / REDUCTION),
        "fit_tokens": [camera.token for camera in fit] if given is None else None,
        "channels": reduction.channels,
        "grid": list(passes.teacher.grid(passes.size)),
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
    passes: _Passes,
    components: int | None,
    progress: Progress,
) -> tuple[Reduction, str]:
    """The reduction, and the hash of the images that it was fitted on."""
    what, seen, digest = "feature statistics", 0, hashlib.sha256()
    progress(what, seen, len(fit))
    sums = ReductionFit(passes.teacher.channels)
    for chunk, images, features in passes.over(fit):
        for camera, image, one in zip(chunk, images, features.split(1), strict=True):
            sums.add(one)
            passes.keep(camera, image, one)
            digest.update(f"{image.sha256}\n".encode())
        seen += len(chunk)
        progress(what, seen, len(fit))
    return sums.finish(passes.teacher.scale_channels, components), digest.hexdigest()


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
    passes: _Passes,
    *,
    ready: int,
    progress: Progress,
) -> None:
    """Compute the features of ``todo``; those that were made stay, whatever ends the work."""
    total = ready + len(todo)
    progress("features", ready, total)
    if not todo:
        return
    reduction = cache.reduction()
    with ShardWriter(cache.folder, cache.kind) as shards:
        for chunk, images, features in passes.over(todo):
            shards.add([camera.token for camera in chunk], images, _halves(reduction(features)))
            ready += len(chunk)
            progress("features", ready, total)


def _halves(features: Tensor) -> NDArray[np.float16]:
    """``features`` in float16, without infinities: a channel that hardly fires where the reduction was fitted has large
    values where it does."""
    most = float(np.finfo(np.float16).max)
    return features.clamp(-most, most).cpu().numpy().astype(np.float16)


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
            f"{folder}: holds features made with other {name} ({before} instead of {now}); "
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
