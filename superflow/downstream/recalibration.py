"""Batch-norm statistics taken anew, from scans as a frozen backbone will see them."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..clips.sources import named
from ..errors import InputError
from ..hub.backbone import BackboneCard
from ..lidar.encoder import LidarEncoder
from ..lidar.limits import Limits
from ..protocol import data_record
from .features import Scan, as_trained, read_scan

SCANS = 20


def recalibrate_batch_norm(encoder: LidarEncoder, clouds: Iterable[Tensor | Scan]) -> LidarEncoder:
    """A copy of ``encoder`` whose batch-norm statistics are those of ``clouds``; no labels are used.

    Pretraining sees augmented, thinned or merged clouds, and a random network has no statistics at all. The running
    mean and variance are replaced by their plain averages over the clouds (one forward pass each, equal weights), as
    evaluation will see them. The copy is in evaluation mode.

    Args:
        clouds: (N, 4+) scans, not augmented, intensity in [0, 1]; 10 to 20 suffice. An error names those that are
            a `Scan`.

    Raises:
        InputError: a cloud has points that cannot be voxelised, or all are so small that a layer never had the two
            voxels that a variance needs.
        ValueError: there is no cloud, although the encoder has batch norm.
    """
    encoder = copy.deepcopy(encoder).eval()
    norms = [module for module in encoder.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return encoder
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch then keeps the cumulative average
        norm.train()
    device = next(encoder.parameters()).device
    seen = 0
    with torch.no_grad():
        for cloud in clouds:
            given, sources = (cloud.points, [cloud.source]) if isinstance(cloud, Scan) else (cloud, [])
            points = as_trained(encoder, given.to(device))
            with named(points, *sources):
                encoder(points, torch.zeros(len(points), dtype=torch.int64, device=device), 1)
            seen += 1
    if seen == 0:
        raise ValueError("no cloud to take batch-norm statistics from; give at least one")
    if not all(bool(norm.num_batches_tracked) for norm in norms):  # it would keep mean 0 and variance 1
        raise InputError(
            f"the {seen} clouds to take batch-norm statistics from are too small: each fills less than two voxels of a "
            "level; give whole scans"
        )
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
    return encoder.eval()


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
    # figures of the card are those of the statistics before
    return encoder, replace(card, training={**card.training, "batch_norm": record}, metrics=[])


def _clouds(index: Any, rows: Sequence[int], limits: Limits | None) -> Iterator[Scan]:
    """Each scan that has some points within the limits, with these alone; intensity in [0, 1]."""
    empty = True
    for row in rows:
        scan = read_scan(index, row, labels=False)
        if limits is not None:
            scan = scan.at(limits.mask(scan.points))
        if len(scan.points):
            empty = False
            yield scan
    if empty:
        region = "" if limits is None else f" within the backbone's limits, {limits.record()}"
        raise InputError(
            f"{index.root}: none of {len(rows)} scans has a point{region}; choose other frames to recalibrate on"
        )
