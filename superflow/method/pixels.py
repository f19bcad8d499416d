"""Superpixels: means of the teacher's features over regions, of all pixels or of those under points."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from ..clips.batch import Batch
from ..errors import InputError
from .patches import Taps, View, patch_weights, taps_at, taps_of_pixels, unit_sums
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
        return pool_pixels(_of_cells(head, seen.maps), seen.batch, table)


class PixelsUnderPoints:
    """A superpixel is the pixels that points of the sparse clouds fall on; `AllPixels` has the same methods."""

    def means(self, seen: ImageFeatures, table: RegionTable) -> tuple[Tensor, Tensor]:
        return pool_patches_under_points(seen.maps, seen.batch, table)

    def means_of_unit(self, seen: ImageFeatures, table: RegionTable, head: Head) -> tuple[Tensor, Tensor]:
        # a linear head of the map's cells, then of a weighted sum of them, or the other way round: the same
        embedded = sample_pixels(_of_cells(head, seen.maps), seen.batch)
        return pool_hits(F.normalize(embedded, dim=-1), seen.batch, table)


def _of_cells(head: Head, maps: Tensor) -> Tensor:
    return head(maps.movedim(1, -1)).movedim(-1, 1)


PIXELS: dict[str, AllPixels | PixelsUnderPoints] = {"all": AllPixels(), "hit": PixelsUnderPoints()}


def sample_pixels(images: Tensor, batch: Batch) -> Tensor:
    """(P, C) features of a coarse map (I, C, h, w) at every pair's pixel, bilinear.

    Pixels (u, v) refer to the batch's ``view_size``; pixel centres lie at whole numbers, cell centres of the coarse
    map at the centres of equal tiles of the view (align_corners=False).
    """
    height, width = batch.view_size
    pairs = batch.pairs
    grid = (pairs.pixel + 0.5) / pairs.pixel.new_tensor([width, height]) * 2 - 1
    order = torch.argsort(pairs.image, stable=True)
    counts = torch.bincount(pairs.image, minlength=len(images)).tolist()
    if images.requires_grad:  # writing in place would keep a gradient of all pairs for every image
        parts = [_sample(image, grid[of]) for image, of in zip(images, order.split(counts)) if len(of)]
        # adds 0: where no image has a pair, the head still gets a gradient, of zeros, like on the other ranks
        return torch.cat([images.flatten(2)[:0].sum(2), *parts]).index_select(0, torch.argsort(order))
    sampled = images.new_empty(len(grid), images.shape[1])
    for image, of_image in zip(images, order.split(counts)):
        if len(of_image):
            sampled[of_image] = _sample(image, grid[of_image])
    return sampled


def _sample(image: Tensor, grid: Tensor) -> Tensor:
    """(M, C) of one map (C, h, w) at ``grid`` (M, 2), in units of `F.grid_sample`."""
    place = grid[None, None].to(image.dtype)
    return F.grid_sample(image[None], place, align_corners=False, padding_mode="border")[0, :, 0].T


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


def pool_patches_under_points(images: Tensor, batch: Batch, table: RegionTable) -> tuple[Tensor, Tensor]:
    """`pool_hits` of `sample_pixels`, without the features of every pair; ``images`` (I, C, h, w) are frozen."""
    regions, times = len(table.ids), table.offsets
    pairs, grid = batch.pairs, (images.shape[2], images.shape[3])
    group = table.cloud_group[batch.cloud[pairs.point]]
    # sparse groups come first and in the order of `offsets`
    use = torch.nonzero((table.region >= 0) & (group < len(times)))[:, 0]
    rows = len(times) * regions
    row = group[use] * regions + table.region[use]
    keys, place = torch.unique(pairs.image[use] * rows + row, return_inverse=True)
    image, row_of_key = keys // max(rows, 1), keys % max(rows, 1)
    order = torch.argsort(place, stable=True)  # image by image
    of_image = torch.stack(
        [torch.bincount(of, minlength=len(images)) for of in (image, pairs.image[use])]
    ).tolist()
    firsts = torch.cat([place.new_zeros(1), torch.bincount(image, minlength=len(images)).cumsum(0)])
    total = images.new_zeros(rows, images.shape[1], dtype=torch.float32)
    for number, (own, members) in enumerate(zip(row_of_key.split(of_image[0]), order.split(of_image[1]))):
        if not len(own):
            continue
        taps = taps_at(pairs.pixel[use[members]], batch.view_size, grid)
        here = (place[members] - firsts[number]).int()
        weights = patch_weights(here, torch.ones_like(taps[0][1]), taps, len(own), grid[0] * grid[1])
        total.index_add_(0, own, weights @ _cells(images[number]).flatten(0, 1))
    count = torch.bincount(row, minlength=rows).to(torch.float32)
    means = total / count.clamp(min=1)[:, None]
    return means.view(len(times), regions, images.shape[1]), count.view(len(times), regions)


def pool_patches(images: Tensor, batch: Batch, table: RegionTable) -> tuple[Tensor, Tensor]:
    """Superpixel means of the upsampled maps without building them; (times, regions, C) and pixel counts.

    ``images`` (I, C, h, w) are frozen: the head that follows is linear, so it may be applied to the means.
    """

    def sums(cells: Tensor, region: Tensor, found: Tensor, taps: Taps, regions: int) -> Tensor:
        weights = patch_weights(region, found.float(), taps, regions, len(cells) * cells.shape[1])
        return weights @ cells.flatten(0, 1)

    return _pool_images(images, batch, table, sums)


def pool_pixels(images: Tensor, batch: Batch, table: RegionTable) -> tuple[Tensor, Tensor]:
    """Superpixel means of upsampled, per-pixel normalised maps, as published; (times, regions, C) and counts.

    No map of full resolution is built: a pixel's norm follows from the products of neighbouring patches alone, and
    divides the weights with which it adds to its region's patches.
    """
    view = View(batch.view_size, (images.shape[2], images.shape[3]), images.device)

    def sums(cells: Tensor, region: Tensor, found: Tensor, taps: Taps, regions: int) -> Tensor:
        return unit_sums(cells, region, found, taps, view, regions)

    return _pool_images(images, batch, table, sums)


def _pool_images(
    images: Tensor, batch: Batch, table: RegionTable, sums: Callable[..., Tensor]
) -> tuple[Tensor, Tensor]:
    """Means over all images of a time. ``sums`` gives those over the pixels of one image, for each of its regions."""
    if batch.superpixels is None:
        raise InputError('pixels="all" needs superpixel maps; regions without maps have pixels="hit" only')
    regions, times = len(table.ids), table.offsets
    taps = taps_of_pixels(batch.view_size, (images.shape[2], images.shape[3]), images.device)
    count = images.new_zeros(len(times) * regions, dtype=torch.float32)
    # adds 0: where no image has a region, the head still gets a gradient, of zeros, like on the other ranks
    added, rows = [images[:0].sum().float().expand(1, images.shape[1])], [table.ids.new_zeros(1)]
    # one gradient of all maps, not one with zeros of the others for every map
    of_images = zip(images.unbind(), batch.image_table.offset.tolist(), batch.superpixels)
    for number, (image, offset, ids) in enumerate(of_images):
        of_pixels = _regions_of_pixels(ids, number, batch, table)
        if of_pixels is None:
            continue
        candidates, region, found = of_pixels
        row = times.index(offset) * regions + candidates
        count.index_add_(0, row, _count(region, found, len(row)))
        added.append(sums(_cells(image), region, found, taps, len(row)))
        rows.append(row)
    total = images.new_zeros(len(times) * regions, images.shape[1], dtype=torch.float32)
    if regions:
        total = total.index_add(0, torch.cat(rows), torch.cat(added))
    else:
        total = total + added[0]
    means = total / count.clamp(min=1)[:, None]
    return means.view(len(times), regions, means.shape[1]), count.view(len(times), regions)


def _cells(image: Tensor) -> Tensor:
    """(h, w, C) of a map (C, h, w): the features of a cell lie together."""
    return image.movedim(0, -1).float().contiguous()


def _count(region: Tensor, found: Tensor, regions: int) -> Tensor:
    """(regions,) float32 pixels of each."""
    return region.new_zeros(regions, dtype=torch.float32).index_add(0, region, found.float())


def _regions_of_pixels(
    superpixels: Tensor, image: int, batch: Batch, table: RegionTable
) -> tuple[Tensor, Tensor, Tensor] | None:
    """The regions that an image may have, (H*W,) int32 which of these each pixel is of, and whether it is of any.

    None when it may have none.
    """
    owner = image_owner(batch, table.scope)[image]
    candidates = torch.nonzero(table.owner == owner)[:, 0]
    if not len(candidates):
        return None
    ids = table.ids[candidates]  # ascending, because regions are sorted by (owner, id)
    pixels = superpixels.reshape(-1).to(torch.int64)
    place = torch.searchsorted(ids, pixels, out_int32=True).clamp_(max=len(ids) - 1)
    return candidates, place, ids[place] == pixels
