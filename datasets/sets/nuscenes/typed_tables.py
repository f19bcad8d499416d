"""Tables whose fields are known: every row is what its table's declaration says, or one sentence names what is not."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....errors import InputError
from ....progress import Progress, silent
from ...formats.kinds import Kind, shorten
from .tables import read_batches, read_rows

Fields = Mapping[str, Kind]
Row = dict[str, Any]
_BATCH = 32  # rows looked at together, at least: mostly those of a chunk, while the cache holds them
MEND = "the table is damaged or was edited, download or export it again"


@dataclass(frozen=True)
class Only:
    """Which rows of a table are wanted: ``keep(rows)`` are these, when only keys and ``fields`` have been looked at.

    Every row of the table needs a key, since rows are no longer numbered afterwards.
    """

    keep: Callable[[list[Row]], list[Row]]
    fields: Sequence[str] = ()


def read_table(
    path: Path, fields: Fields, progress: Progress = silent, only: Only | None = None
) -> Iterator[list[Row]]:
    """The rows of a JSON table in order, some at a time; in each, every declared field is there and of its kind.

    Whether a key occurs twice is known, and said, after the last row.

    Args:
        only: pass over the other rows; in them only keys and what decides are looked at.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is no valid JSON or no list of objects, a field is missing or of another kind, or a key occurs
            in two rows.
    """
    hashes = {name: array("q") for name, kind in fields.items() if kind.is_key}
    first = [name for name in fields if only is None or name in hashes or name in only.fields]
    others = [name for name in fields if name not in first]
    start = 0
    for rows in _gathered(read_batches(path, progress)):
        batch = _Batch(path, fields, rows, start)
        batch.read(first)
        for name, found in hashes.items():
            found.extend(map(hash, filter(None, map(itemgetter(name), rows))))
        start += len(rows)
        kept = batch if only is None else _Batch(path, fields, only.keep(rows))
        if kept.rows:
            kept.read(others)
            yield kept.rows
    for name, found in hashes.items():
        _check_unique(path, name, np.frombuffer(found, dtype=np.int64))


def _gathered(batches: Iterator[list[Row]]) -> Iterator[list[Row]]:
    """The rows of ``batches``, at least ``_BATCH`` of them together."""
    rows: list[Row] = []
    for batch in batches:
        rows += batch
        if len(rows) >= _BATCH:
            yield rows
            rows = []
    if rows:
        yield rows


@dataclass(frozen=True)
class _Batch:
    """Some rows of a table; ``start`` is the number of the first, where they follow each other."""

    path: Path
    fields: Fields
    rows: list[Row]
    start: int = 0

    def read(self, names: Sequence[str]) -> None:
        """Bring the fields ``names`` of all rows to the form of their kinds.

        Raises:
            InputError: one is missing or of another kind.
        """
        for name in names:
            try:
                if self.fields[name].is_plain(list(map(itemgetter(name), self.rows))):
                    continue
            except KeyError:  # left out, which may be right
                pass
            for row in self.rows:
                row[name] = self._value(row, name)

    def _value(self, row: Row, name: str) -> Any:
        kind = self.fields[name]
        if name in row and not kind.accepts(row[name]):
            raise InputError(
                f"{self.path}: {name} of {self._name(row)} is {shorten(row[name])}; it must be {kind.due}; "
                "mend it or export the table again"
            )
        if name not in row and kind.needed:
            raise InputError(
                f"{self.path}: {self._name(row)} has no field {name!r}; "
                "the table is of another schema or damaged, download or export it again"
            )
        return kind.convert(row.get(name))

    def _name(self, row: Row) -> str:
        """The row by its key, or by its number where that is what is wrong."""
        for name, kind in self.fields.items():
            if kind.is_key and row.get(name) is not None and kind.accepts(row[name]):
                return f"the row with {name} {row[name]!r}"
        return f"row {self.start + next(i for i, other in enumerate(self.rows) if other is row)} (the first is 0)"


def _check_unique(path: Path, name: str, hashes: NDArray[np.int64]) -> None:
    """No two rows share the key ``name``: of millions of rows only hashes are kept, and a suspicion is looked into.

    Raises:
        InputError: some do.
    """
    hashes = np.sort(hashes)
    suspects = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
    if not suspects:
        return
    keys = (row.get(name) for row in read_rows(path))
    counts = Counter(key for key in keys if key and hash(key) in suspects)
    twice = [key for key, count in counts.items() if count > 1]
    if twice:
        raise InputError(f"{path}: {len(twice)} {name}s occur twice (first: {shorten(twice[0])}); {MEND}")


def dangling(path: Path, row: Row, key: str, table: str) -> InputError:
    """The error of a ``row`` whose field ``key`` names a row that ``table`` does not hold."""
    return InputError(
        f"{path}: the row {row['token']} names {key} {shorten(row[key])}, which {table} does not hold; "
        "both tables must come from one version of the log"
    )
