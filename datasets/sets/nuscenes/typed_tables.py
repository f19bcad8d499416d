"""Tables whose fields are known: every row is what its table's declaration says, or one sentence names what is not."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....errors import InputError
from ....progress import Progress, silent
from ...formats.kinds import Kind, shorten
from .tables import read_rows

Fields = Mapping[str, Kind]
Row = dict[str, Any]
MEND = "the table is damaged or was edited, download or export it again"
_BATCH = 128  # rows looked at together: more leave the processor's cache and wake the garbage collector


@dataclass(frozen=True)
class Only:
    """Which rows of a table are wanted: ``keep(row)`` decides, when only keys and ``fields`` have been looked at.

    Every row of the table needs a key, since rows are no longer numbered afterwards.
    """

    keep: Callable[[Row], bool]
    fields: Sequence[str] = ()


def read_table(
    path: Path, fields: Fields, progress: Progress = silent, only: Only | None = None
) -> Iterator[Row]:
    """The rows of a JSON table in order; in each, every declared field is there and of its kind.

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
    rows = _in_batches(path, fields, first, read_rows(path, progress), hashes)
    if only is not None:
        others = [name for name in fields if name not in first]
        rows = _in_batches(path, fields, others, filter(only.keep, rows), {})
    yield from rows
    for name, found in hashes.items():
        _check_unique(path, name, np.frombuffer(found, dtype=np.int64))


def _in_batches(
    path: Path, fields: Fields, names: Sequence[str], rows: Iterator[Row], hashes: Mapping[str, array]
) -> Iterator[Row]:
    """``rows``, the fields ``names`` of each brought to the form of its kind; the keys' hashes go into ``hashes``."""
    start = 0
    while batch := _Batch(path, fields, list(islice(rows, _BATCH)), start):
        for name in names:
            batch.read(name)
        for name, found in hashes.items():
            found.extend(map(hash, filter(None, map(itemgetter(name), batch.rows))))
        yield from batch.rows
        start += len(batch.rows)


@dataclass(frozen=True)
class _Batch:
    """Some rows of a table that follow each other; ``start`` is the number of the first."""

    path: Path
    fields: Fields
    rows: list[Row]
    start: int

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, name: str) -> None:
        """Bring the field ``name`` of all rows to the form of its kind.

        Raises:
            InputError: it is missing or of another kind.
        """
        try:
            if self.fields[name].is_plain(list(map(itemgetter(name), self.rows))):
                return
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
