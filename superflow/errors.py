"""What users read when their input is wrong, and the write that leaves nothing half-written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import IO, Any


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


@contextmanager
def write_atomically(path: str | Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file beside ``path`` that takes its name only when the block ends without an error.

    A reader sees the old file or the whole new one, also after a kill or on a full disk.

    Raises:
        InputError: the disk is full or the folder cannot be written; the temporary file is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(temporary, mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror or error}); "
            "free some space or choose another folder, the previous file is untouched"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
