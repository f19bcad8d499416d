"""The rows of a batch's tables have no order: moved about, they have the same losses, figures and gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from pretrainer_rank import TRIED, first_come
from small_batch import CLASSES, EveryPointAVoxel, Fixed, Voxels, make_clip
from torch import Tensor

from superflow.clips.batch import Batch, collate
from superflow.method.pretrainer import Pretrainer


def moved(rows: int) -> tuple[Tensor, Tensor]:
    """Which row comes to each place, and to which place each row comes."""
    order = torch.arange(rows).roll(rows // 3).flip(0)
    return order, order.argsort()


def _fields(batch: Batch, prefix: str, order: Tensor) -> dict[str, Any]:
    named = {name: getattr(batch, name) for name in Batch.__dataclass_fields__ if name.startswith(prefix)}
    return {name: value[order] for name, value in named.items() if value is not None}


def other_points(batch: Batch) -> Batch:
    order, place = moved(len(batch.points))
    own = {name: getattr(batch, name)[order] for name in ("points", "cloud", "labels")}
    return replace(batch, **own, pair_point=place[batch.pairs.point])


def other_clouds(batch: Batch) -> Batch:
    order, place = moved(batch.num_clouds)
    return replace(batch, **_fields(batch, "cloud_", order), cloud=place[batch.cloud])


def other_images(batch: Batch) -> Batch:
    order, place = moved(len(batch.image_table.values))
    own = {**_fields(batch, "image", order), **_fields(batch, "superpixels", order)}
    return replace(batch, **own, pair_image=place[batch.pairs.image])


def other_clips(batch: Batch) -> Batch:
    del batch
    return collate(clips()[::-1])


def clips() -> list[Batch]:
    return [make_clip(0), make_clip(1, offsets=(0, 1), ids=4)]


class OneVoxelAPoint(EveryPointAVoxel):
    """The student of the other tests lets points share voxels by their order."""

    def forward(self, points: Tensor, cloud: Tensor, num_clouds: int, age: Tensor | None = None) -> Voxels:
        return Voxels(self.linear(points), torch.arange(len(points)))


def outcome(objective: str, batch: Batch) -> tuple[dict[str, float], list[Tensor]]:
    torch.manual_seed(0)
    teacher = None if objective == "segmentation" else Fixed()
    model = Pretrainer(
        OneVoxelAPoint(), teacher, objectives=[{"type": objective}], channels=6, num_classes=CLASSES
    )
    report = model.loss(batch)
    report["loss"].backward()
    values = {name: float(torch.as_tensor(report[name]).detach()) for name in report if name != "_features"}
    return values, [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


# of point_to_region a random point stands for its region, and which one is drawn goes by the order of the points
CHANGES = [other_points, other_clouds, other_images, other_clips]
CASES = [
    (name, change)
    for name in TRIED
    for change in CHANGES
    if (name, change) != ("point_to_region", other_points)
]


@pytest.mark.parametrize(("objective", "change"), CASES)
def test_moved_rows_change_nothing(
    objective: str, change: Callable[[Batch], Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "randperm", first_come)
    batch = collate(clips())
    values, gradients = outcome(objective, batch)
    now, now_gradients = outcome(objective, change(batch))
    assert now == pytest.approx(values, rel=1e-4, abs=1e-5)
    assert len(now_gradients) == len(gradients) > 0
    for gradient, before in zip(now_gradients, gradients):
        torch.testing.assert_close(gradient, before, rtol=1e-3, atol=1e-5)
