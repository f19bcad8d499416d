"""Where in the world points lie: which places were seen, and which labels they had.

World coordinates serve evaluation only; they never enter a network.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..clips.sources import named, source_of
from ..datasets.frame import IGNORE_LABEL
from ..errors import InputError
from ..geometry import transform_points, voxel_keys


@dataclass(frozen=True, slots=True)
class SeenVoxels:
    """World voxels that hold at least one point of some frames. keys: (V,) int64, ascending."""

    keys: NDArray[np.int64]
    size_m: float

    def contains(self, world: NDArray) -> NDArray[np.bool_]:
        """(N,) True where the voxel of ``world`` (N, 3) [m] was seen."""
        keys = voxel_keys(world, self.size_m)
        if len(self.keys) == 0:
            return np.zeros(len(keys), dtype=np.bool_)
        return self.keys[np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)] == keys


def seen_voxels(index: Any, rows: Iterable[int], size_m: float = 0.5) -> SeenVoxels:
    """Voxels that points of the frames ``rows`` of ``index`` occupy, labelled or not.

    All rows must share one world frame; scenes of unrelated places whose coordinates overlap hide one another.
    """
    parts = [np.unique(keys) for _, keys in _scans(index, rows, size_m, labels=False)]
    keys = np.unique(np.concatenate(parts)) if parts else np.zeros(0, np.int64)
    return SeenVoxels(keys, size_m)


@dataclass(frozen=True, slots=True)
class LabelLookup:
    """The control without learning: a place has the label that it mostly had in the training frames.

    keys: (V,) int64 ascending; labels: (V,) uint8 majority of each; default: class where none was seen.
    """

    keys: NDArray[np.int64]
    labels: NDArray[np.uint8]
    default: int
    size_m: float

    def predict(self, world: NDArray) -> NDArray[np.int64]:
        """(N,) class of ``world`` (N, 3) [m]."""
        keys = voxel_keys(world, self.size_m)
        if len(self.keys) == 0:
            return np.full(len(keys), self.default, dtype=np.int64)
        position = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        known = self.keys[position] == keys
        return np.where(known, self.labels[position], self.default).astype(np.int64)


def label_lookup(
    index: Any, rows: Sequence[int], *, size_m: float = 0.5, default: int | None = None
) -> LabelLookup:
    """Majority label of every world voxel over the labelled points of the frames ``rows``.

    Args:
        default: class where no label was seen; the most frequent one when None. Ties go to the lower id.

    Raises:
        InputError: no point of ``rows`` has a label.
    """
    keys, labels, totals = [], [], np.zeros(256, dtype=np.int64)
    for frame, of_points in _scans(index, rows, size_m, labels=True):
        chosen = frame.labels != IGNORE_LABEL
        totals += np.bincount(frame.labels[chosen], minlength=256)
        keys.append(of_points[chosen])
        labels.append(frame.labels[chosen])
    if totals.sum() == 0:
        raise InputError(
            f"none of the {len(rows)} frames has a labelled point; choose labelled training frames"
        )
    voxels, majority = majority_by_key(np.concatenate(keys), np.concatenate(labels))
    chosen_default = int(totals.argmax()) if default is None else default
    return LabelLookup(voxels, majority, chosen_default, size_m)


def majority_by_key(
    keys: NDArray[np.int64], labels: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Ascending distinct ``keys`` (V,) and the most frequent of their ``labels`` (V,); ties to the lower id."""
    if len(keys) == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.uint8)
    order = np.lexsort((labels, keys))
    keys, labels = keys[order], labels[order]
    starts = np.flatnonzero(np.r_[True, (keys[1:] != keys[:-1]) | (labels[1:] != labels[:-1])])
    counts = np.diff(np.r_[starts, len(keys)])
    keys, labels = keys[starts], labels[starts]  # one row for each (voxel, label)
    order = np.lexsort((labels, -counts, keys))
    keys, labels = keys[order], labels[order]
    first = np.r_[True, keys[1:] != keys[:-1]]
    return keys[first], labels[first]


def _scans(
    index: Any, rows: Iterable[int], size_m: float, *, labels: bool
) -> Iterator[tuple[Any, NDArray[np.int64]]]:
    """Each frame, and the world voxel of each of its points."""
    for row in rows:
        frame = index.frame(int(row), cameras=(), images=False, labels=labels)
        with named(frame.points, source_of(index, int(row))):
            world = transform_points(frame.lidar_to_world, frame.points[:, :3].astype(np.float64))
            keys = voxel_keys(world, size_m)
        yield frame, keys
