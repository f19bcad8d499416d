"""What labels teach: the classes of points, through a head beside those for the image teacher."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..losses import check_labels, inverse_root_weights, lovasz_softmax
from .contrast import mean_of_rows
from .distributed import gather_rows, world_sum
from .matches import LabelledPoints
from .objective import Objective

CLASS_WEIGHTS = ("none", "inverse_root")


class Segmentation(Objective):
    """Cross-entropy of a linear head with the points' classes; clips without labels add nothing.

    Args:
        class_weights: ``inverse_root``: a class weighs n^-1/2, with n the labelled points of it that training has seen
            so far, those of the step included; ``none``: all alike.
        lovasz: weight of the Lovasz-softmax loss beside the cross-entropy (fine-tuning as published: 2).
    """

    reads = (LabelledPoints,)
    seen: Tensor  # (classes,) int64 points of each class so far

    def __init__(self, *, class_weights: str = "inverse_root", lovasz: float = 0.0, **options: Any) -> None:
        super().__init__(**options)
        if class_weights not in CLASS_WEIGHTS:
            raise InputError(
                f"segmentation: class_weights {class_weights!r} is unknown; use one of {', '.join(CLASS_WEIGHTS)}"
            )
        if self.sizes.classes < 1:
            raise InputError(
                "segmentation learns from labels, and the data have none: let SegmentDataset read them, or "
                "PretrainDataset with clouds.labels=True"
            )
        self.class_weights, self.lovasz = class_weights, lovasz
        self.head = nn.Linear(self.sizes.student, self.sizes.classes)
        self.register_buffer("seen", torch.zeros(self.sizes.classes, dtype=torch.int64))

    def forward(self, points: LabelledPoints) -> Tensor:
        """Mean over the labelled points of all ranks, each with the weight of its class."""
        classes = self.sizes.classes
        check_labels(points.label, classes)
        logits = self.head(points.voxels)
        # points of one voxel share its logits: the sum over them is one product with their numbers
        table = torch.bincount(points.voxel * classes + points.label, minlength=len(logits) * classes)
        table = table.view(len(logits), classes)
        weighted = table * self._weights(table.sum(0))
        total = -(weighted * logits.log_softmax(dim=1)).sum()
        value = mean_of_rows(total, weighted.sum())
        if self.lovasz:
            every, _ = gather_rows(logits[points.voxel])
            value = value + self.lovasz * lovasz_softmax(every, gather_rows(points.label)[0])
        return value

    def _weights(self, counts: Tensor) -> Tensor:
        """(classes,) float32, of the classes whose points are counted."""
        if self.class_weights == "none":
            return torch.ones_like(counts, dtype=torch.float32)
        seen = self.seen + world_sum(counts)
        if self.training:
            self.seen.copy_(seen)
        return inverse_root_weights(seen)
