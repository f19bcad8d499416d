"""A backbone with a linear head: probing (frozen) and fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..clips.batch import Batch
from ..datasets.frame import IGNORE_LABEL
from ..errors import InputError
from ..hub.encoder_file import fill_encoder, read_encoder_file
from ..lidar.augment import transform, turned_and_mirrored
from ..lidar.encoder import LidarEncoder
from ..lidar.evaluation import evaluating
from ..lidar.limits import Limits
from ..losses import check_class_weights, check_labels, cross_entropy, lovasz_softmax

# output of `Segmentor.loss` -> what it means when it stays 0, and what to do
NEEDS = {
    "labelled_points": "no point has a label of a class; look at the label files and the classes of the card with "
    "`superflow prepare DATASET --check`, and at the limits of the training set and of the model"
}


class Segmentor(nn.Module):
    """Class scores for every point of a batch.

    Args:
        encoder: the backbone, or the config of one; None takes the one that the ``pretrained`` file describes.
        num_classes: C; None in a config means those of its data.
        pretrained: file to take the encoder's weights from: a checkpoint of pretraining, or an exported backbone. Or
            what `record` said of it, when all weights are about to come from a checkpoint of this model.
        freeze: False trains everything. True is the linear probe: weights and batch-norm statistics of the
            encoder stay, also after ``model.train()``. "weights" keeps the weights but lets the statistics adapt.
        loss_on: "points" scores every labelled point; "voxels" every voxel once, with ``voxel_label``.
        voxel_label: label of a voxel: the "majority" of its points or, as published, the "first" point's.
        class_weights: C weights of the cross-entropy.
        cross_entropy_weight, lovasz_weight: of the two losses; (1, 2) as published for SuperFlow.
        limits: region that the encoder is given; points outside get a row of zeros, which counts as an error.
        test_time_augmentation: predictions are the mean of the probabilities of so many turns of the cloud, each also
            mirrored (`lidar.augment.turned_and_mirrored`); 0 predicts the cloud as it is. Training knows nothing of it.
    """

    needs = NEEDS
    encoder: LidarEncoder
    class_weights: Tensor | None  # (C,), a buffer

    def __init__(
        self,
        encoder: LidarEncoder | dict[str, Any] | None = None,
        num_classes: int | None = None,
        *,
        pretrained: str | Path | Mapping[str, Any] | None = None,
        freeze: bool | Literal["weights"] = False,
        loss_on: Literal["points", "voxels"] = "points",
        voxel_label: Literal["majority", "first"] = "majority",
        class_weights: list[float] | Tensor | None = None,
        cross_entropy_weight: float = 1.0,
        lovasz_weight: float = 2.0,
        limits: Limits | dict[str, Any] | None = None,
        test_time_augmentation: int = 0,
    ) -> None:
        super().__init__()
        if num_classes is None:
            raise InputError(
                "model.num_classes: no dataset of the config names its classes; give their number"
            )
        if loss_on not in ("points", "voxels") or voxel_label not in ("majority", "first"):
            raise ValueError(
                f'loss_on={loss_on!r} must be "points" or "voxels", voxel_label={voxel_label!r} "majority" or "first"'
            )
        if freeze not in (False, True, "weights"):
            raise ValueError(f'freeze={freeze!r} must be False, True or "weights"')
        if not (cross_entropy_weight or lovasz_weight):
            raise InputError("cross_entropy_weight and lovasz_weight are both 0, so nothing would be learned")
        weights = None if class_weights is None else torch.as_tensor(class_weights, dtype=torch.float32)
        if weights is not None:
            check_class_weights(weights, num_classes)
        self.encoder = _encoder_of(encoder, pretrained)
        if isinstance(pretrained, str | Path):
            pretrained = fill_encoder(self.encoder, pretrained)
        self.pretrained = None if pretrained is None else dict(pretrained)
        self.head = nn.Linear(self.encoder.out_channels, num_classes)
        self.num_classes = num_classes
        self.freeze = freeze
        self.loss_on = loss_on
        self.voxel_label = voxel_label
        self.cross_entropy_weight = cross_entropy_weight
        self.lovasz_weight = lovasz_weight
        self.limits = Limits.from_record(limits)
        self.test_time_augmentation = test_time_augmentation
        self._views = turned_and_mirrored(test_time_augmentation) if test_time_augmentation else []
        self.register_buffer("class_weights", weights, persistent=False)
        if freeze:
            self.encoder.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Segmentor:
        """Switch the mode; a wholly frozen encoder stays in evaluation mode, so its statistics never move."""
        super().train(mode)
        if self.freeze is True:
            self.encoder.eval()
        return self

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Trainable parameters by name, "head" and (unless frozen) "encoder", for different learning rates."""
        groups = {"head": self.head, "encoder": self.encoder}
        trainable = {name: [p for p in part.parameters() if p.requires_grad] for name, part in groups.items()}
        return {name: parameters for name, parameters in trainable.items() if parameters}

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Loss of a labelled batch: "loss" (the sum to step on), "cross_entropy", "lovasz", and "labelled_points".

        With ``loss_on="voxels"`` also "label_noise", the share of points whose label their voxel does not have [%].

        Raises:
            ValueError: the batch has no labels.
        """
        if batch.labels is None:
            raise ValueError("the batch has no labels; Segmentor.loss needs a labelled dataset")
        points, cloud, labels = batch.points, batch.cloud, batch.labels
        if self.limits is not None:
            inside = self.limits.mask(points)
            points, cloud, labels = points[inside], cloud[inside], labels[inside]
        labelled_points = (labels != IGNORE_LABEL).sum()
        logits, inverse = self._voxel_logits(points, cloud, batch.num_clouds)
        noise: dict[str, Tensor] = {}
        if self.loss_on == "points":
            logits = logits[inverse]
        else:
            of_voxel = voxel_labels(labels, inverse, len(logits), self.num_classes, rule=self.voxel_label)
            noise["label_noise"] = label_noise(labels, of_voxel[inverse])
            labels = of_voxel
        entropy = cross_entropy(logits, labels, class_weights=self.class_weights)
        lovasz = lovasz_softmax(logits, labels)
        total = self.cross_entropy_weight * entropy + self.lovasz_weight * lovasz
        parts = {"cross_entropy": entropy.detach(), "lovasz": lovasz.detach()}
        return {"loss": total, **parts, **noise, "labelled_points": labelled_points}

    def predict(self, batch: Batch) -> Tensor:
        """(N, C) float32 probabilities, one row per point of the batch in its order, in evaluation mode.

        Rows of points outside ``limits`` are zero; ``metrics.class_predictions`` makes them "no prediction".
        """
        with evaluating(self):
            return self._probabilities(batch)

    def record(self) -> dict[str, Any]:
        """Plain description stored in checkpoints: what rebuilds the encoder, and how it was trained."""
        return {
            "kind": "segmentor",
            "encoder": self.encoder.config(),
            "limits": None if self.limits is None else self.limits.record(),
            "num_classes": self.num_classes,
            "freeze": self.freeze,
            "loss_on": self.loss_on,
            "voxel_label": self.voxel_label,
            "cross_entropy_weight": self.cross_entropy_weight,
            "lovasz_weight": self.lovasz_weight,
            "class_weights": None if self.class_weights is None else self.class_weights.tolist(),
            "pretrained": self.pretrained,
            **({"test_time_augmentation": self.test_time_augmentation} if self._views else {}),
        }

    def _probabilities(self, batch: Batch) -> Tensor:
        rows = batch.points.new_zeros(len(batch.points), self.num_classes, dtype=torch.float32)
        inside = slice(None) if self.limits is None else self.limits.mask(batch.points)
        points, cloud = batch.points[inside], batch.cloud[inside]
        if len(points):
            views = [transform(points, view) for view in self._views] or [points]
            mean = torch.zeros_like(rows[inside])
            for view in views:
                logits, inverse = self._voxel_logits(view, cloud, batch.num_clouds)
                mean += logits.float().softmax(dim=1)[inverse] / len(views)
            rows[inside] = mean
        return rows

    def _voxel_logits(self, points: Tensor, cloud: Tensor, num_clouds: int) -> tuple[Tensor, Tensor]:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze):
            voxels = self.encoder(points, cloud, num_clouds)
        return self.head(voxels.features), voxels.inverse


def voxel_labels(
    labels: Tensor,
    inverse: Tensor,
    num_voxels: int,
    num_classes: int,
    *,
    rule: str = "majority",
) -> Tensor:
    """(V,) int64 label of each voxel from the ``labels`` (N,) of its points; ``IGNORE_LABEL`` where none has one.

    Args:
        inverse: (N,) int64 voxel of each point.
        rule: "majority" of the labelled points (ties to the lower id), or the "first" point whatever its label.

    Raises:
        ValueError: a label is outside 0..C-1; it would be counted for another voxel.
    """
    if rule == "first":
        order = torch.arange(len(labels), device=labels.device)
        first = order.new_full((num_voxels,), len(labels)).scatter_reduce(0, inverse, order, "amin")
        return torch.cat([labels, labels.new_full((1,), IGNORE_LABEL)])[first]
    known = labels != IGNORE_LABEL
    check_labels(labels[known], num_classes, IGNORE_LABEL)
    votes = torch.bincount(inverse[known] * num_classes + labels[known], minlength=num_voxels * num_classes)
    votes = votes.view(num_voxels, num_classes)
    return torch.where(votes.sum(dim=1) > 0, votes.argmax(dim=1), IGNORE_LABEL)


def label_noise(labels: Tensor, of_voxel: Tensor) -> Tensor:
    """() float32 share [%] of labelled points that have another label than their voxel, ``of_voxel`` (N,).

    The "majority" keeps it as low as any label per voxel can; under "first" it also counts points whose voxel got
    none.
    """
    known = labels != IGNORE_LABEL
    return 100.0 * (of_voxel != labels)[known].sum() / known.sum().clamp(min=1)


def _encoder_of(encoder: LidarEncoder | dict[str, Any] | None, pretrained: Any) -> LidarEncoder:
    """The backbone of ``encoder``, or the one that the file ``pretrained`` describes."""
    if encoder is None:
        if not isinstance(pretrained, str | Path):
            raise ValueError("there is neither an encoder nor a pretrained file that describes one")
        encoder = read_encoder_file(pretrained).config
    return LidarEncoder(**encoder) if isinstance(encoder, dict) else encoder
