"""Superpoints: means of point features over regions, for all clouds of a batch at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..clips.batch import Batch
from ..errors import InputError
from .regions import SCOPES, RegionTable

WEIGHTINGS = ("pair", "point", "voxel")


def region_options(
    *,
    scope: str = "clip",
    ignore: Sequence[int] = (),
    weighting: str = "pair",
    range_power: float = 0.0,
    min_points: int = 1,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of a region as those of `regions.region_table` and those of `members_of`.

    Raises:
        InputError: an unknown scope or weighting.
    """
    for name, value, known in (("scope", scope, SCOPES), ("weighting", weighting, WEIGHTINGS)):
        if value not in known:
            raise InputError(f"region {name} {value!r} is unknown; use one of {', '.join(known)}")
    pooling = {"weighting": weighting, "range_power": range_power, "min_points": min_points}
    return {"scope": scope, "ignore": tuple(ignore)}, pooling


def segment_mean(values: Tensor, index: Tensor, num_segments: int) -> tuple[Tensor, Tensor]:
    """Mean of ``values`` (N, C) over equal ``index`` (N,) int64, and the counts.

    Returns:
        means (num_segments, C) float32, 0 where empty; counts (num_segments,) float32. Sums run in float32, because
        float16 sums over thousands of points are off in the first digit.
    """
    total = values.new_zeros(num_segments, values.shape[1], dtype=torch.float32)
    total = total.index_add(0, index, values.float())
    count = torch.bincount(index, minlength=num_segments).to(torch.float32)
    return total / count.clamp(min=1)[:, None], count


def pool_points(
    features: Tensor, inverse: Tensor, batch: Batch, table: RegionTable, **pooling: Any
) -> tuple[Tensor, Tensor]:
    """Superpoint features of every group of clouds.

    Args:
        features: (V, C) voxel features of all clouds; inverse: (N,) voxel of each point.
        pooling: options of `members_of`, which has the errors, too.

    Returns:
        means (groups, regions, C) and counts (groups, regions).
    """
    return mean_of_members(features, members_of(len(features), inverse, batch, table, **pooling))


@dataclass(frozen=True, slots=True)
class Weighted:
    """What superpoints are means of, which no weight of the student decides.

    segment: (M,) int64 superpoint that a member adds to, groups of regions; voxel: (M,) int64 row of its feature;
    weight: (M,) float32, of sum 1 over a superpoint. counts: (groups, regions), 0 where a superpoint is empty.
    """

    segment: Tensor
    voxel: Tensor
    weight: Tensor
    counts: Tensor


def mean_of_members(features: Tensor, members: Weighted) -> tuple[Tensor, Tensor]:
    """`pool_points` of ``features`` (V, C), by members that are known."""
    groups, regions = members.counts.shape
    means: Tensor = _Sums.apply(features, members.voxel, members.weight, members.segment, groups * regions)
    return means.view(groups, regions, means.shape[1]), members.counts


class _Sums(torch.autograd.Function):
    """Sums of weighted rows; unlike `Tensor.index_add`, it keeps for the gradient only where each row went."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, row: Tensor, weight: Tensor, segment: Tensor, segments: int
    ) -> Tensor:
        ctx.save_for_backward(row, weight, segment)
        ctx.shape, ctx.dtype = features.shape, features.dtype
        values = features.index_select(0, row).float().mul_(weight[:, None])
        return values.new_zeros(segments, values.shape[1]).index_add_(0, segment, values)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        row, weight, segment = ctx.saved_tensors
        of_rows = grad.index_select(0, segment).mul_(weight[:, None]).to(ctx.dtype)
        return of_rows.new_zeros(ctx.shape).index_add_(0, row, of_rows), None, None, None, None


def members_of(
    voxels: int,
    inverse: Tensor,
    batch: Batch,
    table: RegionTable,
    *,
    weighting: str = "pair",
    range_power: float = 0.0,
    min_points: int = 1,
) -> Weighted:
    """What superpoint features are means of.

    Args:
        voxels: V, rows of features; inverse: (N,) voxel of each point.
        weighting: ``pair``: every pair counts (published; near and doubly seen points weigh more); ``point``: a point
            counts once a region; ``voxel``: a voxel counts once a region.
        range_power: a member weighs as much as the horizontal distance of its voxel to this power, distances below 1 m
            counting as 1 m: -1 trusts near points more, 2 makes up for points thinning out, 0 weighs all alike.
        min_points: a superpoint with fewer members counts as empty.

    Raises:
        InputError: an unknown weighting.
    """
    if weighting not in WEIGHTINGS:
        raise InputError(f"pool weighting {weighting!r} is unknown; use one of {', '.join(WEIGHTINGS)}")
    regions, groups = len(table.ids), len(table.groups)
    valid = table.region >= 0
    point = batch.pairs.point[valid]
    segment = table.cloud_group[batch.cloud[point]] * regions + table.region[valid]
    if weighting == "point":
        keys = torch.unique(segment * len(inverse) + point)
        segment, point = keys // len(inverse), keys % len(inverse)
    # members of one voxel share its feature: it is read once, with their number as its weight
    keys, repeats = torch.unique(segment * voxels + inverse[point], return_counts=True)
    segment, voxel = keys // voxels, keys % voxels
    if weighting == "voxel":
        repeats = torch.ones_like(repeats)
    weight = repeats.to(torch.float32)
    counts = weight.new_zeros(groups * regions).index_add(0, segment, weight)
    if range_power:
        distance, _ = segment_mean(batch.points[:, :2].norm(dim=1, keepdim=True), inverse, voxels)
        weight = weight * distance[voxel, 0].clamp(min=1.0).pow(range_power)
    total = weight.new_zeros(groups * regions).index_add(0, segment, weight)
    counts = counts * (counts >= min_points)
    return Weighted(segment, voxel, weight / total[segment], counts.view(groups, regions))
