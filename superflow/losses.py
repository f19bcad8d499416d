"""Losses of segmentation: cross-entropy and Lovasz-softmax, both deaf to ignored labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .datasets.frame import IGNORE_LABEL
from .errors import InputError


def inverse_root_weights(counts: Tensor) -> Tensor:
    """(C,) float32 class weights proportional to count^-1/2, with mean 1 over the classes that occur.

    Args:
        counts: (C,) points of each class; a class without points gets weight 1, since nothing will use it.
    """
    counts = counts.to(torch.float64)
    occurs = counts > 0
    weights = torch.where(occurs, counts.clamp(min=1).rsqrt(), torch.zeros_like(counts))
    if occurs.any():
        weights = weights / weights[occurs].mean()
    return torch.where(occurs, weights, torch.ones_like(weights)).float()


def check_class_weights(weights: Tensor, num_classes: int) -> None:
    """Look at the weights of a `cross_entropy` before anything is trained with them.

    Raises:
        InputError: not one a class, one below 0 or not finite, or all of them 0.
    """
    if weights.shape != (num_classes,):
        raise InputError(f"{weights.numel()} class weights for {num_classes} classes; give one a class")
    if not bool((weights.isfinite() & (weights >= 0)).all()) or not bool(weights.any()):
        raise InputError(
            f"class_weights are {[round(weight, 4) for weight in weights.tolist()]}; give finite numbers from 0 on, "
            "and one above it"
        )


def cross_entropy(
    logits: Tensor, labels: Tensor, *, class_weights: Tensor | None = None, ignore: int = IGNORE_LABEL
) -> Tensor:
    """Cross-entropy, averaged over labelled rows (weighted by their class weights).

    Args:
        logits: (N, C) scores before the softmax.
        labels: (N,) train ids 0..C-1 of any integer type, or ``ignore``.
        class_weights: (C,) weight of each class; all 1 when None.

    Returns:
        Scalar in float32. Zero (with a graph) when nothing is labelled, or only what weighs nothing, so that a rank
        without labels still steps.

    Raises:
        ValueError: shapes that do not belong together, labels that are no integers, or one outside 0..C-1.
    """
    logits, labels = _labelled(logits, labels, ignore)
    if len(labels) == 0:
        return logits.sum()
    if class_weights is not None and not bool(class_weights.index_select(0, labels).any()):
        return logits[:0].sum()  # a mean of weights that are all 0 has no value
    return F.cross_entropy(logits, labels, weight=class_weights)


def lovasz_softmax(logits: Tensor, labels: Tensor, *, ignore: int = IGNORE_LABEL) -> Tensor:
    """Lovasz extension of 1 - IoU, averaged over the classes that occur (Berman, Rannen Triki, Blaschko, CVPR 2018).

    For a class c the error of row i is 1 - p_ic where i belongs to c and p_ic elsewhere. With the errors in
    descending order, row i weighs what the Jaccard loss grows by when the i worst rows are taken as mistakes
    instead of the i - 1 worst ones.

    Args:
        logits: (N, C) scores before the softmax.
        labels: (N,) train ids 0..C-1 of any integer type, or ``ignore``.

    Returns:
        Scalar in float32. Zero (with a graph) when nothing is labelled.

    Raises:
        ValueError: shapes that do not belong together, labels that are no integers, or one outside 0..C-1.
    """
    logits, labels = _labelled(logits, labels, ignore)
    if len(labels) == 0:
        return logits.sum()
    probabilities = logits.softmax(dim=1)
    classes = labels.unique()
    belongs = (labels[:, None] == classes).to(probabilities.dtype)  # (N, K)
    errors, order = (belongs - probabilities[:, classes]).abs().sort(dim=0, descending=True)
    belongs = belongs.gather(0, order)
    return (errors * _jaccard_steps(belongs)).sum(dim=0).mean()


def _jaccard_steps(belongs: Tensor) -> Tensor:
    """(N, K) growth of the Jaccard loss from the i - 1 to the i worst rows; ``belongs`` (N, K) in that order."""
    members = belongs.sum(dim=0)
    intersection = members - belongs.cumsum(dim=0)
    union = members + (1 - belongs).cumsum(dim=0)  # never 0: every row adds to one of the two
    loss = 1 - intersection / union
    return torch.cat([loss[:1], loss[1:] - loss[:-1]])


def _labelled(logits: Tensor, labels: Tensor, ignore: int) -> tuple[Tensor, Tensor]:
    """The rows with a label, logits in float32; checks what would else surface as a device-side assertion."""
    if logits.dim() != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(
            f"logits {tuple(logits.shape)} and labels {tuple(labels.shape)} must be (N, classes) and (N,)"
        )
    if labels.is_floating_point() or labels.is_complex():
        raise ValueError(f"labels are {labels.dtype}; give whole numbers, as torch.int64")
    chosen = labels != ignore
    logits, labels = logits[chosen].float(), labels[chosen].long()
    check_labels(labels, logits.shape[1], ignore)
    return logits, labels


def check_labels(labels: Tensor, num_classes: int, ignore: int = IGNORE_LABEL) -> None:
    """Look at labels (N,) without ignored ones before they are counted or looked up.

    Raises:
        ValueError: one is outside 0..C-1.
    """
    if len(labels) and (int(labels.min()) < 0 or int(labels.max()) >= num_classes):
        raise ValueError(
            f"labels run from {int(labels.min())} to {int(labels.max())}, but there are {num_classes} classes; "
            f"map raw ids to 0..{num_classes - 1} or {ignore} = ignore"
        )
