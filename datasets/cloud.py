"""The points of one scan, as reading gives them: what every LiDAR has, what some have, and their rows of the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry import Transform, transform_points

FIRST = ("x", "y", "z", "intensity")  # columns of every table of points
TIME = "time_s"  # the further column of seconds from the time of the scan to that of the point
LIDAR = "lidar"  # the further column of the number of the LiDAR that saw a point, where there are several


@dataclass(frozen=True, slots=True, eq=False)
class Cloud:
    """N points in one frame.

    Attributes:
        xyz: (N, 3) float32 [m]: x forward, y left, z up.
        intensity: (N,) float32, [0, 1] or 0..255 as it was asked for; None where the sensor gives none.
        extra: further columns by name, (N,) of any numbers: ``time_s`` is seconds after the time of the scan.
        file_row: (N,) int64 ascending row of the file that each point was; None where all rows of the file are points.
        file_rows: number of rows of the file, where ``file_row`` is given.
    """

    xyz: NDArray[np.float32]
    intensity: NDArray[np.float32] | None = None
    extra: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    file_row: NDArray[np.int64] | None = None
    file_rows: int = 0

    def __len__(self) -> int:
        return len(self.xyz)

    @classmethod
    def from_table(cls, points: NDArray[Any], columns: tuple[str, ...] = FIRST) -> Cloud:
        """The cloud of a table (N, 3 or more) whose columns have these names, x, y and z first."""
        further = dict(zip(columns[3:], points.astype(np.float32).T[3:]))
        return cls(points[:, :3].astype(np.float32), further.pop("intensity", None), further)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of ``table``."""
        return (*FIRST, *self.extra)

    @property
    def table(self) -> NDArray[np.float32]:
        """(N, 4+) float32 copy: x, y, z, intensity (NaN where there is none), then the further columns."""
        table = np.empty((len(self), 4 + len(self.extra)), np.float32)
        for place in range(3):  # of three columns at once, each row is copied by itself
            table[:, place] = self.xyz[:, place]
        table[:, 3] = np.nan if self.intensity is None else self.intensity
        for place, values in enumerate(self.extra.values(), start=4):
            table[:, place] = values
        return table

    @property
    def rows_of_file(self) -> int:
        """Number of rows of the file."""
        return len(self) if self.file_row is None else self.file_rows

    def moved(self, a_to_b: Transform) -> Cloud:
        """The points in another frame."""
        return replace(self, xyz=transform_points(a_to_b, self.xyz))

    def at(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> Cloud:
        """The points of these rows, or where a mask is true; they keep their rows of the file."""
        if rows.dtype == np.bool_:
            rows = np.flatnonzero(rows)
        return Cloud(
            np.take(self.xyz, rows, axis=0),  # by index, rows of three cost several times as much
            None if self.intensity is None else self.intensity[rows],
            {name: values[rows] for name, values in self.extra.items()},
            rows.astype(np.int64) if self.file_row is None else self.file_row[rows],
            self.rows_of_file,
        )


def join_clouds(clouds: Sequence[Cloud]) -> Cloud:
    """Clouds of the same columns and frame in one; rows of the files are counted on from one to the next."""
    first = np.cumsum([0, *(cloud.rows_of_file for cloud in clouds)])
    intensities = [cloud.intensity for cloud in clouds if cloud.intensity is not None]
    file_row = None
    if any(cloud.file_row is not None for cloud in clouds):
        rows = [np.arange(len(cloud)) if cloud.file_row is None else cloud.file_row for cloud in clouds]
        file_row = np.concatenate([part + start for part, start in zip(rows, first)])
    return Cloud(
        np.concatenate([cloud.xyz for cloud in clouds]),
        np.concatenate(intensities) if len(intensities) == len(clouds) else None,
        {name: np.concatenate([cloud.extra[name] for cloud in clouds]) for name in clouds[0].extra},
        file_row,
        0 if file_row is None else int(first[-1]),
    )


def file_values(
    values: NDArray[Any], file_row: NDArray[np.int64] | None, file_rows: int, *, absent: Any
) -> NDArray[Any]:
    """(rows of the file,) of the (N,) values of a cloud's points, as a file of one entry a row has them.

    Args:
        file_row, file_rows: of the `Cloud`. absent: the value of rows that are no points.
    """
    if file_row is None:
        return values
    of_rows = np.full(file_rows, absent, values.dtype)
    of_rows[file_row] = values
    return of_rows
