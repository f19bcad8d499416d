"""What is measured on an evaluation set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..clips.batch import Batch
from ..datasets.frame import IGNORE_LABEL
from ..downstream.metrics import RANGE_EDGES_M, ConfusionMatrix, class_predictions
from ..errors import InputError
from ..method.distributed import world_sum
from .registry import METRICS


@METRICS.register_module()
class SegmentationMetric:
    """mIoU and accuracy over all labelled points of the files, per class and per range [%].

    Args:
        ignore: label that is not evaluated.
        range_edges_m: borders of the range bins, horizontal distance from the sensor.
        suppress: class ids that are never predicted.
    """

    def __init__(
        self,
        *,
        ignore: int = IGNORE_LABEL,
        range_edges_m: Sequence[float] = RANGE_EDGES_M,
        suppress: Sequence[int] = (),
    ) -> None:
        self.suppress = tuple(suppress)
        self.dataset_meta: dict[str, Any] = {}
        self._empty = partial(ConfusionMatrix, ignore=ignore, range_edges_m=tuple(range_edges_m))
        self._matrix: ConfusionMatrix | None = None

    def process(self, data_batch: Batch, data_samples: tuple[Batch, Tensor]) -> None:
        """Count the points of one batch."""
        batch, scores = data_samples
        if batch.labels is None:
            raise InputError("the evaluation set has no labels; choose labelled frames")
        if self._matrix is None:
            self._matrix = self._empty(scores.shape[1])
        predicted = class_predictions(scores, suppress=self.suppress)
        self._matrix.update(predicted, batch.labels, torch.linalg.vector_norm(batch.points[:, :2], dim=1))

    def evaluate(self, size: int) -> dict[str, Any]:
        """Scores of all ranks together: flat names for logs, and the full summary under ``segmentation``."""
        names = self.dataset_meta.get("classes")
        matrix = self._matrix or self._empty(len(names or ()))
        matrix.counts = world_sum(matrix.counts)
        summary = matrix.summary(names or [f"class {c}" for c in range(matrix.num_classes)])
        self._matrix = None
        flat = {name: summary[name] for name in ("miou", "accuracy", "frequent_miou")}
        flat |= {f"iou/{name}": value for name, value in summary["iou"].items()}
        flat |= {f"miou/{name}": part["miou"] for name, part in summary["ranges"].items()}
        return {**{name: value for name, value in flat.items() if value is not None}, "segmentation": summary}


@METRICS.register_module()
class LossMetric:
    """Means over batches of what ``model.loss`` returns, for sets held out of pretraining.

    Each batch is looked at by itself, so that the number of processes does not change them.

    Args:
        prefix: put before each name.
    """

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.dataset_meta: dict[str, Any] = {}
        self._sums: dict[str, float] = {}
        self._batches = 0

    def process(self, data_batch: Batch, data_samples: tuple[Batch, Mapping[str, Any]]) -> None:
        """Add the scalars of one batch."""
        self._batches += 1
        for name, value in data_samples[1].items():
            if not name.startswith("_"):
                self._sums[name] = self._sums.get(name, 0.0) + float(value)

    def evaluate(self, size: int) -> dict[str, float]:
        """The means, over the batches of all ranks.

        Raises:
            InputError: the model counts its pairs, and no batch has any: a loss of 0 would be the best of all.
        """
        names = sorted(self._sums)
        own = [*(self._sums[name] for name in names), self._batches]
        *totals, batches = world_sum(torch.tensor(own, dtype=torch.float64)).tolist()
        self._sums, self._batches = {}, 0
        if dict(zip(names, totals)).get("pairs") == 0:
            raise InputError(
                f"none of the {size} held-out frames has a LiDAR point on an image; look at them with "
                "`superflow prepare DATASET --check`, or choose others in val_dataloader.dataset.frames"
            )
        return {self.prefix + name: total / max(batches, 1) for name, total in zip(names, totals)}
