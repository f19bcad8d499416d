"""Logs that are wrong in many ways, made from one that is right, and what may happen to them.

For every reader of a folder of JSON tables: ``Fuzzer`` changes tables by a seed, ``attempt`` has them read and the
result used. Whatever is in the tables, a log is taken or refused by one ``InputError``; what is taken can be used; a
refused one leaves the index that was there before; nothing is written elsewhere.
"""

from __future__ import annotations

import copy
import json
import os
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from superflow.camera.projection import project
from superflow.datasets.check.log import check_log
from superflow.datasets.check.overlay import write_overlays
from superflow.datasets.index import LogIndex
from superflow.datasets.store import is_intact
from superflow.errors import InputError

Tables = dict[str, list[dict[str, Any]]]
Files = dict[str, bytes | None]  # content of each table's file; None: there is none

ODD_TEXT = (
    *(
        "",
        " ",
        ".",
        "..",
        "/",
        "\\",
        "\0",
        "a\nb",
        "a\tb",
        "\ud800",
        "\ufeff",
        "é" * 150,
        "x" * 300,
        "\u3000",
        "a b ",
    ),
    *(
        "../secret.bin",
        "/etc/passwd",
        "a/../../b",
        "x/../../../escaped",
        "C:\\data\\x.bin",
        "\\\\server\\share\\x",
    ),
    *(
        "samples\\LIDAR_TOP\\x.bin",
        "samples//x.bin",
        "./x.bin",
        "samples/",
        "samples/LIDAR_TOP",
        "scene@5",
        "drive[2]",
    ),
    *(
        "-rf",
        "~",
        "$HOME",
        "%s",
        "{x}",
        "<b>",
        "'",
        '"',
        "null",
        "1",
        "1e3",
        "CON",
        "車",
        "\u202e",
        "LIDAR_TOP",
    ),
)
ODD_VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        1.0,
        0.5,
        -0.0,
        255,
        256,
        70017,
        2**31,
        2**63 - 1,
        2**63,
        -(2**63),
        10**400,
    ),
    *(1e300, 1e-300, float("nan"), float("inf"), float("-inf"), 1.5e15, 1500000000.25),
    *(
        [],
        [[]],
        [None],
        {},
        {"a": 1},
        [1],
        [1, 2, 3],
        [0, 0, 0, 0],
        [1, 0, 0, 0],
        [1.0, 0.0, 0.0, True],
        [2, 0, 0, 0],
    ),
    *(
        ["1", "0", "0"],
        [1e308, 1e308, 1e308],
        [10**400, 0, 0],
        [float("nan"), 0, 0],
        [[1, 0, 0]] * 3,
        [[0, 0, 0]] * 3,
    ),
)


class Fuzzer:
    """Mutates the tables of a log; the same seed gives the same files."""

    def __init__(self, tables: Tables, seed: int) -> None:
        self.tables: dict[str, Any] = copy.deepcopy(tables)
        self.random = random.Random(seed)
        self.did: list[str] = []

    def mutate(self) -> Files:
        """The content of every table's file after one to four mutations, mostly of one."""
        for _ in range(self.random.choice((1, 1, 1, 2, 2, 4))):
            mutation = self.random.choice(ROW_MUTATIONS)
            self.did.append(f"{mutation.__name__} {mutation(self)}")
        indent = self.random.choice((None, 0, 2))
        files: Files = {name: json.dumps(rows, indent=indent).encode() for name, rows in self.tables.items()}
        if self.random.random() < 0.25:
            name, mutation = self.random.choice(sorted(files)), self.random.choice(BYTE_MUTATIONS)
            self.did.append(f"{mutation.__name__} of {name}")
            files[name] = mutation(self.random, files[name])
        return files

    def table(self) -> tuple[str, list[dict[str, Any]]]:
        """A table that has rows, all of them whole."""
        names = [
            name
            for name, rows in self.tables.items()
            if isinstance(rows, list) and rows and all(isinstance(row, dict) and row for row in rows)
        ]
        name = self.random.choice(names)
        return name, self.tables[name]

    def odd(self) -> Any:
        """A value that nobody expects, new each time, so that later mutations of it reach nothing else."""
        return copy.deepcopy(self.random.choice(ODD_TEXT + ODD_VALUES))


# ---- mutations of rows; each says what it did ---------------------------------------------------------------------


def delete_rows(fuzzer: Fuzzer) -> str:
    name, rows = fuzzer.table()
    count = fuzzer.random.choice((1, 1, 1, 3, len(rows)))
    start = fuzzer.random.randrange(len(rows))
    del rows[start : start + count]
    return f"{name}[{start}:{start + count}]"


def truncate_table(fuzzer: Fuzzer) -> str:
    name, rows = fuzzer.table()
    del rows[fuzzer.random.randrange(len(rows)) :]
    return f"{name}[{len(rows)}:]"


def duplicate_row(fuzzer: Fuzzer) -> str:
    name, rows = fuzzer.table()
    row = copy.deepcopy(fuzzer.random.choice(rows))
    if "token" in row and fuzzer.random.random() < 0.5:
        row["token"] = "twin"
    rows.insert(fuzzer.random.randrange(len(rows) + 1), row)
    return f"{name} {row.get('token')!r}"


def shuffle_rows(fuzzer: Fuzzer) -> str:
    name, rows = fuzzer.table()
    fuzzer.random.shuffle(rows)
    return name


def drop_field(fuzzer: Fuzzer) -> str:
    name, rows = fuzzer.table()
    row = fuzzer.random.choice(rows)
    field = fuzzer.random.choice(sorted(row))
    some = rows if fuzzer.random.random() < 0.3 else [row]
    for one in some:
        one.pop(field, None)
    return f"{name}.{field} of {len(some)}"


def swap_fields(fuzzer: Fuzzer) -> str:
    name, rows = fuzzer.table()
    row = fuzzer.random.choice(rows)
    a, b = fuzzer.random.choice(sorted(row)), fuzzer.random.choice(sorted(row))
    row[a], row[b] = row[b], row[a]
    return f"{name}.{a} and {b}"


def swap_between_rows(fuzzer: Fuzzer) -> str:
    name, rows = fuzzer.table()
    row, other = fuzzer.random.choice(rows), fuzzer.random.choice(rows)
    field = fuzzer.random.choice(sorted(row))
    if field in other:
        row[field], other[field] = other[field], row[field]
    return f"{name}.{field}"


def set_odd_value(fuzzer: Fuzzer) -> str:
    name, rows = fuzzer.table()
    row, value = fuzzer.random.choice(rows), fuzzer.odd()
    field = fuzzer.random.choice(sorted(row))
    row[field] = value
    return f"{name}.{field} = {value!r:.60}"


def set_odd_value_everywhere(fuzzer: Fuzzer) -> str:
    name, rows = fuzzer.table()
    field, value = fuzzer.random.choice(sorted(rows[0])), fuzzer.odd()
    for row in rows:
        row[field] = copy.deepcopy(value)
    return f"{name}.{field} = {value!r:.60}"


def set_odd_part(fuzzer: Fuzzer) -> str:
    """One number of a vector or matrix."""
    name, rows = fuzzer.table()
    row = fuzzer.random.choice(rows)
    lists = [field for field, value in sorted(row.items()) if isinstance(value, list) and value]
    if not lists:
        return "of nothing"
    field = fuzzer.random.choice(lists)
    row[field][fuzzer.random.randrange(len(row[field]))] = fuzzer.odd()
    return f"{name}.{field}"


def change_numbers(fuzzer: Fuzzer) -> str:
    """All numbers of a field times a factor: other units, overflows, whole floats."""
    name, rows = fuzzer.table()
    row = fuzzer.random.choice(rows)
    numeric = [field for field, value in sorted(row.items()) if type(value) in (int, float)]
    if not numeric:
        return "of nothing"
    field = fuzzer.random.choice(numeric)
    factor = fuzzer.random.choice((1.0, -1, 0, 1000, 0.001, 10**9, 1e300))
    for one in rows:
        if type(one.get(field)) in (int, float):
            one[field] = one[field] * factor
    return f"{name}.{field} * {factor}"


def rename_everywhere(fuzzer: Fuzzer) -> str:
    """A text, such as a token or a channel, in all tables: an odd name that no reference betrays."""
    name, rows = fuzzer.table()
    texts = sorted({value for row in rows for value in row.values() if isinstance(value, str) and value})
    if not texts:
        return "of nothing"
    old, new = fuzzer.random.choice(texts), fuzzer.random.choice(ODD_TEXT)
    for some in fuzzer.tables.values():
        for row in some if isinstance(some, list) else ():
            if isinstance(row, dict):
                row.update({key: new for key, value in row.items() if value == old and type(value) is str})
    return f"{name}: {old!r} is {new!r:.60}"


def replace_row(fuzzer: Fuzzer) -> str:
    name, rows = fuzzer.table()
    rows[fuzzer.random.randrange(len(rows))] = fuzzer.odd()
    return name


def replace_table(fuzzer: Fuzzer) -> str:
    name, _ = fuzzer.table()
    fuzzer.tables[name] = fuzzer.odd()
    return f"{name} = {fuzzer.tables[name]!r:.60}"


def exchange_tables(fuzzer: Fuzzer) -> str:
    a, _ = fuzzer.table()
    b, _ = fuzzer.table()
    fuzzer.tables[a], fuzzer.tables[b] = fuzzer.tables[b], fuzzer.tables[a]
    return f"{a} and {b}"


ROW_MUTATIONS: tuple[Callable[[Fuzzer], str], ...] = (
    *(delete_rows, truncate_table, duplicate_row, shuffle_rows, drop_field, swap_fields, swap_between_rows),
    *(set_odd_value, set_odd_value, set_odd_value, set_odd_value_everywhere, set_odd_part, change_numbers),
    *(rename_everywhere, rename_everywhere, replace_row, replace_table, exchange_tables),
)


# ---- mutations of bytes -------------------------------------------------------------------------------------------


def cut_off(random: random.Random, data: bytes) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def flip_bits(random: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 20))):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def insert_bytes(random: random.Random, data: bytes) -> bytes:
    place = random.randrange(len(data) + 1)
    return data[:place] + random.randbytes(random.choice((1, 4, 4096))) + data[place:]


def remove_bytes(random: random.Random, data: bytes) -> bytes:
    place = random.randrange(len(data) + 1)
    return data[:place] + data[place + random.choice((1, 4, 4096)) :]


def utf8_mark(random: random.Random, data: bytes) -> bytes:
    return b"\xef\xbb\xbf" + data


def utf16(random: random.Random, data: bytes) -> bytes:
    return data.decode().encode("utf-16")


def write_twice(random: random.Random, data: bytes) -> bytes:
    return data + data


def nest_deep(random: random.Random, data: bytes) -> bytes:
    return b"[" * 100_000 + data


def many_digits(random: random.Random, data: bytes) -> bytes:
    return data.replace(b"1", b"1" * 5000, 1)


def remove_file(random: random.Random, data: bytes) -> None:
    return None


BYTE_MUTATIONS: tuple[Callable[[random.Random, bytes], bytes | None], ...] = (
    *(cut_off, flip_bits, insert_bytes, remove_bytes, utf8_mark, utf16, write_twice, nest_deep, many_digits),
    remove_file,
)


# ---- what may happen ----------------------------------------------------------------------------------------------


def attempt(
    write: Callable[[], LogIndex], out: Path, around: Path, *, deep: bool = True, told: set[str] | None = None
) -> str | None:
    """The sentence with which a log is refused, or None where it is taken and can be used.

    Args:
        write: reads the log and writes its index into ``out``, which may hold an index that a refusal leaves alone.
        around: a folder some levels above ``out``, in which nothing else may change.
        deep: what is taken is also looked at as by ``--check``, with its pictures.
        told: receives what was said while the log was used.
    """
    with patch("os.fsync"):  # what a power cut does is tested elsewhere
        return _attempt(write, out, around, deep, set() if told is None else told)


def _attempt(
    write: Callable[[], LogIndex], out: Path, around: Path, deep: bool, told: set[str]
) -> str | None:
    before = _content(around)
    try:
        index = write()
    except InputError as error:
        sentence = _one_sentence(error)
        assert _content(around) == before, f"refused, but something was written: {sentence}"
        return sentence
    use(index, told, deep=deep)
    for path in before.keys() | _content(around).keys():
        assert path.is_relative_to(out) or path in before, f"written outside of the index: {path}"
    return None


def _one_sentence(error: InputError) -> str:
    """What an error says, which may only be followed by the folders that are expected beside those that are there."""
    sentence, _, _ = str(error).partition("\nexpected:\n")
    assert len(sentence.splitlines()) == 1, f"no single line: {sentence!r}"
    assert sentence.encode(), "to be printed"
    return sentence


def use(index: LogIndex, told: set[str], *, deep: bool) -> None:
    """Everything that commands do with a log first; each thing may be refused by an ``InputError``, no more."""
    assert is_intact(index.folder)
    again = LogIndex.open(index.folder, root=index.root)
    assert (again.hash, len(again)) == (index.hash, len(index))
    for row in range(len(again)):
        try:
            frame = again.frame(row, boxes=True)
        except InputError as error:
            told.add(_one_sentence(error))
            continue
        for camera in frame.cameras:
            assert np.isfinite(frame.lidar_to_camera(camera)).all()
    for row in again.rows()[:2].tolist():
        try:
            again.clip(row, offsets=(-1, 1), sweeps=2, sweeps_after=1, images=False)
        except InputError as error:
            told.add(_one_sentence(error))
            continue
    if not deep:
        return
    json.dumps(check_log(again, project=project).to_dict())
    with suppress(InputError):
        write_overlays(again, again.folder / "check", project=project)


def _content(folder: Path) -> dict[Path, tuple[int, ...]]:
    """Every file below ``folder``, with what changes when somebody writes it."""
    found = {}
    for inside, _, names in os.walk(folder):
        for path in (Path(inside, name) for name in names):
            found[path] = facts(path)
    return found


def facts(path: Path) -> tuple[int, ...]:
    """What changes when somebody writes a file."""
    found = path.lstat()
    return found.st_ino, found.st_size, found.st_mtime_ns
