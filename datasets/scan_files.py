"""The files of a log's scans: where they lie, and what they hold of points and labels."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import MissingFileError
from ..geometry import matrix_of
from .card import DatasetCard
from .cloud import Cloud
from .columns import lidar_rows, time_of, trajectory_of
from .complete import KEY_FRAMES_ONLY
from .file_cloud import read_file, to_cloud
from .formats.readers import FilePoints, look_up, read_labels
from .frame import Lidar
from .lidars import lidars_of, merge_lidars, read_label_files
from .records import LidarRow, Place
from .store import Columns
from .sweep import at_one_instant
from .timeline import Timeline
from .trajectory import Trajectory

log = logging.getLogger(__name__)


class ScanFiles(Timeline):
    """A log's scans with their files.

    Attributes, beside those of `Timeline`:
        root: where the data lie. card: what is known about the dataset.
        sweep_compensation: whether the points of a scan are brought to one instant while it is read.
    """

    def __init__(
        self,
        root: Path,
        card: DatasetCard,
        folder: Path,
        frames: Columns,
        lidars: Columns,
        lidar_names: Sequence[str],
        *,
        sweep_compensation: bool = False,
    ) -> None:
        super().__init__(f"{folder} ({card.name})", frames)
        self.root, self.card = root, card
        self.sweep_compensation = sweep_compensation
        self._frames, self._lidars, self._lidar_names = frames, lidars, tuple(lidar_names)
        self._way: tuple[int, Trajectory | None] = (-1, None)  # of the scene that was asked for last

    def point_path(self, row: int) -> Path:
        """File of the scan's points."""
        return self.root / self._frames["path"][row].decode()

    def point_key(self, row: int) -> str:
        """Which scan of that file it is; "" where the file holds no other."""
        key: bytes = self._frames["key"][row]
        return key.decode()

    def label_path(self, row: int) -> Path | None:
        """The label file of the scan's points, or None."""
        path = self._frames["label_path"][row].decode()
        return self.root / path if path else None

    def has_labels(self, row: int) -> bool:
        """Whether a label file belongs to the scan, or to one of the LiDARs that made it."""
        return bool(self._frames["label_path"][row]) or any(lidar.labels for lidar in self._lidar_rows(row))

    def lidars(self, row: int) -> tuple[Lidar, ...]:
        """The LiDARs that the scan is merged from, by the frame of its cloud; none where it is of a single one."""
        return lidars_of(self._lidar_rows(row), matrix_of(self._frames["lidar_to_ego"][row]))

    def read_cloud(
        self, row: int, *, labels: bool, raw_intensity: bool
    ) -> tuple[Cloud, NDArray[np.uint8] | None]:
        """The points of a scan in its LiDAR frame, of all its LiDARs, and (N,) their train ids.

        Args:
            labels: read them; None where the scan has none. raw_intensity: see `DatasetCard.normalise_intensity`.

        Raises:
            InputError: a file is missing or wrong; the message names it.
        """
        time_us = time_of(self.time_us[row])
        file = self.file_points(row)
        if not len(file.columns["x"]):
            _warn_of_empty_scan(self.point_path(row))
        cloud = to_cloud(self.card, file, time_us, raw_intensity=raw_intensity)
        train_ids = self._labels(row, file.rows) if labels else None
        lidars = self._lidar_rows(row)
        if lidars:
            cloud, train_ids = merge_lidars(
                self.root,
                self.card,
                self._place(row),
                cloud,
                train_ids,
                lidars,
                self.lidars(row),
                time_us=time_us,
                raw_intensity=raw_intensity,
                with_labels=labels,
            )
        if train_ids is not None and cloud.file_row is not None:
            train_ids = train_ids[cloud.file_row]
        way = self._trajectory(row) if self.sweep_compensation and len(cloud) else None
        if way is not None and time_us is not None:
            mount = matrix_of(self._frames["lidar_to_ego"][row])
            cloud = at_one_instant(cloud, time_us, way, mount, name=f"{self.point_path(row)}")
        return cloud, train_ids

    def _trajectory(self, row: int) -> Trajectory | None:
        """The poses of the scan's scene in time; None where fewer than two are known."""
        scene = int(self.scene_of[row])
        if self._way[0] != scene:
            rows = slice(*self._scene_rows(row))
            self._way = (scene, trajectory_of(self.time_us[rows], self._frames["ego_to_world"][rows]))
        return self._way[1]

    def labels(self, row: int) -> NDArray[np.uint8] | None:
        """Train ids of a scan, 255 = ignore, one a row of its labelled files; None where it has none.

        Only the label files are read.

        Raises:
            InputError: one cannot be read.
        """
        row = self._check(row)
        found = [self._labels(row, None), *read_label_files(self.root, self.card, self._lidar_rows(row))]
        known = [ids for ids in found if ids is not None]
        return np.concatenate(known) if known else None

    def file_points(self, row: int) -> FilePoints:
        """The points of a scan, as they stand in its file.

        Raises:
            InputError: the file is missing or wrong; the message names it.
        """
        try:
            return read_file(self.card, self.root, self._place(row))
        except MissingFileError as error:
            if self.is_key[row]:
                raise
            raise MissingFileError(
                f"{error}; it is a sweep, prepare with {KEY_FRAMES_ONLY} to go without"
            ) from None

    def file_labels(self, row: int, points: int | None) -> NDArray[np.uint32] | None:
        """uint32 raw ids, one a row of a scan's file; None where it has no labels.

        Args:
            points: number of rows of the scan's file; None takes any.

        Raises:
            InputError: the file is missing, wrong, or of another number of points.
        """
        path, key = self.label_path(row), self._frames["label_key"][row].decode()
        return None if path is None else read_labels(path, points, key=key, **self.card.labels)

    def instances(self, row: int, points: int) -> NDArray[np.uint32] | None:
        """(N,) uint32 instance of each of so many points, 0 for none; None where the scan has no such file.

        Raises:
            InputError: the file is missing, wrong, or of another number of points.
        """
        place = Place(self._frames["instance_path"][row].decode(), self._frames["instance_key"][row].decode())
        if not place.path:
            return None
        return read_labels(self.root / place.path, points, key=place.key, **self.card.instances)

    def _labels(self, row: int, points: int | None) -> NDArray[np.uint8] | None:
        raw = self.file_labels(row, points)
        return None if raw is None else look_up(self.card.label_map, raw)

    def _place(self, row: int) -> Place:
        return Place(self._frames["path"][row].decode(), self._frames["key"][row].decode())

    def _lidar_rows(self, row: int) -> tuple[LidarRow, ...]:
        return lidar_rows(self._lidars, row, self._lidar_names) if self._lidar_names else ()


@cache
def _warn_of_empty_scan(path: Path) -> None:
    """Say it once a process: such a scan stops nothing, but somebody should know."""
    log.warning("%s: holds no points; leave this frame out of the selection or copy the file again", path)


def empty_cloud(card: DatasetCard) -> Cloud:
    """No points, with the columns that scans of ``card`` have."""
    columns = dict.fromkeys(card.columns, np.empty(0, np.float32))
    return to_cloud(card, FilePoints(columns, None, 0), None)
