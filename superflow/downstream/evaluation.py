"""Scores of classifiers on whole frames: all points, and those where the training frames never were."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..clips.sources import named
from ..datasets.frame import IGNORE_LABEL
from ..lidar.limits import Limits
from ..progress import LogLines, track
from ..together import has_free_core, one_ahead
from .features import FeatureSource, Scan, draw_points, read_scan
from .heads import Head
from .labelled import require_labelled_points
from .metrics import NO_PREDICTION, ConfusionMatrix, class_predictions
from .places import SeenVoxels, label_lookup, seen_voxels

_log = logging.getLogger(__name__)

NEW_PLACES = ", new places"


def evaluate_heads(
    source: FeatureSource,
    index: Any,
    rows: Sequence[int],
    heads: Mapping[str, Head],
    *,
    seen: SeenVoxels | None = None,
    limits: Limits | None = None,
    seed: int = 0,
) -> dict[str, ConfusionMatrix]:
    """Evaluate several heads on every labelled point of ``rows``, frame by frame, with one encoder pass a frame.

    Args:
        seen: adds "<head>, new places" with the points whose world voxel is not in it.
        limits: points outside count as errors.
        seed: of the points drawn for heads that cannot afford all of them.

    Returns:
        Matrix by name of the head.
    """
    classes = len(index.card.classes)
    suffixes = ("",) if seen is None else ("", NEW_PLACES)
    matrices = {name + suffix: ConfusionMatrix(classes) for name in heads for suffix in suffixes}
    encode = partial(_encoded, source, index, seen)
    # the next scan goes through the encoder while heads judge this one
    scans = one_ahead(iter(rows), encode) if has_free_core() else map(encode, rows)
    what = f"evaluating {' and '.join(heads)} on frames"
    found = track(scans, what, LogLines(_log, quiet=True), total=len(rows))
    for (scan, features, new), row in zip(found, rows):  # in this order, or the last of them is not told
        outside = None if limits is None else ~limits.mask(scan.points)
        labelled = (scan.labels != IGNORE_LABEL).nonzero()[:, 0]
        for name, head in heads.items():
            chosen = labelled
            if head.max_points is not None:
                chosen = draw_points(scan.labels, labelled, head.max_points, seed=(seed, int(row)))
            predicted = class_predictions(head.probabilities(features[chosen.to(features.device)])).cpu()
            if outside is not None:
                predicted[outside[chosen]] = NO_PREDICTION
            _count(matrices, name, predicted, scan, chosen, new)
    return matrices


def _encoded(
    source: FeatureSource, index: Any, seen: SeenVoxels | None, row: int
) -> tuple[Scan, Tensor, Tensor | None]:
    """A scan, the features of its N points, and (N,) which of them lie in new places."""
    scan = read_scan(index, row)
    with named(scan.points, scan.source):
        features = source(scan.points)
        return scan, features, None if seen is None else ~torch.from_numpy(seen.contains(scan.world))


def lookup_scores(
    index: Any,
    train_rows: Sequence[int],
    eval_rows: Sequence[int],
    *,
    size_m: float = 0.5,
) -> dict[str, dict[str, Any]]:
    """Scores of the control without learning, "label look-up", on all points and on new places.

    What this reaches can be had from labels carried through world coordinates; a probe must be read against it.
    Arguments as in ``places.label_lookup``.

    Raises:
        InputError: no point to learn from, or none to evaluate, has a label.
    """
    require_labelled_points(index, eval_rows, "evaluation")
    table, seen = label_lookup(index, train_rows, size_m=size_m), seen_voxels(index, train_rows, size_m)
    name = "label look-up"
    matrices = {name + suffix: ConfusionMatrix(len(index.card.classes)) for suffix in ("", NEW_PLACES)}
    for row in eval_rows:
        scan = read_scan(index, row)
        world = scan.world
        with named(scan.points, scan.source):
            new, predicted = ~torch.from_numpy(seen.contains(world)), torch.from_numpy(table.predict(world))
        _count(matrices, name, predicted, scan, torch.arange(len(world)), new)
    return {key: matrix.summary(tuple(index.card.classes)) for key, matrix in matrices.items()}


def _count(
    matrices: Mapping[str, ConfusionMatrix],
    name: str,
    predicted: Tensor,
    scan: Scan,
    chosen: Tensor,
    new: Tensor | None,
) -> None:
    """Book ``predicted`` (R,), the classes of the points ``chosen`` (R,); ``new`` (N,) tells the new places."""
    labels, distance = scan.labels[chosen], scan.ranges_m[chosen]
    matrices[name].update(predicted, labels, distance)
    if new is not None:
        there = new[chosen]
        matrices[name + NEW_PLACES].update(predicted[there], labels[there], distance[there])
