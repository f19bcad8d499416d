"""How far a long job is and how long it will still take, as log lines."""

from __future__ import annotations

import logging
import time


class Progress:
    """Logs ``what: done/total, time left`` at most every ``every_s`` seconds, and once at the end.

    Args:
        total: number of steps of the whole job.
        done: steps that an earlier run has finished; they do not count as speed.
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
    ) -> None:
        self._what, self._total, self._done, self._skipped = what, total, done, done
        self._log, self._enabled, self._every_s = log, enabled, every_s
        self._start = self._last = time.monotonic()
        if enabled and done:
            log.info("%s: %d of %d are there already", what, done, total)

    def advance(self, steps: int = 1) -> None:
        """Count ``steps`` more as done."""
        self._done += steps
        now = time.monotonic()
        if not self._enabled or (now - self._last < self._every_s and self._done < self._total):
            return
        self._last = now
        seconds = now - self._start
        left = seconds / max(self._done - self._skipped, 1) * (self._total - self._done)
        tail = f"{duration(left)} left" if self._done < self._total else f"took {duration(seconds)}"
        self._log.info("%s: %d/%d, %s", self._what, self._done, self._total, tail)


def duration(seconds: float) -> str:
    """``seconds`` as people say it: 42 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
