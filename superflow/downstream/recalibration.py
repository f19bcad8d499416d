"""Batch-norm statistics of an exported backbone, taken from scans as its user will hand them in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..hub.backbone import BackboneCard
from ..lidar.encoder import LidarEncoder
from ..lidar.limits import Limits
from ..protocol import data_record
from .features import Scan, read_scan, recalibrate_batch_norm

SCANS = 20


def recalibrate_on_log(
    encoder: LidarEncoder,
    card: BackboneCard,
    index: Any,
    rows: Sequence[int] | NDArray[np.integer],
    *,
    scans: int = SCANS,
) -> tuple[LidarEncoder, BackboneCard]:
    """A copy of ``encoder`` with the statistics of at most ``scans`` whole scans, and a card that says so.

    Args:
        encoder: gets the intensity that it was trained on (``features.as_trained``).
        card: its limits apply, as in ``Backbone.extract``.
        index: a ``LogIndex``. rows: training frames, of which evenly spaced ones are taken; labels are not read.

    Raises:
        InputError: none of the scans has a point within the limits.
    """
    step = max(1, -(-len(rows) // scans))
    chosen = [int(row) for row in rows[::step]]
    limits, raw = Limits.from_record(card.limits), encoder.raw_intensity
    encoder = recalibrate_batch_norm(encoder, _clouds(index, chosen, limits))
    record = {"recalibrated_on": data_record(index, chosen, limits=limits, raw_intensity=raw)}
    return encoder, replace(card, training={**card.training, "batch_norm": record})


def _clouds(index: Any, rows: Sequence[int], limits: Limits | None) -> Iterator[Scan]:
    """Each scan that has some points within the limits, with these alone; intensity in [0, 1]."""
    empty = True
    for row in rows:
        scan = read_scan(index, row, labels=False)
        if limits is not None:
            inside = limits.mask(scan.points)
            scan = replace(scan, points=scan.points[inside], labels=scan.labels[inside])
        if len(scan.points):
            empty = False
            yield scan
    if empty:
        region = "" if limits is None else f" within the backbone's limits, {limits.record()}"
        raise InputError(
            f"{index.root}: none of {len(rows)} scans has a point{region}; choose other frames to recalibrate on"
        )
