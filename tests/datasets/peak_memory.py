"""How much memory this process takes at most while something is done, as the system counts it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """``with PeakMemory() as memory``: ``memory.grown`` is the highest resident size of it [bytes], above that before.

    Skips where the system does not tell.
    """

    grown = 0

    def __enter__(self) -> PeakMemory:
        try:
            _CLEAR.write_text("5")  # the peak begins anew
        except OSError:
            pytest.skip("this system does not count the memory of a process")
        self._before = _resident("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        self.grown = _resident("VmHWM") - self._before


def _resident(name: str) -> int:
    found = re.search(rf"{name}:\s+([0-9]+) kB", _STATUS.read_text())
    assert found is not None
    return 1024 * int(found[1])
