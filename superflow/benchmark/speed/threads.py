"""What further threads of one process gain: a training step of a network by one thread, and by several."""

from __future__ import annotations

import os
from contextlib import nullcontext

import torch

from .network import made_network, network_step, usable_backends
from .options import Options, Table
from .turns import Turns, Work, busy_cores, in_turn

MOST = 8  # threads, where none are asked for


def measure(options: Options) -> list[Table]:
    """A table a number of voxels, and one more for each beside busy cores; by the clock on the wall."""
    several = options.threads if options.threads > 1 else max(2, min(os.cpu_count() or 2, MOST))
    tables = []
    for count in options.voxels:
        for beside in ("", ", one busy process a core beside it") if options.loaded else ("",):
            with busy_cores() if beside else nullcontext():
                turns = _in_turn(options, count, (1, several))
            work = f"MinkUNet-{options.depth or 18}, {count} voxels, a training step"
            title = f"{work} by 1 and {several} threads{beside}"
            tables.append(_table(title, turns, several))
    return tables


def _in_turn(options: Options, count: int, threads: tuple[int, int]) -> Turns:
    net, voxels = made_network(options, count)
    features = torch.randn(len(voxels), net.in_channels, generator=torch.Generator().manual_seed(0))

    def step(backend: str, number: int) -> Work:
        def work() -> None:
            torch.set_num_threads(number)
            network_step(net, backend, voxels, features)

        return work

    before = torch.get_num_threads()
    try:
        works = {f"{name}, {number}": step(name, number) for name in usable_backends() for number in threads}
        return in_turn(works, rounds=options.rounds, clock="wall")
    finally:
        torch.set_num_threads(before)


def _table(title: str, turns: Turns, several: int) -> Table:
    rows = []
    first, *others = usable_backends()
    for name in (first, *others):
        rows.append(
            [
                name,
                f"{turns.median(f'{name}, 1'):.3f}",
                f"{turns.median(f'{name}, {several}'):.3f}",
                turns.compared(f"{name}, 1", f"{name}, {several}"),
                turns.compared(f"{first}, {several}", f"{name}, {several}"),
            ]
        )
    columns = (
        "back end",
        "1 thread s",
        f"{several} threads s",
        "times as fast",
        f"{first} / it, {several} threads",
    )
    return Table(title, columns, rows, [turns.conditions()], turns.record())
