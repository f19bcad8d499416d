"""numba's compiler with a cache on disk that also works where the package is read-only, and that nobody else can fill.

Cached code is run as it is found, so it is taken only from folders that belong to this user and no other may write.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba import types
from numba.core.caching import FunctionCache

logger = logging.getLogger(__name__)
Function = TypeVar("Function", bound=Callable[..., Any])

_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def compiled(**options: Any) -> Callable[[Function], Function]:
    """A decorator that compiles a function on first use; ``options`` are those of ``numba.njit``.

    The first use is what a user waits for after an install, so no more is compiled than is called: numba would make an
    entry for C beside the one for Python, and a variant for each constant that compiled code hands over.
    """

    def decorate(function: Function) -> Function:
        folder = cache_folder(Path(function.__code__.co_filename).parent)
        njit: Any = numba.njit  # of whose options the types know some
        config: Any = numba.config
        before = config.CACHE_DIR
        config.CACHE_DIR = str(folder or "")  # read when the decorator runs, and only then
        try:
            made = njit(no_cfunc_wrapper=True, **options)(function)
            made.get_call_template = partial(_whatever_the_constants, made.get_call_template)
            if folder is not None:
                made._cache = _Cache(function)  # what numba's own ``cache=True`` sets, and no more
            return made
        finally:
            config.CACHE_DIR = before

    return decorate


def _whatever_the_constants(call_template: Callable[..., Any], args: Any, kws: Any) -> Any:
    """The function for a call by compiled code, for any number in the place of a constant."""
    plain = tuple(map(types.unliteral, args)), {name: types.unliteral(kind) for name, kind in kws.items()}
    return call_template(*plain)


class _Cache(FunctionCache):
    """numba's cache, without which a function works where it cannot be written: on a full disk, beyond a quota."""

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError as failure:
            _tell_once(Path(self._cache_path), failure.strerror or str(failure))


@cache
def _tell_once(folder: Path, reason: str) -> None:
    logger.warning(
        "compiled code cannot be kept in %s (%s): it is compiled anew in every process", folder, reason
    )


@cache
def cache_folder(package: Path) -> Path | None:
    """Folder for the compiled code of the modules in ``package``, or None. Its name holds a hash of their sources.

    numba looks only at the file of the function itself, so that a changed callee in another file would go unnoticed; a
    folder per state of the sources cannot be stale.
    """
    sources = sorted(package.glob("*.py"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    for home, *names in _homes():
        folder = _own_folder(Path(home), [*names, "numba", digest]) if os.path.isabs(home) else None
        if folder is not None:
            return folder
    logger.warning(
        "no folder for compiled code is writable for this user alone: %s is compiled anew in every process; "
        "set NUMBA_CACHE_DIR to such a folder",
        package.name,
    )
    return None


def _homes() -> list[tuple[str, str]]:
    """Places for caches, the user's own first, each with the name of the folder to make in it."""
    user = os.geteuid() if hasattr(os, "geteuid") else os.environ.get("USERNAME", "user")
    return [
        (os.environ.get("NUMBA_CACHE_DIR") or "", "superflow"),
        (os.environ.get("XDG_CACHE_HOME") or "", "superflow"),
        (os.path.expanduser("~/.cache"), "superflow"),
        (tempfile.gettempdir(), f"superflow-{user}"),
    ]


def _own_folder(home: Path, names: list[str]) -> Path | None:
    """``home/names[0]/...``, made for this user alone; None where it cannot be made, or another could write into it."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        if _is_open_to_others(home):
            return None
        folder = home
        for name in names:
            folder = folder / name
            with suppress(FileExistsError):
                folder.mkdir(mode=0o700)
            if not _is_own(folder):
                return None
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:  # read-only, full, or below a file: the next place
        return None


def _is_open_to_others(home: Path) -> bool:
    """Whether another user may replace what lies in ``home``: its owner, or all who may write it if not sticky."""
    found = home.stat()
    owner = not hasattr(os, "geteuid") or found.st_uid in (os.geteuid(), 0)
    return not owner or bool(found.st_mode & _WRITABLE_BY_OTHERS and not found.st_mode & stat.S_ISVTX)


def _is_own(folder: Path) -> bool:
    """Whether it is a folder (no link to one) that belongs to this user, and that only this user may write."""
    found = os.lstat(folder)
    own = not hasattr(os, "geteuid") or found.st_uid == os.geteuid()
    return stat.S_ISDIR(found.st_mode) and own and not found.st_mode & _WRITABLE_BY_OTHERS
