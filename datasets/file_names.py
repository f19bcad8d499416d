"""File names in the tables of a log, as they were written on another system."""

from __future__ import annotations

from pathlib import Path


def with_slashes(root: Path, table: Path, paths: list[str]) -> list[str]:
    r"""Turn the backslashes of ``paths`` into slashes, in place, and say so in a sentence; none if nothing was turned.

    Names from Windows are meant so. On other systems a backslash may be part of a name: the names are left alone if
    the first of them is that of a file.
    """
    turned = [i for i, path in enumerate(paths) if "\\" in path]
    if not turned or (root / paths[turned[0]]).is_file():
        return []
    for i in turned:
        paths[i] = paths[i].replace("\\", "/")
    first = paths[turned[0]]
    return [
        f"{table.name}: {len(turned)} file names have backslashes, which are read as slashes (first: {first})"
    ]
