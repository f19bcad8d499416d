"""The points of a file as a cloud, as a card says what their columns mean."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..geometry import Transform
from .card import DatasetCard
from .cloud import TIME, Cloud
from .formats.readers import FilePoints, read_points
from .records import Place

_FAR_M = 4096.0  # of the origin of the files' axes
COARSEST_S = 2e-3  # between the times of points: a car at 30 m/s drives 6 cm


def read_file(card: DatasetCard, root: Path, place: Place) -> FilePoints:
    """The points at ``place`` below ``root``, in the file's axes, as ``card`` says what stands there.

    Raises:
        InputError: the file is missing or wrong; the message names it.
    """
    return read_points(
        root / place.path,
        card.columns,
        format=card.point_format,
        key=place.key,
        stored=card.stored,
        no_return=card.no_return,
        range_m=card.range_m,
    )


def to_cloud(
    card: DatasetCard, file: FilePoints, time_us: int | None, *, raw_intensity: bool = False
) -> Cloud:
    """The points of a file in x forward, y left, z up, as ``card`` says what its columns mean.

    Args:
        time_us: of the scan, for points whose times are those of a clock.
        raw_intensity: see `DatasetCard.normalise_intensity`.
    """
    columns = dict(file.columns)
    xyz = _in_lidar([columns.pop(name) for name in ("x", "y", "z")], card.file_to_lidar)
    raw = columns.pop("intensity", None)
    intensity = None
    if raw is not None and card.has_intensity:
        intensity = card.normalise_intensity(raw, keep_raw=raw_intensity)
    extra = dict(
        (TIME, _seconds(card.time, values, time_us)) if name == card.time.get("column") else (name, values)
        for name, values in columns.items()
    )
    return Cloud(xyz, intensity, extra, file.row, file.rows if file.row is not None else 0)


def _in_lidar(axes: list[NDArray[Any]], file_to_lidar: Transform) -> NDArray[np.float32]:
    """(N, 3) of three columns (N,) in the axes of the files."""
    shift = file_to_lidar[:3, 3]
    # from where float32 is too coarse to where it is not
    if shift.any() and any(_is_far(values) for values in axes):
        return (np.stack(axes, axis=1) @ file_to_lidar[:3, :3].T + shift).astype(np.float32)
    turn = file_to_lidar.astype(np.float32)
    xyz = _turned([values.astype(np.float32, copy=False) for values in axes], turn[:3, :3])
    if shift.any():
        xyz += turn[:3, 3]
    return xyz


def _is_far(values: NDArray[Any]) -> bool:
    """Whether the column (N,) holds coordinates that float32 rounds by more than a quarter of a millimetre."""
    return values.dtype.itemsize > 4 - (values.dtype.kind in "iu") and bool(
        len(values) and max(abs(float(values.max())), abs(float(values.min()))) > _FAR_M
    )


def _turned(axes: list[NDArray[np.float32]], turn: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, 3) of three columns (N,), through a rotation (3, 3)."""
    if not {-1.0, 0.0, 1.0} >= set(turn.ravel().tolist()):
        return np.stack(axes, axis=1) @ turn.T
    # axes that are named otherwise are copied, in an eighth of the time; none becomes a zero below zero
    xyz, zero = np.empty((len(axes[0]), 3), np.float32), np.float32(0)
    for place, row in enumerate(turn.tolist()):
        (axis,) = np.flatnonzero(row)
        change = np.add if row[axis] > 0 else np.subtract
        change(zero, axes[axis], out=xyz[:, place])
    return xyz


def smallest_step_s(values: NDArray[Any], unit_s: float) -> float:
    """Seconds between the largest (N > 0) of the values and the next number of their type."""
    if values.dtype.kind in "iu":
        return unit_s
    return abs(float(np.spacing(values[np.abs(values).argmax()]))) * unit_s


def _seconds(time: Mapping[str, Any], values: NDArray[Any], time_us: int | None) -> NDArray[np.float32]:
    """(N,) seconds from the time of the scan; NaN where a clock's time is of no use, as the scan has none."""
    if time["since"] == "scan":
        return (values * float(time["unit_s"])).astype(np.float32)
    if time_us is None or not len(values):
        return np.full(len(values), np.nan, np.float32)
    if (step_s := smallest_step_s(values, float(time["unit_s"]))) > COARSEST_S:
        raise InputError(
            f"the column {time['column']} of the points holds a clock in {values.dtype}, which tells no two times "
            f"apart that are less than {step_s:.3g} s from each other; write it in float64, or seconds since the scan, "
            "or leave time out of points"
        )
    clock = time_us / (float(time["unit_s"]) * 1e6)
    if values.dtype.kind in "iu":  # whole numbers of nanoseconds are more than float64 can tell apart
        values, clock = values.astype(np.int64), round(clock)
    return ((values - clock) * float(time["unit_s"])).astype(np.float32)
