"""Which scans of a log are meant: splits, scenes, slices of key frames, a percentage of scenes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .card_file import nearest_name

_TERM = re.compile(
    r"^(?P<name>[^\[\]@]*)(@(?P<percent>\d+(\.\d+)?)%)?(\[(?P<slice>-?\d*:-?\d*(:-?\d*)?)\])?$"
)


def select_rows(
    selection: str | int | Sequence[str | int] | None,
    *,
    scenes: Sequence[str],
    splits: Mapping[str, Sequence[str]],
    scene_of: NDArray[np.integer],
    is_key: NDArray[np.bool_],
    keys_only: bool = True,
) -> NDArray[np.int64]:
    """(R,) int64 rows, ascending and each once, of the scans that the terms of ``selection`` name together.

    A term is a split or a scene, then optionally ``@P%`` (every (100/P)-th scene of a split in the log's order, the
    published few-shot rule), then optionally a Python slice of the key frames of each scene: ``train``,
    ``train@10%``, ``scene-0061``, ``scene-0061[0:40:2]``, ``[5:]``. None selects everything.

    Args:
        scenes: names in the log's order; ``scene_of`` (N,) holds positions in it, ascending.
        splits: split -> scene names; scenes that are not in the log are passed over.
        is_key: (N,) True for key frames.
        keys_only: leave out sweeps. A sweep belongs to the key frame after it (the last one's followers to the last).

    Raises:
        InputError: a term is malformed, names nothing known, or selects no scan.
    """
    if selection is None:
        rows = np.arange(len(scene_of))
        return rows[is_key] if keys_only else rows
    # a config may hold a scene name that looks like a number
    terms = [str(term) for term in ([selection] if isinstance(selection, str | int) else selection)]
    if not terms:
        raise InputError("the selection is empty; name a split or scenes, or None for the whole log")
    chosen = np.zeros(len(scene_of), dtype=bool)
    for term in terms:
        named = np.zeros_like(chosen)
        names, keys = _parse(term, scenes, splits)
        for scene in names:
            start, stop = np.searchsorted(scene_of, [scene, scene + 1])
            named[start:stop] = _within_scene(is_key[start:stop], keys)
        if not named.any():
            raise InputError(
                f"{term!r} selects no key frame of this log (scenes: {_shorten(scenes)}); "
                "choose a split, scene or slice that the log holds"
            )
        chosen |= named
    return np.flatnonzero(chosen & is_key if keys_only else chosen)


def _parse(term: str, scenes: Sequence[str], splits: Mapping[str, Sequence[str]]) -> tuple[list[int], slice]:
    """Positions of the scenes and the slice of key frames that ``term`` means."""
    match = _TERM.match(term.strip())
    if match is None:
        raise InputError(
            f"{term!r} is no selection; write scene-0061, scene-0061[0:40:2], train or train@10%"
        )
    name, percent = match["name"], match["percent"]
    if name in splits:
        wanted = set(splits[name])
        names = [i for i, scene in enumerate(scenes) if scene in wanted]
    elif name in scenes:
        names = [scenes.index(name)]
    elif not name and match["slice"]:
        names = list(range(len(scenes)))
    else:
        raise InputError(
            f"{name!r} is neither a split nor a scene of this log ({_shorten(scenes)}); "
            f"{nearest_name(name, [*splits, *scenes] if len(scenes) < 50 else list(splits))}"
        )
    if percent is not None:
        if not 0 < float(percent) <= 100:
            raise InputError(f"{term!r}: the percentage must be above 0 and at most 100")
        step = max(1, round(100 / float(percent)))
        names = names[step - 1 :: step]  # the published rule counts scenes from 1
    bounds = [int(part) if part else None for part in (match["slice"] or ":").split(":")]
    if len(bounds) == 3 and bounds[2] == 0:
        raise InputError(f"{term!r}: the step of a slice cannot be 0; leave it out")
    return names, slice(*bounds)


def _within_scene(is_key: NDArray[np.bool_], keys: slice) -> NDArray[np.bool_]:
    """(n,) bool of the scans of one scene that belong to the key frames of the slice."""
    total = int(is_key.sum())
    if total == 0:
        return np.zeros(len(is_key), dtype=bool)
    wanted = np.zeros(total, dtype=bool)
    wanted[keys] = True
    owner: NDArray[np.int64] = (
        np.cumsum(is_key) - is_key
    )  # keys before this scan = position of the key at or after it
    return wanted[np.minimum(owner, total - 1)]


def _shorten(names: Sequence[str]) -> str:
    return (
        ", ".join(names)
        if len(names) <= 4
        else f"{names[0]}, {names[1]}, ... {names[-1]}, {len(names)} in all"
    )
