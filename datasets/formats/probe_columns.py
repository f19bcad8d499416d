"""Names of the columns that a file of points has, by its format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .arrow_tables import stored_columns
from .las import las_dimensions
from .npz import npz_names
from .pcd import pcd_fields
from .ply import ply_properties

_NAMES: dict[str, Callable[[Path], tuple[str, ...]]] = {
    "pcd": pcd_fields,
    "ply": ply_properties,
    "las": las_dimensions,
    "feather": lambda path: stored_columns(path)[0],
    "parquet": lambda path: stored_columns(path)[0],
    "npz": npz_names,
}


def stored_names(path: Path, format: str) -> tuple[str, ...]:
    """Names of the columns of the file; none where its format has none.

    Raises:
        InputError: it cannot be read.
    """
    return _NAMES[format](path) if format in _NAMES else ()
