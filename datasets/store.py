"""The files of an index: numpy columns in Parquet tables beside a small ``index.json``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, MissingFileError
from ..files.access import read_json, reading
from ..files.writes import write_atomically

SCHEMA = 1  # raise it when a column or key changes its meaning; older indices are then prepared again
TABLES = ("frames", "cameras", "boxes")
PREPARE = "superflow prepare nuscenes --root ROOT --out"

_PLACE = (
    "schema",
    "hash",
    "root",
    "root_from_index",
)  # keys of index.json that say nothing about the content

Columns = dict[str, NDArray[Any]]  # equally long; text as bytes (dtype S), matrices as (R, n) float64


def text_column(values: list[str]) -> NDArray[np.bytes_]:
    """(R,) fixed-width UTF-8: one block of memory instead of R Python strings."""
    return np.array([value.encode() for value in values], dtype=np.bytes_)


def content_hash(header: Mapping[str, Any], tables: Mapping[str, Columns]) -> str:
    """sha256 over the header and every column; the Parquet version and the place of the data do not enter."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(tables):
        for key, column in sorted(tables[name].items()):
            digest.update(f"{name}.{key} {column.dtype.str} {column.shape}".encode())
            digest.update(np.ascontiguousarray(column).data)
    return digest.hexdigest()


def write_tables(
    folder: Path, header: Mapping[str, Any], place: Mapping[str, Any], tables: Mapping[str, Columns]
) -> str:
    """Write the index and return its hash. The old index stays until all new files are complete.

    Args:
        header: what belongs to the content and enters the hash.
        place: where the data lie on this machine; written beside the header but not hashed.
        tables: columns of each of ``TABLES``.
    """
    import pyarrow.parquet as parquet

    digest = content_hash(header, tables)
    with ExitStack() as stack:  # files take their names in reverse order, index.json last
        index_file = stack.enter_context(write_atomically(folder / "index.json", "w"))
        for name in TABLES:
            file = stack.enter_context(write_atomically(folder / f"{name}.parquet"))
            parquet.write_table(_to_arrow(tables[name], digest), file, compression="zstd")
        json.dump({"schema": SCHEMA, "hash": digest, **place, **header}, index_file, indent=1)
    return digest


def read_header(folder: Path) -> dict[str, Any]:
    """Content of ``index.json``.

    Raises:
        InputError: there is none, it is damaged or of another schema; the message gives the command to run.
    """
    path = folder / "index.json"
    again = f"make it again with `{PREPARE} {folder}`"
    try:
        header = read_json(path, again)
    except MissingFileError:
        raise MissingFileError(
            f"{path}: there is no index here; make one with `{PREPARE} {folder}`"
        ) from None
    if "schema" not in header:
        raise InputError(f"{path}: is damaged, it has no 'schema'; {again}")
    if header["schema"] != SCHEMA:
        raise InputError(
            f"{path}: the index has schema {header['schema']} but this version reads schema {SCHEMA}; {again}"
        )
    return header


def read_columns(folder: Path, name: str, digest: str) -> Columns:
    """Columns of one table of the index whose hash is ``digest``.

    Raises:
        InputError: the table is missing, damaged, or belongs to another index.
    """
    import pyarrow
    import pyarrow.parquet as parquet

    path = folder / f"{name}.parquet"
    again = f"make the index again with `{PREPARE} {folder}`"
    try:
        with reading(path, again), open(path, "rb") as file:
            table = parquet.read_table(file, use_threads=False)
    except pyarrow.ArrowException as error:
        raise InputError(f"{path}: is damaged ({str(error).splitlines()[0]}); {again}") from error
    if (table.schema.metadata or {}).get(b"superflow_index") != digest.encode():
        raise InputError(f"{path}: belongs to another index than index.json beside it; {again}")
    return {key: _to_numpy(table.column(key)) for key in table.column_names}


def is_intact(folder: Path) -> bool:
    """Whether the content of the index on disk is the one that its hash was made of."""
    header = read_header(folder)
    content = {key: value for key, value in header.items() if key not in _PLACE}
    tables = {name: read_columns(folder, name, header["hash"]) for name in TABLES}
    return content_hash(content, tables) == header["hash"]


def _to_arrow(columns: Columns, digest: str) -> Any:
    import pyarrow

    arrays = {}
    for key, column in columns.items():
        if column.dtype.kind == "S":
            arrays[key] = pyarrow.array([value.decode() for value in column.tolist()], type=pyarrow.string())
        elif column.ndim == 2:
            flat = pyarrow.array(np.ascontiguousarray(column).reshape(-1))
            arrays[key] = pyarrow.FixedSizeListArray.from_arrays(flat, column.shape[1])
        else:
            arrays[key] = pyarrow.array(column)
    return pyarrow.table(arrays).replace_schema_metadata({b"superflow_index": digest.encode()})


def _to_numpy(column: Any) -> NDArray[Any]:
    import pyarrow

    array = column.combine_chunks()
    if isinstance(array, pyarrow.ChunkedArray):  # a table without rows
        array = (
            pyarrow.concat_arrays(array.chunks) if array.num_chunks else pyarrow.array([], type=column.type)
        )
    if pyarrow.types.is_string(array.type):
        return text_column(array.to_pylist())
    if pyarrow.types.is_fixed_size_list(array.type):
        return array.flatten().to_numpy(zero_copy_only=False).reshape(-1, array.type.list_size).copy()
    return array.to_numpy(zero_copy_only=False).copy()
