"""Classifiers on frozen features: multinomial logistic regression and k nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..losses import inverse_root_weights

CLASS_WEIGHTS = ("none", "inverse_root")
_CONSTANT = 1e-6  # spread of a feature over its mean that is rounding: divided by it, rounding would be what is learned


class Head(Protocol):
    """Anything that classifies features."""

    @property
    def max_points(self) -> int | None:
        """Points that it can afford in one frame, None for all."""

    def probabilities(self, features: Tensor) -> Tensor:
        """(N, classes) float32, rows summing to one, for ``features`` (N, C)."""


@dataclass(frozen=True, slots=True)
class LinearProbe:
    """A linear classifier on raw features; the standardisation is folded into it.

    weight: (C, classes); bias: (classes,).
    """

    weight: Tensor
    bias: Tensor
    max_points: int | None = None

    def probabilities(self, features: Tensor) -> Tensor:
        return (features @ self.weight.to(features.device) + self.bias.to(features.device)).softmax(dim=1)


def fit_linear_probe(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    *,
    weight_decay: float = 1e-3,
    class_weights: str = "none",
    iterations: int = 80,
    start: LinearProbe | None = None,
) -> LinearProbe:
    """Multinomial logistic regression on standardised features, by L-BFGS.

    Minimises the (class-weighted) mean cross-entropy + weight_decay / 2 * |W|^2, the bias not decayed. The problem is
    convex: ``start`` changes the time it takes and not the solution.

    Args:
        features: (M, C) float32. labels: (M,) int64, 0..num_classes-1.
        class_weights: "none", or "inverse_root" for count^-1/2.
        start: a probe fitted before, on the same features, to begin from.
    """
    if class_weights not in CLASS_WEIGHTS:
        raise ValueError(f"class_weights is {class_weights!r}; choose one of {', '.join(CLASS_WEIGHTS)}")
    mean = features.mean(dim=0)
    scale = features.std(dim=0, correction=0)
    constant = scale <= _CONSTANT * mean.abs()
    scale = scale.clamp(min=1e-6)
    inputs = ((features - mean) / scale).masked_fill(constant, 0.0)
    weights = None
    if class_weights == "inverse_root":
        weights = inverse_root_weights(torch.bincount(labels, minlength=num_classes)).to(features.device)
    weight = inputs.new_zeros(features.shape[1], num_classes)
    bias = inputs.new_zeros(num_classes)
    if start is not None:
        weight, bias = start.weight * scale[:, None], start.bias + mean @ start.weight
    weight, bias = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    optimiser = torch.optim.LBFGS(
        [weight, bias],
        max_iter=iterations,
        tolerance_grad=1e-5,
        tolerance_change=1e-7,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = F.cross_entropy(torch.addmm(bias, inputs, weight), labels, weight=weights)
        value = value + weight_decay / 2 * weight.square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    with torch.no_grad():
        folded = weight / scale[:, None]
        return LinearProbe(folded.detach(), (bias - mean @ folded).detach())


@dataclass(frozen=True, slots=True)
class KnnProbe:
    """Vote of the k most similar training points, by cosine.

    bank: (M, C) of unit length; labels: (M,) int64.
    """

    bank: Tensor
    labels: Tensor
    num_classes: int
    k: int = 15
    max_points: int | None = 2000
    chunk: int = 128  # rows compared at a time: chunk x M similarities, 10 MB that stay in the cache

    def probabilities(self, features: Tensor) -> Tensor:
        bank, labels = self.bank.to(features.device), self.labels.to(features.device)
        k = min(self.k, len(bank))
        parts = [features.new_zeros(0, self.num_classes)]
        for part in F.normalize(features, dim=1).split(self.chunk):
            similarity, nearest = (part @ bank.T).topk(k, dim=1)
            # similarity only breaks ties: k of them sum to less than one vote
            votes = 1 + similarity / (2 * k)
            parts.append(part.new_zeros(len(part), self.num_classes).scatter_add(1, labels[nearest], votes))
        scores = torch.cat(parts)
        return scores / scores.sum(dim=1, keepdim=True)


def fit_knn_probe(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    *,
    k: int = 15,
    per_class: int = 1500,
    max_points: int | None = 2000,
    seed: int = 0,
) -> KnnProbe:
    """A bank of at most ``per_class`` random points of each class; arguments as in ``fit_linear_probe``."""
    generator = np.random.default_rng(seed)
    kept = []
    for c in range(num_classes):
        members = (labels == c).nonzero()[:, 0].cpu().numpy()
        kept.append(generator.permutation(members)[:per_class])
    chosen = torch.from_numpy(np.sort(np.concatenate(kept))).to(features.device)
    return KnnProbe(F.normalize(features[chosen], dim=1), labels[chosen], num_classes, k, max_points)
