"""Tables out of the Arrow files of a log, with the columns that a reader names and of the kinds that it expects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import InputError
from .read import of_the_log

INTEGER, NUMBER, TEXT, BYTES, NUMBERS = "whole numbers", "numbers", "text", "bytes", "lists of numbers"
_MAY_BE_EMPTY = (NUMBERS,)  # an image that was not taken, a list in place of which others are given

Kinds = Mapping[str, str]  # column -> what it holds


def read_feather_table(path: Path, kinds: Kinds) -> Any:
    """The named columns of a feather file.

    Raises:
        InputError: it is no such file, lacks a column, or has one of another kind or with empty places.
    """
    from pyarrow import feather

    with _reading(path, "feather"):
        table = feather.read_table(path, memory_map=False)
    _require(path, table.column_names, kinds)
    return _checked(path, table.select(list(kinds)), kinds)


def read_parquet_table(path: Path, kinds: Kinds, at: Mapping[str, int] | None = None) -> Any:
    """The named columns of the rows of a parquet file where the columns ``at`` have these values.

    Raises:
        InputError: as of ``read_feather_table``.
    """
    from pyarrow import parquet

    at = at or {}
    with _reading(path, "parquet"):
        schema = parquet.read_schema(path)
        wanted = {**dict.fromkeys(at, INTEGER), **kinds}
        _require(path, schema.names, wanted)
        _check_kinds(path, schema, wanted)
        filters = [(name, "=", value) for name, value in at.items()] or None
        table = parquet.read_table(path, columns=list(kinds), filters=filters, partitioning=None)
    return _checked(path, table, kinds)


def stored_columns(path: Path) -> tuple[tuple[str, ...], int]:
    """Names of the columns of a parquet or feather file, and how many rows it claims.

    Raises:
        InputError: it is no such file.
    """
    from pyarrow import feather, parquet

    if path.suffix == ".parquet":
        with _reading(path, "parquet"):
            data = parquet.read_metadata(path)
            return tuple(data.schema.to_arrow_schema().names), data.num_rows
    with _reading(path, "feather"):
        table = feather.read_table(path, memory_map=False)
    return tuple(table.column_names), table.num_rows


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
            said = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(f"{path}: is no whole {form} file ({said}); copy it again") from error


def _require(path: Path, stored: list[str], kinds: Kinds) -> None:
    for name in kinds:
        if stored.count(name) != 1:
            lack = "no column" if name not in stored else f"{stored.count(name)} columns"
            raise InputError(
                f"{path}: has {lack} {name}, but {', '.join(stored)[:200]}; copy it again, or mend the columns of the "
                "card"
            )


def _checked(path: Path, table: Any, kinds: Kinds) -> Any:
    _check_kinds(path, table.schema, kinds)
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
