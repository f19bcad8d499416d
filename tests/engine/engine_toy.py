"""A model, a dataset and a config small enough that a run takes a moment. Names are registered at import."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from superflow.clips.batch import Batch
from superflow.engine import DATASETS, MODELS
from superflow.method.distributed import gather_rows, rank, world_size, world_sum

CLASSES = 3

CONFIG = """
custom_imports = dict(imports=["engine_toy"])
default_scope = "superflow"
model = dict(type="ToyModel", width=8)
train_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(type="ToyDataset", items=7))
optim_wrapper = dict(
    optimizer=dict(type="AdamW", lr=0.01, weight_decay=0.01),
    paramwise_cfg=dict(custom_keys={"head": dict(lr_mult=10.0)}),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = dict(type="OneCycleLR")
train_cfg = dict(max_iters=12, val_interval=4)
val_dataloader = dict(batch_size=2, dataset=dict(type="ToyDataset", items=5))
val_cfg = dict()
val_evaluator = dict(type="SegmentationMetric")
test_dataloader = val_dataloader
test_cfg = dict()
test_evaluator = val_evaluator
custom_hooks = [dict(type="EMAHook", momentum=0.1)]
default_hooks = dict(
    checkpoint=dict(type="CheckpointHook", interval=3, save_best="miou"), logger=dict(interval=4)
)
log_processor = dict(by_epoch=False)
visualizer = dict(type="Visualizer", vis_backends=[])
"""


@DATASETS.register_module()
class ToyDataset:
    """Points whose class is the sign pattern of x; noise and extra points come from the seed."""

    draws_by_seed = True

    class_names = ("left", "middle", "right")

    def __init__(self, items: int, broken: int | None = None) -> None:
        self.items, self.broken = items, broken

    def __len__(self) -> int:
        return self.items

    def record(self) -> dict[str, Any]:
        return {"dataset": "toy", "real": False, "hash": "0" * 8, "frames": self.items}

    def __getitem__(self, key: int | tuple[int, int]) -> Batch:
        item, seed = key if isinstance(key, tuple) else (key, 0)
        generator = torch.Generator().manual_seed(1000 * item + seed % 1000)
        points = torch.randn(20 + item, 4, generator=generator)
        if item == self.broken:
            points[0, 0] = torch.nan
        labels = (points[:, 0] > -0.5).long() + (points[:, 0] > 0.5).long()
        return Batch(
            points=points,
            cloud=torch.zeros(len(points), dtype=torch.int64),
            cloud_clip=torch.zeros(1, dtype=torch.int64),
            cloud_offset=torch.zeros(1, dtype=torch.int64),
            cloud_dense=torch.zeros(1, dtype=torch.bool),
            labels=labels,
            tokens=(f"item {item}",),
        )


@MODELS.register_module()
class ToyModel(nn.Module):
    """A net with batch norm, dropout and every source of random numbers, so that resuming has something to lose."""

    def __init__(
        self,
        width: int = 8,
        *,
        norm: bool = True,
        dropout: float = 0.1,
        freeze: bool = False,
        contrast: bool = False,
    ) -> None:
        super().__init__()
        layers = [nn.Linear(4, width), nn.BatchNorm1d(width) if norm else nn.Identity(), nn.ReLU()]
        self.backbone = nn.Sequential(*layers, nn.Dropout(dropout))
        self.head = nn.Linear(width, CLASSES)
        self.freeze, self.contrast = freeze, contrast
        self.backbone.requires_grad_(not freeze)

    def train(self, mode: bool = True) -> ToyModel:
        super().train(mode)
        if self.freeze:
            self.backbone.eval()
        return self

    def loss(self, batch: Batch) -> dict[str, Any]:
        features = self.backbone(batch.points)
        share = world_size() / world_sum(features.new_tensor(float(len(features))))
        loss = nn.functional.cross_entropy(self.head(features), batch.labels, reduction="sum") * share
        if self.contrast:
            columns, start = gather_rows(self.head(features))
            own = torch.arange(len(features)) + start
            loss = (
                loss
                + nn.functional.cross_entropy(features[:, :CLASSES] @ columns.T, own, reduction="sum") * share
            )
        return {"loss": loss, "points": float(len(batch.points)), "_features": features.detach()}

    def predict(self, batch: Batch) -> Tensor:
        return self.head(self.backbone(batch.points)).softmax(1)

    def record(self) -> dict[str, Any]:
        return {"kind": "toy", "encoder": {"width": self.head.in_features}}


@MODELS.register_module()
class NeedyModel(ToyModel):
    """The toy, which says that it needs pairs.

    Args:
        empty: so many first batches hold none. ranks: on other ranks no batch does. silent: partial losses that are 0.
    """

    needs: ClassVar[dict[str, str]] = {
        "pairs": "nothing is seen; look at the eyes",
        "loss": "nothing differs",
    }
    parts = ("near", "far")

    def __init__(
        self, width: int = 8, *, empty: int = 0, ranks: Sequence[int] = (0, 1), silent: Sequence[str] = ()
    ) -> None:
        super().__init__(width)
        self.empty, self.ranks, self.silent = empty, ranks, silent

    def loss(self, batch: Batch) -> dict[str, Any]:
        self.empty -= 1
        there = self.empty < 0 and rank() in self.ranks
        found = super().loss(batch)
        parts = {part: float(there and part not in self.silent) for part in self.parts}
        return {**found, "loss": found["loss"] * there, "pairs": 5.0 * there, **parts}


@MODELS.register_module()
class DullModel(NeedyModel):
    """Has pairs, and a loss of 0."""

    def loss(self, batch: Batch) -> dict[str, Any]:
        found = super().loss(batch)
        return {**found, "loss": 0.0 * found["loss"]}
