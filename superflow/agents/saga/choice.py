"""Which of many tests to take first: those that tell programs which the tests before them told least."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def in_order(tells: NDArray[np.bool_], count: int) -> list[int]:
    """Indices of ``count`` tests, the best first, or of all where there are fewer.

    Of tests that tell the same programs the first is taken, the others come at the end. A test is worth the sum over
    the programs that it tells from the reference, each halved for every chosen test that tells it already; of equally
    good ones the first is taken. So no program is left out, and each is told in many ways: a wrong program that is like
    it, and not the same, is found more likely.

    Args:
        tells: (T, W), whether test t tells program w.
    """
    first = list({row.tobytes(): i for i, row in reversed(list(enumerate(tells)))}.values())[::-1]
    worth, left, order = np.ones(tells.shape[1]), np.zeros(len(tells), bool), list[int]()
    left[first] = True
    for _ in range(min(count, len(first))):
        best = int(np.argmax(np.where(left, tells @ worth, -1.0)))
        order.append(best)
        left[best] = False
        worth[tells[best]] /= 2
    chosen = set(order)
    return [*order, *(i for i in range(len(tells)) if i not in chosen)][:count]
