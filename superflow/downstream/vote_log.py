"""Voting along a log: scores beside the unvoted ones."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..clips.batch import Batch
from ..clips.sources import named
from ..datasets.frame import IGNORE_LABEL
from ..progress import LogLines, track
from ..protocol import token_hash
from .features import FeatureSource, Scan, read_scan
from .heads import Head
from .labelled import require_labelled_points
from .metrics import ConfusionMatrix, class_iou, class_predictions
from .segmentor import Segmentor
from .tracks import standing_points
from .voting import Ballot, VotingOptions, is_beside, neighbour_rows, vote

_log = logging.getLogger(__name__)

Predictor = Callable[[Scan], Tensor]  # (N, C) probabilities of one scan

# names, in the cards of this package, of classes that move by themselves
MOVING = frozenset(
    ("bicycle", "bicyclist", "bus", "car", "construction_vehicle", "cyclist", "motorcycle", "motorcyclist")
    + ("other-vehicle", "other_vehicle", "pedestrian", "person", "rider", "trailer", "truck", "vehicle")
)


def head_predictor(source: FeatureSource, head: Head) -> Predictor:
    """Probabilities of a probe: ``probe(...)`` returns both parts."""
    return lambda scan: head.probabilities(source(scan.points)).cpu()


def segmentor_predictor(segmentor: Segmentor, *, full_intensity: float = 1.0) -> Predictor:
    """Probabilities of a fine-tuned model, on the device where it is.

    ``full_intensity``: what an intensity of 1 is to the model; 255 to one that was trained with ``raw_intensity``.
    """
    device = next(segmentor.parameters()).device

    def predict(scan: Scan) -> Tensor:
        points = scan.points.clone()
        points[:, 3] *= full_intensity
        return segmentor.predict(Batch.of_cloud(points).to(device)).cpu()

    return predict


def moving_classes(class_names: Sequence[str]) -> tuple[int, ...]:
    """Ids of the classes that can move, by their names."""
    return tuple(c for c, name in enumerate(class_names) if name.lower() in MOVING)


def evaluate_voting(
    index: Any,
    rows: Sequence[int],
    predict: Predictor,
    variants: Mapping[str, VotingOptions],
    *,
    labelled_rows: Sequence[int],
) -> dict[str, Any]:
    """Scores on all points of ``rows``: unvoted, voted, and the control of smoothing within the scan itself.

    Every scan is predicted once, whatever the number of variants.

    Args:
        index: a ``LogIndex``. rows: labelled key frames to evaluate.
        predict: the model; its predictions alone vote.
        variants: name -> options, such as ``{"voted": VotingOptions.window(2)}``. Each also gets its control.
        labelled_rows: frames whose labels trained the model. They never vote, nor do sweeps next to them: their
            predictions repeat labels.

    Returns:
        "unvoted": ``ConfusionMatrix.summary``. "variants": name -> dict of "scores", "control" (summaries),
        "coverage" and "changed" (% of points with enough votes heeded, and with another class than before), "moving"
        and "static" (mIoU over classes that can move or not: unvoted, control, voted), "options".
        "left_out": how often such a scan would have voted.

    Raises:
        InputError: a variant uses ``tracks`` and the log has no boxes, or no point of ``rows`` has a label.
        ValueError: an evaluated row is also among ``labelled_rows``.
    """
    index.require("voting over time", "test without --vote", poses=True)
    rows, banned = [int(row) for row in rows], {int(row) for row in labelled_rows}
    if banned & set(rows):
        raise ValueError(
            f"row {min(banned & set(rows))} is evaluated although the model was trained on its labels"
        )
    require_labelled_points(index, rows, "evaluation")
    classes = tuple(index.card.classes)
    plain = ConfusionMatrix(len(classes))
    results = {name: _VariantCount(len(classes), options) for name, options in variants.items()}
    windows = {(offset, options.sweeps) for options in variants.values() for offset in options.offsets}
    ballots = Ballots(index, predict, keep=2 * len(windows) + 1)
    left_out = 0
    for row in track(rows, "voting on frames", LogLines(_log, quiet=True)):
        scan = read_scan(index, row)
        own = ballots.of(row)
        refused: set[int] = set()
        before = class_predictions(own.probabilities)
        plain.update(before, scan.labels, scan.ranges_m)
        for count in results.values():
            around = neighbour_rows(index, row, count.options.offsets, sweeps=count.options.sweeps)
            refused |= {other for other in around.values() if is_beside(index, other, banned)}
            mine = {offset: ballots.of(other) for offset, other in around.items() if other not in refused}
            count.add(own, mine, before, scan, still_points(index, row, mine, scan, count.options))
        left_out += len(refused)
    unvoted = plain.counts.sum(dim=0)
    return {
        "unvoted": plain.summary(classes),
        "variants": {name: count.summary(classes, unvoted) for name, count in results.items()},
        "left_out": left_out,
        "eval_frames": len(rows),
        "eval_hash": token_hash(index.tokens(rows)),
    }


def still_points(
    index: Any, row: int, offsets: Collection[int], scan: Scan, options: VotingOptions
) -> Tensor | None:
    """(N,) points of ``scan`` in boxes that stand still through the frames that vote; None without ``tracks``."""
    if not options.tracks:
        return None
    points, pose = scan.points.numpy(), scan.lidar_to_world
    return torch.from_numpy(standing_points(index, row, sorted(offsets), points, pose, max_m=options.voxel_m))


class Ballots:
    """Predictions of the scans around the current one, each made once."""

    def __init__(
        self, index: Any, predict: Predictor, *, keep: int, labelled: set[int] | None = None
    ) -> None:
        self._index, self._predict, self._keep = index, predict, max(keep, 1)
        self._labelled = labelled or set()
        self._held: OrderedDict[tuple[int, bool], Ballot] = OrderedDict()

    def of(self, row: int, *, labels: bool = True) -> Ballot:
        """That of a scan; ``labels`` False: predicted, even if the scan votes with its annotation."""
        from_labels = labels and row in self._labelled
        key = (row, from_labels)
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key]
        scan = read_scan(self._index, row, labels=from_labels)
        if from_labels:
            probabilities = _one_hot(scan.labels, len(self._index.card.classes))
        else:
            with named(scan.points, scan.source):
                probabilities = self._predict(scan)
        ballot = Ballot(
            scan.points[:, :3],
            probabilities,
            scan.lidar_to_world,
            from_labels=from_labels,
            source=scan.source,
        )
        self._held[key] = ballot
        while len(self._held) > self._keep:
            self._held.popitem(last=False)
        return ballot


class _VariantCount:
    """Counts of one set of options and of its control."""

    def __init__(self, num_classes: int, options: VotingOptions) -> None:
        self.options = options
        self.voted, self.control = ConfusionMatrix(num_classes), ConfusionMatrix(num_classes)
        self.points = self.heeded = self.changed = 0

    def add(
        self, own: Ballot, others: dict[int, Ballot], before: Tensor, scan: Scan, still: Tensor | None
    ) -> None:
        voted = vote(own, others, self.options, still=still)
        after = class_predictions(voted.probabilities)
        self.voted.update(after, scan.labels, scan.ranges_m)
        smoothed = vote(own, {}, self.options.control(), still=still)  # the same guard, other voters
        self.control.update(class_predictions(smoothed.probabilities), scan.labels, scan.ranges_m)
        self.points += len(before)
        self.heeded += int(voted.heeded.sum())
        self.changed += int((after != before).sum())

    def summary(self, classes: Sequence[str], unvoted: Tensor) -> dict[str, Any]:
        moving = moving_classes(classes)
        static = tuple(c for c in range(len(classes)) if c not in moving)
        tables = {
            "unvoted": unvoted,
            "control": self.control.counts.sum(dim=0),
            "voted": self.voted.counts.sum(dim=0),
        }
        return {
            "scores": self.voted.summary(classes),
            "control": self.control.summary(classes),
            "coverage": 100.0 * self.heeded / max(self.points, 1),
            "changed": 100.0 * self.changed / max(self.points, 1),
            "moving": {name: _mean_iou(table, moving) for name, table in tables.items()},
            "static": {name: _mean_iou(table, static) for name, table in tables.items()},
            "options": asdict(self.options),
        }


def _mean_iou(table: Tensor, classes: Sequence[int]) -> float | None:
    iou, present = class_iou(table)
    chosen = [c for c in classes if present[c]]
    return 100.0 * float(iou[chosen].mean()) if chosen else None


def _one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """(N, C) float32; rows of ignored points are zero and so carry no weight."""
    known = labels != IGNORE_LABEL
    return F.one_hot(torch.where(known, labels, 0), num_classes).float() * known[:, None]
