"""Rows of large JSON tables, one at a time: nuScenes' sample_data.json alone holds 2.6 million (over 1 GB)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from ....errors import InputError, MissingFileError
from ....files.access import check_has_an_end
from ....progress import Progress, silent
from ...formats.kinds import shorten

_CHUNK = 1 << 15  # characters: more rows at once leave the processor's cache
_REPORT = 1 << 22  # characters from one report of progress to the next
_BETWEEN = "},"  # of two rows
_LONGEST_ROW = 1 << 26  # characters; a row longer than this is damage, not data


Rows = list[dict[str, Any]]


def read_rows(path: Path, progress: Progress = silent) -> Iterator[dict[str, Any]]:
    """The rows of a JSON file that holds a list of objects, in order; errors as of ``read_batches``."""
    return chain.from_iterable(read_batches(path, progress))


def read_batches(path: Path, progress: Progress = silent) -> Iterator[Rows]:
    """The rows of a JSON file that holds a list of objects, in order, some at a time: never the whole file.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is no valid JSON or no list of objects.
    """
    check_has_an_end(path)
    try:
        total = path.stat().st_size
        progress(f"reading {path.name}", 0, total)
        with path.open(encoding="utf-8") as file:
            for values in _objects(
                file, path, lambda done: progress(f"reading {path.name}", min(done, total), total)
            ):
                if set(map(type, values)) != {dict}:
                    other = next(value for value in values if type(value) is not dict)
                    raise InputError(
                        f"{path}: must be a list of objects but holds {shorten(other)}; export it again"
                    )
                yield values
    except FileNotFoundError:
        raise MissingFileError(
            f"{path}: this table is missing; complete the metadata of the log (docs/own_data.md lists what is needed)"
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: is not UTF-8 text ({error.reason}); download or export it again"
        ) from error


def _objects(file: Any, path: Path, report: Callable[[int], None]) -> Iterator[list[Any]]:
    """Elements of the JSON list in ``file``; the buffer holds one chunk and the row that crosses into it."""
    decoder = json.JSONDecoder()
    buffer, place = file.read(1).removeprefix("\ufeff"), 0  # the mark that Windows puts before UTF-8
    read = len(buffer)
    expect = "["  # then "value", ",", and "" after the closing bracket

    def damaged(reason: str) -> InputError:
        return InputError(
            f"{path}: is no valid JSON ({reason} near character {read - len(buffer) + place}); "
            "the file is cut off or damaged, download or export it again"
        )

    while True:
        chunk = file.read(max(_CHUNK, len(buffer) - place))  # a row that is longer is not looked at too often
        buffer, place, read = buffer[place:] + chunk, 0, read + len(chunk)
        if read // _REPORT > (read - len(chunk)) // _REPORT or not chunk:
            report(read)
        untried = True
        while True:
            while place < len(buffer) and buffer[place] in " \t\r\n":
                place += 1
            if place == len(buffer):
                break
            sign = buffer[place]
            if expect == "":
                raise damaged("more text after the list")
            if expect == "[" and sign != "[":
                raise damaged("a list was expected")
            if expect == "[":
                place, expect = place + 1, "first"
            elif sign == "]" and expect in ("first", ","):
                place, expect = place + 1, ""
            elif expect == ",":
                if sign != ",":
                    raise damaged("a comma was expected")
                place, expect = place + 1, "value"
            elif untried and (several := _several(buffer, place)):
                yield several
                place, expect, untried = buffer.rindex(_BETWEEN) + 1, ",", False
                if chunk:  # what is left is, mostly, a part of a row
                    break
            else:
                untried = False
                try:
                    value, end = decoder.raw_decode(buffer, place)
                except json.JSONDecodeError as error:
                    if not chunk or len(buffer) - place > _LONGEST_ROW:
                        raise damaged(error.msg) from None
                    break  # the row goes on in the next chunk
                except RecursionError:
                    raise damaged("lists or objects too deep in each other") from None
                except ValueError:  # Python's limit
                    raise damaged("a number of thousands of digits") from None
                place, expect = end, ","
                yield [value]
        if not chunk:
            if expect:
                raise damaged("the list has no end")
            return


def _several(buffer: str, place: int) -> list[Any]:
    """The elements from ``place`` to the last ``_BETWEEN``, decoded at once; none where that is not between elements.

    A list that is closed there is valid only if all brackets and quotes before it are closed. msgspec takes what json
    does but for a few spellings (NaN, 1e999, half a character), and gives the same values.
    """
    end = buffer.rfind(_BETWEEN, place)
    try:
        several: list[Any] = msgspec.json.decode(f"[{buffer[place : end + 1]}]") if end > place else []
        return several
    except (msgspec.MsgspecError, RecursionError):  # in the midst of a row, such a spelling, or damage
        return []
