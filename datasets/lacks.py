"""What a log goes without, though nobody may have meant it: files that only some scans have, and splits with slips."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, suggest
from .columns import NO_TIME
from .complete import POSED_ONLY

if TYPE_CHECKING:
    from .index import LogIndex

_JUDGED = (("train", "val"), ("train", "test"))


def some_lack(index: LogIndex) -> Iterator[str]:
    """A sentence each about what only some key frames of a scene have, poses of images, and ways that nobody saw."""
    rows = index.rows()
    scenes = index.scene_of[rows]
    known = {
        "time": index.time_us[rows] != NO_TIME,
        "pose": ~np.isnan(index.ego_poses()[rows]).any(axis=(1, 2)),
        "labels": np.array([index.has_labels(row) for row in rows.tolist()], np.bool_),
    }
    for what, has in known.items():
        cut = [scene for scene in np.unique(scenes).tolist() if len(set(has[scenes == scene].tolist())) > 1]
        for scene in cut[:1]:
            without = rows[(scenes == scene) & ~has]
            more = f"; so it is in {len(cut) - 1} more scenes" if len(cut) > 1 else ""
            if what == "pose":
                more += (
                    "; a log of which any scan has none goes without dense clouds and votes: leave them out with "
                    f"{POSED_ONLY}"
                )
            yield (
                f"{index.name}: {len(without)} of the {int((scenes == scene).sum())} scans of {index.scenes[scene]} "
                f"have no {what}, the first is {index.tokens(without[:1])[0]}{more}"
            )
    yield from _some_images(index, rows, scenes)
    if images := index.images_without_pose():
        yield (
            f"{index.name}: {len(images)} images have no pose, the first is {images[0]}; points fall on them as if "
            "they were taken at the time of their scan, and a car that moves is elsewhere then"
        )
    if index.poses and len(behind := index.behind_holes()):
        yield (
            f"{index.name}: {len(behind)} holes in the recording, the first before {index.tokens(behind[:1])[0]}: no "
            "scan shows how the vehicle moved meanwhile, so the estimated poses before and behind need not fit; make "
            "scenes of the parts"
        )


def _some_images(index: LogIndex, rows: NDArray[np.int64], scenes: NDArray[np.int32]) -> Iterator[str]:
    """About key frames ``rows`` (N,) without an image of a camera that others of their scene have."""
    if not len(rows):
        return
    has = index.has_images(rows)
    first = np.flatnonzero(np.diff(scenes, prepend=-1))
    of_scene = np.logical_or.reduceat(has, first)
    lacks = of_scene[np.searchsorted(first, np.arange(len(rows)), "right") - 1] & ~has
    without = np.flatnonzero(lacks.any(axis=1))
    if len(without):
        names = [index.channels[channel] for channel in np.flatnonzero(lacks[without[0]])]
        yield (
            f"{index.name}: {len(without)} of the {len(rows)} scans lack images of cameras that others of their scene "
            f"have, the first is {index.tokens(rows[without[:1]])[0]} without {', '.join(names)}"
        )


def slips_of_splits(index: LogIndex) -> Iterator[str]:
    """A sentence each about scenes that splits name and the log has not, and about those that are in two of them.

    For a log that states its splits itself: packaged ones name all scenes of a dataset, of which a log may have some.
    """
    splits = index.card.splits
    for split, names in splits.items():
        if unknown := [name for name in names if name not in index.scenes]:
            yield (
                f"{index.name}: the split {split!r} names {unknown[0]!r}, which is no scene of this log"
                f"{suggest(unknown[0], index.scenes)}"
            )
    for one, other in _JUDGED:
        if both := sorted(set(splits.get(one, ())) & set(splits.get(other, ()))):
            yield f"{index.name}: {both[0]!r} is in {one!r} and in {other!r}; its figures are of scans learned from"


def shared_scans(index: LogIndex) -> Iterator[str]:
    """A sentence each about scans that are learned from and judged, where splits are lists of scans."""
    for one, other in _JUDGED:
        if {one, other} & {*index.row_splits} and {one, other} <= {*index.row_splits, *index.card.splits}:
            both = np.intersect1d(_rows_of(index, one), _rows_of(index, other))
            if len(both):
                yield (
                    f"{index.name}: {len(both)} scans are in {one!r} and in {other!r}, the first is "
                    f"{index.tokens(both[:1])[0]}; figures of them are of scans learned from"
                )


def _rows_of(index: LogIndex, split: str) -> NDArray[np.int64]:
    try:
        return index.rows(split)
    except InputError:  # the log holds no scan of it
        return np.empty(0, np.int64)
