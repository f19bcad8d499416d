"""Pseudo-labels for scans without labels: the sure classes of a model, after the scans around have voted."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..clips.sources import named
from ..datasets.cloud import file_values
from ..datasets.frame import IGNORE_LABEL
from ..errors import InputError
from ..files.access import check_place
from ..files.writes import write_bytes, write_json
from ..progress import LogLines, track
from ..protocol import token_hash
from .features import Scan, read_scan
from .places import label_lookup
from .segment_data import pseudo_label_path
from .vote_log import Ballots, Predictor, still_points
from .voting import VotingOptions, is_beside, neighbour_rows, vote

_log = logging.getLogger(__name__)


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
    folder, rows = Path(folder), [int(row) for row in rows]
    check_place(folder)
    labelled = {int(row) for row in labelled_rows}
    quality, naive = _Quality(), _Quality()
    frames: dict[str, Any] = {"evaluation_rows": evaluation_rows, "labelled_rows": labelled_rows}
    weights: dict[str, Any] = {"threshold": threshold, "label_weight": label_weight}
    for row, scan, labels in pseudo_labels(index, rows, predict, options, **frames, **weights):
        of_rows = file_values(labels, scan.file_row, scan.file_rows, absent=IGNORE_LABEL)
        write_bytes(pseudo_label_path(folder, index.tokens([row])[0]), of_rows.tobytes())
        truth = scan.labels.numpy()
        quality.add(labels, truth)
        nearest = _nearest(index, row, labelled)
        if nearest is not None:
            table = label_lookup(index, [nearest], size_m=options.voxel_m, default=IGNORE_LABEL)
            naive.add(table.predict(scan.world), truth)
    result = {
        "options": asdict(options),
        **weights,
        **_data(index, rows, labelled, {int(row) for row in evaluation_rows}),
        "quality": quality.record(),
        "nearest_labelled_scan": naive.record(),
        **(record or {}),
    }
    write_json(folder / "pseudo_labels.json", result, indent=2)
    return result


def _data(index: Any, rows: list[int], labelled: set[int], evaluated: set[int]) -> dict[str, Any]:
    """Which frames of which log."""
    return {
        "classes": len(index.card.classes),
        "variant": index.variant,
        "index_hash": index.hash,
        "card_hash": index.card.hash,
        "frames": len(rows),
        "labelled_frames": len(labelled),
        "labelled_hash": token_hash(index.tokens(sorted(labelled))),
        "evaluation_hash": token_hash(index.tokens(sorted(evaluated))),
    }


def pseudo_labels(
    index: Any,
    rows: Sequence[int],
    predict: Predictor,
    options: VotingOptions,
    *,
    evaluation_rows: Sequence[int],
    labelled_rows: Sequence[int] = (),
    label_weight: float = 1.0,
    threshold: float = 0.9,
) -> Iterator[tuple[int, Scan, NDArray[np.uint8]]]:
    """Each of ``rows``, its scan, and the classes of its points that are sure after the vote, 255 for the others.

    Arguments and errors as in `write_pseudo_labels`. Without ``offsets`` nothing votes and no pose is needed: the
    classes that the model itself is sure of.
    """
    if options.offsets:
        index.require("voting over time", "train without pseudo-labels", poses=True)
    evaluated, labelled = {int(row) for row in evaluation_rows}, {int(row) for row in labelled_rows}
    for what, chosen in (
        ("given pseudo-labels", {int(row) for row in rows}),
        ("voting with its labels", labelled),
    ):
        if chosen & evaluated:
            token = index.tokens([min(chosen & evaluated)])[0]
            raise InputError(
                f"frame {token} is evaluated and also {what}; take it out of one of the two lists"
            )
    ballots = Ballots(index, predict, keep=len(options.offsets) + 1, labelled=labelled)
    for row in track([int(row) for row in rows], "pseudo-labels of frames", LogLines(_log, quiet=True)):
        scan = read_scan(index, row)
        if options.offsets:
            probabilities = _voted(index, row, scan, ballots, evaluated, options, label_weight)
        else:
            with named(scan.points, scan.source):
                probabilities = predict(scan)
        sure, best = probabilities.max(dim=1)
        yield row, scan, torch.where(sure >= threshold, best, IGNORE_LABEL).to(torch.uint8).numpy()


def _voted(
    index: Any,
    row: int,
    scan: Scan,
    ballots: Ballots,
    banned: set[int],
    options: VotingOptions,
    label_weight: float,
) -> Tensor:
    """(N, C) probabilities of a scan after those around it have voted, but for the banned and what is beside them."""
    around = neighbour_rows(index, row, options.offsets, sweeps=options.sweeps)
    others = {
        offset: ballots.of(other) for offset, other in around.items() if not is_beside(index, other, banned)
    }
    own = ballots.of(row, labels=False)
    still = still_points(index, row, others, scan, options)
    return vote(
        own, others, options, still=still, labels_may_vote=True, label_weight=label_weight
    ).probabilities


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


def _nearest(index: Any, row: int, labelled: set[int]) -> int | None:
    """The frame of ``labelled`` nearest in time within the scene of ``row``."""
    same = [other for other in labelled if index.scene_of[other] == index.scene_of[row] and other != row]
    return min(same, key=lambda other: abs(int(index.time_us[other]) - int(index.time_us[row])), default=None)
