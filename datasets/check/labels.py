"""Which classes the labels name, and what the file's intensities become."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..frame import IGNORE_LABEL
from ..index import LogIndex
from .report import Report


def describe_labels(
    index: LogIndex, report: Report, raw_labels: NDArray[np.int64], frames_with: NDArray[np.int64]
) -> None:
    """Histogram by class and by category; ids that no category has are a problem of the label files."""
    total = int(raw_labels.sum())
    if not report.counts["labelled_frames"]:
        report.notes.append("no point labels: fine for pretraining; probing and fine-tuning need them")
    if not total:
        return
    card = index.card
    train = card.label_map
    for train_id, name in [*enumerate(card.classes), (IGNORE_LABEL, "(ignored)")]:
        mine = train == train_id
        points = int(raw_labels[mine].sum())
        frames = int(frames_with[train_id])
        report.labels.append(
            {"class": name, "points": points, "share": round(points / total, 6), "frames": frames}
        )
    report.categories = {
        card.categories.get(raw, f"id {raw}"): int(raw_labels[raw])
        for raw in np.flatnonzero(raw_labels).tolist()
    }
    unknown = [raw for raw in np.flatnonzero(raw_labels).tolist() if raw not in card.categories]
    if unknown:
        counts = ", ".join(f"{raw} ({int(raw_labels[raw])} points)" for raw in unknown)
        report.notes.append(f"raw label ids in no category, ignored: {counts}")


def describe_intensity(index: LogIndex, report: Report, low: float, high: float) -> None:
    """The range of the file's intensities, and a note where the card's rule does not fit it."""
    if not np.isfinite([low, high]).all():
        return
    if index.card.intensity_rule != "linear":
        report.intensity = {"smallest": low, "largest": high, "rule": index.card.intensity_rule}
        return
    scale = index.card.intensity_max
    report.intensity = {"smallest": low, "largest": high, "becomes_1": scale}
    if low < high <= min(scale / 100, 1.0):
        report.notes.append(
            f"the largest intensity is {high:g} while {scale:g} becomes 1: the log seems to be scaled already; "
            'state {"intensity": {"raw_max": 1}} in dataset.json'
        )
    elif high > scale * 1.01 and low >= 0:  # negative ones are a problem of the columns
        report.notes.append(
            f"intensities run from {low:g} to {high:g} while 0 to {scale:g} becomes [0, 1]: the rest is clipped; "
            "state the largest value as intensity.raw_max in dataset.json"
        )
