"""What is measured on an evaluation set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..clips.batch import Batch
from ..downstream.metrics import ConfusionMatrix, class_predictions
from ..errors import InputError
from ..method.distributed import gather_values, world_sum
from .registry import METRICS

_WHOLE = ("miou", "accuracy", "frequent_miou")


@METRICS.register_module()
class SegmentationMetric:
    """mIoU and accuracy over all labelled points of the files, per class and per range [%]."""

    def __init__(self) -> None:
        self.dataset_meta: dict[str, Any] = {}
        self._matrix: ConfusionMatrix | None = None

    def names(self) -> list[str] | None:
        """What an evaluation may give, of classes and ranges where there are points; None before classes are known."""
        classes = self.dataset_meta.get("classes")
        if not classes:
            return None
        ranges = ConfusionMatrix(len(classes)).bin_names()
        return [*_WHOLE, *(f"iou/{name}" for name in classes), *(f"miou/{name}" for name in ranges)]

    def process(self, data_batch: Batch, data_samples: tuple[Batch, Tensor]) -> None:
        """Count the points of one batch."""
        batch, scores = data_samples
        if batch.labels is None:
            raise InputError("the evaluation set has no labels; choose labelled frames")
        if self._matrix is None:
            self._matrix = ConfusionMatrix(scores.shape[1])
        ranges_m = torch.linalg.vector_norm(batch.points[:, :2], dim=1)
        self._matrix.update(class_predictions(scores), batch.labels, ranges_m)

    def evaluate(self, size: int) -> dict[str, Any]:
        """Scores of all ranks together: flat names for logs, and the full summary under ``segmentation``."""
        names = self.dataset_meta.get("classes")
        matrix = self._matrix or ConfusionMatrix(len(names or ()))
        matrix.counts = world_sum(matrix.counts)
        summary = matrix.summary(names or [f"class {c}" for c in range(matrix.num_classes)])
        self._matrix = None
        flat = {name: summary[name] for name in _WHOLE}
        flat |= {f"iou/{name}": value for name, value in summary["iou"].items()}
        flat |= {f"miou/{name}": part["miou"] for name, part in summary["ranges"].items()}
        return {**{name: value for name, value in flat.items() if value is not None}, "segmentation": summary}


@METRICS.register_module()
class LossMetric:
    """Means over batches of what ``model.loss`` returns, for sets held out of pretraining.

    Each batch is looked at by itself, so that the number of processes does not change them. What only some batches
    give, as the figures of a contrast without rows, is the mean over these.
    """

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, int]] = {}  # with the number of batches that gave a value

    def process(self, data_batch: Batch, data_samples: tuple[Batch, Mapping[str, Any]]) -> None:
        """Add the scalars of one batch."""
        for name, value in data_samples[1].items():
            if not name.startswith("_"):
                total, batches = self._sums.get(name, (0.0, 0))
                self._sums[name] = total + float(value), batches + 1

    def evaluate(self, size: int) -> dict[str, float]:
        """The means, over the batches of all ranks.

        Raises:
            InputError: the model counts its pairs, and no batch has any: a loss of 0 would be the best of all.
        """
        ranks, self._sums = gather_values(self._sums), {}  # each has the names that its batches gave
        found = {
            name: [sum(column) for column in zip(*(of[name] for of in ranks if name in of))]
            for name in sorted(set().union(*ranks))
        }
        if "pairs" in found and found["pairs"][0] == 0:
            raise InputError(
                f"none of the {size} held-out frames has a LiDAR point on an image; look at them with "
                "`superflow prepare DATASET --check`, or choose others in val_dataloader.dataset.frames"
            )
        return {name: total / batches for name, (total, batches) in found.items()}
