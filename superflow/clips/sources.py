"""Which scan a point came from, for who has to be told that it cannot be used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..errors import InputError, OutOfReachError
from .batch import Batch, Source

USUAL_M = 1000.0  # no scanner of vehicles reaches farther


def source_of(index: Any, row: int, *, seen_at: int | None = None) -> Source:
    """The scan ``row`` of a ``LogIndex``, as a part of the cloud of scan ``seen_at`` (its own when None)."""
    age_us = 0 if seen_at is None else int(index.time_us[seen_at]) - int(index.time_us[row])
    return Source(index.tokens([row])[0], str(index.point_path(row)), age_us * 1e-6)


@contextmanager
def named(
    points: ArrayLike | Tensor, *sources: Source, age: ArrayLike | Tensor | None = None
) -> Iterator[None]:
    """Within the block, points that no voxel can hold are an ``InputError`` with the scan that they are of.

    Args:
        points: (N, 3+) of one cloud. sources: the scans that it is made of; without any, errors pass as they are.
        age: (N,) seconds from a point's scan to the cloud's time, which tell the scans apart.
    """
    try:
        yield
    except OutOfReachError as error:
        if not sources:
            raise
        row, distance = _farthest(torch.as_tensor(points))
        raise InputError(_sentence(_part(sources, age, row), distance)) from error


@contextmanager
def named_in(batch: Batch) -> Iterator[None]:
    """`named` for a batch, whose ``sources`` are of each of its clouds."""
    try:
        yield
    except OutOfReachError as error:
        row, distance = _farthest(batch.points)
        if len(batch.sources) != batch.num_clouds:
            raise
        sources = batch.sources[int(batch.cloud[row])]
        raise InputError(_sentence(_part(sources, batch.age, row), distance)) from error


def _farthest(points: Tensor) -> tuple[int, float]:
    """Row of the point farthest from its sensor, and how far that is [m]; one that is no number is the farthest."""
    distance = torch.linalg.vector_norm(points[:, :3].double(), dim=1).nan_to_num(nan=torch.inf)
    row = int(distance.argmax())
    return row, float(distance[row])


def _part(sources: Sequence[Source], age: ArrayLike | Tensor | None, row: int) -> Source:
    age_s = 0.0 if age is None else float(torch.as_tensor(age)[row])
    return min(sources, key=lambda source: abs(source.age_s - age_s))


def _sentence(source: Source, distance: float) -> str:
    remedy = (
        "remove such points with their labels (superflow prepare DATASET --check finds them), or leave them out with "
        "limits of the training set and of the model, such as dict(range_m=(0, 100), height_m=(-30, 30))"
        if distance > USUAL_M
        else "the voxels are too small for that: take larger ones (size_m, cell_m)"
    )
    where = f"{source.file}: scan {source.token} has a point about {distance:.3g} m away"
    return f"{where}, which no voxel can hold; {remedy}"
