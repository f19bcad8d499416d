"""How good answers are, where the sensor can tell and where it cannot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .bootcamp import Identity
from .registry import family_of

RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Report:
    """Figures of one family, or of all; None where no case serves.

    Attributes:
        cases, scenes: how many; scenes are drives, not scans. accuracy: over all cases. interval: 95 %, by bootstrap
            over scenes; None of a single one, which tells nothing of others.
        told: accuracy where the sensor can tell. abstained: share of the cases where it cannot that were answered so.
        doubted: share of the cases where it can that were answered with "cannot tell". unread: answers that are none.
    """

    cases: int
    scenes: int
    accuracy: float
    interval: tuple[float, float] | None
    told: float | None
    abstained: float | None
    doubted: float | None
    unread: float


def report(answered: Iterable[tuple[Identity, str]], *, seed: int = 0) -> dict[str, Report]:
    """Figures by family, and of all under "all", of cases with a model's outputs; nothing for no cases."""
    groups: dict[str, list[tuple[Identity, str]]] = {}
    for identity, output in answered:
        for name in (identity["family"], "all"):
            groups.setdefault(name, []).append((identity, output))
    return {name: _report(group, seed) for name, group in sorted(groups.items())}


def _report(group: list[tuple[Identity, str]], seed: int) -> Report:
    scores = [family_of(case).check(output, case) for case, output in group]
    right = np.array([score.value for score in scores])
    silent = np.array([case["gold"] is None for case, _ in group])
    doubts = np.array([float(_is_doubt(case, output)) for case, output in group])
    scenes = [str(case.get("drive", case["scene"])) for case, _ in group]  # cases of before do not name it
    return Report(
        cases=len(group),
        scenes=len(set(scenes)),
        accuracy=float(right.mean()),
        interval=interval(right, scenes, seed=seed),
        told=_mean(right[~silent]),
        abstained=_mean(right[silent]),
        doubted=_mean(doubts[~silent]),
        unread=float(np.mean([score.reason not in ("right", "wrong") for score in scores])),
    )


def interval(
    values: NDArray[np.floating], scenes: Sequence[str], *, seed: int = 0
) -> tuple[float, float] | None:
    """95 % of the mean of values (N,), by bootstrap over their scenes: values of one scene are drawn together.

    None of a single scene: there is no other to draw.
    """
    names, row_of = np.unique(list(scenes), return_inverse=True)
    if len(names) < 2:
        return None
    sums, counts = np.bincount(row_of, values), np.bincount(row_of)
    drawn = np.random.default_rng(seed).integers(len(names), size=(RESAMPLES, len(names)))
    low, high = np.quantile(sums[drawn].sum(1) / counts[drawn].sum(1), [0.025, 0.975])
    return float(low), float(high)


def _is_doubt(case: Identity, output: str) -> bool:
    """Whether an output is "cannot tell": it would be right if that were gold."""
    return family_of(case).check(output, {**case, "gold": None}).reason == "right"


def _mean(values: NDArray[np.floating]) -> float | None:
    return float(values.mean()) if len(values) else None
