"""Points out of Arrow files, as `formats.READERS` wants them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .read import of_the_log

LIDAR = "lidar"  # the column of whose each point is
AV2_LASERS = (
    32  # of each of Argoverse 2's two LiDARs, which one file numbers through: 0 to 31 are the upper one's
)


def read_feather(path: Path, key: str, names: Sequence[str]) -> Mapping[str, NDArray[Any]]:
    """The named columns of a feather file; half floats as float32."""
    table = read_table(path, key, names)
    return {name: _plain(path, name, table[name]) for name in names}


def read_argoverse2(path: Path, key: str, names: Sequence[str]) -> Mapping[str, NDArray[Any]]:
    """As ``read_feather``, with a column ``lidar`` made of the number of the laser."""
    stored = [name for name in names if name != LIDAR]
    columns = dict(read_feather(path, key, stored))
    if LIDAR in names:
        columns[LIDAR] = columns["laser_number"] // AV2_LASERS
    return {name: columns[name] for name in names}


def read_table(path: Path, key: str, names: Sequence[str]) -> Any:
    """The named columns of a feather file.

    Raises:
        InputError: it is no such file, or lacks a column.
    """
    import pyarrow
    from pyarrow import feather

    if key:
        raise InputError(f"{path}: a feather file has no part {key!r}; prepare the log again")
    with of_the_log(path):
        try:
            table = feather.read_table(path, memory_map=False)
        except pyarrow.ArrowException as error:
            raise InputError(
                f"{path}: is no whole feather file ({str(error).splitlines()[0]}); copy it again"
            ) from error
    missing = sorted(set(names) - set(table.column_names))
    if missing:
        raise InputError(
            f"{path}: has no column {', '.join(missing)}, but {', '.join(table.column_names)[:200]}; copy it again, or "
            "mend the columns of the card"
        )
    return table.select(list(names))


def _plain(path: Path, name: str, column: Any) -> NDArray[Any]:
    if column.null_count:
        raise InputError(
            f"{path}: the column {name} has {column.null_count} empty places; export the scan again"
        )
    values: NDArray[Any] = column.to_numpy()
    return values.astype(np.float32) if values.dtype == np.float16 else values
