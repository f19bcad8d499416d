"""The file that says of a folder of scans that it is a corrupted copy, so that nobody files it as clean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...errors import InputError
from ...files.access import read_json
from ...files.writes import write_json

CLEAN = "clean"  # the variant of logs that no model has corrupted
MARK = "corruption.json"
_AGAIN = "write the copy again with `superflow prepare corrupted`"


def mark(folder: Path, facts: dict[str, Any]) -> None:
    """Say that ``folder`` is the copy that ``facts`` describe, ``variant`` among them.

    Raises:
        InputError: it is another copy already.
    """
    path = folder / MARK
    if path.is_file():
        known = read_json(path, _AGAIN)
        for key, value in facts.items():
            if known.get(key) != value:
                raise InputError(
                    f"{folder}: holds a copy whose {key} is {known.get(key)!r}, not {value!r}; choose another folder, "
                    "or remove it"
                )
        return
    write_json(path, facts)


def variant_of(root: Path) -> str | None:
    """The variant of the copy that ``root`` is, or in which it lies; None where no folder above is marked.

    Raises:
        InputError: a mark cannot be read.
    """
    root = root.absolute()
    for folder in (root, *root.parents):
        if (folder / MARK).is_file():
            variant = read_json(folder / MARK, _AGAIN).get("variant")
            if not isinstance(variant, str) or not variant:
                raise InputError(f"{folder / MARK}: names no variant; {_AGAIN}")
            return variant
    return None
