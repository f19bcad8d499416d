"""Superpixels: means of the teacher's features over regions, of all pixels or of those under points."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..clips.batch import Batch
from ..errors import InputError
from .pooling import segment_mean
from .regions import RegionTable, image_owner

Head = Callable[[Tensor], Tensor]  # (..., T) to (..., C), linear


class ImageFeatures:
    """What the frozen teacher sees in a batch: ``maps`` (I, T, h, w) of its images."""

    def __init__(self, maps: Tensor, batch: Batch) -> None:
        self.maps, self.batch = maps, batch

    @cached_property
    def at_pairs(self) -> Tensor:
        """(P, T) at the pixel of every pair."""
        return sample_pixels(self.maps, self.batch)


class AllPixels:
    """A superpixel is all the pixels that its map gives it (published)."""

    def means(self, seen: ImageFeatures, table: RegionTable) -> tuple[Tensor, Tensor]:
        """Means of the teacher's features (times, regions, T), and counts (times, regions)."""
        return pool_patches(seen.maps, seen.batch, table)

    def means_of_unit(self, seen: ImageFeatures, table: RegionTable, head: Head) -> tuple[Tensor, Tensor]:
        """Means of what ``head`` makes of each pixel, normalised there: (times, regions, C), and counts."""
        return pool_pixels(head(seen.maps.movedim(1, -1)).movedim(-1, 1), seen.batch, table)


class PixelsUnderPoints:
    """A superpixel is the pixels that points of the sparse clouds fall on; `AllPixels` has the same methods."""

    def means(self, seen: ImageFeatures, table: RegionTable) -> tuple[Tensor, Tensor]:
        return pool_hits(seen.at_pairs, seen.batch, table)

    def means_of_unit(self, seen: ImageFeatures, table: RegionTable, head: Head) -> tuple[Tensor, Tensor]:
        return pool_hits(F.normalize(head(seen.at_pairs), dim=-1), seen.batch, table)


PIXELS: dict[str, AllPixels | PixelsUnderPoints] = {"all": AllPixels(), "hit": PixelsUnderPoints()}


def sample_pixels(images: Tensor, batch: Batch) -> Tensor:
    """(P, C) features of a coarse map (I, C, h, w) at every pair's pixel, bilinear.

    Pixels (u, v) refer to the batch's ``view_size``; pixel centres lie at whole numbers, cell centres of the coarse
    map at the centres of equal tiles of the view (align_corners=False).
    """
    height, width = batch.view_size
    pairs = batch.pairs
    grid = (pairs.pixel + 0.5) / pairs.pixel.new_tensor([width, height]) * 2 - 1
    sampled = images.new_empty(len(grid), images.shape[1])
    order = torch.argsort(pairs.image, stable=True)
    counts = torch.bincount(pairs.image, minlength=len(images)).tolist()
    for image, of_image in zip(images, torch.split(order, counts)):
        if len(of_image):
            taken = F.grid_sample(
                image[None],
                grid[of_image][None, None].to(image.dtype),
                align_corners=False,
                padding_mode="border",
            )
            sampled[of_image] = taken[0, :, 0].T
    return sampled


def pool_hits(pixel_features: Tensor, batch: Batch, table: RegionTable) -> tuple[Tensor, Tensor]:
    """Superpixel means over the pixels that a point of the sparse cloud hits; (times, regions, C) and counts.

    ``pixel_features`` (P, C) as from `sample_pixels`. Needs no superpixel map, so regions may be anything that names
    points: world voxels, tracks.
    """
    regions, times = len(table.ids), table.offsets
    group = table.cloud_group[batch.cloud[batch.pairs.point]]
    dense = torch.tensor([dense for _, dense in table.groups], device=group.device)
    valid = (table.region >= 0) & ~dense[group]
    # sparse groups come first and in the order of `offsets`
    means, counts = segment_mean(
        pixel_features[valid], group[valid] * regions + table.region[valid], len(times) * regions
    )
    return means.view(len(times), regions, means.shape[1]), counts.view(len(times), regions)


def pool_patches(images: Tensor, batch: Batch, table: RegionTable) -> tuple[Tensor, Tensor]:
    """Superpixel means of the upsampled maps without building them; (times, regions, C) and pixel counts.

    ``images`` (I, C, h, w) are frozen: the head that follows is linear, so it may be applied to the means.
    """

    def sums(image: Tensor, region: Tensor, found: Tensor, view_size: tuple[int, int]) -> Tensor:
        matrix = patch_weights(region, found, view_size, (image.shape[1], image.shape[2]), len(table.ids))
        return torch.sparse.mm(matrix, image.flatten(1).T.float())

    return _pool_images(images, batch, table, sums)


def pool_pixels(images: Tensor, batch: Batch, table: RegionTable) -> tuple[Tensor, Tensor]:
    """Superpixel means of upsampled, per-pixel normalised maps: the published route, (times, regions, C) and counts.

    One image at a time and recomputed in the backward pass: the peak is one full-resolution map
    (C x H x W x 4 bytes), not I of them.
    """

    def one(image: Tensor, region: Tensor, found: Tensor, view_size: tuple[int, int]) -> Tensor:
        pixels = F.interpolate(image[None], view_size, mode="bilinear", align_corners=False)[0]
        pixels = F.normalize(pixels.flatten(1).T, dim=1)
        return pixels.new_zeros(len(table.ids), pixels.shape[1]).index_add(0, region[found], pixels[found])

    def sums(*image: Any) -> Tensor:
        return checkpoint(one, *image, use_reentrant=False)

    return _pool_images(images, batch, table, sums)


def _pool_images(
    images: Tensor, batch: Batch, table: RegionTable, sums: Callable[..., Tensor]
) -> tuple[Tensor, Tensor]:
    """Means over all images of a time. ``sums`` gives (regions, C) of one image, from its pixels' regions."""
    if batch.superpixels is None:
        raise InputError('pixels="all" needs superpixel maps; regions without maps have pixels="hit" only')
    regions, times = len(table.ids), table.offsets
    total = images.new_zeros(len(times) * regions, images.shape[1], dtype=torch.float32)
    # adds 0: where no image has a region, the head still gets a gradient, of zeros, like on the other ranks
    total = total + images[:0].sum()
    count = images.new_zeros(len(times) * regions, dtype=torch.float32)
    for image, (offset, ids) in enumerate(zip(batch.image_table.offset.tolist(), batch.superpixels)):
        of_pixels = _regions_of_pixels(ids, image, batch, table)
        if of_pixels is None:
            continue
        region, found = of_pixels
        first = times.index(offset) * regions
        place = torch.arange(first, first + regions, device=images.device)
        total = total.index_add(0, place, sums(images[image], region, found, tuple(ids.shape)))
        count[first : first + regions] += torch.bincount(region[found], minlength=regions)
    means = total / count.clamp(min=1)[:, None]
    return means.view(len(times), regions, means.shape[1]), count.view(len(times), regions)


def _regions_of_pixels(
    superpixels: Tensor, image: int, batch: Batch, table: RegionTable
) -> tuple[Tensor, Tensor] | None:
    """Region of each pixel of one image (H*W,), and whether its id has a region at all; None when none has."""
    owner = image_owner(batch, table.scope)[image]
    candidates = torch.nonzero(table.owner == owner)[:, 0]
    if not len(candidates):
        return None
    ids = table.ids[candidates]  # ascending, because regions are sorted by (owner, id)
    pixels = superpixels.reshape(-1).to(torch.int64)
    place = torch.searchsorted(ids, pixels).clamp(max=len(ids) - 1)
    return candidates[place], ids[place] == pixels


def patch_weights(
    region: Tensor, found: Tensor, view_size: tuple[int, int], grid: tuple[int, int], num_regions: int
) -> Tensor:
    """Sparse (num_regions, h*w) matrix: times the patches, the sum over a region's pixels of the upsampled map.

    Mean pooling of a bilinearly upsampled map is linear in the patches, so one matrix replaces the full-resolution
    map. Exact as long as no per-pixel normalisation stands between.

    Args:
        region, found: (H*W,) region of each pixel, and whether it has one.
    """
    height, width = view_size
    taps_y, weight_y = _bilinear_taps(height, grid[0], region.device)
    taps_x, weight_x = _bilinear_taps(width, grid[1], region.device)
    of_pixels = region.view(height, width)
    use = found.view(height, width)
    index, weight = [], []
    for a in range(2):
        for b in range(2):
            patch = taps_y[a][:, None] * grid[1] + taps_x[b][None, :]
            index.append((of_pixels * (grid[0] * grid[1]) + patch)[use])
            weight.append((weight_y[a][:, None] * weight_x[b][None, :])[use])
    keys, inverse = torch.unique(torch.cat(index), return_inverse=True)
    summed = torch.zeros(len(keys), device=region.device).index_add(0, inverse, torch.cat(weight))
    patches = grid[0] * grid[1]
    return torch.sparse_coo_tensor(
        torch.stack([keys // patches, keys % patches]),
        summed,
        (num_regions, patches),
        is_coalesced=True,
        check_invariants=False,
    )


def _bilinear_taps(
    size: int, cells: int, device: torch.device
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The two cells and weights that each of ``size`` pixels takes from ``cells`` (align_corners=False, clamped)."""
    position = ((torch.arange(size, device=device) + 0.5) * cells / size - 0.5).clamp(0, cells - 1)
    low = position.floor().to(torch.int64)
    high = (low + 1).clamp(max=cells - 1)
    part = (position - low).to(torch.float32)
    return (low, high), (1 - part, part)
