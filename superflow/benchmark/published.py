"""The loss of SuperFlow++ in the order of work of the published code, to hold ours against: plain, and slow.

Step by step, as SuperFlow's code (Xu et al., ECCV 2024) goes about it, with the term across sensor and time that
SuperFlow++ adds: clouds are cut into voxels in the step, one by one, in NumPy; the student runs four times (the centre,
the dense cloud, one neighbour, the other) and the teacher three times; every image becomes a map of all its pixels
in the shared embedding, normalised pixel by pixel; and regions are means by products with one-hot matrices, a column
for each pair and for each pixel.

What is counted is ours, so that the losses can be equal: the grid (floor, fixed origin), the alignment of cells and
pixels, sparse convolutions, and ids that name no region are none. Nothing of `superflow.method` is used but the weights
of its `Pretrainer`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..clips.batch import Batch
from ..lidar.encoder import LidarEncoder
from ..lidar.sparse import Pyramid, SparseTensor
from ..lidar.voxelize import Grid, Voxels, pack_keys
from ..method.pretrainer import Pretrainer

OBJECTIVES = ("spatial", "temporal", "cross_temporal", "dense_to_sparse")
TEMPERATURE = 0.07
CENTRE, DENSE = (0, False), (0, True)

Means = tuple[Tensor, Tensor]  # (ids, C), and whether an id has any member


def superflowpp(student: LidarEncoder, teacher: Any, **options: Any) -> Pretrainer:
    """The pretrainer whose loss is that of `published_loss`; ``options`` of `Pretrainer` may replace the published."""
    published = {
        "objectives": [{"type": name} for name in OBJECTIVES],
        "region": {"scope": "clip"},
        "pixels": "all",
        "normalize": "before",
    }
    return Pretrainer(student, teacher, **(published | options))


def published_loss(model: Pretrainer, batch: Batch, *, num_ids: int) -> dict[str, Tensor]:
    """The terms and their sum under ``loss``, from the weights of ``model`` (see `superflowpp`).

    Args:
        model: its student takes the ``first`` point of a voxel for it, as published.
        batch: of any number of clips, one sparse cloud a clip and time, one dense cloud a clip at time 0, with
            superpixel maps. Region ids are those of the clip: its cameras and times share them.
        num_ids: ids are 0 to ``num_ids`` - 1, others are no region.

    Raises:
        ValueError: the student reduces voxels otherwise.
    """
    if model.student.reduce != "first":
        raise ValueError("the published order of work takes the first point of a voxel for it")
    neighbours = sorted(set(batch.cloud_offset.tolist()) - {0})
    k, q = {}, {}
    for offset in (0, *neighbours):
        k[offset] = _superpixels(model, batch, offset, num_ids)
    for group in (CENTRE, DENSE, *((offset, False) for offset in neighbours)):
        q[group] = _superpoints(model, batch, group, num_ids)
    times = [_contrast(q[offset, False], k[offset]) for offset in (0, *neighbours)]
    over_time = [_contrast(q[CENTRE], q[offset, False]) for offset in neighbours]
    across = [_contrast(q[CENTRE], k[offset]) for offset in neighbours]
    terms = (
        torch.stack(times).mean(),
        torch.stack(over_time).mean(),
        torch.stack(across).mean(),
        _contrast(q[CENTRE], q[DENSE]),
    )
    losses = dict(zip(OBJECTIVES, terms))
    return {"loss": torch.stack(terms).sum()} | losses


def _superpixels(model: Pretrainer, batch: Batch, offset: int, num_ids: int) -> Means:
    """One pass of the teacher: means of all pixels, each normalised, over the ids of each clip."""
    assert batch.superpixels is not None
    table = batch.image_table
    rows = torch.nonzero(table.offset == offset)[:, 0]
    seen = replace(
        batch, images=table.values[rows], image_clip=table.clip[rows], image_offset=table.offset[rows]
    )
    maps = model.image_features(seen)
    head: Any = model.image_head
    maps = F.conv2d(maps, head.weight[:, :, None, None], head.bias)
    ids = batch.superpixels[rows].long()
    pixels = F.interpolate(maps, ids.shape[1:], mode="bilinear", align_corners=False)
    pixels = F.normalize(pixels, dim=1).permute(0, 2, 3, 1).flatten(0, 2)
    clip = table.clip[rows][:, None, None].expand_as(ids)
    return _one_hot_means(pixels, clip.flatten(), ids.flatten(), num_ids, _clips(batch))


def _superpoints(model: Pretrainer, batch: Batch, group: tuple[int, bool], num_ids: int) -> Means:
    """One pass of the student: means of the pairs of a group of clouds over the ids of each clip."""
    offset, dense = group
    clouds = torch.nonzero((batch.cloud_offset == offset) & (batch.cloud_dense == dense))[:, 0].tolist()
    points = [torch.nonzero(batch.cloud == cloud)[:, 0] for cloud in clouds]
    embedded, inverse = _student_pass(model, [batch.points[rows] for rows in points])
    place = torch.full((len(batch.points),), -1)
    place[torch.cat(points)] = torch.arange(len(inverse))
    pairs = batch.pairs
    mine = torch.nonzero(place[pairs.point] >= 0)[:, 0]
    clip = batch.cloud_clip[batch.cloud[pairs.point[mine]]]
    features = embedded[inverse[place[pairs.point[mine]]]]
    return _one_hot_means(features, clip, pairs.region[mine].long(), num_ids, _clips(batch))


def _student_pass(model: Pretrainer, clouds: list[Tensor]) -> tuple[Tensor, Tensor]:
    """(V, C) normalised features of the voxels of these clouds, and (N,) the voxel of each point."""
    student = model.student
    voxels, first = numpy_voxels(clouds, student.grid)
    columns = {"x": 0, "y": 1, "z": 2, "raw_intensity": 3}
    inputs = torch.cat(clouds)[first][:, [columns[name] for name in student.inputs]]
    output = student.backbone(SparseTensor(inputs, Pyramid.from_voxels(voxels)))
    return F.normalize(model.point_head(output.features), dim=1), voxels.inverse


def numpy_voxels(clouds: list[Tensor], grid: Grid) -> tuple[Voxels, Tensor]:
    """The voxels of clouds, cloud by cloud in NumPy, and the row of the first point of each in the points of all."""
    coords, inverses, firsts = [], [], []
    voxels_before = points_before = 0
    for number, points in enumerate(clouds):
        cells = grid.index(points[:, :3]).cpu().numpy().astype(np.int64)
        shifted = cells - cells.min(0)
        extent = shifted.max(0) + 1
        code = (shifted[:, 0] * extent[1] + shifted[:, 1]) * extent[2] + shifted[:, 2]
        _, first, voxel = np.unique(code, return_index=True, return_inverse=True)
        coords.append(np.column_stack([np.full(len(first), number), cells[first]]))
        firsts.append(first + points_before)
        inverses.append(voxel + voxels_before)
        voxels_before += len(first)
        points_before += len(points)
    found, inverse = torch.from_numpy(np.concatenate(coords)), torch.from_numpy(np.concatenate(inverses))
    low = torch.tensor([0, *grid.low])
    order = torch.argsort(inverse, stable=True)
    counts = torch.bincount(inverse, minlength=len(found))
    voxels = Voxels(
        coords=found.int(),
        keys=pack_keys(found - low, grid.shape),
        inverse=inverse,
        order=order,
        starts=torch.cat([counts.new_zeros(1), counts.cumsum(0)]),
        grid=grid,
        num_clouds=len(clouds),
    )
    return voxels, torch.from_numpy(np.concatenate(firsts))


def _one_hot_means(features: Tensor, clip: Tensor, ids: Tensor, num_ids: int, clips: int) -> Means:
    """Means of (M, C) ``features`` over the ids of each clip, by a product with a one-hot matrix of M columns.

    What has no id goes to a row of its own, which is dropped.
    """
    known = (ids >= 0) & (ids < num_ids)
    row = torch.where(known, clip * num_ids + ids, clips * num_ids)
    place = torch.stack([row, torch.arange(len(row))])
    size = (clips * num_ids + 1, len(row))
    one_hot = torch.sparse_coo_tensor(place, torch.ones(len(row)), size, check_invariants=False)
    counts = torch.sparse.sum(one_hot, 1).to_dense()[:-1]
    means = torch.sparse.mm(one_hot, features)[:-1] / counts.clamp(min=1)[:, None]
    return means, counts > 0


def _contrast(anchors: Means, targets: Means) -> Tensor:
    """InfoNCE of the ids that both sides have, one direction."""
    both = anchors[1] & targets[1]
    logits = anchors[0][both] @ targets[0][both].T / TEMPERATURE
    return F.cross_entropy(logits, torch.arange(len(logits)))


def _clips(batch: Batch) -> int:
    return int(batch.cloud_clip.max()) + 1
