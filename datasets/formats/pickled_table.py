"""Columns out of a pickled pandas DataFrame, without pandas and without running anything of the pickle.

A pickle names functions and classes that are to be called. Here each of the few names that a DataFrame of numbers needs
stands for a record of what it was given, so that nothing is called; any other name is refused. Numbers are then read
out of these records.
"""

from __future__ import annotations

import gzip
import io
import pickle
import pickletools
import re
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, ClassVar, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError, first_line
from .read import no_parts, of_the_log

_LARGEST = 1 << 29  # bytes unpacked: more is no scan, but a bomb
_MOST_MEMOS = 1 << 20  # places that a pickle may number; room is made for the highest one
_MOST_PLACES = 1 << 16  # columns of one block
_ADMITTED = {
    ("pandas.core.frame", "DataFrame"),
    ("pandas", "DataFrame"),
    ("pandas.core.internals.managers", "BlockManager"),
    ("pandas._libs.internals", "_unpickle_block"),
    ("pandas.core.internals.blocks", "new_block"),
    ("pandas.core.indexes.base", "_new_Index"),
    ("pandas.core.indexes.base", "Index"),
    ("pandas", "Index"),
    ("pandas.core.indexes.numeric", "Int64Index"),
    ("pandas.core.indexes.range", "RangeIndex"),
    ("pandas", "RangeIndex"),
    *((f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("builtins", "slice"),
    ("__builtin__", "slice"),
    ("_codecs", "encode"),
    ("copyreg", "_reconstructor"),
    ("copy_reg", "_reconstructor"),
    ("builtins", "object"),
    ("__builtin__", "object"),
}
_CODE = re.compile(r"[fiub][1248]|O[48]?")  # of numbers and of objects


class _Record:
    """What something that a pickle asks for was given: the arguments of the call, and a state."""

    called: str
    given: tuple[Any, ...] = ()
    state: Any = None

    def __new__(cls, *given: Any) -> _Record:
        record = super().__new__(cls)
        record.given = given
        return record

    def __init__(self, *given: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Recorder(pickle._Unpickler):
    """In Python: what is hashed can be looked at before. Tuples of tuples of one tuple are small, and never hashed."""

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)  # opcode -> what is done

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            _refuse(f"it asks for {module}.{name}")
        return type(name, (_Record,), {"called": name})

    def _pair(self: Any) -> None:
        _check_keys(self.stack[-2:-1])
        self.load_setitem()

    def _pairs(self: Any) -> None:
        _check_keys(self.stack[::2])  # what came since the mark
        self.load_setitems()

    def _mapping(self: Any) -> None:
        _check_keys(self.stack[::2])
        self.load_dict()

    def _set(self) -> None:
        _refuse("it asks for a set")

    dispatch |= {pickle.SETITEM[0]: _pair, pickle.SETITEMS[0]: _pairs, pickle.DICT[0]: _mapping}
    dispatch |= {pickle.ADDITEMS[0]: _set, pickle.FROZENSET[0]: _set}


def _check_keys(keys: Sequence[Any]) -> None:
    if any(type(key) not in (str, int, NoneType) for key in keys):
        _refuse("a key is neither a word nor a number")


def read_pickled_table(path: Path, key: str, names: Sequence[str]) -> Mapping[str, NDArray[Any]]:
    """The named columns of a pickled DataFrame, packed by gzip where the name ends in gz.

    Raises:
        InputError: it is no such pickle, asks for more than a table needs, or lacks a column.
    """
    no_parts(path, key, "a pickled table")
    columns, _ = read_table(path)
    return chosen_columns(path, columns, names)


def chosen_columns(
    path: Path, columns: Mapping[str, NDArray[Any]], names: Sequence[str]
) -> Mapping[str, NDArray[Any]]:
    """Those of the columns of ``path`` that are named.

    Raises:
        InputError: there is no such column.
    """
    missing = [name for name in names if name not in columns]
    if missing:
        raise InputError(
            f"{path}: has no column {missing[0]} of numbers, but {', '.join(columns)[:200]}; copy it again, or mend "
            "the columns of the card"
        )
    return {name: columns[name] for name in names}


def read_table(path: Path) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64]]:
    """Every column of numbers by its name, and (N,) the index of its rows.

    Raises:
        InputError: it is no such pickle, or asks for more than a table needs.
    """
    data = _unpacked(path)
    try:
        _check_memos(data)
        return _table(_Recorder(io.BytesIO(data)).load())
    except (
        pickle.UnpicklingError,
        *(EOFError, ValueError, TypeError, AttributeError, LookupError, OverflowError, RecursionError),
        *(MemoryError, ImportError, AssertionError, struct.error),
    ) as error:
        raise InputError(
            f"{path}: is no pickled table of numbers ({first_line(error)[:150]}), and nothing else is "
            "taken from a pickle, which could run code; copy it again"
        ) from error


def _unpacked(path: Path) -> bytes:
    with of_the_log(path):
        if path.suffix != ".gz":
            with path.open("rb") as file:
                data = file.read(_LARGEST + 1)
        else:
            try:
                with gzip.open(path) as file:
                    data = file.read(_LARGEST + 1)
            except (gzip.BadGzipFile, EOFError, zlib.error) as error:
                raise InputError(f"{path}: is no whole gzip file ({error}); copy it again") from error
    if len(data) > _LARGEST:
        raise InputError(
            f"{path}: unpacks to more than {_LARGEST >> 20} MiB, which is no scan; copy it again"
        )
    return data


def _check_memos(data: bytes) -> None:
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name.endswith("PUT") and isinstance(argument, int) and argument > _MOST_MEMOS:
            _refuse(f"it numbers {argument} things")


def _refuse(what: str) -> NoReturn:
    raise pickle.UnpicklingError(what)


def _is(value: Any, *names: str) -> bool:
    return isinstance(value, _Record) and value.called in names


def _table(frame: Any) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64]]:
    state = frame.state if _is(_made(frame), "DataFrame") else _refuse("it is no DataFrame")
    manager = _made(state.get("_mgr", state.get("_data")))
    if not _is(manager, "BlockManager"):
        _refuse("its DataFrame has no columns")
    axes, blocks = _parts(manager)
    if len(axes) != 2:
        _refuse(f"its DataFrame has {len(axes)} axes")
    names, index = [str(name) for name in _index(axes[0])], _index(axes[1])
    columns: dict[str, NDArray[Any]] = {}
    for values, places in blocks:
        if values is None:
            continue  # text and other objects
        if values.ndim != 2 or len(values) != len(places) or values.shape[1] != len(index):
            _refuse(f"a block of {values.shape} for {len(places)} columns and {len(index)} rows")
        columns |= {names[place]: row for place, row in zip(places, values)}
    if index.dtype.kind not in "iu":
        _refuse("its rows are not numbered")
    return {name: columns[name] for name in names if name in columns}, index.astype(np.int64)


def _made(value: Any) -> Any:
    """What a record of `copyreg._reconstructor` makes: an object of the class that it was given."""
    if _is(value, "_reconstructor"):
        made = value.given[0]()
        made.state = value.state
        return made
    return value


def _parts(manager: _Record) -> tuple[Sequence[Any], Iterator[tuple[NDArray[Any] | None, list[int]]]]:
    """Axes, and values with the places of their columns: as pandas wrote them before 1.3 (a state) and since."""
    if manager.state is None:
        blocks, axes = manager.given
        return axes, ((_array(block.given[0]), _places(block.given[1])) for block in blocks)
    state = manager.state[3]["0.14.1"]
    return state["axes"], ((_array(block["values"]), _places(block["mgr_locs"])) for block in state["blocks"])


def _places(value: Any) -> list[int]:
    if _is(value, "slice"):
        start, stop, step = value.given
        places = range(start or 0, stop, 1 if step is None else step)
        return list(places) if len(places) <= _MOST_PLACES else _refuse(f"a block of {len(places)} columns")
    array = _array(value)
    return [] if array is None else [int(place) for place in array]


def _index(value: Any) -> NDArray[Any]:
    """The entries of an Index; those of objects as they are."""
    if not _is(value, "_new_Index"):
        _refuse("an axis is no Index")
    facts = value.given[1]
    if "data" in facts:
        found = _array(facts["data"], objects=True)
        assert found is not None, "objects are asked for"
        return found
    start, stop, step = (facts[name] for name in ("start", "stop", "step"))
    count = len(range(start, stop, step))
    return start + step * np.arange(count) if count <= _LARGEST >> 3 else _refuse(f"{count} rows")


def _array(value: Any, *, objects: bool = False) -> NDArray[Any] | None:
    """The array that a record of numpy stands for; None for one of objects, unless they are asked for."""
    if _is(value, "_reconstruct"):
        _, shape, dtype, is_fortran, data = value.state
    elif _is(value, "_frombuffer"):
        data, dtype, shape, stored_order = value.given
        is_fortran = stored_order == "F"
    else:
        _refuse(f"{_shown(value)} is no array")
    order: Literal["C", "F"] = "F" if is_fortran else "C"
    code = dtype.given[0] if _is(dtype, "dtype") else dtype
    if not isinstance(code, str) or not _CODE.fullmatch(code):
        _refuse(f"it holds {_shown(code)}")
    if code.startswith("O"):
        return _words(data).reshape(shape, order=order) if objects else None
    kind = np.dtype(code)
    big = dtype.state is not None and dtype.state[1] == ">"
    if _is(data, "encode"):  # as protocols before 3 write bytes; other encodings take the square of the time
        data = (
            data.given[0].encode("latin-1") if data.given[1:] == ("latin1",) else _refuse("bytes of no text")
        )
    found = np.frombuffer(data, kind.newbyteorder(">" if big else "<"))
    return found.reshape(shape, order=order).astype(kind.newbyteorder("="))


def _words(values: Any) -> NDArray[Any]:
    """(N,) the entries of a list, none of which holds others."""
    if not isinstance(values, list) or any(
        type(value) not in (str, int, float, NoneType) for value in values
    ):
        _refuse("names are neither words nor numbers")
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found


def _shown(value: Any) -> str:
    """A value in a message: nothing that holds others is written out."""
    return f"{value!r:.80}" if isinstance(value, str | bytes) else type(value).__name__
