"""Scans that several LiDARs made together: whose each point is, and the files that some of them have of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..geometry import Transform, compose, invert
from .card import DatasetCard
from .cloud import LIDAR, Cloud, join_clouds
from .file_cloud import read_file, to_cloud
from .formats.readers import look_up, read_labels
from .frame import IGNORE_LABEL, Lidar
from .records import LidarRow, Place

_Labels = NDArray[np.uint8]


def lidars_of(rows: Sequence[LidarRow], lidar_to_ego: Transform) -> tuple[Lidar, ...]:
    """The LiDARs by the frame of their scan's cloud."""
    return tuple(Lidar(row.name, compose(invert(lidar_to_ego), row.lidar_to_ego)) for row in rows)


def merge_lidars(
    root: Path,
    card: DatasetCard,
    scan: Place,
    cloud: Cloud,
    labels: _Labels | None,
    rows: Sequence[LidarRow],
    lidars: Sequence[Lidar],
    *,
    time_us: int | None,
    raw_intensity: bool,
    with_labels: bool,
) -> tuple[Cloud, _Labels | None]:
    """The cloud of a scan's file and those of LiDARs with files of their own, in one; and their labels.

    Args:
        scan: the scan's own file. cloud, labels: what it holds, labels by row of the file.
        rows, lidars: the LiDARs, as listed and by the frame of the cloud.

    Returns:
        The cloud, with ``lidar`` among its columns: the number of each point's. Labels by row of the files, one file
        after the other; None where no file has some.

    Raises:
        InputError: a file is missing or wrong, or does not say of which LiDAR its points are.
    """
    shared = [number for number, row in enumerate(rows) if row.points is None or row.points == scan]
    cloud = replace(cloud, extra={**cloud.extra, LIDAR: _owners(root / scan.path, cloud, shared)})
    clouds, parts = [cloud], [(labels, cloud.rows_of_file)]
    for number, (row, lidar) in enumerate(zip(rows, lidars, strict=True)):
        if number in shared or row.points is None:
            continue
        file = read_file(card, root, row.points)
        own = to_cloud(card, file, time_us, raw_intensity=raw_intensity).moved(lidar.to_cloud)
        clouds.append(replace(own, extra={**own.extra, LIDAR: np.full(len(own), number)}))
        parts.append((_train_ids(root, card, row, file.rows) if with_labels else None, file.rows))
    if all(known is None for known, _ in parts):
        return join_clouds(clouds), None
    filled = [np.full(count, IGNORE_LABEL, np.uint8) if known is None else known for known, count in parts]
    return join_clouds(clouds), np.concatenate(filled)


def read_label_files(root: Path, card: DatasetCard, rows: Sequence[LidarRow]) -> list[_Labels | None]:
    """Train ids of each LiDAR that has a label file of its own, one a row of that file."""
    return [_train_ids(root, card, row, None) for row in rows]


def _train_ids(root: Path, card: DatasetCard, row: LidarRow, points: int | None) -> _Labels | None:
    if row.labels is None:
        return None
    raw = read_labels(root / row.labels.path, points, key=row.labels.key, **card.labels)
    return look_up(card.label_map, raw)


def _owners(path: Path, cloud: Cloud, shared: Sequence[int]) -> NDArray[np.int64]:
    """(N,) number of the LiDAR of each point of a scan's own file."""
    if len(shared) == 1:
        return np.full(len(cloud), shared[0])
    if LIDAR not in cloud.extra:
        raise InputError(
            f"{path}: holds points of {len(shared)} LiDARs and no column {LIDAR!r} that says of which each is; name it "
            "among the columns of the card's points"
        )
    owners = cloud.extra[LIDAR].astype(np.int64)
    if unknown := sorted(set(np.unique(owners).tolist()) - set(shared)):
        raise InputError(
            f"{path}: holds points of the LiDAR {unknown[0]}, and the log lists {', '.join(map(str, shared))}; list "
            "every LiDAR of the file"
        )
    return owners
