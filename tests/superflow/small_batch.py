"""A small batch with everything in it: two clips, three times, a dense cloud, two cameras."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from superflow.clips.batch import Batch
from superflow.method.matches import LabelledPoints, StudentPairs, Superpixels, Superpoints
from superflow.method.objective import Objective, Sizes
from superflow.method.objectives import OBJECTIVES
from superflow.method.regions import RegionTable

POINTS, PAIRS, VIEW, GRID = 12, 20, (8, 12), (4, 6)
OFFSETS, CAMERAS, CHANNELS, CLASSES = (-1, 0, 1), 2, 5, 4

EVERY = ["spatial", "temporal", "cross_temporal", "dense_to_sparse", "point_regression", "point_contrast"]
EVERY += ["segmentation", "tolerant_spatial", "point_to_region"]
EVERY += ["stage_regression", "global_regression", "prototypes"]
_ALL: dict[str, Any] = {
    "objectives": [{"type": name} for name in EVERY],
    "channels": 6,
    "num_classes": CLASSES,
}
# options of pretrainers that between them run all that a step can run
PRETRAINERS: dict[str, dict] = {
    "published": _ALL,
    "after": _ALL | {"normalize": "after"},
    "hit": _ALL | {"normalize": "after", "pixels": "hit"},
    "no image head": _ALL | {"channels": None},
    "batch norm apart": _ALL | {"batch_norm": {"dense": "own", "neighbours": "running"}},
    "pooling": _ALL
    | {"region": {"weighting": "voxel", "range_power": -1.0, "min_points": 2, "ignore": (1,)}},
    "other losses": _ALL
    | {
        "objectives": [
            {"type": "point_regression", "kind": "l2", "even": True},
            {"type": "dense_to_sparse", "kind": "l2", "stop": "dense"},
            {"type": "point_contrast", "even": True},
            {"type": "segmentation", "class_weights": "none", "lovasz": 2.0},
        ]
    },
    "memory": _ALL
    | {
        "objectives": [
            {"type": "spatial", "queue": 64, "learn_temperature": True},
            {"type": "temporal", "same_id": "positive", "max_rows": 5, "symmetric": True, "tolerance": 0.5},
        ]
    },
}


@dataclass
class Voxels:
    features: Tensor
    inverse: Tensor


class EveryPointAVoxel(nn.Module):
    """A student without convolutions: features are a linear map of the points; two points share a voxel."""

    out_channels = 7

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, self.out_channels)

    def forward(self, points: Tensor, cloud: Tensor, num_clouds: int, age: Tensor | None = None) -> Voxels:
        return Voxels(self.linear(points[::2]), torch.arange(len(points)) // 2)

    def config(self) -> dict:
        return {"kind": "linear"}


class Fixed(nn.Module):
    """A teacher that returns its images: the batch's random maps are the features."""

    channels = 5
    scale_channels = (1, 2, 2)

    def forward(self, images: Tensor) -> Tensor:
        return images


def table_of(ids: Tensor, groups: list[tuple[int, bool]], *, space: int | Tensor = 0) -> RegionTable:
    """A table of one clip whose regions have these ids, and no pairs."""
    nothing = torch.zeros(0, dtype=torch.int64)
    return RegionTable(nothing, ids, torch.zeros_like(ids), ids ^ space, "clip", groups, nothing)


def matches(groups, q, k, q_count=None, k_count=None, ids=None) -> dict[type, Any]:
    """Superpoints (groups, regions, C) and superpixels (times, regions, C), all of them filled unless counts say so."""
    count = q.shape[1]
    table = table_of(torch.arange(count) if ids is None else ids, groups)
    q_count = torch.ones(len(groups), count) if q_count is None else q_count
    k_count = torch.ones(len(k), count) if k_count is None else k_count
    return {
        Superpoints: Superpoints(table, q, q_count, torch.zeros(count, 0)),
        Superpixels: Superpixels(table, k, k_count),
    }


def with_table(found: dict[type, Any], **changes: Any) -> dict[type, Any]:
    """Matched features with other values of their table."""
    table = replace(found[Superpoints].table, **changes)
    return {
        kind: replace(part, table=table) if hasattr(part, "table") else part for kind, part in found.items()
    }


def make_objective(name: str, found: dict[type, Any], **options: Any) -> Objective:
    """An objective for features of these sizes."""
    q, points = found.get(Superpoints), found.get(LabelledPoints)
    shared, teacher = (0, 0) if q is None else (q.features.shape[-1], q.teacher.shape[-1])
    student = 0 if points is None else points.voxels.shape[-1]
    pairs = found.get(StudentPairs)
    if pairs is not None:
        student, teacher = pairs.voxels.shape[-1], pairs.pixel.shape[-1]
    scales = (teacher - 4, 1, 3) if teacher > 4 else (teacher,)
    return OBJECTIVES[name](sizes=Sizes(student, teacher, shared, CLASSES, scales), **options)


def value(name: str, found: dict[type, Any], **options: Any) -> Tensor:
    """What a new objective says of matched features."""
    return of(make_objective(name, found, **options), found)


def of(objective: Objective, found: dict[type, Any]) -> Tensor:
    """What an objective says of those of the matched features that it reads."""
    return objective(*(found[kind] for kind in objective.reads))


def _labels(seed: int, points: int) -> Tensor:
    """Classes of points, in unlike shares; a third has none."""
    generator = torch.Generator().manual_seed(seed + 1000)
    labels = torch.randint(CLASSES, (points,), generator=generator) * torch.randint(
        2, (points,), generator=generator
    )
    return labels.masked_fill(torch.rand(points, generator=generator) < 0.33, 255)


def make_clip(seed: int, *, offsets: tuple[int, ...] = OFFSETS, dense: bool = True, ids: int = 6) -> Batch:
    """One clip: a cloud a time and a dense one, two images a time, random pairs with the ids under their pixels."""
    generator = torch.Generator().manual_seed(seed)
    clouds = [(offset, False) for offset in offsets] + ([(0, True)] if dense else [])
    images = [(offset, camera) for offset in offsets for camera in range(CAMERAS)]
    maps = torch.randint(ids, (len(images), *VIEW), generator=generator, dtype=torch.int32)
    point, image, pixel = [], [], []
    for place, (offset, _) in enumerate(clouds):
        own = [row for row, (when, _) in enumerate(images) if when == offset]
        point.append(torch.randint(POINTS, (PAIRS,), generator=generator) + place * POINTS)
        image.append(torch.tensor(own)[torch.randint(len(own), (PAIRS,), generator=generator)])
        u = torch.randint(VIEW[1], (PAIRS,), generator=generator)
        v = torch.randint(VIEW[0], (PAIRS,), generator=generator)
        pixel.append(torch.stack([u, v], dim=1))
    pair_image, pair_pixel = torch.cat(image), torch.cat(pixel)
    return Batch(
        points=torch.randn(len(clouds) * POINTS, 4, generator=generator),
        cloud=torch.arange(len(clouds)).repeat_interleave(POINTS),
        cloud_clip=torch.zeros(len(clouds), dtype=torch.int64),
        cloud_offset=torch.tensor([offset for offset, _ in clouds]),
        cloud_dense=torch.tensor([dense for _, dense in clouds]),
        images=torch.randn(len(images), CHANNELS, *GRID, generator=generator),
        image_clip=torch.zeros(len(images), dtype=torch.int64),
        image_offset=torch.tensor([offset for offset, _ in images]),
        image_camera=torch.tensor([camera for _, camera in images]),
        image_space=torch.zeros(len(images), dtype=torch.int64),
        superpixels=maps,
        pair_point=torch.cat(point),
        pair_image=pair_image,
        pair_pixel=pair_pixel.float(),
        pair_region=maps[pair_image, pair_pixel[:, 1], pair_pixel[:, 0]].to(torch.int64),
        labels=_labels(seed, len(clouds) * POINTS),
        view_size=VIEW,
        tokens=tuple(f"{seed}-{offset}" for offset, _ in clouds),
    )
