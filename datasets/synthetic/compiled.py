"""``jit``: numba's compiler with a cache on disk that also works when the package folder is read-only."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba

logger = logging.getLogger(__name__)
Function = TypeVar("Function", bound=Callable[..., Any])


@cache
def cache_folder() -> Path | None:
    """Writable folder for compiled code, or None. Its name holds a hash of this package's sources.

    numba looks only at the file of the function itself, so that a changed callee in another file would go
    unnoticed; a folder per state of the sources cannot be stale.
    """
    sources = sorted(Path(__file__).parent.glob("*.py"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    homes = [
        os.environ.get("NUMBA_CACHE_DIR"),
        os.environ.get("XDG_CACHE_HOME"),
        os.path.expanduser("~/.cache"),
        os.path.join(tempfile.gettempdir(), f"superflow-{os.getuid()}"),
    ]
    for home in homes:
        if not home or not os.path.isabs(home):
            continue
        folder = Path(home) / "superflow" / "numba" / digest
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError:
            continue
    logger.warning("no writable folder for compiled code: the ray-caster is compiled anew in every process")
    return None


def jit(function: Function) -> Function:
    """``function`` compiled on first use, without fast-math (the same bytes on every run)."""
    return _compile(function, inline=False)


def jit_inline(function: Function) -> Function:
    """As ``jit``, and copied into its callers: a call that hands over a whole ``World`` costs more than its work."""
    return _compile(function, inline=True)


def _compile(function: Function, *, inline: bool) -> Function:
    folder = cache_folder()
    config: Any = numba.config
    before = config.CACHE_DIR
    config.CACHE_DIR = str(folder or "")  # read when the decorator runs, and only then
    try:
        cached = folder is not None
        compiled: Any = numba.njit(cache=cached, error_model="numpy", nogil=True, forceinline=inline)(
            function
        )
        return compiled
    finally:
        config.CACHE_DIR = before
