"""Which scans of a long job have their files, so that it goes on where it was stopped, with what began it alone.

``.done.jsonl`` in the folder of the files says what makes them, then of each scan that is done its files and figures.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from ..errors import InputError
from ..files.access import read_text
from ..files.writes import building, write_text, writing

JOURNAL = ".done.jsonl"


class DoneScans:
    """Scans whose files are whole, by their tokens, with what each adds to the figures of the job."""

    def __init__(
        self, folder: Path, entries: Mapping[str, Mapping[str, Any]], journal: IO[str] | None
    ) -> None:
        self._folder, self._journal = folder, journal
        self._entries = dict(entries)

    def __contains__(self, token: str) -> bool:
        """Whether its files are there: somebody may have removed one since."""
        return token in self._entries and all(path.is_file() for path in self.files(token))

    def files(self, token: str) -> list[Path]:
        """Those of a scan, some perhaps of other scans, too."""
        return [self._folder / name for name in self._entries[token]["files"]]

    def figures(self, token: str) -> Any:
        """What `add` was told of a scan."""
        return self._entries[token]["figures"]

    def add(self, token: str, files: Sequence[Path], figures: Any) -> None:
        """Say that the files of a scan are written, whole. ``figures``: of JSON types."""
        names = [path.relative_to(self._folder).as_posix() for path in files]
        self._entries[token] = {"scan": token, "files": names, "figures": figures}
        if self._journal is not None:
            with writing(self._folder / JOURNAL):
                self._journal.write(_line(self._entries[token]))
                self._journal.flush()


@contextmanager
def done_scans(
    folder: str | Path, made_by: Mapping[str, Any] | None, what: str, *, left: str
) -> Iterator[DoneScans]:
    """Those in ``folder``, which is made; one job at a time works there.

    Args:
        made_by: all that the files follow from, of JSON types; None: not known, and the job begins anew.
        what, left: as of `check_made_by`.

    Raises:
        InputError: as `check_made_by`, or the folder cannot be written.
    """
    folder = Path(folder)
    with building(folder):
        entries = check_made_by(folder, made_by, what, left=left)
        if made_by is None:
            yield DoneScans(folder, {}, None)
            return
        # whole lines alone: a job that was killed may have left a part of one, and the next would go on behind it
        write_text(folder / JOURNAL, "".join(map(_line, (made_by, *entries.values()))))
        with writing(folder / JOURNAL):
            journal = open(folder / JOURNAL, "a", encoding="utf-8")  # noqa: SIM115  (closed below)
        with journal:
            yield DoneScans(folder, entries, journal)


def check_made_by(
    folder: str | Path, made_by: Mapping[str, Any] | None, what: str, *, left: str
) -> dict[str, dict[str, Any]]:
    """By their tokens, the scans of which a job that was made by the same has written.

    Args:
        what: the files hold, for messages. left: pattern of the names of files that tell of such a job where there is
            no journal.

    Raises:
        InputError: they were made by something else, or by what is not known.
    """
    folder = Path(folder)
    again = "choose another folder or delete this one"
    if not os.path.lexists(folder / JOURNAL):
        if made_by is not None and any(folder.glob(left)):
            raise InputError(f"{folder}: holds {what}, and nothing says what made them; {again}")
        return {}
    before, *entries = _read(folder / JOURNAL)
    now = {} if made_by is None else json.loads(json.dumps(made_by))
    for name in dict.fromkeys((*now, *before)):
        if before.get(name) != now.get(name):
            had, has = (json.dumps(values.get(name))[:150] for values in (before, now))
            raise InputError(
                f"{folder}: holds {what} made with other {name} ({had} instead of {has}); {again}"
            )
    return {entry["scan"]: entry for entry in entries if {"scan", "files", "figures"} <= entry.keys()}


def _read(path: Path) -> list[dict[str, Any]]:
    """The first line and those after it that are whole; a job that was killed may have left a part of one."""
    found: list[dict[str, Any]] = []
    for line in read_text(path).splitlines():
        with suppress(ValueError):
            found.append(json.loads(line))
        if not found:
            break
    if not found or not all(isinstance(value, dict) for value in found):
        raise InputError(f"{path}: is damaged; delete its folder to begin anew")
    return found


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value) + "\n"
