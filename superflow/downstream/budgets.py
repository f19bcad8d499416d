"""Label budgets: which scans, and how many labelled points of each, a run of fine-tuning may see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from ..datasets.frame import IGNORE_LABEL
from ..errors import InputError
from .features import Scan, draw_points, read_scan
from .fractions import every_nth, percent_rows


@dataclass(frozen=True, slots=True)
class Budget:
    """How much may be labelled.

    scans: at most so many, None for all. points: labelled ones of a scan, None for all. percent: instead of ``scans``,
    k for that share of the training scans, by the rule of the set, see `fractions.percent_rows`; no seed changes them.
    """

    scans: int | None = None
    points: int | None = None
    percent: float | None = None

    def __post_init__(self) -> None:
        for name in ("scans", "points"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise InputError(
                    f"a budget's {name} is {value!r}; give a whole number above 0, or null for all"
                )

        if self.percent is not None:
            if self.scans is not None:
                raise InputError("a budget has both scans and a percentage; leave one out")
            if isinstance(self.percent, bool) or not isinstance(self.percent, int | float):
                raise InputError(
                    f"a budget's percent is {self.percent!r}; give a number above 0, at most 100"
                )
            every_nth((), self.percent)

    def record(self) -> dict[str, Any]:
        """The fields, for a hash: a budget without a percentage has that of before there were any."""
        return {key: value for key, value in asdict(self).items() if key != "percent" or value is not None}

    def rows(self, index: Any, rows: Sequence[int], *, seed: int) -> list[int]:
        """Those of the training frames ``rows`` that may be labelled, ascending.

        Raises:
            InputError: there are fewer frames than ``scans``.
        """
        if self.percent is not None:
            return percent_rows(index, rows, self.percent)[0]
        return choose_scans(index, rows, self.scans, seed=seed)

    def scaled(self, share: float) -> Budget:
        """The budget of a part of the places: its share of the scans, at least one."""
        return self if self.scans is None else replace(self, scans=max(1, round(share * self.scans)))


def choose_scans(index: Any, rows: Sequence[int], count: int | None, *, seed: int) -> list[int]:
    """``count`` of the frames ``rows``, ascending, spread over as many scenes as there are; the seed chooses.

    Raises:
        InputError: there are fewer frames than that.
    """
    rows = [int(row) for row in rows]
    if count is None or count == len(rows):
        return sorted(rows)
    if count > len(rows):
        raise InputError(f"a budget of {count} scans is more than the {len(rows)} training scans of the log")
    generator = np.random.default_rng([seed, 16])
    by_scene: dict[str, list[int]] = {}
    for row in generator.permutation(rows).tolist():
        by_scene.setdefault(index.scene(row), []).append(row)
    turns = [(turn, scene) for scene in by_scene for turn in range(len(by_scene[scene]))]
    turns.sort(key=lambda item: item[0])  # stable: scenes stay in their drawn order within a turn
    return sorted(by_scene[scene][turn] for turn, scene in turns[:count])


def labelled_scans(
    index: Any, rows: Sequence[int], budget: Budget, *, seed: int, most: int | None = None
) -> list[Scan]:
    """The scans of a budget, whole, with the labels that it allows; all other points have none.

    Args:
        most: read no more than these, drawn from the budget's, since all of them lie in memory.

    Raises:
        InputError: none of the scans has a labelled point, or there are fewer scans than the budget names.
    """
    scans = []
    chosen_rows = budget.rows(index, rows, seed=seed)
    if most is not None and most < len(chosen_rows):
        chosen_rows = choose_scans(index, chosen_rows, most, seed=seed)
    for row in chosen_rows:
        scan = read_scan(index, row)
        if budget.points is not None:
            candidates = (scan.labels != IGNORE_LABEL).nonzero()[:, 0]
            chosen = draw_points(scan.labels, candidates, budget.points, seed=(seed, row))
            labels = torch.full_like(scan.labels, IGNORE_LABEL)
            labels[chosen] = scan.labels[chosen]
            scan = replace(scan, labels=labels)
        scans.append(scan)
    if not any(bool((scan.labels != IGNORE_LABEL).any()) for scan in scans):
        raise InputError(f"{index.root}: none of the {len(scans)} scans of the budget has a labelled point")
    return scans
