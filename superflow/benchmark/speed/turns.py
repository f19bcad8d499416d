"""Clocks, ceilings, and works that take turns."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from ...errors import InputError
from ...together import SPAWN, end_with_starter
from .options import spread

Seconds = dict[str, float]  # by clock: thread, process, wall
Work = Callable[[], Any]
LONG_S = 5.0  # a work that takes this long is not called again for a median


@dataclass(frozen=True, slots=True)
class Turns:
    """What works took that ran in turn, A B A B.

    seconds: of each round by name, by ``clock``. ceilings: medians of those measured between them. load: of the machine
    in the last minute, before and after.
    """

    clock: str
    seconds: dict[str, list[float]]
    ceilings: dict[str, float]
    load: tuple[float, float]

    def median(self, name: str) -> float:
        """Seconds of the middle round."""
        return median(self.seconds[name])

    def ratios(self, name: str, to: str) -> list[float]:
        """Round by round, so that a machine whose speed drifts does not decide."""
        return [a / b for a, b in zip(self.seconds[name], self.seconds[to])]

    def compared(self, name: str, to: str, digits: int = 2) -> str:
        """The ratios in words: the middle one, then the smallest and the largest; nothing of a work to itself."""
        ratios = self.ratios(name, to)
        return "" if name == to else f"{median(ratios):.{digits}f}, {spread(ratios)}"

    def record(self) -> dict[str, Any]:
        """Plain values."""
        return {"clock": self.clock, "seconds": self.seconds, **self.ceilings, "load": list(self.load)}

    def conditions(self) -> str:
        """What the figures stand beside, in one sentence."""
        return (
            f"{self.clock} time, {len(next(iter(self.seconds.values())))} rounds in turn; "
            f"sgemm {self.ceilings['sgemm_gflops']:.0f} GFLOP/s, copy {self.ceilings['copy_gbytes']:.1f} GB/s between "
            f"them; load {self.load[0]:.1f} before, {self.load[1]:.1f} after"
        )


def in_turn(works: Mapping[str, Work], *, rounds: int, clock: str) -> Turns:
    """Call the works one after the other, ``rounds`` times, after a round that does not count."""
    before = os.getloadavg()[0]
    seconds: dict[str, list[float]] = {name: [] for name in works}
    limits = []
    for turn in range(rounds + 1):
        for name, work in works.items():
            took = timed(work)[clock]
            if turn:
                seconds[name].append(took)
        limits.append(ceilings(clock))
    middle = {key: median(limit[key] for limit in limits) for key in limits[0]}
    return Turns(clock, seconds, middle, (before, os.getloadavg()[0]))


def timed(work: Work) -> Seconds:
    """Seconds of one call by every clock. The thread's own survives a busy machine best."""
    before = time.thread_time(), time.process_time(), time.perf_counter()
    work()
    after = time.thread_time(), time.process_time(), time.perf_counter()
    return dict(zip(("thread", "process", "wall"), (b - a for a, b in zip(before, after))))


def ceilings(clock: str) -> dict[str, float]:
    """Float32 matrix product [GFLOP/s] and copy [GB/s, read and written] at this moment by ``clock``."""
    side, length = 1024, 1 << 24
    a, b = torch.ones(side, side), torch.ones(length)
    target = torch.empty_like(b)
    target.copy_(b)
    return {
        "sgemm_gflops": 2e-9 * side**3 / timed(lambda: a @ a)[clock],
        "copy_gbytes": 8e-9 * length / timed(lambda: target.copy_(b))[clock],
    }


def peak_memory_mb() -> float:
    """Peak resident memory of this process [MB]. Not ``ru_maxrss``, which a child inherits from its parent."""
    return _status_mb("VmHWM")


def available_memory_mb() -> float:
    """Memory of the machine that new processes can get [MB]."""
    return _proc_mb("meminfo", "MemAvailable")


def _status_mb(key: str) -> float:
    return _proc_mb("self/status", key)


def _proc_mb(file: str, key: str) -> float:
    for line in Path("/proc", file).read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) / 1024
    raise InputError(f"/proc/{file} has no {key}; memory is measured on Linux only")


def in_fresh_process(work: Callable[..., Work], *given: Any) -> tuple[float, float]:
    """Peak resident memory [MB] of a process that makes ``work(*given)`` and calls it once, and what the call added.

    ``work`` is a function of a module; it builds what is to be called.
    """
    alone = timed_in_fresh_process(work, *given, rounds=0, clock="thread")
    return alone.peak_mb, alone.added_mb


@dataclass(frozen=True, slots=True)
class Alone:
    """What a work took in a process of its own.

    seconds: of each round by the clock asked for; of the only call where rounds would have taken long.
    peak_mb, added_mb: most memory of the process, and what the first call added.
    process_s: CPU time of the whole process, with making what is called.
    ceilings: measured after it.
    """

    seconds: list[float]
    peak_mb: float
    added_mb: float
    process_s: float
    ceilings: dict[str, float]


def timed_in_fresh_process(work: Callable[..., Work], *given: Any, rounds: int, clock: str) -> Alone:
    """Call what ``work(*given)`` makes once, and then up to ``rounds`` times, in a process of its own.

    Raises:
        InputError: the process ended early.
    """
    receiver, sender = SPAWN.Pipe(duplex=False)
    child = SPAWN.Process(
        target=_in_child, args=(sender, torch.get_num_threads(), rounds, clock, work, given)
    )
    child.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        raise InputError(
            "the process whose memory was to be measured ended early; see what it printed above, or make what is "
            "measured smaller if the machine has no memory left"
        ) from None
    finally:
        child.join()


def _in_child(
    sender: Any, threads: int, rounds: int, clock: str, work: Callable[..., Work], given: tuple[Any, ...]
) -> None:
    end_with_starter()
    torch.set_num_threads(threads)
    call = work(*given)
    before = _status_mb("VmRSS")
    first = timed(call)[clock]
    peak = peak_memory_mb()
    seconds: list[float] = []
    while len(seconds) < rounds and first + sum(seconds) < LONG_S:
        seconds.append(timed(call)[clock])
    process_s = time.process_time()
    sender.send(
        Alone(
            seconds or [first],
            round(peak, 1),
            round(peak - before, 1),
            process_s,
            ceilings(clock) if rounds else {},
        )
    )


@contextmanager
def busy_cores() -> Iterator[None]:
    """One process a core that does nothing but keep it busy."""
    # until this process is gone, should it be killed
    spin = [sys.executable, "-c", f"import os\nwhile os.getppid() == {os.getpid()}: pass"]
    others = [subprocess.Popen(spin) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()
