"""What a row of tests is worth against wrong programs, after TCGBench (arXiv 2507.06920).

``fails`` (T, W) bool: whether test t finds wrong program w. Tests are in the order in which a budget k takes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Fails = NDArray[np.bool_]


def detection_rate(fails: Fails, k: int) -> float:
    """DR@k: the share of wrong programs that one of the first k tests finds; nan without programs."""
    return float(fails[:k].any(axis=0).mean()) if fails.shape[1] else float("nan")


def error_patterns(fails: Fails, k: int) -> int:
    """DEPC: how many different sets of programs the first k tests find, each test one; finding nothing is none."""
    return len({row.tobytes() for row in np.ascontiguousarray(fails[:k]) if row.any()})


def area_under_curve(values: Sequence[float]) -> float:
    """AUC@N: the mean height under straight lines between the values at k = 1 to N."""
    if len(values) == 1:
        return values[0]
    return sum((a + b) / 2 for a, b in pairwise(values)) / (len(values) - 1)
