"""The scans of a prepared log that questions of a benchmark are about."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ...errors import InputError

if TYPE_CHECKING:
    from ...datasets.index import LogIndex


def frame_names(index: LogIndex) -> dict[str, str]:
    """Token of the scan -> name of each key frame: the log's own (nuScenes: its sample token), else the scan's."""
    rows = index.rows()
    scans = index.tokens(rows)
    return {scan: own or scan for scan, own in zip(scans, index.sample_tokens(rows))}


def rows_of(tokens: Iterable[str], index: LogIndex) -> dict[str, int]:
    """Name -> row of the key frames that ``tokens`` name, see ``frame_names``, without those that the log has not.

    Raises:
        InputError: none is in it.
    """
    known = dict(zip(frame_names(index).values(), index.rows().tolist()))
    wanted = list(dict.fromkeys(tokens))
    found = {token: known[token] for token in wanted if token in known}
    if wanted and not found:
        raise InputError(
            f"{index.folder} has none of the {len(wanted)} frames that the questions are about, as {wanted[0]!r}; "
            "give the log that they were written for"
        )
    return found
