"""``jit``: how the functions of the synthetic drive are compiled."""

from __future__ import annotations

from pathlib import Path

from .. import compiled
from ..compiled import Function


def cache_folder() -> Path | None:
    """Where the compiled code of this package is kept, or None."""
    return compiled.cache_folder(Path(__file__).parent)


def jit(function: Function) -> Function:
    """``function`` compiled on first use, without fast-math (the same bytes on every run)."""
    return compiled.compiled(error_model="numpy", nogil=True, forceinline=False)(function)


def jit_inline(function: Function) -> Function:
    """As ``jit``, and copied into its callers: a call that hands over a whole ``World`` costs more than its work."""
    return compiled.compiled(error_model="numpy", nogil=True, forceinline=True)(function)
