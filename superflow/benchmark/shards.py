"""Independent pieces of a benchmark: on this machine, each in a process of its own, or on a Ray cluster."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from threading import Lock
from typing import Any, TypeVar

from ..errors import InputError, first_line, require
from ..together import SPAWN, processes, usable_cores

Item = TypeVar("Item")
Result = TypeVar("Result")

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}  # spinning workers would stall each other


def run_shards(
    work: Callable[[Item], Result], items: Sequence[Item], *, jobs: int, ray: str | None = None
) -> Iterator[tuple[Item, Result | BaseException]]:
    """Each of ``items`` with its result, or with what stopped it, as they finish; one failure leaves the others alone.

    Args:
        work: a function of a module, which the processes import; each begins with log lines with the time and one
            thread. Convolutions have the bits of one thread for any number, and take the cores that no other uses.
        jobs: processes at a time of this machine.
        ray: address of a cluster that takes the place of these processes, one core for each item; "local" starts one of
            ``jobs`` cores on this machine. All of its machines must see the paths that ``items`` name.

    Raises:
        InputError: Ray is not installed, or no cluster answers.
    """
    if ray is not None:
        yield from _on_ray(work, items, ray, jobs)
        return
    os.environ.update(ONE_THREAD)
    running = _Running()
    with ThreadPoolExecutor(jobs) as pool:  # its threads wait for the processes
        started = {pool.submit(_in_own_process, work, item, running): item for item in items}
        try:
            for future in as_completed(started):
                yield started[future], future.exception() or future.result()
        except BaseException:  # Ctrl-C: what has not begun shall not begin
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class _Running:
    """How many processes are at work: counted here, read by all of them."""

    def __init__(self) -> None:
        # without a lock of its own, which a process that the system kills would never give back
        self.shared: Any = SPAWN.Value("i", 0, lock=False)
        self._lock = Lock()

    @contextmanager
    def one_more(self) -> Iterator[None]:
        self._add(1)
        try:
            yield
        finally:
            self._add(-1)

    def _add(self, number: int) -> None:
        with self._lock:
            self.shared.value += number


_running: Any = None  # in one of these processes


def _keep_running(running: Any) -> None:
    global _running
    _running = running


def own_cores() -> int:
    """How many cores a process of `run_shards` may use while so many are at work beside it, at most 4; elsewhere 1."""
    return 1 if _running is None else max(1, min(usable_cores() // max(_running.value, 1), 4))


def _begin(work: Callable[[Item], Result], item: Item) -> Result:
    """What a process of its own does."""
    import torch

    from ..lidar.backends import block_threads

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(1)
    block_threads.use(own_cores)
    return work(item)


def _in_own_process(work: Callable[[Item], Result], item: Item, running: _Running) -> Result:
    # a pool for each: a process that the system kills would take the others of its pool with it
    with running.one_more(), processes(1, _keep_running, (running.shared,)) as pool:
        try:
            return pool.submit(_begin, work, item).result()
        except BrokenProcessPool as error:
            raise InputError(
                "its process was killed, maybe for lack of memory; run the same command again, with fewer --jobs"
            ) from error


def _on_ray(
    work: Callable[[Item], Result], items: Sequence[Item], address: str, jobs: int
) -> Iterator[tuple[Item, Result | BaseException]]:
    try:
        ray: Any = require("ray", "ray")
    except ImportError as error:
        raise InputError(f"--ray {address}: {error}") from error
    cores = {"num_cpus": jobs, "include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address=address, runtime_env={"env_vars": ONE_THREAD}, log_to_driver=False, **cores)
    except Exception as error:  # of a node that does not start in time Ray raises a bare one
        raise InputError(
            f"--ray {address}: no cluster answers there ({first_line(error)}); start one with "
            "`ray start --head`, or give local"
        ) from error
    try:

        def shard(item: Item) -> Result:  # Ray takes no callable but a function
            return _begin(work, item)

        remote = ray.remote(num_cpus=1, max_calls=1, max_retries=0)(shard)
        waiting = {remote.remote(item): item for item in items}
        while waiting:
            (done, *_), _ = ray.wait(list(waiting), num_returns=1)
            item = waiting.pop(done)
            try:
                yield item, ray.get(done)
            except ray.exceptions.RayTaskError as error:
                yield item, error.cause or error
            except ray.exceptions.RayError as error:
                yield item, error
    finally:
        ray.shutdown()
