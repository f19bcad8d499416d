"""Averages of two backbones' weights: of one that was trained further, with the one that it began with.

Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022: what the further training took from elsewhere
comes back, and most of what it gave stays. It costs nothing; of networks without a common start it means nothing.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from ..errors import InputError
from ..lidar.encoder import LidarEncoder
from .backbone import BackboneCard
from .encoder_file import build_encoder, differing_settings, read_encoder_file, taught_by, weights_hash
from .leakage import seen_recordings

HALF = 0.5
_log = logging.getLogger(__name__)


def average_with(
    encoder: LidarEncoder, card: BackboneCard, start: str | Path, *, share: float = HALF
) -> tuple[LidarEncoder, BackboneCard]:
    """``encoder`` with the mean of its weights and statistics and those of ``start``, and its card, which says so.

    Figures that the card has are those of the weights before, and are left out.

    A warning is logged where ``card`` does not say that the training began with ``start``.

    Args:
        encoder: is changed in place. card: of it.
        start: what it began with, as ``superflow.load`` takes it.
        share: of ``start`` in the mean, above 0 and below 1.

    Raises:
        InputError: ``share`` is out of its range, or ``start`` is another architecture or of other points.
    """
    if not 0 < share < 1:
        raise InputError(f"the share of {start} in an average is {share:g}; give one above 0 and below 1")
    other = read_encoder_file(start)
    differ = differing_settings(encoder.config(), other.config)
    raw = "0..255" if other.raw_intensity else "0..1"
    if raw != card.intensity:
        differ.append("intensity")
    if differ:
        raise InputError(
            f"{other.path}: has another {differ[0]} than the backbone that is to be averaged with it; "
            "give the one that its training began with"
        )
    hashed = weights_hash(other.weights)
    if (card.method.get("pretrained") or {}).get("weights_sha256") != hashed:
        _log.warning(
            "%s: the backbone's card does not say that its training began with these weights; the mean of networks "
            "without a common start is of no use",
            other.path,
        )
    began = build_encoder(other).state_dict()
    for name, value in encoder.state_dict().items():
        if value.is_floating_point():  # counters stay
            value.copy_((1 - share) * value.double() + share * began[name].to(value.device).double())
    averaged = {
        "file": other.path.name,
        "weights_sha256": hashed,
        "share": share,
        "teacher": taught_by(other.card),
        "recordings": seen_recordings(other.card),
    }
    # with another one, whose recordings these weights have seen as well
    if before := card.method.get("averaged"):
        averaged["averaged"] = before
    return encoder, replace(card, method={**card.method, "averaged": averaged}, metrics=[])
