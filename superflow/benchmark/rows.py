"""Figures of a benchmark as rows of a CSV file, each written as soon as it is known."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError
from ..files.access import reading, writing
from ..files.locks import lock
from ..files.writes import write_atomically

# which figure of a benchmark of places a row is
KEY = ("source", "arm", "seed", "evaluation log", "measure", "budget")
COLUMNS = (
    *KEY,
    "labelled points",
    "recipe",
    "split hash",
    "settings hash",
    "label set",
    "variant",
    "token list",
    "leakage",  # drives that are judged on and that the backbone was trained on, where that was allowed
    "mIoU",
    "best mIoU",
    "IoU of classes",
    "accuracy",
    "frequent-classes mIoU",
    "CPU seconds of pretraining",
    "CPU seconds of the measure",
    "commit",
    "device",
    "config",
    "weights",  # the first digits of the hash of the backbone's
    "command",
)
ADDED = ("variant", "token list", "leakage", "best mIoU", "weights")  # columns that tables of before lack
NUMBERS = (  # of these columns, empty where one is not known
    *("seed", "labelled points", "mIoU", "best mIoU", "accuracy", "frequent-classes mIoU"),
    *("CPU seconds of pretraining", "CPU seconds of the measure"),
)
_AGAIN = "mend it, or delete the line to have its figure made again"
# a trial of a search is a row of its own; its mIoU is that of the held-out places
TRIAL_KEY = (*KEY, "recipe")

Row = dict[str, str]


class RowFile:
    """A CSV file that several processes add rows to.

    Args:
        path: of the file; it is made with the first row.
        key: columns that say which figure a row is: a new row takes the place of an older one with the same.
        columns: all of them; without it those of a benchmark of places.
        numbers: those of them that hold numbers. needed: those of the numbers that are never unknown, and so empty.
    """

    def __init__(
        self,
        path: Path,
        key: Sequence[str] = KEY,
        columns: Sequence[str] = COLUMNS,
        *,
        numbers: Collection[str] = NUMBERS,
        needed: Collection[str] = (),
    ) -> None:
        self.path = path
        self.key, self.columns = tuple(key), tuple(columns)
        self._numbers, self._needed = tuple(numbers), frozenset(needed)

    def read(self) -> list[Row]:
        """All rows, values as text, "" in columns that a table of before lacks; none where there is no file.

        Raises:
            InputError: it has other columns; or a row is cut, has no number where one is due, or is there twice.
        """
        if not self.path.is_file():
            return []
        with reading(self.path), self.path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            try:
                columns = reader.fieldnames or ()
                rows = [(reader.line_num, row) for row in reader]
            except csv.Error as error:
                raise InputError(
                    f"{self.path}: line {reader.reader.line_num}: is no CSV ({error}); {_AGAIN}"
                ) from error
        if _without_added(self.columns) != _without_added(columns):
            raise InputError(
                f"{self.path}: has other columns than {', '.join(self.columns)}; "
                "move the file away or choose another folder"
            )
        self._check(rows)
        return [{**dict.fromkeys(self.columns, ""), **row} for _, row in rows]

    def _check(self, rows: Iterable[tuple[int, Row]]) -> None:
        """What somebody has edited, or a copy that stopped has cut, must not be taken for a figure."""
        seen: dict[tuple[str, ...], int] = {}
        for line, row in rows:
            where = f"{self.path}: line {line}"
            if None in row or None in row.values():
                raise InputError(f"{where}: has not as many cells as there are columns; {_AGAIN}")
            for name in self._numbers:
                text = row.get(name, "")
                if (text or name in self._needed) and not _is_number(text):
                    raise InputError(f"{where}: {name} is {text!r}, no number; {_AGAIN}")
            before = seen.setdefault(tuple(row.get(name, "") for name in self.key), line)
            if before != line:
                raise InputError(f"{where}: is of the same figure as line {before}; delete one of them")

    def find(self, **values: object) -> list[Row]:
        """The rows with these values; ``_`` in a name stands for a space."""
        wanted = {name.replace("_", " "): str(value) for name, value in values.items()}
        return [row for row in self.read() if all(row[name] == value for name, value in wanted.items())]

    def add(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Write the file with these rows, one of the same key replaced; a row lacking a column is a mistake."""
        new = [{name: _text(row[name]) for name in self.columns} for row in rows]
        with held(self.path.with_name(f".{self.path.name}.lock")):
            self._write({tuple(row[name] for name in self.key): row for row in [*self.read(), *new]}.values())

    def drop(self, is_old: Callable[[Row], bool]) -> int:
        """Write the file without such rows; how many there were."""
        with held(self.path.with_name(f".{self.path.name}.lock")):
            rows = self.read()
            kept = [row for row in rows if not is_old(row)]
            if len(kept) < len(rows):
                self._write(kept)
        return len(rows) - len(kept)

    def _write(self, rows: Iterable[Row]) -> None:
        with write_atomically(self.path, "w") as file:
            writer = csv.DictWriter(file, self.columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Within the block no other process is in one of the same ``path``; that file is made and stays."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    with file:
        lock(file, wait=True)
        yield


def _without_added(columns: Sequence[str]) -> list[str]:
    return [name for name in columns if name not in ADDED]


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _text(value: object) -> str:
    return "" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)
