"""Points out of NumPy archives, as `readers.READERS` wants them: one table of rows, or one array for each column."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError, first_line
from .read import DAMAGED_HEAD, check_rows, check_unpacked, choose, of_the_log, zip_member


def read_npz(path: Path, key: str, names: Sequence[str]) -> Mapping[str, NDArray[Any]]:
    """The named columns of an .npz file.

    Arrays of the names, (N,) each; where there is none of them the only array, or only one of two dimensions, whose
    columns have the names in their order.

    Args:
        key: the array of two dimensions, where there are several.

    Raises:
        InputError: it is no such file, holds objects instead of numbers, or lacks a column.
    """
    with of_the_log(path):
        try:
            with zipfile.ZipFile(path) as archive:
                held = [name.removesuffix(".npy") for name in archive.namelist()]
                if not key and set(names) <= set(held):
                    check_unpacked(path, sum(_size(archive, name) for name in names), path.stat().st_size)
                    return _alike(
                        path, {name: _column(path, name, _array(path, archive, name)) for name in names}
                    )
                if not key:
                    tables = [name for name in held if len(held) == 1 or _is_table(archive, name)]
                    if len(tables) != 1 or set(names) & set(held):
                        choose(path, names, held)
                    key = tables[0]
                choose(path, [key], held)
                table = _array(path, archive, key)
        except (
            zipfile.BadZipFile,
            zlib.error,
            NotImplementedError,  # a compression that Python has not
            RuntimeError,  # encrypted
            *DAMAGED_HEAD,  # also objects, which would have to be unpickled, and one that claims more than there is
        ) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{path}: is no NumPy archive of plain numbers ({first_line(error)[:150]}); copy it again"
            ) from error
    if len(names) == 1:
        table = table.reshape(-1, 1)
    if table.ndim != 2 or table.shape[1] != len(names):
        raise InputError(
            f"{path}: holds an array of shape {table.shape} where its card says {len(names)} columns; mend columns"
        )
    check_rows(path, len(table))
    return dict(zip(names, table.T))


def npz_names(path: Path) -> tuple[str, ...]:
    """Names of the arrays."""
    with of_the_log(path):
        try:
            with zipfile.ZipFile(path) as archive:
                return tuple(name.removesuffix(".npy") for name in archive.namelist())
        except zipfile.BadZipFile as error:
            raise InputError(f"{path}: is no NumPy archive ({error}); copy it again") from error


def _is_table(archive: zipfile.ZipFile, name: str) -> bool:
    """Whether a member is an array of two dimensions, by its head alone."""
    if not _size(archive, name):
        return False
    with archive.open(f"{name}.npy") as file:
        read_head = np.lib.format.read_array_header_1_0
        if np.lib.format.read_magic(file) != (1, 0):  # of later versions the head alone is longer
            read_head = np.lib.format.read_array_header_2_0
        return len(read_head(file)[0]) == 2


def _array(path: Path, archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    size = _size(archive, name)
    if not size:
        raise InputError(f"{path}: {name} is no array of a scan, its size is {size} bytes; leave it out")
    check_unpacked(path, size, path.stat().st_size)
    return np.lib.format.read_array(BytesIO(zip_member(archive, f"{name}.npy")), allow_pickle=False)


def _size(archive: zipfile.ZipFile, name: str) -> int:
    """Bytes that a member claims to be, 0 where there is none."""
    info = archive.NameToInfo.get(f"{name}.npy")
    return info.file_size if info else 0


def _column(path: Path, name: str, values: NDArray[Any]) -> NDArray[Any]:
    if values.ndim != 1:
        raise InputError(f"{path}: {name} has the shape {values.shape}, and a column has one; mend columns")
    check_rows(path, len(values))
    return values


def _alike(path: Path, columns: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
    """The columns, as long as each other: one of a single value would else be that of every point."""
    first = next(iter(columns))
    for name, values in columns.items():
        if len(values) != len(columns[first]):
            raise InputError(
                f"{path}: {first} has {len(columns[first])} values and {name} has {len(values)}, and a column has one "
                "for each point; export the scan again"
            )
    return columns
