"""Files that stay open in a thread, for readers of what holds many scans."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any


class OpenFiles(threading.local):
    """Files that stay open, so that a scan is not paid with opening what holds a thousand of them.

    Each thread has its own, since an open file has one position.
    """

    def __init__(self, most: int = 16) -> None:
        self._most = most
        self._files: OrderedDict[Path, Any] = OrderedDict()

    def get(self, path: Path, opener: Callable[[Path], Any]) -> Any:
        """What ``opener(path)`` gave when it was first asked for; the longest unused is let go."""
        if path not in self._files:
            self._files[path] = opener(path)
            if len(self._files) > self._most:
                self._files.popitem(last=False)
        self._files.move_to_end(path)
        return self._files[path]

    def clear(self) -> None:
        """Let all go."""
        self._files.clear()


open_files = OpenFiles()
if hasattr(os, "register_at_fork"):  # a shared descriptor has one position for all processes
    os.register_at_fork(after_in_child=open_files.clear)
