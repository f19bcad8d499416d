"""Which scans of a log are meant: splits, scenes, slices of key frames, a percentage of scenes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .card_keys import nearest_name

Name = TypeVar("Name", str, int)
_USUAL = ("train", "val", "test")  # splits that configs ask for
_TERM = re.compile(
    r"^(?P<name>[^\[\]@]*)(@(?P<percent>\d+(\.\d+)?)%)?(\[(?P<slice>-?\d*:-?\d*(:-?\d*)?)\])?$"
)


def without(rows: Iterable[int], others: Iterable[int]) -> list[int]:
    """The rows, in their order, that are not among ``others``; in one pass, for logs of a million scans."""
    taken = set(others)
    return [row for row in rows if row not in taken]


def select_rows(
    selection: str | int | Sequence[str | int] | None,
    *,
    scenes: Sequence[str],
    splits: Mapping[str, Sequence[str]],
    scene_of: NDArray[np.integer],
    is_key: NDArray[np.bool_],
    row_splits: Mapping[str, NDArray[np.bool_]] | None = None,
    keys_only: bool = True,
) -> NDArray[np.int64]:
    """(R,) int64 rows, ascending and each once, of the scans that the terms of ``selection`` name together.

    A term is a split or a scene, then optionally ``@P%`` (of a split in the log's order, see ``every_nth_scene``), then
    optionally a Python slice of the key frames of each scene: ``train``,
    ``train@10%``, ``scene-0061``, ``scene-0061[0:40:2]``, ``[5:]``. None selects everything.

    Args:
        scenes: names in the log's order; ``scene_of`` (N,) holds positions in it, ascending.
        splits: split -> scene names; scenes that are not in the log are passed over.
        is_key: (N,) True for key frames.
        row_splits: split -> (N,) its scans, where splits are not those of scenes; these take the place of those.
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
    rows_of = row_splits or {}
    for term in terms:
        named = np.zeros_like(chosen)
        name, percent, keys = _parse(term)
        mine = rows_of.get(name)
        names = (
            _scenes_of(name, scenes, splits, rows_of) if mine is None else np.unique(scene_of[mine]).tolist()
        )
        for scene in names if percent is None else every_nth_scene(names, percent):
            start, stop = np.searchsorted(scene_of, [scene, scene + 1])
            if mine is None:
                named[start:stop] = _within_scene(is_key[start:stop], keys)
            else:
                among = mine[start:stop]
                named[start:stop] = among & _within_scene(is_key[start:stop] & among, keys)
        if not named.any():
            raise InputError(
                f"{term!r} selects no key frame of this log (scenes: {_shorten(scenes)}); "
                "choose a split, scene or slice that the log holds"
            )
        chosen |= named
    return np.flatnonzero(chosen & is_key if keys_only else chosen)


def _parse(term: str) -> tuple[str, float | None, slice]:
    """Name, percentage, and slice of key frames of ``term``."""
    match = _TERM.match(term.strip())
    if match is None or not (match["name"] or match["slice"]):
        raise InputError(
            f"{term!r} is no selection; write scene-0061, scene-0061[0:40:2], train or train@10%"
        )
    bounds = [int(part) if part else None for part in (match["slice"] or ":").split(":")]
    if len(bounds) == 3 and bounds[2] == 0:
        raise InputError(f"{term!r}: the step of a slice cannot be 0; leave it out")
    percent = match["percent"]
    return match["name"], percent if percent is None else float(percent), slice(*bounds)


def _scenes_of(
    name: str, scenes: Sequence[str], splits: Mapping[str, Sequence[str]], row_splits: Iterable[str]
) -> list[int]:
    """Positions of the scenes that ``name`` means; all where it is empty."""
    if name in splits:
        wanted = set(splits[name])
        return [i for i, scene in enumerate(scenes) if scene in wanted]
    if name in scenes:
        return [scenes.index(name)]
    if not name:
        return list(range(len(scenes)))
    if name in _USUAL and not splits and not any(True for _ in row_splits):
        raise InputError(
            f"{name!r} is neither a split nor a scene of this log, which has no splits; name scenes in its place "
            f"({_shorten(scenes)}), or write `splits` into the log's dataset.json and prepare it again"
        )
    raise InputError(
        f"{name!r} is neither a split nor a scene of this log ({_shorten(scenes)}); "
        f"{nearest_name(name, [*splits, *row_splits, *(scenes if len(scenes) < 50 else ())])}"
    )


def every_nth_scene(scenes: Sequence[Name], percent: float) -> list[Name]:
    """Every (100/k)-th scene, counted from one (nuScenes' published rule): of 700, 1 % are the 100th, 200th, ... 700th.

    Args:
        scenes: in the order of the dataset's own table (not sorted by name). percent: as in ``step_of``.
    """
    step = step_of(percent)
    return list(scenes[step - 1 :: step])


def step_of(percent: float) -> int:
    """The n of the rule "every n-th" that leaves k % of something.

    Raises:
        InputError: 100/k is no whole number.
    """
    step = round(100 / percent) if percent > 0 else 0
    if step < 1 or abs(step * percent - 100) > 1e-6:
        raise InputError(
            f"{percent:g} % has no every-n-th rule because 100/{percent:g} is no whole number; "
            "use 1, 2, 4, 5, 10, 20, 25, 50 or 100"
        )
    return step


def _within_scene(is_key: NDArray[np.bool_], keys: slice) -> NDArray[np.bool_]:
    """(n,) bool of the scans of one scene that belong to the key frames of the slice."""
    total = int(is_key.sum())
    if total == 0:
        return np.zeros(len(is_key), dtype=bool)
    wanted = np.zeros(total, dtype=bool)
    wanted[keys] = True
    # keys before this scan = position of the key at or after it
    owner: NDArray[np.int64] = np.cumsum(is_key) - is_key
    return wanted[np.minimum(owner, total - 1)]


def _shorten(names: Sequence[str]) -> str:
    return (
        ", ".join(names)
        if len(names) <= 4
        else f"{names[0]}, {names[1]}, ... {names[-1]}, {len(names)} in all"
    )
