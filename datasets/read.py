"""Bytes of a log's files; one that cannot be read is one clear error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import MissingFileError
from ..files.access import reading


def read_bytes(path: str | Path) -> bytes:
    """Content of the file.

    Raises:
        MissingFileError: there is no such file.
        InputError: it cannot be read.
    """
    with of_the_log(path):
        return Path(path).read_bytes()


@contextmanager
def of_the_log(path: str | Path) -> Iterator[None]:
    """``reading`` with words for a file that the log's tables name."""
    try:
        with reading(path):
            yield
    except MissingFileError:
        raise MissingFileError(
            f"{path}: this file is named in the log's tables but is not there; complete the download, "
            "or give the folder that holds it as the log's root"
        ) from None
