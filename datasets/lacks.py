"""What a log goes without, though nobody may have meant it: files that only some scans have, and splits with slips."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, suggest
from .columns import NO_TIME

if TYPE_CHECKING:
    from .index import LogIndex

_JUDGED = (("train", "val"), ("train", "test"))


def some_lack(index: LogIndex) -> Iterator[str]:
    """A sentence each about times, poses and labels that only some key frames of a scene have, and poses of images."""
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
            yield (
                f"{index.name}: {len(without)} of the {int((scenes == scene).sum())} scans of {index.scenes[scene]} "
                f"have no {what}, the first is {index.tokens(without[:1])[0]}{more}"
            )
    if images := index.images_without_pose():
        yield (
            f"{index.name}: {len(images)} images have no pose, the first is {images[0]}; points fall on them as if "
            "they were taken at the time of their scan, and a car that moves is elsewhere then"
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
