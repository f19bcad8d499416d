"""Superpixels: means of the teacher's features over regions, of all pixels or of those under points."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
    """Superpixel means of upsampled, per-pixel normalised maps, as published; (times, regions, C) and counts.

    No map of full resolution is built. A pixel is a weighted sum of four patches; its norm follows from the products of
    neighbouring patches alone (`pixel_norms`), and divides the weights with which it adds to its region's patches.
    """

    def one(image: Tensor, region: Tensor, found: Tensor, view_size: tuple[int, int]) -> Tensor:
        use = torch.nonzero(found)[:, 0]
        own, place = torch.unique(region[use], return_inverse=True)
        grid = (image.shape[1], image.shape[2])
        share = 1 / pixel_norms(image, view_size).flatten()[use]
        weights = share.new_zeros(len(own) * grid[0] * grid[1])
        for patch, weight in _bilinear_patches(view_size, grid, image.device):
            weights = weights.index_add(0, place * (grid[0] * grid[1]) + patch[use], weight[use] * share)
        sums = weights.view(len(own), -1) @ image.flatten(1).T
        return sums.new_zeros(len(table.ids), sums.shape[1]).index_add(0, own, sums)

    def sums(*image: Any) -> Tensor:
        # weights of every pixel of every image would be kept for the backward pass; they are soon made again
        return checkpoint(one, *image, use_reentrant=False)

    return _pool_images(images, batch, table, sums)


def pixel_norms(image: Tensor, view_size: tuple[int, int]) -> Tensor:
    """(H, W) norms of the pixels of a bilinearly upsampled map (C, h, w), at least 1e-12, without building it.

    The square of a sum of four patches is the sum of their products, weighted along each axis apart: four small
    matrix products give it for all pixels.
    """
    padded = F.pad(image[None], (0, 1, 0, 1), mode="replicate")[0]  # so that every pixel has a next patch
    here, right, below = padded[:, :-1, :-1], padded[:, :-1, 1:], padded[:, 1:, :-1]
    next_x = (padded[:, :, :-1] * padded[:, :, 1:]).sum(0)
    next_y = (padded[:, :-1] * padded[:, 1:]).sum(0)
    across = (here * padded[:, 1:, 1:] + right * below).sum(0)
    squares_y, mixed_y = _axis_weights(view_size[0], image.shape[1], image.device)
    squares_x, mixed_x = _axis_weights(view_size[1], image.shape[2], image.device)
    squared = (squares_y @ padded.square().sum(0) + 2 * mixed_y @ next_y) @ squares_x.T
    squared = squared + 2 * (squares_y @ next_x + mixed_y @ across) @ mixed_x.T
    return squared.clamp(min=1e-24).sqrt()


def _axis_weights(size: int, cells: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(size, cells + 1) squares of a pixel's weights, and (size, cells) the product of the two, at the first."""
    (low, _), (first, second) = _bilinear_taps(size, cells, device)
    rows = torch.arange(size, device=device)
    squares = torch.zeros(size, cells + 1, device=device)
    squares[rows, low], squares[rows, low + 1] = first.square(), second.square()
    mixed = torch.zeros(size, cells, device=device)
    mixed[rows, low] = first * second
    return squares, mixed


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
    patches = grid[0] * grid[1]
    index, weight = [], []
    for patch, of_pixel in _bilinear_patches(view_size, grid, region.device):
        index.append((region * patches + patch)[found])
        weight.append(of_pixel[found])
    keys, inverse = torch.unique(torch.cat(index), return_inverse=True)
    summed = torch.zeros(len(keys), device=region.device).index_add(0, inverse, torch.cat(weight))
    return torch.sparse_coo_tensor(
        torch.stack([keys // patches, keys % patches]),
        summed,
        (num_regions, patches),
        is_coalesced=True,
        check_invariants=False,
    )


def _bilinear_patches(
    view_size: tuple[int, int], grid: tuple[int, int], device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Of each of the four patches that a pixel takes from: (H*W,) its number, and its weight."""
    taps_y, weight_y = _bilinear_taps(view_size[0], grid[0], device)
    taps_x, weight_x = _bilinear_taps(view_size[1], grid[1], device)
    for a in range(2):
        for b in range(2):
            patch = taps_y[a][:, None] * grid[1] + taps_x[b][None, :]
            yield patch.flatten(), (weight_y[a][:, None] * weight_x[b][None, :]).flatten()


def _bilinear_taps(
    size: int, cells: int, device: torch.device
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The two cells and weights that each of ``size`` pixels takes from ``cells`` (align_corners=False, clamped)."""
    position = ((torch.arange(size, device=device) + 0.5) * cells / size - 0.5).clamp(0, cells - 1)
    low = position.floor().to(torch.int64)
    high = (low + 1).clamp(max=cells - 1)
    part = (position - low).to(torch.float32)
    return (low, high), (1 - part, part)
