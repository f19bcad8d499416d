"""PandaSet's own files: points out of the world into the frame of their scan's pose, labels joined, poses in JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...files.access import file_names, read_text
from ...geometry import Transform, invert, make_transform, transform_points
from .pickled_table import chosen_columns, read_table
from .read import no_parts, of_the_log

_ENDINGS = (".pkl.gz", ".pkl")  # as published, and unpacked, as Kaggle's mirror has them
_STORED = {"intensity": "i", "time": "t", "sensor": "d"}  # what the files call a column


def table_files(folder: Path) -> dict[str, str]:
    """Names of the pickled tables in a folder, without ending -> with it; of two of one name the published one."""
    found: dict[str, str] = {}
    for ending in _ENDINGS:
        for name in file_names(folder, ending):
            found.setdefault(name.removesuffix(ending), name)
    return found


def read_pandaset(path: Path, key: str, names: Sequence[str]) -> Mapping[str, NDArray[Any]]:
    """The points of a scan in the frame of its pose, x right, y forward, z up; they are stored in the world."""
    no_parts(path, key, "a pickled table")
    table, _ = _scan_table(path)
    columns = chosen_columns(path, table, [*"xyz", *(_STORED.get(n, n) for n in names if n not in "xyz")])
    number = path.name.partition(".")[0]
    if not number.isdecimal():
        raise InputError(f"{path}: its name is no number of a scan; prepare the log again")
    pose = read_poses(path.parent / "poses.json", int(number) + 1)[int(number)]
    world = np.stack([columns[axis].astype(np.float64) for axis in "xyz"], axis=1)
    own = dict(zip("xyz", transform_points(invert(pose), world).T))
    return {name: own[name] if name in own else columns[_STORED.get(name, name)].copy() for name in names}


def read_pandaset_labels(path: Path, key: str, names: Sequence[str]) -> Mapping[str, NDArray[Any]]:
    """The class of every point of the scan of the same number, 0 of those that the file does not number."""
    labels, rows = read_table(path)
    if key or "class" not in labels:
        raise InputError(
            f"{path}: has no column class of numbers, but {', '.join(labels)[:200]}; copy it again"
        )
    _, wanted = _scan_table(_scan_of(path))
    if np.array_equal(rows, wanted):
        return {names[0]: labels["class"]}
    order = np.argsort(rows, kind="stable")
    if (np.diff(rows[order]) == 0).any():
        raise InputError(f"{path}: numbers a point twice; copy it again")
    found = np.zeros(len(wanted), labels["class"].dtype)
    if len(rows):
        at = np.minimum(np.searchsorted(rows[order], wanted), len(rows) - 1)
        known = rows[order][at] == wanted
        found[known] = labels["class"][order][at[known]]
    return {names[0]: found}


def _scan_of(labels: Path) -> Path:
    """The file of the points of a file of labels."""
    folder, number = labels.parent.parent.parent / "lidar", labels.name.partition(".")[0]
    paths = [folder / f"{number}{ending}" for ending in _ENDINGS]
    return next((path for path in paths if path.is_file()), paths[0])


def _scan_table(path: Path) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64]]:
    """`read_table` of the points of a scan, read once for its points and its labels; nobody may change it."""
    with of_the_log(path):
        facts = path.stat()
    return _last_table(path, facts.st_mtime_ns, facts.st_size)


@lru_cache(maxsize=1)  # labels are read right after the points; a scan takes 8 MB
def _last_table(path: Path, mtime_ns: int, size: int) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64]]:
    return read_table(path)


def read_poses(path: Path, count: int) -> Transform:
    """(N, 4, 4) car or camera to world at the scans or images; at least ``count``.

    Raises:
        InputError: there are fewer, or one is no pose.
    """
    entries = read_json_list(path, count)
    try:
        values = np.array(
            [[*(e["heading"][a] for a in "wxyz"), *(e["position"][a] for a in "xyz")] for e in entries],
            np.float64,
        )
        poses = make_transform(values[:, :4], values[:, 4:])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: an entry is no pose with position (x, y, z) and heading (w, x, y, z); copy it again"
        ) from error
    if not np.isfinite(poses).all():
        raise InputError(f"{path}: a pose is not finite; copy it again")
    return poses


def read_json_list(path: Path, count: int) -> list[Any]:
    """The entries of a JSON list.

    Raises:
        InputError: there are fewer than ``count``.
    """
    try:
        entries = json.loads(read_text(path, "copy it again"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is no valid JSON ({error}); copy it again") from error
    if not isinstance(entries, list) or len(entries) < count:
        raise InputError(f"{path}: must be a list of {count} entries or more, one a scan; copy it again")
    return entries
