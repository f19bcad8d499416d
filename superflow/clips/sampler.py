"""Which item is drawn when, from the run's seed and the draw's number alone.

Nothing is remembered between draws, so a run resumes at any iteration without running through its data again, and
R ranks with batches of B see together what one process with batches of R * B sees.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Sampler

Key = tuple[int, int]  # item, seed of everything random in it

# different uses of one seed must not share random numbers
_ORDER, _ITEM, _STEP = 0, 1, 2


def draw_seed(seed: int, draw: int) -> int:
    """Seed in [0, 2^63) for what is random in one drawn item."""
    return _number(seed, _ITEM, draw)


def step_seed(seed: int, iteration: int, rank: int) -> int:
    """Seed in [0, 2^63) of torch, NumPy and Python during one iteration of one rank."""
    return _number(seed, _STEP, iteration, rank)


def seed_step(seed: int, iteration: int, rank: int) -> None:
    """Seed torch (all devices), NumPy and Python for one iteration.

    So no random state needs to be stored to resume exactly, and what happens between iterations (evaluation, logging)
    cannot shift what follows.
    """
    value = step_seed(seed, iteration, rank)
    torch.manual_seed(value)
    np.random.seed(value % 2**32)
    random.seed(value)


def drawn_item(seed: int, draw: int, items: int) -> int:
    """Item of one draw: every ``items`` draws are a permutation of all items, each epoch another one."""
    epoch, place = divmod(draw, items)
    return int(_order(seed, epoch, items)[place])


class DrawBatches(Sampler[list[Key]]):
    """Batches of (item, seed) for one rank, from iteration ``start`` up to ``stop``.

    Iteration i of R ranks uses the draws from i * B * R; rank r takes every R-th of them from the r-th on.

    Args:
        items: length of the dataset.
        batch_size: B, items per rank and iteration.
        seed: the run's seed.
        rank, world_size: r and R.
        stop: iterations of the whole run.
    """

    def __init__(
        self, items: int, *, batch_size: int, seed: int, rank: int = 0, world_size: int = 1, stop: int
    ) -> None:
        if items < 1 or batch_size < 1:
            raise ValueError(f"{items} items in batches of {batch_size}; both must be at least 1")
        self.items, self.batch_size, self.seed = items, batch_size, seed
        self.rank, self.world_size = rank, world_size
        self.start, self.stop = 0, stop

    def __len__(self) -> int:
        return self.stop

    def __iter__(self) -> Iterator[list[Key]]:
        for iteration in range(self.start, self.stop):
            yield self.batch(iteration)

    def batch(self, iteration: int) -> list[Key]:
        """Keys of one iteration."""
        first = iteration * self.batch_size * self.world_size + self.rank
        draws = range(first, first + self.batch_size * self.world_size, self.world_size)
        return [(drawn_item(self.seed, draw, self.items), draw_seed(self.seed, draw)) for draw in draws]


class EveryItem(Sampler[int]):
    """Every item once, in order; rank r of R takes every R-th. No item is repeated to make ranks equal."""

    def __init__(self, items: int, *, rank: int = 0, world_size: int = 1) -> None:
        self.range = range(rank, items, world_size)

    def __len__(self) -> int:
        return len(self.range)

    def __iter__(self) -> Iterator[int]:
        return iter(self.range)


def _number(*entropy: int) -> int:
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(1))


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, items: int) -> NDArray[np.int64]:
    # NumPy promises this sequence for all versions, but not the one behind Generator.permutation
    return (
        np.random.SeedSequence((seed, _ORDER, epoch)).generate_state(items, np.uint64).argsort(kind="stable")
    )
