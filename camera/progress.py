"""How far a long job is and how long it will still take, as log lines."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")


class Progress:
    """Logs ``what: done/total, time left`` at most every ``every_s`` seconds, and once at the end.

    Args:
        total: number of steps of the whole job.
        done: steps that an earlier run has finished; they do not count as speed.
        quiet: say nothing of a job that ends within ``every_s``.
    """

    def __init__(
        self,
        what: str,
        total: int,
        *,
        done: int = 0,
        log: logging.Logger,
        enabled: bool = True,
        every_s: float = 10.0,
        quiet: bool = False,
    ) -> None:
        self._what, self._total, self._done, self._skipped = what, total, done, done
        self._log, self._enabled, self._every_s, self._quiet = log, enabled, every_s, quiet
        self._start = self._last = time.monotonic()
        if enabled and done:
            log.info("%s: %d of %d are there already", what, done, total)

    def advance(self, steps: int = 1) -> None:
        """Count ``steps`` more as done."""
        self._done += steps
        now = time.monotonic()
        ended = self._done >= self._total and not (self._quiet and now - self._start < self._every_s)
        if not self._enabled or (now - self._last < self._every_s and not ended):
            return
        self._last = now
        seconds = now - self._start
        left = seconds / max(self._done - self._skipped, 1) * (self._total - self._done)
        tail = f"{duration(left)} left" if self._done < self._total else f"took {duration(seconds)}"
        self._log.info("%s: %d/%d, %s", self._what, self._done, self._total, tail)


def track(items: Sequence[Item], what: str, *, log: logging.Logger, every_s: float = 10.0) -> Iterator[Item]:
    """``items`` one by one, with the progress of a loop over them logged; nothing of one that is short."""
    progress = Progress(what, len(items), log=log, every_s=every_s, quiet=True)
    for item in items:
        yield item
        progress.advance()


def duration(seconds: float) -> str:
    """``seconds`` as people say it: 42 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
