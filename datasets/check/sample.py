"""Which scans a check reads of a log that is too large to be read."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ..index import LogIndex


def sample_rows(index: LogIndex, count: int) -> NDArray[np.int64]:
    """(R,) ascending rows of ``count`` key frames and of the sweep just before each, where there is one.

    Scenes get equal shares, at least one key frame each where ``count`` allows; a scene that has fewer gives all it
    has. Within a scene the key frames are evenly spaced. The same log and count give the same rows.

    Raises:
        InputError: ``count`` is not positive.
    """
    if count < 1:
        raise InputError(f"a sample of {count} frames reads nothing; give at least 1")
    keys = np.flatnonzero(index.is_key)
    scenes = np.split(keys, np.flatnonzero(np.diff(index.scene_of[keys])) + 1)
    shares = _shares(np.array([len(scene) for scene in scenes]), count)
    chosen = np.concatenate([_evenly(scene, share) for scene, share in zip(scenes, shares.tolist())])
    before = chosen[chosen > 0] - 1
    before = before[~index.is_key[before]]
    before = before[index.scene_of[before] == index.scene_of[before + 1]]
    return np.union1d(chosen, before)


def _shares(sizes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """(S,) how many of each scene: the same of all that have so many, what remains to evenly spaced larger ones."""
    count = min(count, int(sizes.sum()))
    level = 0
    while np.minimum(sizes, level + 1).sum() <= count and level < sizes.max(initial=0):
        level += 1
    shares = np.minimum(sizes, level)
    larger = np.flatnonzero(sizes > level)
    rest = count - int(shares.sum())
    shares[larger[np.arange(rest) * len(larger) // max(rest, 1)]] += 1
    return shares


def _evenly(rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """``count`` of the rows, each in the middle of its share of them."""
    return rows[((np.arange(count) + 0.5) * len(rows) / max(count, 1)).astype(np.int64)]
