"""Voting along a log: scores beside the unvoted ones, and pseudo-labels for scans without labels."""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..clips.batch import Batch
from ..clips.sources import named
from ..datasets.cloud import file_values
from ..datasets.frame import IGNORE_LABEL
from ..errors import InputError
from ..files.access import check_place
from ..files.writes import write_atomically
from ..progress import LogLines, track
from ..protocol import token_hash
from .features import FeatureSource, Scan, read_scan
from .heads import Head
from .labelled import require_labelled_points
from .metrics import ConfusionMatrix, class_iou, class_predictions
from .places import label_lookup
from .segment_data import pseudo_label_path
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
        one = torch.zeros(1, dtype=torch.int64)
        cloud = torch.zeros(len(scan.points), dtype=torch.int64)
        points = scan.points.clone()
        points[:, 3] *= full_intensity
        batch = Batch(points, cloud, one, one, torch.zeros(1, dtype=torch.bool))
        return segmentor.predict(batch.to(device)).cpu()

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
    ballots = _Ballots(index, predict, keep=2 * len(windows) + 1)
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
            count.add(own, mine, before, scan, _still(index, row, mine, scan, count.options))
        left_out += len(refused)
    unvoted = plain.counts.sum(dim=0)
    return {
        "unvoted": plain.summary(classes),
        "variants": {name: count.summary(classes, unvoted) for name, count in results.items()},
        "left_out": left_out,
        "eval_frames": len(rows),
        "eval_hash": token_hash(index.tokens(rows)),
    }


def write_pseudo_labels(
    index: Any,
    rows: Sequence[int],
    predict: Predictor,
    folder: str | Path,
    options: VotingOptions,
    *,
    evaluation_rows: Sequence[int],
    labelled_rows: Sequence[int] = (),
    label_weight: float = 1.0,
    threshold: float = 0.9,
    record: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write ``<token>_pseudo.bin`` (uint8 train ids, 255 = unsure, one a row of the scan's file) for each of ``rows``.

    Args:
        rows: scans to label. evaluation_rows: frames that results are measured on; they neither get pseudo-labels nor
            vote, nor do sweeps next to them. labelled_rows: frames that vote with their annotation, not a prediction.
        label_weight: of such a vote against a predicted one, at least 1.
        threshold: probability from which a class is kept.
        record: provenance of the model, stored in ``pseudo_labels.json`` beside the files.

    Returns:
        The record as written: options, frames, share of points labelled, and where annotations exist, accuracy of
        the kept labels beside that of the naive baseline (the labels of the nearest labelled scan, by voxel).

    Raises:
        InputError: one of ``rows`` or of ``labelled_rows`` is an evaluation frame, or the log has no boxes although
            ``options.tracks`` is set.
    """
    index.require("voting over time", "train without pseudo-labels", poses=True)
    folder, rows = Path(folder), [int(row) for row in rows]
    check_place(folder)
    evaluated, labelled = {int(row) for row in evaluation_rows}, {int(row) for row in labelled_rows}
    for what, chosen in (("given pseudo-labels", set(rows)), ("voting with its labels", labelled)):
        if chosen & evaluated:
            token = index.tokens([min(chosen & evaluated)])[0]
            raise InputError(
                f"frame {token} is evaluated and also {what}; take it out of one of the two lists"
            )
    ballots = _Ballots(index, predict, keep=len(options.offsets) + 1, labelled=labelled)
    classes = len(index.card.classes)
    quality, naive = _Quality(), _Quality()
    for row in track(rows, "pseudo-labels of frames", LogLines(_log, quiet=True)):
        scan = read_scan(index, row)
        around = neighbour_rows(index, row, options.offsets, sweeps=options.sweeps)
        others = {
            offset: ballots.of(other)
            for offset, other in around.items()
            if not is_beside(index, other, evaluated)
        }
        own = ballots.of(row, labels=False)
        still = _still(index, row, others, scan, options)
        voted = vote(own, others, options, still=still, labels_may_vote=True, label_weight=label_weight)
        sure, best = voted.probabilities.max(dim=1)
        labels = torch.where(sure >= threshold, best, IGNORE_LABEL).to(torch.uint8).numpy()
        with write_atomically(pseudo_label_path(folder, index.tokens([row])[0])) as file:
            of_rows = file_values(labels, scan.file_row, scan.file_rows, absent=IGNORE_LABEL)
            file.write(of_rows.tobytes())
        truth = scan.labels.numpy()
        quality.add(labels, truth)
        nearest = _nearest(index, row, labelled)
        if nearest is not None:
            table = label_lookup(index, [nearest], size_m=options.voxel_m, default=IGNORE_LABEL)
            naive.add(table.predict(scan.world), truth)
    result = {
        "options": asdict(options),
        "threshold": threshold,
        "label_weight": label_weight,
        "classes": classes,
        "variant": index.variant,
        "index_hash": index.hash,
        "card_hash": index.card.hash,
        "frames": len(rows),
        "labelled_frames": len(labelled),
        "labelled_hash": token_hash(index.tokens(sorted(labelled))),
        "evaluation_hash": token_hash(index.tokens(sorted(evaluated))),
        "quality": quality.record(),
        "nearest_labelled_scan": naive.record(),
        **(record or {}),
    }
    with write_atomically(folder / "pseudo_labels.json", "w") as file:
        json.dump(result, file, indent=2)
    return result


def _still(
    index: Any, row: int, offsets: Collection[int], scan: Scan, options: VotingOptions
) -> Tensor | None:
    """(N,) points of ``scan`` in boxes that stand still through the frames that vote; None without ``tracks``."""
    if not options.tracks:
        return None
    points, pose = scan.points.numpy(), scan.lidar_to_world
    return torch.from_numpy(standing_points(index, row, sorted(offsets), points, pose, max_m=options.voxel_m))


class _Ballots:
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


class _Quality:
    """How many labels were kept, and how many of those are right where the truth is known."""

    def __init__(self) -> None:
        self.points = self.kept = self.known = self.right = 0

    def add(self, labels: np.ndarray, truth: np.ndarray) -> None:
        kept = labels != IGNORE_LABEL
        known = kept & (truth != IGNORE_LABEL)
        self.points += len(labels)
        self.kept += int(kept.sum())
        self.known += int(known.sum())
        self.right += int((labels[known] == truth[known]).sum())

    def record(self) -> dict[str, float | int | None]:
        return {
            "points": self.points,
            "kept": 100.0 * self.kept / max(self.points, 1),
            "accuracy": 100.0 * self.right / self.known if self.known else None,
        }


def _mean_iou(table: Tensor, classes: Sequence[int]) -> float | None:
    iou, present = class_iou(table)
    chosen = [c for c in classes if present[c]]
    return 100.0 * float(iou[chosen].mean()) if chosen else None


def _one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """(N, C) float32; rows of ignored points are zero and so carry no weight."""
    known = labels != IGNORE_LABEL
    return F.one_hot(torch.where(known, labels, 0), num_classes).float() * known[:, None]


def _nearest(index: Any, row: int, labelled: set[int]) -> int | None:
    """The frame of ``labelled`` nearest in time within the scene of ``row``."""
    same = [other for other in labelled if index.scene_of[other] == index.scene_of[row] and other != row]
    return min(same, key=lambda other: abs(int(index.time_us[other]) - int(index.time_us[row])), default=None)
