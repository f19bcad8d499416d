"""What can be wrong with a file of a drive: its bytes, its place in the tree, what is packed in it, its table.

Each fault takes a random generator and what it changes, and is drawn like any other; `break_one` knows which belong to
a file of this name.
"""

from __future__ import annotations

import gzip
import random
import struct
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import log_fuzz
import numpy as np

FORBIDDEN = (
    "/etc/passwd",
    "../secret.bin",
    "../../secret.bin",
    "../../../secret.bin",
    "../../../../secret.bin",
)

# ---- bytes --------------------------------------------------------------------------------------------------------


def huge_number(rng: random.Random, data: bytes) -> bytes:
    """A number of four or eight bytes, or one in digits, that claims more than there is."""
    if rng.random() < 0.5:
        place = rng.randrange(max(1, len(data) - 8))
        huge = rng.choice((0xFFFFFFFF, 0x7FFFFFFF, 1 << 31, 1 << 24, 0))
        return data[:place] + struct.pack("<I", huge) + data[place + 4 :]
    digits = [i for i, sign in enumerate(data[:400]) if chr(sign).isdigit()]
    place = rng.choice(digits) if digits else 0
    return data[:place] + str(10 ** rng.choice((3, 9, 15, 18, 30))).encode() + data[place + 1 :]


def odd_word(rng: random.Random, data: bytes) -> bytes:
    """Another word in the place of one of the header."""
    words = data[:300].split(b" ")
    words[rng.randrange(len(words))] = rng.choice(
        (b"", b"nan", b"-1", b"1e9", b"\0", "é".encode(), b"x" * 5000, b"_")
    )
    return b" ".join(words) + data[300:]


def cut_at_a_boundary(rng: random.Random, data: bytes) -> bytes:
    """After whole numbers, rows of four and five of them, lines, or the middle; or a byte beside one."""
    ends = [0, 1, len(data) // 2, len(data) - 1, *(size * (len(data) // size - 1) for size in (4, 16, 20))]
    ends += [data.find(b"\n") + 1, data.rfind(b"\n", 0, -1) + 1]
    return data[: max(0, rng.choice(ends) + rng.choice((0, 0, 1, -1)))]


def way_out(rng: random.Random, data: bytes) -> bytes:
    """A path out of the root in place of a word or a line of a text."""
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    words, path = lines[at].split(b" "), rng.choice(FORBIDDEN).encode()
    words[rng.randrange(len(words))] = path
    lines[at] = rng.choice((path, b" ".join(words), path + b",rain"))
    return b"\n".join(lines)


def times_out_of_order(rng: random.Random, data: bytes) -> bytes:
    """The lines of a text in another order, one of them twice, or one empty."""
    lines = data.split(b"\n")
    kind = rng.randrange(3)
    if kind == 0:
        rng.shuffle(lines)
    else:
        lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines) if kind == 1 else b"")
    return b"\n".join(lines)


OF_BYTES = (*log_fuzz.BYTE_MUTATIONS, huge_number, odd_word, cut_at_a_boundary)
OF_TEXT = (way_out, times_out_of_order)

# ---- the place in the tree ----------------------------------------------------------------------------------------


def link_to_itself(rng: random.Random, path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def link_to_nothing(rng: random.Random, path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("gone"))


def folder_in_its_place(rng: random.Random, path: Path) -> None:
    path.unlink()
    path.mkdir()


def folders_in_circles(rng: random.Random, path: Path) -> None:
    (path.parent / "again").symlink_to(path.parent.parent, target_is_directory=True)
    path.with_name(f"loop{path.suffix}").symlink_to(path.with_name(f"loop{path.suffix}"))


def name_of_no_text(rng: random.Random, path: Path) -> None:
    odd = rng.choice((b"\xff\xfe", b"\xe9t\xe9", "é".encode(), b"a b\n", b"0" * 40, b"-1", b"@[1]"))
    path.rename(Path(path.parent, odd.decode("utf-8", "surrogateescape") + path.suffix))


def two_change_places(rng: random.Random, path: Path) -> None:
    other = rng.choice(sorted(p for p in path.parent.rglob("*") if p.is_file()))
    one, two = path.read_bytes(), other.read_bytes()
    path.write_bytes(two)
    other.write_bytes(one)


OF_PLACES = (
    *(link_to_itself, link_to_nothing, folder_in_its_place, folders_in_circles, name_of_no_text),
    *(two_change_places, two_change_places),
)

# ---- tables of Arrow ----------------------------------------------------------------------------------------------


def _one(rng: random.Random, table: Any) -> tuple[int, str, Any]:
    at = rng.randrange(table.num_columns)
    return at, table.column_names[at], table.column(at)


def without_a_column(rng: random.Random, table: Any) -> Any:
    return table.remove_column(_one(rng, table)[0])


def one_column_twice(rng: random.Random, table: Any) -> Any:
    _, name, column = _one(rng, table)
    return table.append_column(name, column)


def column_of_another_kind(rng: random.Random, table: Any) -> Any:
    import pyarrow

    at, name, column = _one(rng, table)
    rows = len(column)
    others = (
        *(["x"] * rows, [None] * rows, [1.5] * rows, [True] * rows, [b"\0"] * rows, [[1, 2]] * rows),
        *([float("nan")] * rows, [float("inf")] * rows, [-(2**40)] * rows, [1e300] * rows, [{"a": 1}] * rows),
        *([2**63 - 1] * rows, [[]] * rows, [[None, 1.0]] * rows, [0] * rows, [255] * rows),
    )
    return table.set_column(at, name, pyarrow.array(rng.choice(others)))


def holes_in_a_column(rng: random.Random, table: Any) -> Any:
    import pyarrow

    at, name, column = _one(rng, table)
    values = column.to_pylist()
    if values:
        values[rng.randrange(len(values))] = None
    return table.set_column(at, name, pyarrow.array(values, column.type))


def other_rows(rng: random.Random, table: Any) -> Any:
    """None of them, some twice, another order, or one row alone."""
    rows = list(range(table.num_rows))
    kind = rng.randrange(4)
    if kind == 3:
        rng.shuffle(rows)
    return table.slice(0, 0) if kind == 0 else table.take((rows, rows + rows, rows[:1], rows)[kind])


def entries_of_another_row(rng: random.Random, table: Any) -> Any:
    at, name, column = _one(rng, table)
    rows = list(range(table.num_rows))
    return table.set_column(at, name, column.take(rows[1:] + rows[:1]))


OF_TABLES = (
    *(without_a_column, one_column_twice, column_of_another_kind, column_of_another_kind, holes_in_a_column),
    *(other_rows, entries_of_another_row),
)


def _with_table(rng: random.Random, path: Path) -> None:
    from pyarrow import feather, parquet

    is_parquet = path.suffix == ".parquet"
    read, write = (
        (lambda p: parquet.read_table(p, partitioning=None), parquet.write_table)
        if is_parquet
        else (feather.read_table, feather.write_feather)
    )
    changed = rng.choice(OF_TABLES)(rng, read(path))
    held = BytesIO()
    write(changed, held)
    path.write_bytes(held.getvalue())


# ---- one of them --------------------------------------------------------------------------------------------------


def odd_array(rng: random.Random, path: Path) -> None:
    """An array of another shape or kind of number."""
    shape = rng.choice(((0,), (5,), (5, 1), (5, 2), (5, 4), (5, 9), (2, 5, 4), (), (5, 0)))
    kinds = ("f2", "f8", "c8", "i1", "u8", "?", "S3", "U2", "M8[s]", "O", ">f4")
    array = np.full(shape, 7).astype(rng.choice(kinds)) if rng.random() < 0.9 else np.array([{"a": 1}])
    np.save(path, array, allow_pickle=True)


def _repacked(rng: random.Random, path: Path) -> None:
    whole = gzip.decompress(path.read_bytes())
    changed = rng.choice(OF_BYTES)(rng, whole)
    path.write_bytes(gzip.compress(changed or b"", 1))


_INSIDE: dict[str, Callable[[random.Random, Path], None]] = {
    ".parquet": _with_table,
    ".feather": _with_table,
    ".npy": odd_array,
    ".gz": _repacked,
}
TEXTS = (".txt", ".yaml", ".json", ".csv")


def break_one(rng: random.Random, path: Path) -> str:
    """Make one thing wrong with a file, or with its place; what it was."""
    kind = rng.random()
    if kind < 0.2:
        fault = rng.choice(OF_PLACES)
        fault(rng, path)
        return fault.__name__
    inside = _INSIDE.get(path.suffix)
    if inside is not None and kind < 0.65:
        inside(rng, path)
        return inside.__name__
    change = rng.choice((*OF_BYTES, *OF_TEXT, *OF_TEXT) if path.suffix in TEXTS else OF_BYTES)
    before = path.read_bytes()
    try:
        after = change(rng, before) if before else None
    except UnicodeDecodeError:  # a change of text alone
        after = before[:-1]
    path.unlink() if after is None else path.write_bytes(after)
    return change.__name__
