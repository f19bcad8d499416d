"""Runs the units of a benchmark: a process each, one thread, one seed of all before the next."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import methodcaller
from typing import Protocol

from ..errors import InputError
from ..method.launch import refuse_several
from .shards import Item, Result, run_shards

log = logging.getLogger(__name__)


class Unit(Protocol):
    """What one process does, one figure after the other."""

    @property
    def seed(self) -> int:
        """Units of the first seed run before those of the next."""

    def name(self) -> str:
        """For people."""

    def run(self) -> list[str]:
        """Take all figures; what failed, in words."""


class FiguresFailed(InputError):
    """Some figures could not be made; all others are there. failed: each in words."""

    def __init__(self, failed: Sequence[str]) -> None:
        self.failed = tuple(failed)
        super().__init__(f"{len(failed)} figures failed, the first one {failed[0]}")


def run_units(units: Sequence[Unit], *, jobs: int, ray: str | None = None) -> Iterator[str]:
    """Names of what is done, as it finishes: ``jobs`` processes at a time.

    Args:
        ray: address of a cluster instead of the processes, see `shards.run_shards`.

    Raises:
        InputError: this is one of several processes that were started for the same.
        FiguresFailed: at the end, when every other figure is there, naming the first that failed and why.
    """
    refuse_several(os.environ)
    failed: list[str] = []
    for seed in dict.fromkeys(unit.seed for unit in units):
        own = [unit for unit in units if unit.seed == seed]
        for unit, found in run_shards(methodcaller("run"), own, jobs=jobs, ray=ray):
            failed += found if isinstance(found, list) else [f"{unit.name()}: {found}"]
            yield unit.name()
    if failed:
        raise FiguresFailed(failed)


def prepare_pieces(
    work: Callable[[Item], Result], pieces: Mapping[str, Item], *, jobs: int, ray: str | None = None
) -> tuple[dict[str, Result], list[str]]:
    """Name -> what was prepared, in the order of ``pieces``; and what failed, in words. As in ``run_units``.

    Args:
        work: makes what is not there yet of a piece; a function of a module.
    """
    refuse_several(os.environ)
    name_of = {id(piece): name for name, piece in pieces.items()}
    made: dict[str, Result] = {}
    failed: list[str] = []
    for piece, found in run_shards(work, list(pieces.values()), jobs=jobs, ray=ray):
        name = name_of[id(piece)]
        if isinstance(found, BaseException):
            failed.append(f"{name}: {found}")
            log.error("failed: %s", failed[-1])
        else:
            made[name] = found
            log.info("%d of %d: %s is prepared", len(made), len(pieces), name)
    return {name: made[name] for name in pieces if name in made}, failed
