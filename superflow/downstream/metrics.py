"""How good a segmentation is: a confusion matrix over points, and what is read from it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..datasets.frame import IGNORE_LABEL

NO_PREDICTION = -1  # a labelled point that the model never saw, e.g. beyond its range: an error of its class
RANGE_EDGES_M = (0.0, 10.0, 20.0, 30.0, 50.0, math.inf)  # a point at an edge belongs to the farther bin

Values = Tensor | NDArray[Any]


def class_predictions(scores: Tensor, *, suppress: Iterable[int] = ()) -> Tensor:
    """(N,) int64 class with the highest score; ``NO_PREDICTION`` where a row is all zero.

    The one place where scores become classes, so that training-time and offline evaluation cannot differ.

    Args:
        scores: (N, C) probabilities (rows of points outside the model's range are zero).
        suppress: columns that can never win, such as an "ignore" logit.

    Raises:
        ValueError: a score is NaN.
    """
    if len(scores) == 0:
        return torch.zeros(0, dtype=torch.int64, device=scores.device)
    if bool(scores.isnan().any()):
        raise ValueError(f"{int(scores.isnan().any(dim=1).sum())} of {len(scores)} rows of scores hold NaN")
    unseen = (scores == 0).all(dim=1)
    suppress = list(suppress)
    if suppress:
        scores = scores.clone()
        scores[:, suppress] = -math.inf
    return torch.where(unseen, NO_PREDICTION, scores.argmax(dim=1))


class ConfusionMatrix:
    """Counts points by range, label and prediction.

    Args:
        num_classes: C.
        ignore: label that is not evaluated; 0 is as good a value as 255.

    Attributes:
        counts: (bins, C, C + 1) int64; bins of range are those between ``RANGE_EDGES_M``, the last column holds points
            without a prediction.
    """

    def __init__(self, num_classes: int, *, ignore: int | None = IGNORE_LABEL) -> None:
        if num_classes < 1:
            raise ValueError(f"num_classes is {num_classes}; at least one class is needed")
        self.num_classes = num_classes
        self.ignore = ignore
        self.counts = torch.zeros(len(RANGE_EDGES_M) - 1, num_classes, num_classes + 1, dtype=torch.int64)

    def update(self, predicted: Values, labels: Values, ranges_m: Values | None = None) -> None:
        """Count some points.

        Args:
            predicted: (N,) classes 0..C-1, or ``NO_PREDICTION``; whole numbers of any type.
            labels: (N,) train ids 0..C-1, or ``ignore``; whole numbers of any type.
            ranges_m: (N,) distance from the sensor [m]; without it all points fall into the first bin.

        Raises:
            ValueError: lengths differ, a prediction or label is outside its range or no whole number, or a range is
                NaN. Nothing is counted then: it would silently be booked under another class or range.
        """
        predicted, labels = _whole("prediction", predicted), _whole("label", labels)
        if predicted.shape != labels.shape:
            raise ValueError(f"{len(predicted)} predictions for {len(labels)} labels; both count points")
        evaluated = (
            torch.ones_like(labels, dtype=torch.bool) if self.ignore is None else labels != self.ignore
        )
        self._check("prediction", predicted, NO_PREDICTION)
        self._check("label", labels[evaluated], 0)
        ranges = torch.zeros(len(labels)) if ranges_m is None else _flat(ranges_m, torch.float64)
        if ranges.shape != labels.shape:
            raise ValueError(f"{len(ranges)} ranges for {len(labels)} labels; both count points")
        if bool(ranges.isnan().any()):
            raise ValueError(
                f"{int(ranges.isnan().sum())} of {len(ranges)} ranges are NaN; leave these points out"
            )
        edges = torch.tensor(RANGE_EDGES_M[1:-1], dtype=ranges.dtype)
        bins = torch.bucketize(ranges[evaluated], edges, right=True)
        labels, predicted = labels[evaluated], predicted[evaluated]
        column = torch.where(predicted == NO_PREDICTION, self.num_classes, predicted)
        cell = (bins * self.num_classes + labels) * (self.num_classes + 1) + column
        self.counts += torch.bincount(cell, minlength=self.counts.numel()).view_as(self.counts)

    def merge(self, other: ConfusionMatrix) -> None:
        """Add the counts of another matrix (of another process, say) with the same classes."""
        if (self.num_classes, self.ignore) != (other.num_classes, other.ignore):
            raise ValueError("only matrices with the same classes and ignore label can be merged")
        self.counts += other.counts

    def summary(self, class_names: Sequence[str], *, frequent: int = 7) -> dict[str, Any]:
        """Scores in percent as plain numbers, lists and dicts.

        Args:
            class_names: C names.
            frequent: ``frequent_miou`` is the mean over this many most frequent classes, which rare classes with
                a handful of points do not shake.

        Returns:
            ``miou``: mean IoU over the classes that occur in the labels; ``accuracy``; ``iou`` by class name,
            None for a class without labels; ``absent``: those classes, which no mean includes; ``points``,
            ``no_prediction``: evaluated points, and those of them without a prediction; ``frequent_miou``,
            ``frequent``; ``ranges``: miou, accuracy, points of each range bin.
        """
        if len(class_names) != self.num_classes:
            raise ValueError(f"{len(class_names)} class names for {self.num_classes} classes")
        total = self.counts.sum(dim=0)
        iou, present = class_iou(total)
        common = [c for c in total.sum(dim=1).argsort(descending=True, stable=True).tolist() if present[c]]
        common = common[:frequent]
        return {
            **_scores(total),
            "iou": {name: _percent(iou[c]) if present[c] else None for c, name in enumerate(class_names)},
            "absent": [name for c, name in enumerate(class_names) if not present[c]],
            "no_prediction": int(total[:, -1].sum()),
            "frequent_miou": _percent(iou[common].mean()) if common else None,
            "frequent": [class_names[c] for c in common],
            "ranges": {name: _scores(part) for name, part in zip(self.bin_names(), self.counts)},
        }

    def _check(self, what: str, values: Tensor, lowest: int) -> None:
        if len(values) == 0:
            return
        low, high = int(values.min()), int(values.max())
        if low < lowest or high >= self.num_classes:
            raise ValueError(
                f"a {what} is {high if high >= self.num_classes else low}, but there are classes "
                f"0..{self.num_classes - 1}; suppress further logits before the argmax"
            )

    @staticmethod
    def bin_names() -> list[str]:
        """Names of the ranges."""
        pairs = itertools.pairwise(RANGE_EDGES_M)
        return [f"{low:g}+ m" if math.isinf(high) else f"{low:g}-{high:g} m" for low, high in pairs]


def class_iou(counts: Tensor) -> tuple[Tensor, Tensor]:
    """(C,) float64 IoU and (C,) bool "occurs in the labels" of one (C, C + 1) table of label x prediction.

    IoU = hits / (labelled + predicted - hits). A class that is neither labelled nor predicted gets 0 here; the
    mask says that it must not enter a mean.
    """
    hits = counts.diagonal().double()
    labelled = counts.sum(dim=1).double()
    predicted = counts[:, :-1].sum(dim=0).double()
    return hits / (labelled + predicted - hits).clamp(min=1), labelled > 0


def _scores(counts: Tensor) -> dict[str, Any]:
    iou, present = class_iou(counts)
    points = int(counts.sum())
    return {
        "miou": _percent(iou[present].mean()) if points else None,
        "accuracy": _percent(counts.diagonal().sum() / points) if points else None,
        "points": points,
    }


def _percent(value: Tensor) -> float:
    return 100.0 * float(value)


def _whole(what: str, values: Values) -> Tensor:
    """(N,) int64; probabilities of a class, say, would all be cut to class 0."""
    given = _flat(values, None)
    whole = given.to(torch.int64)
    if given.is_floating_point() and bool((odd := given != whole).any()):
        raise ValueError(f"a {what} is {float(given[odd][0]):g}; give whole numbers, as of argmax")
    return whole


def _flat(values: Values, dtype: torch.dtype | None) -> Tensor:
    if isinstance(values, np.ndarray):
        values = torch.from_numpy(np.ascontiguousarray(values))
    return values.detach().reshape(-1).to("cpu", dtype)
