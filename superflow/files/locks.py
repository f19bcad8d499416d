"""Locks between threads and processes on files: one ends with its holder, however that ends, and is never stale."""

from __future__ import annotations

import errno
import os
from enum import Enum
from pathlib import Path
from typing import IO, Any

try:
    import fcntl
except ImportError:  # no Unix
    fcntl = None  # type: ignore[assignment]

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class Lock(Enum):
    """How an attempt to lock a file ended."""

    HELD = "held"
    BUSY = "busy"  # another process or thread holds it
    UNKNOWN = "unknown"  # this system or disk has no locks


def lock(file: IO[Any], *, wait: bool = False) -> Lock:
    """Lock an open file until it is closed; with ``wait`` never ``BUSY``."""
    if fcntl is None:
        return Lock.UNKNOWN
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return Lock.BUSY
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return Lock.UNKNOWN
        raise
    return Lock.HELD


def has_name(file: IO[Any], path: Path) -> bool:
    """Whether ``path`` still is the open file, which somebody may have removed before it was locked."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False
