"""Work beside other work: the order, the bits and the errors of work that is done alone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from superflow import together as module
from superflow.errors import InputError
from superflow.together import one_ahead, one_thread, together

needs_proc = pytest.mark.skipif(
    not Path("/proc").is_dir(), reason="looks for processes where Linux lists them"
)


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
import os, sys, time
from pathlib import Path
from superflow.tools.command import run_command
from superflow.together import processes
if __name__ != "__main__":
    Path(sys.argv[1]).write_text(str(os.getpid()))
    time.sleep(0.5)
def work(path):
    Path(path).write_text(str(os.getpid()))
    time.sleep(60)
def command():
    with processes(1) as pool:
        list(pool.map(work, sys.argv[2:]))
    return 0
if __name__ == "__main__":
    sys.exit(run_command("it", command, stopped="stopped"))
"""


@contextmanager
def at_work(tmp_path: Path, moment: int) -> Iterator[tuple[subprocess.Popen[str], list[Path]]]:
    """A command whose only process imports (moment 0) or is at work (1), and the files of what has begun."""
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
        until(lambda: begun[moment].exists() or child.poll() is not None)
        yield child, begun
    finally:
        child.kill()


def until(true: Callable[[], object], seconds: float = 50.0) -> None:
    """Wait until it is so; by default not as long as the work would take."""
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.02)


def is_gone(pid: Path) -> bool:
    """Whether the process whose number stands in a file has ended; init may be long about a dead one."""
    number = pid.read_text()
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


@pytest.mark.parametrize("moment", [0, 1], ids=["while they import", "at work"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_processes_at_once_and_what_waits_never_begins(
    tmp_path: Path, moment: int, number: int, code: int
) -> None:
    with at_work(tmp_path, moment) as (child, begun):
        if number == signal.SIGINT:
            os.killpg(child.pid, number)  # as Ctrl-C does
        else:
            child.send_signal(number)
        out, err = child.communicate(timeout=50)
    assert (out, err, child.returncode) == ("", "it: stopped\n", code)
    assert [path.exists() for path in begun] == [True, moment == 1, False, False, False]
    assert is_gone(begun[0])


@needs_proc
@pytest.mark.parametrize("moment", [0, 1], ids=["while they import", "at work"])
def test_processes_end_with_the_one_that_started_them_when_it_is_killed(tmp_path: Path, moment: int) -> None:
    with at_work(tmp_path, moment) as (child, begun):
        child.kill()
        until(lambda: is_gone(begun[0]), 20)


LOADS = """
import os, sys, time
from pathlib import Path
from superflow.engine.loader import build_loader
from superflow.tools.command import run_command
class Slow:
    def __len__(self):
        return 1
    def __getitem__(self, _):
        Path(sys.argv[1]).write_text(str(os.getpid()))
        time.sleep(60)
def command():
    next(iter(build_loader(dict(num_workers=1, dataset=Slow()), seed=0, purpose="test")))
sys.exit(run_command("it", command, stopped="stopped"))
"""


@needs_proc
@pytest.mark.parametrize(
    ("number", "said", "code"), [(signal.SIGTERM, "it: stopped\n", 143), (signal.SIGKILL, "", -9)]
)
def test_workers_of_a_loader_end_with_their_training(
    tmp_path: Path, number: int, said: str, code: int
) -> None:
    pid = tmp_path / "pid"
    child = subprocess.Popen([sys.executable, "-c", LOADS, str(pid)], stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: pid.exists() and pid.read_text())
        child.send_signal(number)
        _, err = child.communicate(timeout=50)
    finally:
        child.kill()
    assert (err, child.returncode) == (said, code)
    until(lambda: is_gone(pid), 20)


HOLDS = """
import sys
from superflow.agents.serving.keeper import keep
keep({"one": [sys.executable, "-c", sys.argv[1], sys.argv[2]]}, print)
"""
HELD = """
import os, sys, time
from pathlib import Path
from superflow.together import end_with_closed_input
assert sys.argv[2] == "--until-stdin-closes"
end_with_closed_input()
Path(sys.argv[1]).write_text(str(os.getpid()))
time.sleep(60)
"""


@needs_proc
def test_servers_end_with_the_command_that_keeps_them_when_it_is_killed(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    child = subprocess.Popen([sys.executable, "-c", HOLDS, HELD, str(pid)])
    try:
        until(lambda: pid.exists() and pid.read_text())
        assert not is_gone(pid)
    finally:
        child.kill()
    until(lambda: is_gone(pid), 20)
