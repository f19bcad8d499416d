"""Bytes of a log's files; one that cannot be read is one clear error."""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError

from ...errors import InputError, MissingFileError
from ...files.access import reading

# what NumPy raises over the head of a damaged file, which it reads as a line of Python
DAMAGED_HEAD = (ValueError, TypeError, EOFError, SyntaxError, TokenError, OverflowError, MemoryError)
MOST_ROWS = 1 << 26  # points of one scan; fused maps of more are no scans
LARGEST = 1 << 30  # bytes that one scan or image unpacks to, and
MOST_TIMES = 100  # so many times the bytes of its file: what is beyond both is a bomb


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


def no_parts(path: Path, key: str, what: str) -> None:
    """Refuse a part of a file that has none.

    Raises:
        InputError: ``key`` names one.
    """
    if key:
        raise InputError(f"{path}: {what} has no part {key!r}; prepare the log again")


def check_rows(path: Path, rows: int) -> None:
    """Refuse a number of rows that no scan has, before memory is taken for it.

    Raises:
        InputError: it is above ``MOST_ROWS``.
    """
    if rows > MOST_ROWS:
        raise InputError(
            f"{path}: claims {rows} points, more than a scan of {MOST_ROWS} has; the file is damaged, copy it again, "
            "or cut it into scans"
        )


def check_unpacked(path: str | Path, size: int, stored: int) -> None:
    """Refuse what unpacks to more than any scan or image, before memory is taken for it.

    Args:
        size: bytes that it claims to unpack to. stored: bytes that it is unpacked from.

    Raises:
        InputError: ``size`` is above ``LARGEST`` and more than ``MOST_TIMES`` times ``stored``.
    """
    if size > LARGEST and size > MOST_TIMES * stored:
        raise InputError(
            f"{path}: claims to unpack from {stored} to {size} bytes, more than any scan or image; it is damaged, copy "
            "it again, or cut it into scans"
        )


def zip_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Content of a member, no more than it claims to be.

    Raises:
        BadZipFile: it is packed otherwise than by deflate, which alone is unpacked piece by piece.
    """
    info = archive.getinfo(name)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise zipfile.BadZipFile(f"it is packed by the method {info.compress_type} and not by deflate")
    return archive.read(info)


def choose(path: Path, names: Sequence[str], known: Collection[str]) -> None:
    """Make sure that a file has what is asked of it.

    Raises:
        InputError: one of ``names`` is not among ``known``.
    """
    missing = [name for name in names if name not in known]
    if missing:
        raise InputError(
            f"{path}: has no column {', '.join(missing)}, but {', '.join(known)[:200]}; name others in columns, or "
            "copy it again"
        )
