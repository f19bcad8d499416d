"""Corrupted scans written to disk: files of the same names, columns and label format as those of the log.

A copy lies in CORRUPTION/LEVEL below its folder, as nuScenes-C does, and is read by the reader of its set. It is
marked, see `copy_mark`: an index of it is of its variant.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from ... import __version__
from ...errors import InputError
from ...files.access import check_place, file_in
from ...files.writes import building, write_bytes
from ...progress import Progress, silent, track
from ..index import LogIndex
from ..predictions.files import NUMBERS
from .copy_mark import CLEAN, mark
from .domain import CROSSTALK_POINT, FOG_RETURN, SNOW_RETURN, Corrupted, Domain
from .models import Variant, corrupt, lacks

# what published copies number fog, snow and crosstalk, where it is not what those of nuScenes do
_NOISE_IDS = dict.fromkeys(("semantickitti", "scribblekitti"), (21, 22, 23))
_NUSCENES_SNOW = "ring"  # this column of a snowy copy of nuScenes: 0 untouched, 1 dimmed, 2 a flake


def write_copy(
    index: LogIndex, rows: Sequence[int], variant: Variant, out: Path, *, progress: Progress = silent
) -> tuple[Path, int]:
    """Write the scans ``rows`` of a clean log in one variant; those that are there are not written again.

    One scan is in memory at a time, every file is whole or not there, and the points of a scan come after its labels.

    Returns:
        The folder of the copy, below ``out``; how many of the scans were written now.

    Raises:
        InputError: the log is no clean one, its files are of a form that cannot be written, a model lacks what it
            needs, or the folder holds another copy.
    """
    _check(index, variant)
    folder = out.joinpath(*PurePosixPath(str(variant)).parts)
    check_place(folder)
    noise_ids = _noise_ids(index)
    domain = Domain.of(index.card, is_published=variant.is_published)
    written = 0
    with building(folder):
        mark(
            folder,
            {
                "variant": str(variant),
                "dataset": index.card.name,
                "index_hash": index.hash,
                "card_hash": index.card.hash,
                "version": __version__,
            },
        )
        for row in track([int(row) for row in rows], f"writing {variant}", progress):
            target = _inside(folder, index, index.point_path(row))
            if not target.is_file():
                _write_scan(index, row, variant, domain, target, folder, noise_ids)
                written += 1
    return folder, written


def _check(index: LogIndex, variant: Variant) -> None:
    card = index.card
    if index.variant != CLEAN:
        raise InputError(
            f"{index.folder}: holds the corrupted copy {index.variant}; corrupt the clean log instead"
        )
    plain = card.point_format == "f4" and card.labels["format"] in NUMBERS
    if not plain or card.intensity_rule not in ("linear", "none") or card.time:
        raise InputError(
            f"{index.folder}: scans of {card.name} cannot be written in the form of their files, only rows of float32 "
            "and labels of bare numbers can; `superflow test --corruptions` corrupts them while they are read"
        )
    if what := lacks(variant.corruption, card):
        raise InputError(f"{variant}: its model needs {what}, and {card.name} has none; leave it out")


def _noise_ids(index: LogIndex) -> dict[int, int]:
    """Kind of noise -> its number in the label files of a copy, which no class has."""
    kinds = (FOG_RETURN, SNOW_RETURN, CROSSTALK_POINT)
    ids = _NOISE_IDS.get(index.card.name, kinds)
    taken = {raw for raw in index.card.categories if raw in ids and index.card.label_map[raw] != 255}
    if taken:
        raise InputError(
            f"{index.folder}: {index.card.name} has classes numbered {', '.join(map(str, sorted(taken)))}, which "
            "copies give to noise; `superflow test --corruptions` corrupts scans while they are read"
        )
    return dict(zip(kinds, ids))


def _inside(folder: Path, index: LogIndex, path: Path) -> Path:
    for part in PurePosixPath(path.relative_to(index.root).as_posix()).parts:
        folder = file_in(folder, part)
    return folder


def _write_scan(
    index: LogIndex,
    row: int,
    variant: Variant,
    domain: Domain,
    target: Path,
    folder: Path,
    noise_ids: dict[int, int],
) -> None:
    if index.lidars(row):
        raise InputError(
            f"{index.point_path(row)}: is of several LiDARs, which cannot be written as one file; "
            "`superflow test --corruptions` corrupts them while they are read"
        )
    cloud, train_ids = index.read_cloud(row, labels=True, raw_intensity=False)
    found = corrupt(cloud, train_ids, variant, domain, token=index.tokens([row])[0])
    label_path = index.label_path(row)
    if label_path is not None:
        file = index.file_points(row)
        raw = index.file_labels(row, file.rows)
        assert raw is not None, "it has a file"
        numbers = (raw if cloud.file_row is None else raw[cloud.file_row])[found.rows]
        for kind, number in noise_ids.items():
            numbers = np.where(found.noise == kind, np.uint32(number), numbers)
        shift = index.card.labels.get("shift", 0)
        data = (numbers << shift).astype(NUMBERS[index.card.labels["format"]]).tobytes()
        write_bytes(_inside(folder, index, label_path), data, sync=False)
    write_bytes(target, _rows(index, row, found, variant).tobytes())


def _rows(index: LogIndex, row: int, found: Corrupted, variant: Variant) -> NDArray[np.float32]:
    """(M, columns) as the files have them: axes and units of the set, what no model touched as it was."""
    card, before = index.card, index.file_points(row).columns
    columns = {name: np.asarray(before[name], np.float32)[found.rows] for name in card.columns}
    to_lidar = card.file_to_lidar
    own = (found.cloud.xyz.astype(np.float64) - to_lidar[:3, 3]) @ to_lidar[:3, :3]
    columns |= dict(zip("xyz", own.T.astype(np.float32)))
    is_dimmed = np.zeros(len(found.rows), bool)
    if found.cloud.intensity is not None:
        was = card.normalise_intensity(columns["intensity"])
        is_dimmed = found.cloud.intensity != was
        raw = found.cloud.intensity * np.float32(card.intensity_max)
        columns["intensity"] = np.where(is_dimmed, raw, columns["intensity"])
    if card.name == "nuscenes" and variant.corruption == "snow" and _NUSCENES_SNOW in columns:
        columns[_NUSCENES_SNOW] = np.where(found.noise == SNOW_RETURN, 2, is_dimmed).astype(np.float32)
    return np.stack([columns[name] for name in card.columns], axis=1).astype("<f4")
