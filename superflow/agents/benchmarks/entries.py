"""Entries of a JSON file that others wrote: what is read is what was expected, or one sentence says what is wrong."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...files.access import is_text, read_json_value

_KINDS = {str: "text", int: "a whole number", list: "a list", dict: "an object"}


@dataclass(frozen=True, slots=True)
class Entry:
    """A value of a file.

    Attributes:
        path: the file. name: where in it, as ``questions[3]``; empty for all of it.
        value: as JSON has it. again: what to do where it is wrong.
    """

    path: str | Path
    name: str
    value: Any
    again: str

    @classmethod
    def of_file(cls, path: str | Path, again: str, *, missing: str) -> Entry:
        """All of a file.

        Raises:
            MissingFileError, InputError: there is none, or it is no JSON.
        """
        return cls(path, "", read_json_value(path, again, missing), again)

    def error(self, said: str) -> InputError:
        """What is wrong with it, to be raised."""
        return InputError(f"{self.path}: {self.name or 'the file'} {said}; {self.again}")

    def text(self) -> str:
        """It as text that can be printed and written."""
        value: str = self._of(str)
        if not is_text(value):
            raise self.error("holds half a character")
        return value

    def count(self) -> int:
        """It as a whole number from 0 on."""
        value: int = self._of(int)
        if value < 0:
            raise self.error(f"is {value}, and must be 0 or more")
        return value

    def number(self) -> float:
        """It as a finite number."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise self._other("a number")
        try:
            value = float(self.value)
        except OverflowError:
            value = math.inf
        if not math.isfinite(value):
            raise self.error("is a number that is not finite")
        return value

    def items(self) -> Iterator[Entry]:
        """The items of a list."""
        for i, item in enumerate(self._of(list)):
            yield Entry(self.path, f"{self.name}[{i}]", item, self.again)

    def names(self) -> list[str]:
        """The keys of an object."""
        for key in self._of(dict):
            Entry(self.path, f"a key of {self.name or 'the file'}", key, self.again).text()
        return list(self.value)

    def at(self, key: str) -> Entry:
        """The value of a key of an object, which must be there."""
        if key not in self._of(dict):
            raise self.error(f"has no {key!r}")
        return Entry(self.path, f"{self.name}.{key}" if self.name else key, self.value[key], self.again)

    def has(self, key: str) -> bool:
        """Whether an object has a value that is not null."""
        return self._of(dict).get(key) is not None

    def _of(self, kind: type) -> Any:
        if not isinstance(self.value, kind) or isinstance(self.value, bool):
            raise self._other(_KINDS[kind])
        return self.value

    def _other(self, wanted: str) -> InputError:
        kind = _KINDS.get(type(self.value))
        found = kind if isinstance(self.value, list | dict) else ascii(self.value)[:40]
        return self.error(f"is {found} and not {wanted}")
