"""Names in the tables of a log that become paths: those of files that are read, and of files that are written."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError
from .formats.kinds import LONGEST_NAME, shorten

_LONGEST_FILE_NAME = 255  # bytes, on every usual file system
_AROUND_PICTURE = (
    32  # bytes beside the three names of a picture's file: joints, ending, and those of its .part file
)
_PLAIN = re.compile("[0-9A-Za-z_-]*")  # what needs no closer look


def check_file_names(names: Sequence[str], what: str, table: Path) -> None:
    """Every name can be that of a file in any folder, and is never one outside of it.

    Args:
        what: the field, as in ``token``.

    Raises:
        InputError: a name is empty, too long, begins with a dot or blank, ends with a blank, or holds a slash or a
            character that cannot be printed.
    """
    lengths = set(map(len, names))
    if names and _PLAIN.fullmatch("".join(names)) and min(lengths) > 0 and max(lengths) <= LONGEST_NAME:
        return
    for name in names:
        if not _is_file_name(name):
            raise InputError(
                f"{table}: the {what} {shorten(name)} cannot be used; it must be text of 1 to {LONGEST_NAME} bytes "
                "without slashes and control characters, with no dot or blank at its beginning and no blank at its "
                "end, since files are named by it: rename it"
            )


def check_scene_name(name: str, table: Path) -> None:
    """A name that no selection can mean, or that makes no file name, is refused.

    Raises:
        InputError: it is no file name (see ``check_file_names``), or holds one of ``@ [ ]``.
    """
    if not _is_file_name(name) or re.search(r"[@\[\]]", name):
        raise InputError(
            f"{table}: the scene name {shorten(name)} cannot be used; it must be text without @ [ ] / \\ and without "
            f"blanks at its ends or a dot at its beginning, of 1 to {LONGEST_NAME} bytes, since selections and file "
            "names are made of it: rename the scene"
        )


def check_picture_names(
    folder: Path, scenes: Sequence[str], tokens: Sequence[str], channels: Sequence[str]
) -> None:
    """Pictures are named by scene, scan and camera together: ``SCENE_TOKEN_CHANNEL.png``.

    Raises:
        InputError: the longest of these makes a file name that is too long.
    """
    if not channels or not tokens:
        return
    longest = [max(names, key=_bytes) for names in (scenes, tokens, channels)]
    together = sum(map(_bytes, longest)) + _AROUND_PICTURE
    if together > _LONGEST_FILE_NAME:
        raise InputError(
            f"{folder}: the scene {shorten(longest[0])}, the scan {shorten(longest[1])} and the channel "
            f"{shorten(longest[2])} have names of {together - _AROUND_PICTURE} bytes together; pictures are named by "
            f"all three, and {_LONGEST_FILE_NAME - _AROUND_PICTURE} bytes fit: shorten them"
        )


def in_number_order(stem: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts names with numbers in them by these: scan_2 before scan_10."""
    words = re.split(r"([0-9]+)", stem)
    return tuple((1, int(word), word) if i % 2 else (0, 0, word) for i, word in enumerate(words))


def with_slashes(root: Path, table: Path, paths: list[str]) -> list[str]:
    r"""Turn the backslashes of ``paths`` into slashes, in place, and say so in a sentence; none if nothing was turned.

    Names from Windows are meant so. On other systems a backslash may be part of a name: the names are left alone if
    the first of them is that of a file.
    """
    turned = [i for i, path in enumerate(paths) if "\\" in path]
    if not turned or os.path.isfile(root / paths[turned[0]]):
        return []
    for i in turned:
        paths[i] = paths[i].replace("\\", "/")
    first = paths[turned[0]]
    return [
        f"{table.name}: {len(turned)} file names have backslashes, which are read as slashes (first: {first})"
    ]


def _is_file_name(name: str) -> bool:
    return (
        name.isprintable()  # neither control characters nor what UTF-8 cannot write
        and name == name.strip()
        and bool(re.fullmatch(r"[^./\\][^/\\]*", name))
        and _bytes(name) <= LONGEST_NAME
    )


def _bytes(name: str) -> int:
    return len(name.encode())
