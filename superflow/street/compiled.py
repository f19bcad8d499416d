"""``jit``: how the functions of the synthetic drive are compiled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numba.core.cpu import CPUTargetOptions

from .. import compiled
from ..compiled import Function


def cache_folder() -> Path | None:
    """Where the compiled code of this package is kept, or None."""
    return compiled.cache_folder(Path(__file__).parent)


# Reading ``world.kind[p]`` counts a reference to the array up and down, with locks; where no array is made, nothing
# needs counting. numba's switch for it has no public name: without it the same bytes take twice the time.
_UNCOUNTED: dict[str, Any] = {"_nrt": False} if hasattr(CPUTargetOptions, "_nrt") else {}


def jit(function: Function) -> Function:
    """``function`` compiled on first use, without fast-math (the same bytes on every run)."""
    return compiled.compiled(error_model="numpy", nogil=True, forceinline=False)(function)


def jit_part(function: Function) -> Function:
    """As ``jit``, for a function that makes no arrays, nor calls one that does."""
    return compiled.compiled(error_model="numpy", nogil=True, forceinline=False, **_UNCOUNTED)(function)


def jit_inline(function: Function) -> Function:
    """As ``jit_part``, and copied into its callers: handing over a whole ``World`` costs more than its work."""
    return compiled.compiled(error_model="numpy", nogil=True, forceinline=True, **_UNCOUNTED)(function)
