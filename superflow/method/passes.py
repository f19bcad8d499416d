"""Which clouds share a pass through the student, and so their batch statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..clips.batch import Batch
from ..errors import InputError
from ..lidar.minkunet import Statistics, use_statistics

RULES: dict[str, Statistics] = {"shared": "update", "own": "batch", "running": "running"}
KINDS = ("dense", "neighbours")


@dataclass(frozen=True, slots=True)
class PointFeatures:
    """Student features of a batch: ``features`` (V, C), one row a voxel; ``inverse`` (N,) int64 row of each point."""

    features: Tensor
    inverse: Tensor


def check_rules(*, dense: str = "shared", neighbours: str = "shared") -> dict[str, str]:
    """The rule of each kind of cloud.

    Raises:
        InputError: an unknown rule.
    """
    found = {"dense": dense, "neighbours": neighbours}
    for kind, rule in found.items():
        if rule not in RULES:
            raise InputError(f"batch_norm.{kind} is {rule!r}; use one of {', '.join(RULES)}")
    return found


def encode_clouds(student: Any, batch: Batch, rules: Mapping[str, str]) -> Any:
    """Features of all clouds of a batch, each kind normalised as its rule says.

    Clouds of time 0 and every kind that is ``shared`` go through the student in one pass, and batch norm follows them.
    A kind with its ``own`` statistics gets a pass of its own, normalised by that pass alone, which leaves no trace in
    the running statistics; ``running`` normalises by these, as in evaluation.

    Args:
        rules: ``dense`` and ``neighbours`` to ``shared``, ``own`` or ``running``; see `check_rules`. A dense cloud
            is dense at whatever time.

    Returns:
        ``features`` (V, C) and ``inverse`` (N,), as of one pass.
    """
    kind = torch.where(batch.cloud_dense, 1, torch.where(batch.cloud_offset != 0, 2, 0))
    apart = [place for place, name in enumerate(KINDS, start=1) if rules[name] != "shared"]
    if not apart and batch.ahead is not None:
        return student.finish(batch.ahead.clouds)
    if not apart:
        return student(batch.points, batch.cloud, batch.num_clouds, batch.age)
    shared = ~torch.isin(kind, torch.tensor(apart, device=kind.device))
    passes = [(shared, "shared"), *((kind == place, rules[KINDS[place - 1]]) for place in apart)]
    inverse = batch.cloud.new_empty(len(batch.points))
    features: list[Tensor] = []
    rows = 0
    for clouds, rule in passes:
        points, number = clouds[batch.cloud], clouds.cumsum(0) - 1
        age = None if batch.age is None else batch.age[points]
        with use_statistics(student, RULES[rule]):
            found = student(batch.points[points], number[batch.cloud[points]], int(clouds.sum()), age)
        inverse[points] = found.inverse + rows
        features.append(found.features)
        rows += len(found.features)
    return PointFeatures(torch.cat(features), inverse)
