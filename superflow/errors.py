"""What users read when their input is wrong."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import ModuleType


class InputError(ValueError):
    """Input that cannot be used. The message is one sentence: which file or key, what is wrong, what to do."""


class MissingFileError(InputError, FileNotFoundError):
    """A file that the input names, or that its layout needs, is not there."""

    def __str__(self) -> str:  # FileNotFoundError would print only errno-style arguments
        return str(self.args[0]) if self.args else ""


class MissingPackageError(ImportError):
    """An optional package is not installed. The message is one sentence, with the command that brings it."""


class OutOfReachError(InputError):
    """A point that no voxel of a grid can hold: it is not finite, or far away."""


def suggest(name: str, known: Iterable[str], *, words: str = "the nearest known one is") -> str:
    """``; the nearest known one is 'width'``, to end a clause about a wrong ``name``; empty where nothing is known."""
    near = max(
        sorted(known),
        key=lambda other: SequenceMatcher(None, name.lower(), other.lower()).ratio(),
        default=None,
    )
    return "" if near is None else f"; {words} {near!r}"


def first_few(words: Sequence[object], joint: str = ", ") -> str:
    """Three of them at most, and how many more there are."""
    more = f" and {len(words) - 3} more" if len(words) > 3 else ""
    return joint.join(map(str, words[:3])) + more


def first_line(error: BaseException) -> str:
    """The first line of what an error says; its name where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def pip_install(*words: str) -> str:
    """The command that installs what ``words`` name into the environment of this process.

    Another ``pip`` may be the first in the path: that of the system refuses, or brings it to a Python that does not run
    this.
    """
    return shlex.join([sys.executable or "python", "-m", "pip", "install", *words])


def pip_install_extra(extra: str) -> str:
    """The command that brings an extra of this package, from its checkout where the package is not installed."""
    try:
        distribution("superflow-lidar")
    except PackageNotFoundError:
        return pip_install("--editable", f"{Path(__file__).resolve().parents[1]}[{extra}]")
    return pip_install(f"superflow-lidar[{extra}]")


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingPackageError(
            f"{module} is not installed ({error}); run: {pip_install_extra(extra)}"
        ) from error
