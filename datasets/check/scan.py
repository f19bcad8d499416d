"""Read the files of one scan: its points, labels and images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError, MissingFileError
from ..formats.readers import NAMELESS, UNKNOWN_ID, Columns, FilePoints
from ..frame import Frame
from ..index import LogIndex
from .cameras import IMAGE, measure_image, measure_points
from .cloud_problems import scan_problems
from .clouds import measure_cloud
from .overlay import Project
from .report import Problem

_SENSOR = "sensor"  # column that numbers the LiDARs of a file whose mounts nobody knows
_MOST_LIDARS = 16  # of more numbers the column is of something else


@dataclass(frozen=True, slots=True)
class Scan:
    """What one scan's files hold."""

    row: int
    points: int
    intensity: tuple[float, float]  # smallest and largest raw value; infinite without points
    cloud: NDArray[np.void] | None  # record of CLOUD; None where points are absent or cannot be coordinates
    images: NDArray[np.void]  # (K,) of IMAGE
    raw_labels: NDArray[np.int64] | None  # (K, 2) raw ids that occur, and points of each
    # of several that made it, as far as known: name -> whether it holds points of that one
    lidars: Mapping[str, bool]
    problems: tuple[Problem, ...]


def inspect_scan(index: LogIndex, row: int, project: Project) -> Scan:
    """Read all files of one scan.

    Args:
        project: where points fall on an image.
    """
    problems: list[Problem] = []
    read = _read_cloud(index, row, problems)
    to_lidar = index.card.file_to_lidar[:3, :3]
    points = np.empty((0, 4), np.float32)
    if read is not None:
        shift = index.card.file_to_lidar[:3, 3] @ to_lidar
        points = _table(read.columns, index.card.has_intensity, shift)
    cloud, some = None, np.empty((0, 3), np.float32)
    low, high = np.inf, -np.inf
    if len(points):
        path = index.point_path(row)
        if index.card.has_intensity:
            low, high = float(points[:, 3].min()), float(points[:, 3].max())
        is_bare = index.card.point_format in NAMELESS
        if low < 0:
            problems.append(_wrong_columns(index, path, low, high) if is_bare else _negative(path, low, high))
        # whole points of another width put coordinates into the column of intensity, and those have both signs
        if low >= 0 or not is_bare:
            spread = (low, high) if index.card.has_intensity else (0.0, 0.0)
            cloud, some = measure_cloud(row, points, to_lidar, spread)
            problems += scan_problems(path, cloud)
    lidars = {} if read is None else _lidars(index, row, read.columns, problems)
    raw_labels = _read_raw_labels(index, row, None if read is None else read.rows, problems)
    frame = index.frame(row, points=False, images=False, labels=False)
    images = list(_read_images(index, frame, row, problems))
    if len(some):
        for facts, camera in zip(images, frame.cameras):
            measure_points(facts, frame, camera, project, some)
        unseen = [(facts, camera) for facts, camera in zip(images, frame.cameras) if not facts["any"]]
        every = points[:, :3] @ to_lidar.T.astype(np.float32) if unseen else some
        for facts, camera in unseen:  # perhaps a few of the others are
            measure_points(facts, frame, camera, project, every)
    return Scan(
        row, len(points), (low, high), cloud, np.array(images, IMAGE), raw_labels, lidars, tuple(problems)
    )


def _said(error: InputError, kind: str, file: str) -> Problem:
    return Problem("missing file" if isinstance(error, MissingFileError) else kind, file, str(error))


def _table(columns: Columns, has_intensity: bool, shift: NDArray[np.float64]) -> NDArray[np.float32]:
    """(N, 4) x, y, z, which ``shift`` (3,) brings to the sensor, and intensity, 0 where there is none."""
    table = np.zeros((len(columns["x"]), 4), np.float32)
    for place, name in enumerate(("x", "y", "z", "intensity") if has_intensity else ("x", "y", "z")):
        values = columns[name]
        # not first to float32, which is too coarse for coordinates of a far origin
        table[:, place] = values + shift[place] if name != "intensity" and shift[place] else values
    return table


def _read_cloud(index: LogIndex, row: int, problems: list[Problem]) -> FilePoints | None:
    """The points as in the file; None where it cannot be read."""
    path = index.point_path(row)
    try:
        points = index.file_points(row)
    except InputError as error:
        problems.append(_said(error, "points", str(path)))
        return None
    if not len(points.columns["x"]):
        problems.append(
            Problem("empty cloud", str(path), f"{path}: the scan holds no point; export it again")
        )
    return points


def _lidars(index: LogIndex, row: int, columns: Columns, problems: list[Problem]) -> dict[str, bool]:
    """LiDARs that made a scan, and whether it holds points of each; where only the points tell, those that it holds.

    What is wrong with their files, with whose the points are, or with their times, becomes a problem.
    """
    numbers = np.unique(columns[_SENSOR]) if _SENSOR in columns else np.empty(0)
    found = {f"{_SENSOR} {number:g}": True for number in numbers} if len(numbers) <= _MOST_LIDARS else {}
    if not index.lidars(row) and not index.card.time:
        return found
    try:
        frame = index.frame(row, cameras=(), labels=False)
    except InputError as error:
        problems.append(_said(error, "points", str(index.point_path(row))))
        return {}
    return {lidar.name: bool(len(rows)) for (rows, _), lidar in zip(frame.by_lidar, frame.lidars)} or found


def _read_raw_labels(
    index: LogIndex, row: int, points: int | None, problems: list[Problem]
) -> NDArray[np.int64] | None:
    """(K, 2) raw ids and points of each; None without labels, or where they belong to points that cannot be read."""
    path = index.label_path(row)
    if path is None or (points is None and path.is_file()):
        return None
    try:
        raw = index.file_labels(row, points or 0)
    except InputError as error:
        problems.append(_said(error, "labels", str(path)))
        return None
    if raw is None:
        return None
    if len(raw) and raw.max() > UNKNOWN_ID:
        raw = np.minimum(raw, UNKNOWN_ID)
    counts = np.bincount(raw)
    ids = np.flatnonzero(counts)
    return np.column_stack([ids, counts[ids]])


def _read_images(
    index: LogIndex, frame: Frame, row: int, problems: list[Problem]
) -> Iterator[NDArray[np.void]]:
    for camera in frame.cameras:
        image = None
        try:
            image = camera.read()
        except InputError as error:
            problems.append(_said(error, "image", camera.path))
        yield measure_image(row, index.channels.index(camera.channel), image)


def _negative(path: Path, low: float, high: float) -> Problem:
    return Problem(
        "intensity",
        str(path),
        f"{path}: intensities run from {low:g} to {high:g}, and those below 0 become 0; export them from 0 upwards",
    )


def _wrong_columns(index: LogIndex, path: Path, low: float, high: float) -> Problem:
    columns = index.card.columns
    return Problem(
        "columns",
        str(path),
        f"{path}: the columns do not fit the card, since intensities run from {low:g} to {high:g}: it reads "
        f"{len(columns)} float32 a point ({', '.join(columns)}); give the columns of the files with --card FILE.yaml, "
        "or export intensities from 0 upwards (docs/own_data.md)",
    )
