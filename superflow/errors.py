"""What users read when their input is wrong."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any


class InputError(ValueError):
    """Input that cannot be used. The message is one sentence: which file or key, what is wrong, what to do."""


class MissingFileError(InputError, FileNotFoundError):
    """A file that the input names, or that its layout needs, is not there."""

    def __str__(self) -> str:  # FileNotFoundError would print only errno-style arguments
        return str(self.args[0]) if self.args else ""


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency, or raise ``ImportError`` with the pip command that brings it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            f'{module} is not installed ({error}); run: pip install "superflow-lidar[{extra}]"'
        ) from error


def __getattr__(name: str) -> Any:
    if name == "write_atomically":  # moved
        from .writes import write_atomically

        return write_atomically
    raise AttributeError(name)
