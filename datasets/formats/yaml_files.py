"""YAML of a log's files: plain values, each key once, and never more of them than a person writes.

A file of some lines can name one list in another nine times over and so on, which is few bytes in memory and never done
when somebody goes through it; brackets in brackets by the thousand take minutes to be refused.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from ...errors import InputError, first_line
from ...files.access import read_text

MOST_VALUES = 1_000_000  # a split of every scan of a dataset is some 30,000
MOST_LEVELS = 50
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_MERGE = "tag:yaml.org,2002:merge"  # of <<, of which a mapping may have several


class _Loader(yaml.SafeLoader):
    """Counts values as they would be written out, what is named again each time."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._values = self._levels = 0
        self._sizes: dict[str, int] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        is_again, before = isinstance(event, yaml.AliasEvent), self._values
        if is_again and event.anchor in self.anchors and event.anchor not in self._sizes:
            raise yaml.YAMLError(f"{event.anchor} holds itself")
        self._values += self._sizes.get(event.anchor, 1) if is_again else 1
        self._levels += 1
        if self._values > MOST_VALUES or self._levels > MOST_LEVELS:
            raise yaml.YAMLError(f"it holds more than {MOST_VALUES} values or {MOST_LEVELS} levels")
        node = super().compose_node(parent, index)
        self._levels -= 1
        if event.anchor is not None and not is_again:
            self._sizes[event.anchor] = self._values - before
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        """Refuse a key that stands in a mapping twice: YAML forbids it, and the library would take the last."""
        node: Any = super().compose_mapping_node(anchor)  # type: ignore[no-untyped-call]
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                if (key.tag, key.value) in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"the key {key.value!r} stands there twice", problem_mark=key.start_mark
                    )
                seen.add((key.tag, key.value))
        return node

    def construct_scalar(self, node: Any) -> Any:
        """Refuse a number that means another one than it looks like: YAML 1.1 reads 010 as 8 and 1:30 as 90."""
        if node.tag in _NUMBERS and (":" in node.value or _is_octal(node.value)):
            raise yaml.MarkedYAMLError(
                problem=f"{node.value[:40]!r} is another number in YAML; write it in quotes, or without 0 and colons",
                problem_mark=node.start_mark,
            )
        return super().construct_scalar(node)


def _is_octal(text: str) -> bool:
    """Whether digits are read to the base of 8, and so as another number."""
    digits = text.lstrip("+-").replace("_", "")
    return re.fullmatch("0[0-7]+", digits) is not None and int(digits, 8) != int(digits)


def load_yaml(text: str) -> Any:
    """The value of a YAML text.

    Raises:
        yaml.YAMLError, ValueError, RecursionError: it is none, or more than anybody writes.
    """
    return yaml.load(text, Loader=_Loader)


def read_yaml(path: Path) -> dict[str, Any]:
    """Keys and values of a YAML file.

    Raises:
        MissingFileError, InputError: there is no such file; it is no YAML, or holds something else.
    """
    try:
        values = load_yaml(read_text(path))
    except InputError:
        raise
    except (
        yaml.YAMLError,
        ValueError,
        RecursionError,
    ) as error:  # dates and numbers that cannot be are ValueError
        raise InputError(f"{path}: is no valid YAML ({_what(error)}); mend the file") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: must hold keys and values, see the packaged cards for the form")
    return values


def _what(error: Exception) -> str:
    """What is wrong, and in which line where the library knows it."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is not None and problem:
        return f"line {mark.line + 1}: {problem.splitlines()[0]}"
    return first_line(error)
