"""Pickles of pandas DataFrames, opcode by opcode as pandas 0.25 wrote them; pandas takes no part."""

from __future__ import annotations

import struct

import numpy as np

NONE, FALSE, MARK, EMPTY, NEW = b"N", b"\x89", b"(", b")", b"\x81"


def name(module: str, what: str) -> bytes:
    return f"c{module}\n{what}\n".encode()


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", value)


def raw(value: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(value)) + value


def items(*parts: bytes) -> bytes:
    return MARK + b"".join(parts) + b"t"


def listed(*parts: bytes) -> bytes:
    return b"](" + b"".join(parts) + b"e"


def mapping(**parts: bytes) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in parts.items()) + b"u"


def array(values: np.ndarray | list[str], order: str = "C") -> bytes:
    """As `numpy.ndarray.__reduce__` has it; a list of words is an array of objects."""
    if isinstance(values, list):
        shape, code, mark, data = (len(values),), "O8", "|", listed(*map(text, values))
    else:
        shape, code, mark = values.shape, values.dtype.str[1:], values.dtype.str[0]
        data = raw(values.tobytes(order))
    dtype = name("numpy", "dtype") + items(text(code), number(0), number(1)) + b"R"
    dtype += items(number(3), text(mark), NONE, NONE, NONE, number(-1), number(-1), number(0)) + b"b"
    made = name("numpy.core.multiarray", "_reconstruct")
    made += items(name("numpy", "ndarray"), items(number(0)), raw(b"b")) + b"R"
    is_fortran = b"\x88" if order == "F" else FALSE
    return made + items(number(1), items(*map(number, shape)), dtype, is_fortran, data) + b"b"


def index(values: np.ndarray | list[str] | range) -> bytes:
    made = name("pandas.core.indexes.base", "_new_Index")
    if isinstance(values, range):
        kind = name("pandas.core.indexes.range", "RangeIndex")
        facts = mapping(
            start=number(values.start), stop=number(values.stop), step=number(values.step), name=NONE
        )
    else:
        kind = name("pandas.core.indexes.base", "Index")
        if not isinstance(values, list):
            kind = name("pandas.core.indexes.numeric", "Int64Index")
        facts = mapping(data=array(values), name=NONE)
    return made + items(kind, facts) + b"R"


def frame(columns: dict[str, np.ndarray | list[str]], rows: np.ndarray | range, *, order: str = "C") -> bytes:
    """A pickle of a table whose columns of one kind of number are a block, as pandas keeps them."""
    kinds = ["words" if isinstance(values, list) else values.dtype.str for values in columns.values()]
    blocks = []
    for kind in dict.fromkeys(kinds):
        places = [place for place, own in enumerate(kinds) if own == kind]
        own = [list(columns.values())[place] for place in places]
        if kind == "words":
            values = array(own[0])
        else:
            values = array(np.stack(own), order)
        if places == list(range(places[0], places[-1] + 1)):
            where = (
                name("builtins", "slice") + items(number(places[0]), number(places[-1] + 1), number(1)) + b"R"
            )
        else:
            where = array(np.array(places))
        blocks.append(mapping(values=values, mgr_locs=where))
    axes = listed(index(list(columns)), index(rows))
    inner = b"}(" + text("0.14.1") + mapping(axes=axes, blocks=listed(*blocks)) + b"u"
    manager = name("pandas.core.internals.managers", "BlockManager") + EMPTY + NEW
    manager += items(axes, listed(), listed(), inner) + b"b"
    table = name("pandas.core.frame", "DataFrame") + EMPTY + NEW
    return b"\x80\x03" + table + mapping(_data=manager, _typ=text("dataframe"), _metadata=listed()) + b"b."
