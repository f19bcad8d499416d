"""Which recipe of fine-tuning a backbone gets: all of a grid are judged, or one field after the other."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from ...errors import InputError

Judge = Callable[[Any], float]  # of a recipe; higher is better


def by_grid(default: Any, grid: Mapping[str, Sequence[Any]], judge: Judge) -> Any:
    """The best of all combinations, the first of equals; their number is the product of the numbers of values."""
    return max(grid_recipes(default, grid), key=judge)


def in_turn(default: Any, grid: Mapping[str, Sequence[Any]], judge: Judge) -> Any:
    """Each field in the grid's order takes its best value, beside the best of the fields before and what stands after.

    The first of equals stays. Trials are about as many as there are values; what only two fields together would gain
    is not found.
    """
    best = default
    for name, values in grid.items():
        best = max(grid_recipes(best, {name: values}), key=judge)
    return best


SEARCHES: dict[str, Callable[[Any, Mapping[str, Sequence[Any]], Judge], Any]] = {
    "grid": by_grid,
    "in turn": in_turn,
}


def grid_recipes(default: Any, grid: Mapping[str, Sequence[Any]]) -> list[Any]:
    """Every combination of the values of a grid, laid over a recipe.

    Raises:
        InputError: a field that no recipe has, or one without values.
    """
    if unknown := [name for name in grid if name not in asdict(default)]:
        raise InputError(
            f"grid: {unknown[0]!r} is no field of a recipe; they are {', '.join(asdict(default))}"
        )
    if empty := [name for name, values in grid.items() if not values]:
        raise InputError(f"grid: {empty[0]!r} has no values; give some, or leave it out")
    return [replace(default, **dict(zip(grid, values))) for values in itertools.product(*grid.values())]
