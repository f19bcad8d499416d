"""Work beside other work: in threads, where PyTorch leaves a core free and with the same bits, and in processes.

Operators of PyTorch and compiled code give back the interpreter's lock, so that two threads keep two cores at work
where each has much to compute; PyTorch's own threads meet after every operator and gain nothing on small ones.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from multiprocessing import active_children, parent_process
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any, TypeVar

Result = TypeVar("Result")
_MASKS = hasattr(signal, "pthread_sigmask")  # not on Windows


def usable_cores() -> int:
    """Cores that this process may run on, which in a container or a job of a cluster are fewer than the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_free_core() -> bool:
    """Whether there are more cores than PyTorch uses for one operator."""
    import torch

    return usable_cores() > torch.get_num_threads()


def one_thread(worker: int = 0) -> None:
    """Workers share the machine with who started them and each other: one thread each, in every library they loaded."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(0)  # none beside its own
    if "numba" in sys.modules:
        sys.modules["numba"].set_num_threads(1)


class _Process(SpawnProcess):
    """A process that Ctrl-C does not reach while it imports what it needs, until it calls ``end_with_starter``."""

    def start(self) -> None:
        if not _MASKS:
            super().start()
            return
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            super().start()  # which hands on what this thread blocks
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Context(SpawnContext):
    Process = _Process  # type: ignore[assignment]


SPAWN = _Context()


@contextmanager
def processes(
    count: int, begin: Callable[..., None] | None = None, given: tuple[Any, ...] = ()
) -> Iterator[ProcessPoolExecutor]:
    """A pool of ``count`` processes, each of which calls ``begin(*given)`` first.

    Where the ``with`` is left by an error or by Ctrl-C, what has not begun never does.

    They are spawned, not forked: a fork of a process with running threads of torch or OpenCV can hang.
    """
    with ProcessPoolExecutor(count, SPAWN, _begin, (begin, given)) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _begin(begin: Callable[..., None] | None, given: tuple[Any, ...]) -> None:
    end_with_starter()
    if begin is not None:
        begin(*given)


def begin_loader_worker(worker: int = 0) -> None:
    """What a worker of torch's loader begins with. Ctrl-C it leaves to torch, which would complain of its end."""
    one_thread()
    end_after_starter()


def end_with_starter() -> None:
    """Make Ctrl-C, and the end of the process that started this one, end this one at once and without a word.

    Ctrl-C reaches every process of a terminal, and who started this one says what there is to say. Compiled code would
    else run to its end first, and a traceback follow. Where it was ignored from the start, as under nohup, it still is.
    A process of ``SPAWN`` calls this first.
    """
    end_after_starter()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if _MASKS:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def end_after_starter() -> None:
    """End this process within moments of the one that started it, however that ended: a kill says nothing to it."""
    starter = parent_process()
    if starter is not None:  # joined by its pipe, which also tells when it was gone before
        end_after(starter.join, lambda: os._exit(1))


def end_after(wait: Callable[[], object], end: Callable[[], object]) -> None:
    """Call ``end`` once ``wait`` returns, in a thread that holds nobody up."""

    def watch() -> None:
        wait()
        end()

    threading.Thread(target=watch, name="watch", daemon=True).start()


def end_with_closed_input() -> None:
    """Send this process SIGTERM once its standard input is at its end: a pipe that its starter holds open."""

    def read() -> None:
        while os.read(0, 4096):  # sys.stdin would be locked when Python ends
            pass

    end_after(read, lambda: os.kill(os.getpid(), signal.SIGTERM))


def end_at_sigterm() -> None:
    """Make SIGTERM end this process at once, whatever it waits for; called where Python may not come to hear it."""
    if threading.current_thread() is threading.main_thread():  # no other one may say so
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def terminate_started() -> None:
    """Tell the processes that this one started, as `processes`, ``SPAWN`` and torch's loader do, to end."""
    for process in active_children():
        process.terminate()


def one_ahead(batches: Iterator[Any], make: Callable[[Any], Result]) -> Iterator[Result]:
    """``make`` of each batch, in its order and in a thread of its own, one ahead of who takes them."""

    def following() -> list[Result]:
        return [make(batch) for batch in islice(batches, 1)]

    with _threads(1) as pool:
        pending = pool.submit(following)
        while found := pending.result():
            pending = pool.submit(following)
            yield found[0]


def together(*calls: Callable[[], Result]) -> list[Result]:
    """The results of independent calls, beside each other where there is a core for each more than PyTorch uses.

    Raises:
        what the first of those calls raised that failed, after all have ended.
    """
    if not has_free_core():
        return [call() for call in calls]
    with _threads(len(calls)) as pool:
        return [pending.result() for pending in [pool.submit(call) for call in calls]]


def _threads(count: int) -> ThreadPoolExecutor:
    """Threads whose operators use as many cores as this one's: the order of sums may hang on their number."""
    import torch

    threads = torch.get_num_threads()
    return ThreadPoolExecutor(count, "beside", initializer=torch.set_num_threads, initargs=(threads,))
