"""What a batch gives the objectives: features of points and pixels, matched by region or by pair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..clips.batch import Batch
from ..datasets.frame import IGNORE_LABEL
from .passes import PointFeatures
from .pixels import ImageFeatures
from .regions import RegionTable


@dataclass(frozen=True, slots=True)
class Superpoints:
    """The student's means over regions, q.

    features: (groups, regions, C); counts: (groups, regions) members of each, 0 where it is empty.
    teacher: (regions, T) frozen teacher mean of each region over all times; T is 0 where nothing compares them.
    """

    table: RegionTable
    features: Tensor
    counts: Tensor
    teacher: Tensor

    def of(self, offset: int, *, dense: bool = False) -> tuple[Tensor, Tensor]:
        """(regions, C) of one group, and which of them have points. Raises ValueError where the batch has none."""
        group = self.table.groups.index((offset, dense))
        return self.features[group], self.counts[group] > 0

    def has_dense(self) -> bool:
        """Whether the batch has a dense cloud at the centre of a clip."""
        return (0, True) in self.table.groups


@dataclass(frozen=True, slots=True)
class Members:
    """Points and the superpoints of time 0 that they belong to, a pair a row.

    voxels: (V, C) embedded; voxel: (M,) int64 that of each pair's point; region: (M,) int64 of ``superpoints``.
    """

    superpoints: Superpoints
    voxels: Tensor
    voxel: Tensor
    region: Tensor


@dataclass(frozen=True, slots=True)
class Superpixels:
    """The teacher's means over regions in the shared embedding, k.

    features: (times, regions, C), in the order of ``table.offsets``; counts: (times, regions) pixels of each.
    """

    table: RegionTable
    features: Tensor
    counts: Tensor

    def of(self, offset: int) -> tuple[Tensor, Tensor]:
        """(regions, C) of one time, and which of them have pixels."""
        time = self.table.offsets.index(offset)
        return self.features[time], self.counts[time] > 0


@dataclass(frozen=True, slots=True)
class TargetPairs:
    """Points and the teacher's features at their pixels, in the teacher's space.

    voxels: (V, T) what the student says; voxel: (P,) int64 that of each pair's point; pixel: (P, T) frozen.
    """

    voxels: Tensor
    voxel: Tensor
    pixel: Tensor


@dataclass(frozen=True, slots=True)
class StudentPairs:
    """Points and the teacher's features at their pixels, for objectives with heads of their own.

    voxels: (V, D) the student's features; voxel: (P,) int64 that of each pair's point; pixel: (P, T) frozen.
    """

    voxels: Tensor
    voxel: Tensor
    pixel: Tensor


@dataclass(frozen=True, slots=True)
class CloudsInImages:
    """Sparse clouds as wholes, beside what the teacher sees at their time.

    voxels: (V, D) the student's features of these clouds; cloud: (V,) int64 that of each voxel; image: (K, T) mean over
    all images of the cloud's clip and time; has_image: (K,) bool, whether there is any.
    """

    voxels: Tensor
    cloud: Tensor
    image: Tensor
    has_image: Tensor


@dataclass(frozen=True, slots=True)
class LabelledPoints:
    """Points of a known class, and what the student makes of their voxels.

    voxels: (V, D) the student's features; voxel: (L,) int64 that of each point; label: (L,) int64 its train id.
    """

    voxels: Tensor
    voxel: Tensor
    label: Tensor


@dataclass(frozen=True, slots=True)
class EmbeddedPairs:
    """Points and pixels, pair by pair, on their way into the shared embedding.

    voxels: (V, C) embedded; voxel: (P,) int64 that of each pair's point; pixel: (P, T) frozen, which ``image_head``
    takes to (.., C).
    """

    voxels: Tensor
    voxel: Tensor
    pixel: Tensor
    image_head: Callable[[Tensor], Tensor]


def at_centre(batch: Batch) -> Tensor:
    """(P,) bool, pairs of the sparse clouds of time 0."""
    cloud = batch.cloud[batch.pairs.point]
    return (batch.cloud_offset == 0)[cloud] & ~batch.cloud_dense[cloud]


def clouds_in_images(batch: Batch, points: PointFeatures, seen: ImageFeatures) -> CloudsInImages:
    """The sparse clouds of a batch, beside the means over the images of their clips and times."""
    sparse = ~batch.cloud_dense
    place = (sparse.cumsum(0) - 1)[batch.cloud]
    cloud = points.inverse.new_full((len(points.features),), -1)
    mine = sparse[batch.cloud]
    cloud = cloud.scatter(0, points.inverse[mine], place[mine])
    images = batch.image_table
    same = (images.clip == batch.cloud_clip[sparse][:, None]) & (
        images.offset == batch.cloud_offset[sparse][:, None]
    )
    means = same.float() @ seen.maps.mean((2, 3)) / same.sum(1).clamp(min=1)[:, None]
    shown = cloud >= 0
    return CloudsInImages(points.features[shown], cloud[shown], means, same.any(1))


def labelled_points(batch: Batch, points: PointFeatures) -> LabelledPoints:
    """The points of a batch that have a class; none where it has no labels."""
    labels = batch.labels
    if labels is None:
        labels = torch.full_like(points.inverse, IGNORE_LABEL)
    known = torch.nonzero(labels != IGNORE_LABEL)[:, 0]
    return LabelledPoints(points.features, points.inverse[known], labels[known])
