"""Work beside other work: the order, the bits and the errors of work that is done alone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch

from superflow import together as module
from superflow.errors import InputError
from superflow.together import one_ahead, one_thread, together


def test_batches_keep_their_order_and_no_more_than_one_is_ahead():
    drawn: list[int] = []
    makers: set[int] = set()

    def batches() -> Iterator[int]:
        for number in range(5):
            drawn.append(number)
            yield number

    def make(batch: int) -> int:
        makers.add(threading.get_ident())
        return batch * 10

    taken = []
    for batch in one_ahead(batches(), make):
        taken.append(batch)
        assert len(drawn) <= len(taken) + 1
    assert taken == [0, 10, 20, 30, 40]
    assert makers.isdisjoint({threading.get_ident()})


def test_an_error_comes_at_its_batch_and_no_thread_is_left():
    def make(batch: int) -> int:
        if batch == 2:
            raise InputError("bad batch")
        return batch

    made = one_ahead(iter(range(5)), make)
    assert [next(made), next(made)] == [0, 1]
    with pytest.raises(InputError, match="bad batch"):
        next(made)
    left = one_ahead(iter(range(5)), make)
    assert next(left) == 0
    left.close()  # a run that stops early
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("beside")]


@pytest.mark.parametrize("cores", [1, 64])
def test_calls_together_give_their_results_in_order(monkeypatch, cores):
    monkeypatch.setattr(module, "usable_cores", lambda: cores)
    apart = threading.Barrier(2)

    def call(number: int) -> tuple[int, int, int]:
        if cores > 1:
            apart.wait(10)  # both are at work at a time
        return number, torch.get_num_threads(), threading.get_ident()

    found = together(lambda: call(0), lambda: call(1))
    assert [number for number, _, _ in found] == [0, 1]
    assert {threads for _, threads, _ in found} == {torch.get_num_threads()}
    assert (threading.get_ident() in {own for _, _, own in found}) == (cores == 1)


@pytest.mark.parametrize("cores", [1, 64])
def test_of_calls_that_fail_the_first_one_says_why(monkeypatch, cores):
    monkeypatch.setattr(module, "usable_cores", lambda: cores)

    def fail(sentence: str) -> None:
        raise InputError(sentence)

    with pytest.raises(InputError, match="one"):
        together(lambda: None, lambda: fail("one"), lambda: fail("other"))


def threads_of_a_worker() -> list[int]:
    """What each library computes with in a process that began with more."""
    import cv2
    import numba

    torch.set_num_threads(2)
    cv2.setNumThreads(2)
    one_thread()
    return [torch.get_num_threads(), cv2.getNumThreads(), numba.get_num_threads()]


def test_a_worker_computes_with_one_thread_in_every_library():
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(threads_of_a_worker).result() == [1, 1, 1]


AT_WORK = """
import sys, time
from pathlib import Path
from superflow.together import processes
if __name__ != "__main__":
    Path(sys.argv[1]).touch()
    time.sleep(0.5)
def work(path):
    Path(path).touch()
    time.sleep(60)
if __name__ == "__main__":
    try:
        with processes(1) as pool:
            list(pool.map(work, sys.argv[2:]))
    except KeyboardInterrupt:
        print("stopped")
"""


@pytest.mark.parametrize("moment", [0, 1], ids=["while they import", "at work"])
def test_ctrl_c_ends_processes_at_once_and_what_waits_never_begins(tmp_path: Path, moment: int) -> None:
    (tmp_path / "at_work.py").write_text(AT_WORK)
    begun = [tmp_path / f"begun_{number}" for number in range(5)]
    child = subprocess.Popen(
        [sys.executable, str(tmp_path / "at_work.py"), *map(str, begun)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a group of its own, as the processes of a terminal are
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        while not begun[moment].exists() and child.poll() is None:
            time.sleep(0.02)
        os.killpg(child.pid, signal.SIGINT)
        out, err = child.communicate(timeout=50)  # before the work would have ended
    finally:
        child.kill()
    assert (out, err) == ("stopped\n", "")
    assert [path.exists() for path in begun] == [True, moment == 1, False, False, False]
