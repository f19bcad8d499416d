"""Pseudo-labels for scans without labels: the sure classes of a model, after the scans around have voted."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
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
from .done_scans import DoneScans, check_made_by, done_scans
from .features import Scan, read_scan
from .places import label_lookup
from .segment_data import PSEUDO_RECORD, pseudo_label_path
from .vote_log import Ballots, Predictor, still_points
from .voting import VotingOptions, is_beside, neighbour_rows, vote

_log = logging.getLogger(__name__)
_HELD = {"what": "pseudo-labels", "left": "*_pseudo.bin"}


class PseudoLabelFiles:
    """``<token>_pseudo.bin`` (uint8 train ids, 255 = unsure, one a row of the scan's file) of scans, below ``folder``.

    With ``made_by`` files that were written before stay, and those of further scans may come beside them.

    Args:
        rows: scans to label. evaluation_rows: frames that results are measured on; they neither get pseudo-labels nor
            vote, nor do sweeps next to them. labelled_rows: frames that vote with their annotation, not a prediction.
        label_weight: of such a vote against a predicted one, at least 1.
        threshold: probability from which a class is kept.
        made_by: what the predictions follow from, as the hash of the weights, of JSON types; None: not known.

    Raises:
        InputError: one of ``rows`` or of ``labelled_rows`` is an evaluation frame, or the folder cannot be written or
            holds pseudo-labels that were made by something else.
    """

    def __init__(
        self,
        index: Any,
        rows: Sequence[int],
        folder: str | Path,
        options: VotingOptions,
        *,
        evaluation_rows: Sequence[int],
        labelled_rows: Sequence[int] = (),
        label_weight: float = 1.0,
        threshold: float = 0.9,
        made_by: Mapping[str, Any] | None = None,
    ) -> None:
        self.index, self.rows, self.folder = index, [int(row) for row in rows], Path(folder)
        self._options = options
        self._labelled, evaluated = ({int(row) for row in some} for some in (labelled_rows, evaluation_rows))
        _check_frames(index, self.rows, self._labelled, evaluated)
        self._frames: dict[str, Any] = {"evaluation_rows": evaluated, "labelled_rows": self._labelled}
        self._frames |= {"threshold": threshold, "label_weight": label_weight}
        self._settings = _settings(index, options, self._labelled, evaluated, threshold, label_weight)
        self._made_by = None if made_by is None else {**made_by, **self._settings}
        check_place(folder)
        check_made_by(folder, self._made_by, **_HELD)

    def write(self, predict: Predictor, *, record: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Write what is not there yet.

        Args:
            record: provenance of the model, stored in ``pseudo_labels.json`` beside the files.

        Returns:
            The record as written: options, frames, share of points labelled, and where annotations exist, accuracy of
            the kept labels beside that of the naive baseline (the labels of the nearest labelled scan, by voxel).

        Raises:
            InputError: the log has no boxes although ``options.tracks`` is set, or a scan cannot be read.
        """
        with done_scans(self.folder, self._made_by, **_HELD) as done:
            self._write_scans(predict, done)
            counted = [done.figures(token) for token in self.index.tokens(self.rows)]
            result = {
                **self._settings,
                **{"frames": len(self.rows), "labelled_frames": len(self._labelled)},
                "quality": _quality(counts["quality"] for counts in counted),
                "nearest_labelled_scan": _quality(
                    counts["nearest"] for counts in counted if "nearest" in counts
                ),
                **(record or {}),
            }
            write_json(self.folder / PSEUDO_RECORD, result, indent=2)
        return result

    def _write_scans(self, predict: Predictor, done: DoneScans) -> None:
        index, options = self.index, self._options
        left = [row for row in self.rows if index.tokens([row])[0] not in done]
        ready = len(self.rows) - len(left)
        for row, scan, labels in pseudo_labels(index, left, predict, options, **self._frames, ready=ready):
            of_rows = file_values(labels, scan.file_row, scan.file_rows, absent=IGNORE_LABEL)
            path = pseudo_label_path(self.folder, token := index.tokens([row])[0])
            write_bytes(path, of_rows.tobytes())
            truth, nearest = scan.labels.numpy(), nearest_in_time(index, row, self._labelled)
            counts = {"quality": _counts(labels, truth)}
            if nearest is not None:
                table = label_lookup(index, [nearest], size_m=options.voxel_m, default=IGNORE_LABEL)
                counts["nearest"] = _counts(table.predict(scan.world), truth)
            done.add(token, [path], counts)


def _settings(
    index: Any,
    options: VotingOptions,
    labelled: Collection[int],
    evaluated: Collection[int],
    threshold: float,
    label_weight: float,
) -> dict[str, Any]:
    """What a pseudo-label follows from beside the predictions: the vote, and which frames of which log take part."""
    return {
        "options": asdict(options),
        "threshold": threshold,
        "label_weight": label_weight,
        "classes": len(index.card.classes),
        "class_names": list(index.card.classes),
        "variant": index.variant,
        "index_hash": index.hash,
        "card_hash": index.card.hash,
        "labelled_hash": token_hash(index.tokens(sorted(labelled))),
        "evaluation_hash": token_hash(index.tokens(sorted(evaluated))),
    }


def _check_frames(index: Any, rows: Collection[int], labelled: set[int], evaluated: set[int]) -> None:
    for what, chosen in (("given pseudo-labels", set(rows)), ("voting with its labels", labelled)):
        if chosen & evaluated:
            token = index.tokens([min(chosen & evaluated)])[0]
            raise InputError(
                f"frame {token} is evaluated and also {what}; take it out of one of the two lists"
            )


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
    ready: int = 0,
) -> Iterator[tuple[int, Scan, NDArray[np.uint8]]]:
    """Each of ``rows``, its scan, and the classes of its points that are sure after the vote, 255 for the others.

    Arguments and errors as of `PseudoLabelFiles`; ``ready``: further scans that are done, for the progress. Without
    ``offsets`` nothing votes and no pose is needed: the classes that the model itself is sure of.
    """
    if options.offsets:
        index.require("voting over time", "train without pseudo-labels", poses=True)
    evaluated, labelled = {int(row) for row in evaluation_rows}, {int(row) for row in labelled_rows}
    rows = [int(row) for row in rows]
    _check_frames(index, rows, labelled, evaluated)
    if not 0 < threshold <= 1:  # at 0, what nothing is known of would be of the first class
        raise InputError(f"the threshold of pseudo-labels is {threshold:g}; give a probability above 0")
    ballots = Ballots(index, predict, keep=len(options.offsets) + 1, labelled=labelled)
    for row in track(rows, "pseudo-labels of frames", LogLines(_log, quiet=True), ready=ready):
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


def _counts(labels: NDArray[np.integer], truth: NDArray[np.integer]) -> list[int]:
    """Of a scan: its points, how many labels were kept, of how many of these the truth is known, how many are right."""
    kept = labels != IGNORE_LABEL
    known = kept & (truth != IGNORE_LABEL)
    right = labels[known] == truth[known]
    return [len(labels), int(kept.sum()), int(known.sum()), int(right.sum())]


def _quality(counts: Iterable[Sequence[int]]) -> dict[str, float | int | None]:
    """How many labels of all scans were kept [%], and how many of those are right where the truth is known [%]."""
    points, kept, known, right = map(sum, zip((0, 0, 0, 0), *counts))
    return {
        "points": points,
        "kept": 100.0 * kept / max(points, 1),
        "accuracy": 100.0 * right / known if known else None,
    }


def nearest_in_time(index: Any, row: int, labelled: Iterable[int]) -> int | None:
    """The frame of ``labelled`` nearest in time within the scene of ``row``, another one than it; None without any."""
    same = [other for other in labelled if index.scene_of[other] == index.scene_of[row] and other != row]
    return min(same, key=lambda other: abs(int(index.time_us[other]) - int(index.time_us[row])), default=None)
