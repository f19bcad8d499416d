"""Runs the units of a benchmark: a process each, one thread, one seed of all before the next."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Protocol

from ..engine.launchers import refuse_several
from ..errors import InputError


class Unit(Protocol):
    """What one process does, one figure after the other."""

    @property
    def seed(self) -> int:
        """Units of the first seed run before those of the next."""

    def name(self) -> str:
        """For people."""

    def run(self) -> list[str]:
        """Take all figures; what failed, in words."""


def run_units(units: Sequence[Unit], *, jobs: int) -> Iterator[str]:
    """Names of what is done, as it finishes: ``jobs`` processes at a time.

    Raises:
        InputError: this is one of several processes that were started for the same; at the end, when every other figure
            is there, naming the first that failed and why.
    """
    refuse_several(os.environ)
    os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="passive")
    context = multiprocessing.get_context("spawn")
    failed: list[str] = []
    for seed in dict.fromkeys(unit.seed for unit in units):
        with ProcessPoolExecutor(jobs, mp_context=context, max_tasks_per_child=1) as pool:
            names = {pool.submit(_run_alone, unit): unit.name() for unit in units if unit.seed == seed}
            for future in as_completed(names):
                error = future.exception()
                failed += [f"{names[future]}: {error}"] if error is not None else future.result()
                yield names[future]
    if failed:
        raise InputError(f"{len(failed)} figures failed, the first one {failed[0]}")


def _run_alone(unit: Unit) -> list[str]:
    import torch

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(1)
    return unit.run()
