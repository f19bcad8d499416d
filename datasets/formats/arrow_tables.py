"""Tables out of the Arrow files of a log, with the columns that a reader names and of the kinds that it expects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...errors import InputError, first_line
from .arrow_sizes import unpacked
from .read import check_rows, check_unpacked, of_the_log

INTEGER, NUMBER, TEXT, BYTES, NUMBERS = "whole numbers", "numbers", "text", "bytes", "lists of numbers"
_MAY_BE_EMPTY = (NUMBERS,)  # an image that was not taken, a list in place of which others are given

Kinds = Mapping[str, str]  # column -> what it holds


def read_feather_table(path: Path, kinds: Kinds) -> Any:
    """The named columns of a feather file.

    Raises:
        InputError: it is no such file, lacks a column, or has one of another kind or with empty places.
    """
    with _reading(path, "feather"):
        rows, size = unpacked(path)
        check_rows(path, rows)
        check_unpacked(path, size, path.stat().st_size)
        with _open_feather(path) as file:
            schema = file.schema
        _check_columns(path, schema, kinds)
        with _open_feather(path, [schema.get_field_index(name) for name in kinds]) as file:
            table = file.read_all().select(list(kinds))
        table.validate(full=True)  # buffers are as long as the rows need: pyarrow would read beyond them
    return _checked(path, table, kinds)


def read_parquet_table(path: Path, kinds: Kinds, at: Mapping[str, int] | None = None) -> Any:
    """The named columns of the rows of a parquet file where the columns ``at`` have these values.

    Raises:
        InputError: as of ``read_feather_table``.
    """
    from pyarrow import compute

    at = at or {}
    wanted = {**dict.fromkeys(at, INTEGER), **kinds}
    with _reading(path, "parquet"):
        with _open_parquet(path) as file:
            _check_columns(path, file.schema_arrow, wanted)
            metadata = file.metadata
        groups = _groups(path, metadata, wanted, at)
        # what is named once and meant in a million rows stays one thing
        once = [name for name, kind in kinds.items() if kind in (BYTES, TEXT)]
        with _open_parquet(path, metadata=metadata, read_dictionary=once) as file:
            # threads are not worth their start for one frame
            table = file.read_row_groups(groups, list(wanted), use_threads=False)
        for name, value in at.items():
            table = table.filter(compute.equal(table[name], value))
    return _checked(path, table.select(list(kinds)), kinds)


def stored_columns(path: Path) -> tuple[tuple[str, ...], int]:
    """Names of the columns of a parquet or feather file, and how many rows it claims.

    Raises:
        InputError: it is no such file.
    """
    if path.suffix == ".parquet":
        with _reading(path, "parquet"), _open_parquet(path) as file:
            return tuple(file.schema_arrow.names), file.metadata.num_rows
    with _reading(path, "feather"), _open_feather(path) as file:
        return tuple(file.schema.names), unpacked(path).rows


@contextmanager
def _open_feather(path: Path, fields: list[int] | None = None) -> Iterator[Any]:
    """A reader of all columns, or of some; nothing is unpacked before it is asked for."""
    from pyarrow import OSFile, ipc

    options = ipc.IpcReadOptions(included_fields=fields, use_threads=False)
    with OSFile(str(path)) as file, ipc.open_file(file, options=options) as reader:
        yield reader


@contextmanager
def _open_parquet(path: Path, **options: Any) -> Iterator[Any]:
    from pyarrow import parquet

    with parquet.ParquetFile(path, **options) as file:
        yield file


def _groups(path: Path, metadata: Any, wanted: Kinds, at: Mapping[str, int]) -> list[int]:
    """The row groups that may have rows ``at``, by their own statistics."""
    groups, rows, size = [], 0, 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        columns = [group.column(place) for place in range(group.num_columns)]
        # `[Part].values` is one name and may have levels below it, which its path names with dots
        own = {name: [c for c in columns if f"{c.path_in_schema}.".startswith(f"{name}.")] for name in wanted}
        if all(_may_hold(own[name], value) for name, value in at.items()):
            groups.append(number)
            rows += group.num_rows
            for column in (column for found in own.values() for column in found):
                size += max(column.total_uncompressed_size, 8 * column.num_values)
    check_rows(path, rows)
    check_unpacked(path, size, path.stat().st_size)
    return groups


def _may_hold(columns: list[Any], value: int) -> bool:
    found = columns[0].statistics if len(columns) == 1 else None
    return found is None or not found.has_min_max or found.min <= value <= found.max


@contextmanager
def _reading(path: Path, form: str) -> Iterator[None]:
    import pyarrow

    with of_the_log(path):
        with open(path, "rb"):  # what the system refuses has words of its own
            pass
        try:
            yield
        except InputError:
            raise
        # damaged lengths overflow, or ask for more memory than there is, before pyarrow looks at them
        except (pyarrow.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
            raise InputError(
                f"{path}: is no whole {form} file ({first_line(error)}); copy it again"
            ) from error


def _check_columns(path: Path, schema: Any, kinds: Kinds) -> None:
    """There is one column of each name, of the kind that is expected."""
    stored = schema.names
    for name in kinds:
        if stored.count(name) != 1:
            lack = "no column" if name not in stored else f"{stored.count(name)} columns"
            raise InputError(
                f"{path}: has {lack} {name}, but {', '.join(stored)[:200]}; copy it again, or mend the columns of the "
                "card"
            )
    _check_kinds(path, schema, kinds)


def _checked(path: Path, table: Any, kinds: Kinds) -> Any:
    for name, kind in kinds.items():
        if table[name].null_count and kind not in _MAY_BE_EMPTY:
            raise InputError(
                f"{path}: the column {name} has {table[name].null_count} empty places; copy it again"
            )
    return table


def _check_kinds(path: Path, schema: Any, kinds: Kinds) -> None:
    for name, kind in kinds.items():
        found = schema.field(name).type
        if not _is(found, kind):
            raise InputError(f"{path}: the column {name} holds {found} in place of {kind}; copy it again")


def _is(found: Any, kind: str) -> bool:
    from pyarrow import types

    if types.is_dictionary(found):  # text that occurs often is stored so
        found = found.value_type
    if kind == NUMBERS:
        is_list = types.is_list(found) or types.is_large_list(found) or types.is_fixed_size_list(found)
        return is_list and _is(found.value_type, NUMBER)
    if kind == TEXT:
        return types.is_string(found) or types.is_large_string(found)
    if kind == BYTES:
        return types.is_binary(found) or types.is_large_binary(found)
    return types.is_integer(found) or (kind == NUMBER and types.is_floating(found))
