"""A part of a log to begin with: some of its scenes, or its first key frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from ..errors import InputError
from .card_keys import nearest_name
from .records import ScanRow


def some_scans(
    scans: Iterable[ScanRow],
    *,
    scenes: Sequence[str] | None = None,
    limit: int | None = None,
    splits: Mapping[str, Sequence[str]] | None = None,
) -> Iterator[ScanRow]:
    """The scans of these scenes, up to the ``limit``-th key frame; listing ends there.

    Args:
        scenes: their names, or names of ``splits`` of scenes; None for all.
        limit: how many key frames at most; the sweeps before each of them come with it. None for all.

    Raises:
        InputError: a name is none of the log's, or ``limit`` is below 1.
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit {limit} leaves no scan; give at least 1")
    if scenes is not None and not scenes:
        raise InputError("no scene is chosen; name some, or leave the choice out")
    splits = splits or {}
    wanted = None if scenes is None else {name: set(splits.get(name, (name,))) for name in scenes}
    every = None if wanted is None else set().union(*wanted.values())
    seen: set[str] = set()
    keys = 0
    for scan in scans:
        seen.add(scan.scene)
        if every is not None and scan.scene not in every:
            continue
        yield scan
        keys += scan.is_key
        if keys == limit:
            return
    for name, names in (wanted or {}).items():
        if not names & seen:
            known = sorted(seen)
            raise InputError(
                f"{name!r} is no scene of this log, nor a split that has one; "
                + (
                    nearest_name(name, known)
                    if len(known) <= 50
                    else f"it has {known[0]} to {known[-1]}, {len(known)} in all"
                )
            )
