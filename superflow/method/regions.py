"""Segment means: points to superpoints, pixels or patches to superpixels, all clouds and images at once.

Every (time, dense or not) of a batch is a *slot*; every region that the pairs name is a *row*. Superpoints are a
table (slots, rows, C), superpixels a table (times, rows, C), each with the counts that say which cells are filled.
"Previous frame" is therefore an index into a table, never a variable of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..clips.batch import Batch
from ..errors import InputError
from .distributed import gather_rows

SCOPES = ("image", "clip", "batch")
WEIGHTINGS = ("pair", "point", "voxel")


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


@dataclass(frozen=True, slots=True)
class RegionTable:
    """Which region row and which slot every pair belongs to.

    row: (P,) int64 region row of each pair, -1 where the pair's region is ignored.
    ids: (R,) int64 region id of each row as in the files; equal in several clips for class-like ids.
    owner: (R,) int64 image, clip or 0 that the row belongs to, after ``scope``.
    names: (R,) int64, equal where two rows are the same region: the same class, the same place of the same scene, the
        same superpixel of the same image; in other clips, steps and processes too (`clips.batch.Batch.image_space`).
    slots: list of (offset, dense), sparse clouds first, by offset; cloud_slot: (K,) int64 slot of each cloud.
    """

    row: Tensor
    ids: Tensor
    owner: Tensor
    names: Tensor
    scope: str
    slots: list[tuple[int, bool]]
    cloud_slot: Tensor

    @property
    def offsets(self) -> list[int]:
        """The times of the images: those of the sparse slots."""
        return [offset for offset, dense in self.slots if not dense]


def region_table(batch: Batch, *, scope: str = "clip", ignore: tuple[int, ...] = ()) -> RegionTable:
    """Rows for all regions that pairs name.

    Args:
        batch: with pairs.
        scope: ``image``: equal ids in two images are two regions (SLidR); ``clip``: cameras and times of a clip
            share ids (SuperFlow's view consistency); ``batch``: ids mean the same everywhere (classes).
        ignore: ids that are no region, such as the "other" class of a segmenter.

    Raises:
        InputError: an unknown scope, or one that joins ids which mean different things.
        ValueError: a batch without pairs, or one that does not say in what its ids are counted.
    """
    if scope not in SCOPES:
        raise InputError(f"region scope {scope!r} is unknown; use one of {', '.join(SCOPES)}")
    if batch.pair_region is None or batch.pair_image is None or batch.image_clip is None:
        raise ValueError("the batch has no pairs; build it from a dataset with cameras")
    if SCOPES.index(scope) > SCOPES.index(batch.region_scope):
        raise InputError(
            f"region scope {scope!r} would join regions that share nothing but a number: ids mean the same "
            f"within one {batch.region_scope} only; set model.region.scope={batch.region_scope!r}"
        )
    if batch.image_space is None and batch.region_scope != "batch":
        raise ValueError(
            f"ids mean the same within one {batch.region_scope} only, and the batch does not say in which: give "
            "image_space"
        )
    # int64 throughout: ids plus offsets must not wrap in the small dtype of the files
    region = batch.pair_region.to(torch.int64)
    valid = region >= 0
    for other in ignore:
        valid &= region != other
    if scope == "image":
        owner = batch.pair_image
    elif scope == "clip":
        owner = batch.image_clip[batch.pair_image]
    else:
        owner = torch.zeros_like(region)
    # ranks instead of ids: those of world cells fill 63 bits and leave no room for the owner
    known, rank = torch.unique(region[valid], return_inverse=True)
    unique, inverse = torch.unique(owner[valid] * len(known) + rank, return_inverse=True)
    row = torch.full_like(region, -1)
    row[valid] = inverse
    span = max(len(known), 1)
    ids, names = known[unique % span], torch.zeros_like(unique)
    if batch.image_space is not None:
        names[inverse] = batch.image_space[batch.pair_image[valid]]
    keys = torch.stack([batch.cloud_dense.to(torch.int64), batch.cloud_offset], dim=1)
    # slots of all ranks: every rank then runs the same terms, and so the same collectives
    slots = torch.unique(gather_rows(keys)[0], dim=0)
    cloud_slot = (keys[:, None] == slots[None]).all(2).to(torch.int64).argmax(1)
    kinds = [(int(offset), bool(dense)) for dense, offset in slots.tolist()]
    return RegionTable(row, ids, unique // span, names ^ ids, scope, kinds, cloud_slot)


def pool_points(
    features: Tensor,
    inverse: Tensor,
    batch: Batch,
    table: RegionTable,
    *,
    weighting: str = "pair",
    range_power: float = 0.0,
    min_points: int = 1,
) -> tuple[Tensor, Tensor]:
    """Superpoint features of every slot.

    Args:
        features: (V, C) voxel features of all clouds; inverse: (N,) voxel of each point.
        weighting: ``pair``: every pair counts (published; near and doubly seen points weigh more); ``point``: a point
            counts once a region; ``voxel``: a voxel counts once a region.
        range_power: a member weighs as much as the horizontal distance of its voxel to this power, distances below 1 m
            counting as 1 m: -1 trusts near points more, 2 makes up for points thinning out, 0 weighs all alike.
        min_points: a superpoint with fewer members counts as empty.

    Returns:
        means (slots, rows, C) and counts (slots, rows).

    Raises:
        InputError: an unknown weighting.
    """
    if weighting not in WEIGHTINGS:
        raise InputError(f"pool weighting {weighting!r} is unknown; use one of {', '.join(WEIGHTINGS)}")
    rows, slots = len(table.ids), len(table.slots)
    valid = table.row >= 0
    point = batch.pair_point[valid]
    segment = table.cloud_slot[batch.cloud[point]] * rows + table.row[valid]
    if weighting == "point":
        keys = torch.unique(segment * len(inverse) + point)
        segment, point = keys // len(inverse), keys % len(inverse)
    # members of one voxel share its feature: it is read once, with their number as its weight
    keys, members = torch.unique(segment * len(features) + inverse[point], return_counts=True)
    segment, voxel = keys // len(features), keys % len(features)
    if weighting == "voxel":
        members = torch.ones_like(members)
    weight = members.to(torch.float32)
    counts = weight.new_zeros(slots * rows).index_add(0, segment, weight)
    if range_power:
        distance, _ = segment_mean(batch.points[:, :2].norm(dim=1, keepdim=True), inverse, len(features))
        weight = weight * distance[voxel, 0].clamp(min=1.0).pow(range_power)
    total = weight.new_zeros(slots * rows).index_add(0, segment, weight)
    values = features.index_select(0, voxel).float() * (weight / total[segment])[:, None]
    means = values.new_zeros(slots * rows, values.shape[1]).index_add(0, segment, values)
    counts = counts * (counts >= min_points)
    return means.view(slots, rows, means.shape[1]), counts.view(slots, rows)


def sample_pixels(images: Tensor, batch: Batch, view_size: tuple[int, int]) -> Tensor:
    """(P, C) features of a coarse map (I, C, h, w) at every pair's pixel, bilinear.

    Pixels (u, v) refer to a view of ``view_size`` (height, width); pixel centres lie at whole numbers, cell centres of
    the coarse map at the centres of equal tiles of the view (align_corners=False).
    """
    height, width = view_size
    grid = (batch.pair_pixel + 0.5) / batch.pair_pixel.new_tensor([width, height]) * 2 - 1
    sampled = images.new_empty(len(grid), images.shape[1])
    order = torch.argsort(batch.pair_image, stable=True)
    counts = torch.bincount(batch.pair_image, minlength=len(images)).tolist()
    for image, rows in zip(images, torch.split(order, counts)):
        if len(rows):
            taken = F.grid_sample(
                image[None],
                grid[rows][None, None].to(image.dtype),
                align_corners=False,
                padding_mode="border",
            )
            sampled[rows] = taken[0, :, 0].T
    return sampled


def _image_rows(batch: Batch, table: RegionTable, image: int) -> tuple[Tensor, Tensor] | None:
    """Region row of each pixel of one image (H*W,), and whether its id has a row at all; None when none has."""
    owners = {"image": image, "clip": int(batch.image_clip[image]), "batch": 0}
    candidates = torch.nonzero(table.owner == owners[table.scope])[:, 0]
    if not len(candidates):
        return None
    ids = table.ids[candidates]  # ascending, because rows are sorted by (owner, id)
    pixels = batch.superpixels[image].reshape(-1).to(torch.int64)
    place = torch.searchsorted(ids, pixels).clamp(max=len(ids) - 1)
    return candidates[place], ids[place] == pixels


def patch_weights(
    rows: Tensor, found: Tensor, view_size: tuple[int, int], grid: tuple[int, int], num_rows: int
) -> Tensor:
    """Sparse (num_rows, h*w) matrix: times the patches, the sum over a region's pixels of the upsampled map.

    Mean pooling of a bilinearly upsampled map is linear in the patches, so one matrix replaces the full-resolution
    map. Exact as long as no per-pixel normalisation stands between.

    Args:
        rows, found: (H*W,) region row of each pixel, and whether it has one.
    """
    height, width = view_size
    taps_y, weight_y = _bilinear_taps(height, grid[0], rows.device)
    taps_x, weight_x = _bilinear_taps(width, grid[1], rows.device)
    row_pixels = rows.view(height, width)
    use = found.view(height, width)
    index, weight = [], []
    for a in range(2):
        for b in range(2):
            patch = taps_y[a][:, None] * grid[1] + taps_x[b][None, :]
            index.append((row_pixels * (grid[0] * grid[1]) + patch)[use])
            weight.append((weight_y[a][:, None] * weight_x[b][None, :])[use])
    keys, inverse = torch.unique(torch.cat(index), return_inverse=True)
    summed = torch.zeros(len(keys), device=rows.device).index_add(0, inverse, torch.cat(weight))
    patches = grid[0] * grid[1]
    return torch.sparse_coo_tensor(
        torch.stack([keys // patches, keys % patches]),
        summed,
        (num_rows, patches),
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


def pool_patches(images: Tensor, batch: Batch, table: RegionTable) -> tuple[Tensor, Tensor]:
    """Superpixel means of the upsampled maps without building them; (times, rows, C) and pixel counts.

    ``images`` (I, C, h, w) are frozen: the head that follows is linear, so it may be applied to the means.
    """

    def sums(image: Tensor, row: Tensor, found: Tensor) -> Tensor:
        matrix = patch_weights(row, found, _view(batch), (image.shape[1], image.shape[2]), len(table.ids))
        return torch.sparse.mm(matrix, image.flatten(1).T.float())

    return _pool_images(images, batch, table, sums)


def pool_pixels(images: Tensor, batch: Batch, table: RegionTable) -> tuple[Tensor, Tensor]:
    """Superpixel means of upsampled, per-pixel normalised maps: the published route, (times, rows, C) and counts.

    One image at a time and recomputed in the backward pass: the peak is one full-resolution map
    (C x H x W x 4 bytes), not I of them.
    """

    def one(image: Tensor, row: Tensor, found: Tensor) -> Tensor:
        pixels = F.interpolate(image[None], _view(batch), mode="bilinear", align_corners=False)[0]
        pixels = F.normalize(pixels.flatten(1).T, dim=1)
        return pixels.new_zeros(len(table.ids), pixels.shape[1]).index_add(0, row[found], pixels[found])

    def sums(image: Tensor, row: Tensor, found: Tensor) -> Tensor:
        return checkpoint(one, image, row, found, use_reentrant=False)

    return _pool_images(images, batch, table, sums)


def _view(batch: Batch) -> tuple[int, int]:
    """Height and width of the superpixel maps."""
    return int(batch.superpixels.shape[1]), int(batch.superpixels.shape[2])


def _pool_images(
    images: Tensor, batch: Batch, table: RegionTable, sums: Callable[[Tensor, Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Means over all images of a time. ``sums`` gives (rows, C) of one image, from its pixels' rows."""
    rows, times = len(table.ids), table.offsets
    total = images.new_zeros(len(times) * rows, images.shape[1], dtype=torch.float32)
    # adds 0: where no image has a region, the head still gets a gradient, of zeros, like on the other ranks
    total = total + images[:0].sum()
    count = images.new_zeros(len(times) * rows, dtype=torch.float32)
    for image in range(len(images)):
        found_rows = _image_rows(batch, table, image)
        if found_rows is None:
            continue
        row, found = found_rows
        first = times.index(int(batch.image_offset[image])) * rows
        place = torch.arange(first, first + rows, device=images.device)
        total = total.index_add(0, place, sums(images[image], row, found))
        count[first : first + rows] += torch.bincount(row[found], minlength=rows)
    means = total / count.clamp(min=1)[:, None]
    return means.view(len(times), rows, means.shape[1]), count.view(len(times), rows)


def pool_hits(pixel_features: Tensor, batch: Batch, table: RegionTable) -> tuple[Tensor, Tensor]:
    """Superpixel means over the pixels that a point of the sparse cloud hits; (times, rows, C) and counts.

    ``pixel_features`` (P, C) as from `sample_pixels`. Needs no superpixel map, so regions may be anything that names
    points: world voxels, tracks.
    """
    rows, times = len(table.ids), table.offsets
    slot = table.cloud_slot[batch.cloud[batch.pair_point]]
    dense = torch.tensor([dense for _, dense in table.slots], device=slot.device)
    valid = (table.row >= 0) & ~dense[slot]
    # sparse slots come first and in the order of `offsets`
    means, counts = segment_mean(
        pixel_features[valid], slot[valid] * rows + table.row[valid], len(times) * rows
    )
    return means.view(len(times), rows, means.shape[1]), counts.view(len(times), rows)
