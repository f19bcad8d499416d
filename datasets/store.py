"""The files of an index: numpy columns in Arrow files, mapped into memory, beside a small ``index.json``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, MissingFileError, first_line
from ..files.access import read_json, reading
from ..files.writes import write_atomically

SCHEMA = 3  # raise it when a column or key changes its meaning; older indices are then prepared again
TABLES = ("frames", "cameras", "boxes", "lidars")
_FLAG = {b"superflow": b"bool"}  # of columns of bytes that are true or false
_PLACE = ("schema", "hash", "root", "root_from_index")  # keys of index.json that are not of the content
_ABOUT = ("card", "card_hash", "recordings")  # what is said of the rows

Columns = dict[str, NDArray[Any]]  # equally long; text as bytes (dtype S), matrices as (R, n) float64


def prepare_command(folder: Path, dataset: str = "DATASET") -> str:
    """The command that makes the index in ``folder``, for messages."""
    return f"superflow prepare {dataset} --root ROOT --out {folder}"


def text_column(values: list[str]) -> NDArray[np.bytes_]:
    """(R,) fixed-width UTF-8: one block of memory instead of R Python strings."""
    return np.array([value.encode() for value in values], dtype=np.bytes_)


def content_hash(header: Mapping[str, Any], tables: Mapping[str, Columns]) -> str:
    """sha256 of the rows: every column, and what their codes mean; neither the card nor the place of the data enter."""
    content = {key: value for key, value in header.items() if key not in (*_PLACE, *_ABOUT)}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
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
        header: what the codes of the columns mean, and the card.
        place: where the data lie on this machine; written beside the header but not hashed.
        tables: columns of each of ``TABLES``.
    """
    from pyarrow import ipc

    digest = content_hash(header, tables)
    with ExitStack() as stack:  # files take their names in reverse order, index.json last
        index_file = stack.enter_context(write_atomically(folder / "index.json", "w"))
        for name in TABLES:
            file = stack.enter_context(write_atomically(folder / f"{name}.arrow"))
            batch = _to_arrow(tables[name], digest)
            # uncompressed, and one batch: what is mapped into memory is the column itself
            with ipc.new_file(file, batch.schema) as writer:
                writer.write_batch(batch)
        json.dump({"schema": SCHEMA, "hash": digest, **place, **header}, index_file, indent=1)
    return digest


def read_header(folder: Path) -> dict[str, Any]:
    """Content of ``index.json``.

    Raises:
        InputError: there is none, it is damaged or of another schema; the message gives the command to run.
    """
    path = folder / "index.json"
    again = f"make it again with `{prepare_command(folder)}`"
    try:
        header = read_json(path, again)
    except MissingFileError:
        raise MissingFileError(
            f"{path}: there is no index here; make one with `{prepare_command(folder)}`"
        ) from None
    if "schema" not in header:
        raise InputError(f"{path}: is damaged, it has no 'schema'; {again}")
    if header["schema"] != SCHEMA:
        again = f"make it again with `{prepare_command(folder, str(header.get('dataset', 'DATASET')))}`"
        raise InputError(
            f"{path}: the index has schema {header['schema']} but this version reads schema {SCHEMA}; {again}"
        )
    return header


def read_columns(folder: Path, name: str, digest: str) -> Columns:
    """Columns of one table of the index whose hash is ``digest``: views of the file, not to be written to.

    Processes that open the same index share its pages, and only those that are looked at are read.

    Raises:
        InputError: the table is missing, damaged, or belongs to another index.
    """
    import pyarrow
    from pyarrow import ipc

    path = folder / f"{name}.arrow"
    again = f"make the index again with `{prepare_command(folder)}`"
    try:
        with reading(path, again):
            source = pyarrow.memory_map(str(path))
        file = ipc.open_file(source)
        if file.num_record_batches != 1:
            raise pyarrow.ArrowInvalid(f"{file.num_record_batches} batches instead of 1")
        batch = file.get_batch(0)
        batch.validate(full=False)
        if any(column.null_count or column.offset for column in batch.columns):
            raise pyarrow.ArrowInvalid("values are missing")
    except pyarrow.ArrowException as error:
        raise InputError(f"{path}: is damaged ({first_line(error)}); {again}") from error
    if (batch.schema.metadata or {}).get(b"superflow_index") != digest.encode():
        raise InputError(f"{path}: belongs to another index than index.json beside it; {again}")
    return {field.name: _to_numpy(field, column) for field, column in zip(batch.schema, batch.columns)}


def is_intact(folder: Path) -> bool:
    """Whether the content of the index on disk is the one that its hash was made of."""
    header = read_header(folder)
    tables = {name: read_columns(folder, name, header["hash"]) for name in TABLES}
    return content_hash(header, tables) == header["hash"]


def _to_arrow(columns: Columns, digest: str) -> Any:
    import pyarrow

    arrays = []
    for column in columns.values():
        column = np.ascontiguousarray(column)
        if column.dtype.kind == "b":  # Arrow packs bits, which no array can look at
            column = column.view(np.uint8)
        is_text = column.dtype.kind == "S"
        kind = pyarrow.binary(column.itemsize) if is_text else pyarrow.from_numpy_dtype(column.dtype)
        # from its memory: pyarrow.array would import pandas where that is installed, which takes half a second
        array = pyarrow.Array.from_buffers(kind, column.size, [None, pyarrow.py_buffer(column)])
        if column.ndim == 2:
            array = pyarrow.FixedSizeListArray.from_arrays(array, column.shape[1])
        arrays.append(array)
    metadata = {b"superflow_index": digest.encode()}
    fields = [
        pyarrow.field(name, array.type, metadata=_FLAG if columns[name].dtype.kind == "b" else None)
        for name, array in zip(columns, arrays)
    ]
    return pyarrow.RecordBatch.from_arrays(arrays, schema=pyarrow.schema(fields, metadata))


def _to_numpy(field: Any, column: Any) -> NDArray[Any]:
    """The column as a view of its file; not by pyarrow's ``to_numpy``, which imports pandas where that is installed."""
    import pyarrow

    width = 0
    if pyarrow.types.is_fixed_size_list(column.type):
        width, column = column.type.list_size, column.values
    is_text = pyarrow.types.is_fixed_size_binary(column.type)
    dtype = np.dtype(f"S{column.type.byte_width}" if is_text else column.type.to_pandas_dtype())
    data = column.buffers()[1]
    values = np.frombuffer(data if len(column) else b"", dtype=dtype, count=len(column))
    if width:
        return values.reshape(-1, width)
    return values.view(np.bool_) if _FLAG.items() <= (field.metadata or {}).items() else values
