"""Splits of scans rather than of scenes: those that a reader names, and lists in text files beside the data."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..files.access import file_in, read_text
from .store import Columns

_MOST = 63  # splits are bits of an int64


def join_splits(
    root: Path,
    files: Mapping[str, str],
    frames: Columns,
    warnings: list[str],
    *,
    stated: Collection[str] = (),
    is_part: bool = False,
) -> tuple[NDArray[np.int64], list[str]]:
    """(R,) the splits of every scan as bits, and the name of each bit, the lowest first.

    Args:
        files: split -> its list below ``root``: a scan a line, by its token or by the path of its points, whole or
            without ending; what follows after a space is passed over, as are empty lines and those that begin with #.
        frames: with token, sample, path and ``split``, what the reader named.
        stated: splits by the log's own word, which counts more than the reader's.
        is_part: only some scans of the log are there, so that a list may name none of them.
        warnings: gets a sentence for every list of which some lines name no scan of this log.

    Raises:
        InputError: a list cannot be read, or names no scan of the log at all.
    """
    over = [b"", *(name.encode() for name in stated)]
    of_reader = [name for name in np.unique(frames["split"]).tolist() if name not in over]
    names = sorted({name.decode() for name in of_reader} | set(files))
    if len(names) > _MOST:
        raise InputError(f"{root}: {len(names)} splits of scans are named; an index can tell {_MOST} apart")
    bits = np.zeros(len(frames["split"]), np.int64)
    for bit, name in enumerate(names):
        if name.encode() in of_reader:
            bits[frames["split"] == name.encode()] |= 1 << bit
    if files:
        row_of = _names_of_scans(frames)
        for name, file in files.items():
            bits[_listed(root, file, row_of, warnings, is_part)] |= 1 << names.index(name)
    return bits, names


def _names_of_scans(frames: Columns) -> dict[str, int]:
    """Row of every name that a list may give a scan; paths only where a file holds one scan."""
    row_of: dict[str, int] = {}
    paths, counts = np.unique(frames["path"], return_counts=True)
    shared = set(paths[counts > 1].tolist())
    for row, path in enumerate(frames["path"].tolist()):
        if path not in shared:
            place = PurePosixPath(path.decode())
            row_of[str(place)] = row_of[str(place.with_suffix(""))] = row
    for column in ("sample", "token"):
        row_of |= {name.decode(): row for row, name in enumerate(frames[column].tolist()) if name}
    return row_of


def _listed(
    root: Path, file: str, row_of: Mapping[str, int], warnings: list[str], is_part: bool
) -> list[int]:
    """Rows of the scans that a list names."""
    path = root
    for part in file.split("/"):
        path = file_in(path, part)
    text = read_text(
        path, "it lists the scans of a split; copy it beside the data, or leave that split out of the card"
    )
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    found = [_row(line, row_of) for line in lines]
    unknown = [line for line, row in zip(lines, found) if row is None]
    if len(unknown) == len(lines) and not is_part:
        raise InputError(
            f"{path}: none of its {len(lines)} lines names a scan of this log"
            + (f" (the first is {unknown[0][:80]!r})" if unknown else "")
            + "; write a scan a line, by its token or by the path of its points from the log's root"
        )
    if unknown and not is_part:
        warnings.append(_strangers(path, unknown, lines))
    return [row for row in found if row is not None]


def _strangers(path: Path, unknown: list[str], lines: Collection[str]) -> str:
    return (
        f"{path}: {len(unknown)} of {len(lines)} lines name no scan of this log (first: {unknown[0][:80]!r})"
    )


def tell_strangers(path: Path, names: Collection[str], there: Collection[str], warnings: list[str]) -> None:
    """A sentence where a list ``path`` names what is not ``there``."""
    if unknown := [name for name in names if name not in there]:
        warnings.append(_strangers(path, unknown, names))


def split_of_paths(
    lists: Mapping[str, Path], there: Collection[str], warnings: list[str], absent: Callable[[str], str]
) -> dict[str, str]:
    """Path of a scan -> its split, out of the lists that a dataset brings, one a split, as far as they are there.

    Args:
        lists: split -> file of a scan a line: the path of its points, and what may follow after a space.
        there: paths of all scans. warnings: gets sentences of lists that are not there or name scans that are not, or
            that another one names, too. absent: what it means for a split that its list is not there.
    """
    found: dict[str, str] = {}
    for split, path in lists.items():
        if not path.is_file():
            warnings.append(f"{path}: is not there{absent(split)}")
            continue
        names = [line.split()[0] for line in read_text(path).splitlines() if line.strip()]
        tell_strangers(path, names, there, warnings)
        if twice := [name for name in names if found.get(name, split) != split]:
            warnings.append(
                f"{path}: {len(twice)} scans are of {found[twice[0]]!r}, too, and are taken for {split!r} (first: "
                f"{twice[0]!r})"
            )
        found |= dict.fromkeys(names, split)
    return found


def _row(line: str, row_of: Mapping[str, int]) -> int | None:
    names: Iterable[str] = (line, line.split()[0])
    return next((row_of[name] for name in (n.removeprefix("./") for n in names) if name in row_of), None)
