"""Points out of Arrow files, as `readers.READERS` wants them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrow_tables import NUMBER, read_feather_table, read_parquet_table
from .read import no_parts

LIDAR = "lidar"  # the column of whose each point is
AV2_LASERS = 32  # of each of Argoverse 2's LiDARs, which a file numbers through: 0 to 31 are the upper one's


def read_feather(path: Path, key: str, names: Sequence[str]) -> Mapping[str, NDArray[Any]]:
    """The named columns of a feather file; half floats as float32."""
    no_parts(path, key, "a feather file")
    table = read_feather_table(path, dict.fromkeys(names, NUMBER))
    return {name: _plain(table[name].to_numpy()) for name in names}


def read_parquet(path: Path, key: str, names: Sequence[str]) -> Mapping[str, NDArray[Any]]:
    """The named columns of a parquet file; half floats as float32."""
    no_parts(path, key, "a parquet file")
    table = read_parquet_table(path, dict.fromkeys(names, NUMBER))
    return {name: _plain(table[name].to_numpy()) for name in names}


def read_argoverse2(path: Path, key: str, names: Sequence[str]) -> Mapping[str, NDArray[Any]]:
    """As ``read_feather``, with a column ``lidar`` made of the number of the laser."""
    stored = [name for name in names if name != LIDAR]
    columns = dict(read_feather(path, key, stored))
    if LIDAR in names:
        columns[LIDAR] = columns["laser_number"] // AV2_LASERS
    return {name: columns[name] for name in names}


def _plain(values: NDArray[Any]) -> NDArray[Any]:
    return values.astype(np.float32) if values.dtype == np.float16 else values
