"""Region ids of a log on disk: one PNG an image, named by its token, and a record of what made them.

What is kept depends on the maker and on each image alone, never on the log: scenes and words may be added to it.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import __version__
from ...datasets.frame import Camera
from ...errors import InputError
from ...files.access import file_in, read_json
from ...files.writes import building, write_bytes, write_json
from ...progress import LogLines, Progress, track
from ...together import one_thread, processes
from ..identity import ImageIdentity, identified_image
from ..reduction import AGAIN
from .ids import IGNORE
from .map_file import MapNote, encode_map, read_map, read_note
from .provider import Provider, make_provider

log = logging.getLogger(__name__)

RECORD = "superpixels.json"
SCHEMA = 2


def write_superpixels(
    cameras: Sequence[Camera],
    folder: str | Path,
    *,
    provider: str = "slic",
    workers: int = 0,
    progress: Progress | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Write ``folder/<token>.png`` of every camera that has none of its image yet, and the record ``superpixels.json``.

    Args:
        cameras: images of a log; tokens must be unique and fit for file names.
        provider: a key of ``PROVIDERS``; ``options`` go to it.
        workers: processes, each with one thread; 0 works in this one. They are spawned, so a script that calls
            this needs its ``if __name__ == "__main__"``.
        progress: told how far the work is; None logs it.

    Returns:
        The record.

    Raises:
        InputError: the folder holds regions made in another way; there is no image; an image or an option cannot be
            used. Finished files stay, and the same call goes on from there.
    """
    folder = Path(folder)
    if not cameras:
        raise InputError(
            "there is no image to cut into superpixels: the chosen frames have no cameras; choose others"
        )
    _check_tokens(cameras, folder)
    maker = make_provider(provider, **options)
    record = {"schema": SCHEMA, "provider": provider, "options": maker.options()}
    record |= {"shared_ids": maker.shared_ids, "ignore": IGNORE}
    begun = _record_of(folder)
    _check_same(folder, begun, record, maker.places())
    # also where this user may not write
    finished = begun is not None and not _to_make(maker, cameras, folder)
    with nullcontext() if finished else building(folder):
        before = _record_of(folder)
        _check_same(folder, before, record, maker.places())
        maker = maker.fit(cameras, folder)
        record |= {"made_by": maker.made_by(), "version": __version__}
        _check_same(folder, before, {"made_by": record["made_by"]})
        if before is None:
            write_json(folder / RECORD, record)
        todo = [] if finished else _to_make(maker, cameras, folder)
        _say_replaced(todo, folder)
        made, total = _run(maker, folder, todo, workers), len(cameras)
        for _ in track(
            made, f"superpixels {provider}", progress or LogLines(log), total=total, ready=total - len(todo)
        ):
            pass
    return before or record


def _record_of(folder: Path) -> dict[str, Any] | None:
    return read_record(folder) if os.path.lexists(folder / RECORD) else None


def _to_make(maker: Provider, cameras: Sequence[Camera], folder: Path) -> list[Camera]:
    """Those that have no map, or one of another image or of other files of the provider, whatever their names."""

    def is_made(camera: Camera) -> bool:
        note = read_note(map_path(folder, camera.token))
        return (
            note is not None
            and note.image.holds(camera)
            and note.source_sha256 == maker.source_sha256(camera.token)
        )

    return [camera for camera in cameras if not is_made(camera)]


def _say_replaced(todo: Sequence[Camera], folder: Path) -> None:
    replaced = [camera.token for camera in todo if map_path(folder, camera.token).exists()]
    if replaced:
        log.info(
            "%s: %d maps are damaged, or of images or masks that have changed since (first: %s); they are made anew",
            folder,
            len(replaced),
            replaced[0],
        )


def map_path(folder: str | Path, token: str) -> Path:
    """File of the regions of an image.

    Raises:
        InputError: the token cannot be the name of a file.
    """
    return file_in(folder, f"{token}.png")


def read_superpixels(folder: str | Path, token: str, size: tuple[int, int]) -> NDArray[np.uint16]:
    """(H, W) uint16 ids of an image; ``IGNORE`` (65535) is no region.

    Args:
        size: height, width of the image.

    Raises:
        MissingFileError, InputError: no such file; not readable; of another size than the image.
    """
    path = map_path(folder, token)
    ids = read_map(path)
    if ids.shape != tuple(size):
        raise InputError(
            f"{path}: the superpixels are {ids.shape[0]} x {ids.shape[1]} (height x width) but their image is "
            f"{size[0]} x {size[1]}; write the superpixels again for these images"
        )
    return ids


def lacking_maps(folder: str | Path, tokens: Iterable[str]) -> list[str]:
    """Those of ``tokens`` whose images have no file of regions; the folder is listed once, no file is opened."""
    there = {entry.name for entry in os.scandir(folder)}
    return [token for token in tokens if f"{token}.png" not in there]


def noted_image(folder: str | Path, token: str) -> ImageIdentity | None:
    """Which image the regions of that token are of; None where there are none, or they do not say it."""
    note = read_note(map_path(folder, token))
    return None if note is None else note.image


def read_record(folder: str | Path) -> dict[str, Any]:
    """What made the regions in ``folder``; ``shared_ids`` says whether ids mean the same in all images.

    Raises:
        MissingFileError, InputError: no record; a damaged one or one of another schema.
    """
    path = Path(folder) / RECORD
    missing = "make superpixels with `superflow prepare superpixels --index INDEX --provider NAME`"
    record = read_json(path, AGAIN, missing)
    if record.get("schema") == 1:
        raise InputError(
            f"{path}: is of an earlier version, whose maps do not say which image each is of; delete its folder and "
            "prepare it again with `superflow prepare superpixels`"
        )
    if record.get("schema") != SCHEMA:
        raise InputError(f"{path}: schema {record.get('schema')} instead of {SCHEMA}; {AGAIN}")
    if type(record.get("shared_ids")) is not bool or not isinstance(record.get("options"), dict):
        raise InputError(f"{path}: lacks what a record of superpixels holds; {AGAIN}")
    return record


def _run(maker: Provider, folder: Path, cameras: Sequence[Camera], workers: int) -> Iterator[None]:
    """Make and write the regions of all cameras, in this process or in ``workers`` others."""
    if workers < 1 or len(cameras) < 2:
        yield from map(partial(_write_one, maker, folder), cameras)
        return
    with processes(min(workers, len(cameras)), _start_worker, (maker, folder)) as pool:
        yield from pool.map(_work, cameras, chunksize=4)


_job: partial[None] | None = None  # of a worker process


def _start_worker(maker: Provider, folder: Path) -> None:
    global _job
    one_thread()
    _job = partial(_write_one, maker, folder)


def _work(camera: Camera) -> None:
    assert _job is not None
    _job(camera)


def _write_one(maker: Provider, folder: Path, camera: Camera) -> None:
    source = maker.source_sha256(camera.token)  # before it is read, as with the image
    image, identity = identified_image(camera)
    ids = maker.compact(image, camera.token)
    write_bytes(map_path(folder, camera.token), encode_map(ids, MapNote(image.shape[:2], identity, source)))


def _check_tokens(cameras: Sequence[Camera], folder: Path) -> None:
    seen: set[str] = set()
    for camera in cameras:
        token = camera.token
        if not token or token.startswith(".") or token in seen:
            raise InputError(
                f"camera token {token!r} of {camera.path}: must be unique and fit for a file name"
            )
        map_path(folder, token)
        seen.add(token)


def _check_same(
    folder: Path, before: dict[str, Any] | None, now: dict[str, Any], places: frozenset[str] = frozenset()
) -> None:
    """``places`` are the options whose names say nothing, only that there is one: what lies there is compared."""
    if before is None:
        return
    for name, value in now.items():
        had: Any = before.get(name)
        has: Any = json.loads(json.dumps(value))
        if name == "options":
            had, has = (
                {k: v is not None if k in places else v for k, v in values.items()} for values in (had, has)
            )
        elif name == "made_by":  # one of an earlier version says less
            had = {**has, **had}
        if had != has:
            raise InputError(
                f"{folder}: holds superpixels made with other {_differing(name, had, has)}; choose another folder "
                "or delete this one"
            )


def _differing(name: str, had: Any, has: Any) -> str:
    """What two values of a record differ in, with both."""
    while isinstance(had, dict) and isinstance(has, dict):
        key = next(k for k in {**has, **had} if k not in had or k not in has or had[k] != has[k])
        name, had, has = f"{name}: {key}", had.get(key), has.get(key)
    return f"{name} ({json.dumps(had)[:150]} instead of {json.dumps(has)[:150]})"
