"""Regions: what the pairs of a batch name, under numbers of the batch and names that hold everywhere."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..clips.batch import Batch
from ..errors import InputError
from .distributed import gather_rows

SCOPES = ("image", "camera", "clip", "batch")


@dataclass(frozen=True, slots=True)
class RegionTable:
    """The R regions that the pairs of a batch name, and the groups of its clouds.

    A *group* is the clouds of one time, sparse or dense: ``(offset, dense)``.

    region: (P,) int64 region of each pair, -1 where its id is none.
    ids: (R,) int64 id of each region as in the files; equal in several clips for class-like ids.
    owner: (R,) int64 image, camera of a clip, clip, or what its ids are counted in, that the region belongs to, after
        ``scope``.
    names: (R,) int64, equal where two regions are the same: the same class, the same place of the same scene, the
        same superpixel of the same image; in other clips, steps and processes too (`clips.batch.Batch.image_space`).
    groups: sparse ones first, by offset; cloud_group: (K,) int64 group of each cloud.
    """

    region: Tensor
    ids: Tensor
    owner: Tensor
    names: Tensor
    scope: str
    groups: list[tuple[int, bool]]
    cloud_group: Tensor

    @property
    def offsets(self) -> list[int]:
        """The times of the images: those of the sparse groups."""
        return [offset for offset, dense in self.groups if not dense]

    def neighbours(self) -> list[int]:
        """Offsets other than 0, to compare regions over time.

        Raises:
            InputError: regions are those of single images, so that no region is seen at two times.
        """
        if self.scope == "image":
            raise InputError(
                'terms over time compare a region with itself at another time, but with region scope "image" no region '
                'is in two images; use regions whose ids mean the same over time with scope "clip", or leave '
                "temporal and cross_temporal out"
            )
        return [offset for offset in self.offsets if offset != 0]


def region_table(batch: Batch, *, scope: str = "clip", ignore: tuple[int, ...] = ()) -> RegionTable:
    """All regions that pairs name.

    Args:
        batch: with pairs.
        scope: ``image``: equal ids in two images are two regions (SLidR); ``camera``: the times of a camera share ids
            (SuperFlow without view consistency); ``clip``: cameras and times of a clip do (with it); ``batch``: ids
            mean the same everywhere (classes).
        ignore: ids that are no region, such as the "other" class of a segmenter.

    Raises:
        InputError: an unknown scope, or one that joins ids which mean different things.
        ValueError: a batch without pairs, or one that does not say in what its ids are counted.
    """
    if scope not in SCOPES:
        raise InputError(f"region scope {scope!r} is unknown; use one of {', '.join(SCOPES)}")
    pairs = batch.pairs
    if SCOPES.index(scope) > SCOPES.index(batch.id_scope):
        raise InputError(
            f"region scope {scope!r} would join regions that share nothing but a number: ids mean the same "
            f"within one {batch.id_scope} only; set model.region.scope={batch.id_scope!r}"
        )
    if batch.image_space is None and batch.id_scope != "batch":
        raise ValueError(
            f"ids mean the same within one {batch.id_scope} only, and the batch does not say in which: give "
            "image_space"
        )
    # int64 throughout: ids plus offsets must not wrap in the small dtype of the files
    id_of_pair = pairs.region.to(torch.int64)
    valid = id_of_pair >= 0
    for other in ignore:
        valid &= id_of_pair != other
    owner = image_owner(batch, scope)[pairs.image]
    # ranks instead of ids: those of world cells fill 63 bits and leave no room for the owner
    known, rank = torch.unique(id_of_pair[valid], return_inverse=True)
    unique, inverse = torch.unique(owner[valid] * len(known) + rank, return_inverse=True)
    region = torch.full_like(id_of_pair, -1)
    region[valid] = inverse
    span = max(len(known), 1)
    ids, names = known[unique % span], torch.zeros_like(unique)
    if batch.image_space is not None:
        names[inverse] = batch.image_space[pairs.image[valid]]
    groups, cloud_group = _groups(batch)
    return RegionTable(region, ids, unique // span, names ^ ids, scope, groups, cloud_group)


def image_owner(batch: Batch, scope: str) -> Tensor:
    """(I,) int64 what the regions of each image belong to, as `RegionTable.owner`."""
    clip = batch.image_table.clip
    if scope == "image":
        return torch.arange(len(clip), device=clip.device)
    if scope == "camera":
        if batch.image_camera is None:
            raise ValueError("the batch does not say of which camera an image is: give image_camera")
        return clip * (int(batch.image_camera.max()) + 1 if len(clip) else 1) + batch.image_camera
    if scope == "batch" and batch.image_space is not None:  # clusters of two codebooks share but a number
        return torch.unique(batch.image_space, return_inverse=True)[1]
    return clip if scope == "clip" else torch.zeros_like(clip)


def _groups(batch: Batch) -> tuple[list[tuple[int, bool]], Tensor]:
    """The groups of clouds of all ranks, and (K,) that of each cloud; all ranks run the same terms and collectives."""
    keys = torch.stack([batch.cloud_dense.to(torch.int64), batch.cloud_offset], dim=1)
    groups = torch.unique(gather_rows(keys)[0], dim=0)
    cloud_group = (keys[:, None] == groups[None]).all(2).to(torch.int64).argmax(1)
    return [(int(offset), bool(dense)) for dense, offset in groups.tolist()], cloud_group
