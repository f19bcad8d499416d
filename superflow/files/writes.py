"""Writes that leave nothing half-written, by however many writers at a time."""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from ..errors import InputError
from .access import make_folder, writing
from .locks import Lock, has_name, lock

log = logging.getLogger(__name__)

# what a writer that was killed leaves; an older version named it by the number of its process
_PART = re.compile(r"\..+\.([0-9a-f]{16}|\d+)\.part")
_BUILDING = ".building"


@contextmanager
def write_atomically(path: str | Path, mode: str = "wb", *, sync: bool = True) -> Iterator[IO[Any]]:
    """Open a temporary file beside ``path`` that takes its name only when the block ends without an error.

    A reader sees the old file or the whole new one, also after a kill or on a full disk; of several writers at the same
    time one wins, whole. Text is UTF-8. What killed writers have left in the folder is cleared.

    Args:
        sync: wait until the bytes have reached the disk, so that this holds after a power failure too.

    Raises:
        InputError: the disk is full or the folder cannot be written; the temporary file is removed.
    """
    path = Path(path)
    make_folder(path.parent)
    with writing(path):
        _clear_once(path.parent)
        file, part = _open_part(path, mode)
        try:
            with file:  # locked until it has its name: a file that nobody locks was left by a dead writer
                yield file
                file.flush()
                if sync:
                    os.fsync(file.fileno())
                os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


def write_bytes(path: str | Path, data: bytes, *, sync: bool = True) -> None:
    """Write a whole file; ``sync`` and errors as of ``write_atomically``."""
    with write_atomically(path, sync=sync) as file:
        file.write(data)


def write_text(path: str | Path, text: str) -> None:
    """The same of a UTF-8 text."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, value: Any, *, indent: int | None = 1, allow_nan: bool = True) -> None:
    """The same of a value of JSON types."""
    with write_atomically(path, "w") as file:
        json.dump(value, file, indent=indent, allow_nan=allow_nan)


def _open_part(path: Path, mode: str) -> tuple[IO[Any], Path]:
    """A new locked file beside ``path`` with the rights that the umask gives, and its name."""
    while True:
        part = path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}.part")
        encoding = None if "b" in mode else "utf-8"
        file = open(part, mode.replace("w", "x"), encoding=encoding)  # noqa: SIM115  (closed by the caller)
        lock(file, wait=True)
        if has_name(file, part):
            return file, part
        file.close()  # cleared by another process before it was locked


def remove_leftovers(folder: str | Path) -> None:
    """Delete the temporary files of writers that were killed; those of living ones are locked and stay."""
    with os.scandir(folder) as entries:
        parts = [Path(entry.path) for entry in entries if _PART.fullmatch(entry.name)]
    for part in parts:
        # gone already, or not ours to clear
        with suppress(FileNotFoundError, PermissionError), open(part, "rb+") as file:
            if lock(file) is Lock.HELD and has_name(file, part):
                part.unlink(missing_ok=True)


_cleared: set[str] = set()
_clearing = threading.Lock()


def _clear_once(folder: Path) -> None:
    """``remove_leftovers`` before this process first writes into ``folder``: each time would cost too much."""
    key = os.path.abspath(folder)
    with _clearing:
        if key in _cleared:
            return
        _cleared.add(key)
    remove_leftovers(folder)


@contextmanager
def building(
    folder: str | Path, name: str = _BUILDING, *, busy: str | None = None, patience_s: float = 0.0
) -> Iterator[None]:
    """Let one builder at a time work in ``folder``, which is made; a second one says that it waits, and waits.

    Args:
        name: of the file that is locked; builders of different names do not meet.
        busy: what a second one is told, instead of waiting. patience_s: after so long: processes that the first one
            began hold its lock for some seconds after it was killed.

    Raises:
        InputError: the folder cannot be made or written; or there is another builder, and ``busy`` is given.
    """
    path, until = make_folder(folder) / name, time.monotonic() + patience_s
    while True:
        with ExitStack() as stack:
            with writing(path):
                file = stack.enter_context(open(path, "ab"))
            held = lock(file)
            if held is Lock.UNKNOWN:
                log.warning("%s: there are no locks on this disk; let no other process build here", folder)
            if held is Lock.BUSY and busy is not None:
                if time.monotonic() > until:
                    raise InputError(f"{folder}: {busy}")
                time.sleep(0.1)
                continue
            if held is Lock.BUSY:
                log.warning("%s: another process is building here; waiting until it has finished", folder)
                lock(file, wait=True)
            if not has_name(file, path):
                continue  # its last holder has removed it
            try:
                yield
                return
            finally:
                path.unlink(missing_ok=True)
