"""Parts of a pass shared out to threads that wait for each other once.

PyTorch's own threads meet after every small operator, and a block has dozens of them: between two operators they fall
asleep, and waking them takes as long as the operator. There are as many threads here as PyTorch may use
(`torch.set_num_threads`, ``OMP_NUM_THREADS``), or as `use` says; where that is one, none is started. Which thread has
a part decides nothing about it: a pass has the same bits for any number of them that `use` allows.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from itertools import pairwise
from threading import Barrier

import torch

_number: Callable[[], int] = torch.get_num_threads


def use(number: Callable[[], int]) -> None:
    """Ask ``number`` before every pass of this process how many threads may share it, instead of PyTorch.

    Its answers may change: of a process beside others, with the cores that they leave.
    """
    global _number
    _number = number


def shares(works: Sequence[int]) -> list[tuple[int, int]]:
    """First part of each thread, and the one after its last: runs of about the same sum of ``works``, none empty."""
    threads, whole, done = _number(), max(sum(works), 1), 0
    owners = []
    for work in works:
        owners.append(min(int(threads * (done + work / 2) / whole), threads - 1))
        done += work
    cuts = [b for b in range(1, len(owners)) if owners[b] != owners[b - 1]]
    return list(pairwise([0, *cuts, len(owners)]))


def run(calls: Sequence[Callable[[], None]]) -> None:
    """Make all calls, each in a thread of its own; one alone in this thread.

    Raises:
        what the first of those calls raised that failed, after all have ended.
    """
    if len(calls) == 1:
        calls[0]()
        return
    pool = _pool(os.getpid(), len(calls))
    pending = [pool.submit(call) for call in calls]
    wait(pending)
    for future in pending:
        future.result()


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Threads whose matrix products use one core. A forked process, which has none of its parent's, makes its own."""
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, "convolution", initializer=torch.set_num_threads, initargs=(1,))
    started = Barrier(threads + 1)
    for _ in range(threads):
        pool.submit(started.wait)
    started.wait()
    torch.set_num_threads(before)  # the threads' setting was also that of all threads to come
    return pool
