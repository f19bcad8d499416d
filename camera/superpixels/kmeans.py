"""k-means on rows of features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def kmeans(
    rows: NDArray[np.float32], clusters: int, generator: np.random.Generator, *, iterations: int = 25
) -> NDArray[np.float32]:
    """(K, D) centres of ``rows`` (N, D), from k-means++ starts (Arthur and Vassilvitskii 2007).

    A centre that loses all its rows moves to the row farthest from its own centre.

    Raises:
        ValueError: fewer rows than clusters.
    """
    if len(rows) < clusters:
        raise ValueError(
            f"{len(rows)} rows cannot make {clusters} clusters; fit on more images or ask for fewer"
        )
    centres = _starts(rows, clusters, generator)
    previous = None
    for _ in range(iterations):
        nearest, distance = assign(rows, centres)
        if previous is not None and np.array_equal(nearest, previous):
            break
        previous = nearest
        count = np.bincount(nearest, minlength=clusters)
        order = np.argsort(nearest, kind="stable")
        bounds = np.concatenate([[0], np.cumsum(count)])
        # reduceat cannot sum an empty stretch, so only centres that have rows are summed
        filled = np.flatnonzero(count)
        centres = centres.copy()
        centres[filled] = np.add.reduceat(rows[order], bounds[filled], axis=0) / count[filled, None]
        empty = np.flatnonzero(count == 0)
        if len(empty):
            centres[empty] = rows[np.argsort(-distance, kind="stable")[: len(empty)]]
    return centres


def assign(
    rows: NDArray[np.float32], centres: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(N,) nearest centre and (N,) squared distance to it; in blocks, so that memory stays small."""
    nearest = np.empty(len(rows), np.int64)
    distance = np.empty(len(rows), np.float32)
    length = (centres * centres).sum(axis=1)
    for start in range(0, len(rows), 16384):
        block = rows[start : start + 16384]
        squared = length - 2 * block @ centres.T
        chosen = squared.argmin(axis=1)
        nearest[start : start + len(block)] = chosen
        own = np.take_along_axis(squared, chosen[:, None], axis=1)[:, 0] + (block * block).sum(axis=1)
        distance[start : start + len(block)] = np.maximum(own, 0)
    return nearest, distance


def _starts(rows: NDArray[np.float32], clusters: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """Rows drawn one after the other with probability proportional to the squared distance to those drawn."""
    chosen = [int(generator.integers(len(rows)))]
    distance = np.full(len(rows), np.inf)
    for _ in range(clusters - 1):
        distance = np.minimum(distance, ((rows - rows[chosen[-1]]) ** 2).sum(axis=1))
        total = distance.sum()
        if total > 0:
            chosen.append(int(generator.choice(len(rows), p=distance / total)))
        else:  # fewer different rows than clusters
            chosen.append(int(generator.integers(len(rows))))
    return rows[chosen]
