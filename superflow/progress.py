"""How far a long job is, in one kind of callback for all rooms and as log lines; and what its stages took."""

from __future__ import annotations

import logging
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

# what is being done, how far it is, out of how much; told first where it begins
Progress = Callable[[str, int, int], None]

Item = TypeVar("Item")


def silent(what: str, done: int, total: int) -> None:
    """A ``Progress`` that shows nothing."""


class LogLines:
    """A ``Progress`` that logs ``what: done/total, time left`` at most every ``every_s`` seconds, and at the end.

    Where a job begins is what an earlier run has finished; it does not count as speed.

    Args:
        quiet: say nothing of a job that ends within ``every_s``.
    """

    def __init__(self, log: logging.Logger, *, every_s: float = 10.0, quiet: bool = False) -> None:
        self._log, self._every_s, self._quiet = log, every_s, quiet
        self._begun: dict[str, tuple[int, float]] = {}  # how far each job was, and when
        self._said = 0.0  # when a line was last due

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if what not in self._begun:
            self._begun[what], self._said = (done, now), now
            if done:
                self._log.info("%s: %d of %d are there already", what, done, total)
            return
        before, start = self._begun[what]
        seconds = now - start
        ended = done >= total and not (self._quiet and seconds < self._every_s)
        if now - self._said < self._every_s and not ended:
            return
        self._said = now
        left = seconds / max(done - before, 1) * (total - done)
        tail = f"{duration(left)} left" if done < total else f"took {duration(seconds)}"
        self._log.info("%s: %d/%d, %s", what, done, total, tail)


def track(
    items: Iterable[Item], what: str, progress: Progress, *, total: int | None = None, ready: int = 0
) -> Iterator[Item]:
    """``items`` one by one, telling ``progress`` how far a loop over them is.

    Args:
        total: how many there are, with those that are ``ready`` before; None where ``items`` know.
    """
    if total is None:
        assert isinstance(items, Sized)
        total = ready + len(items)
    progress(what, ready, total)
    for done, item in enumerate(items, start=ready + 1):
        yield item
        progress(what, done, total)


class Stopwatch:
    """Seconds of consecutive stages by name: ``wall``, and ``cpu`` of this process alone."""

    def __init__(self) -> None:
        self.wall: dict[str, float] = {}
        self.cpu: dict[str, float] = {}
        self._last = time.perf_counter(), cpu_seconds()

    def lap(self, name: str) -> None:
        """End a stage."""
        now = time.perf_counter(), cpu_seconds()
        self.wall[name], self.cpu[name] = (round(b - a, 3) for a, b in zip(self._last, now))
        self._last = now


def cpu_seconds() -> float:
    """Of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def duration(seconds: float) -> str:
    """``seconds`` as people say it: 42 s, 3 min 20 s, 2 h 5 min, 4 days 6 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 2 * 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} days {whole % 86_400 // 3600} h"
