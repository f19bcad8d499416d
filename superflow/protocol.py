"""What a figure needs beside it to be compared with another one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from . import __version__
from .errors import InputError

# Results that differ in one of these are results of different protocols.
PROTOCOL_FIELDS = {
    "dataset": "name of the dataset",
    "real": "recorded (true) or made (false) data",
    "variant": "clean, or how a copy of the data was corrupted",
    "index_hash": "sha256 of the rows of the prepared index",
    "card_hash": "sha256 of the card that it is read with",
    "train_frames": "labelled frames the head or model was trained on",
    "train_hash": "sha256 of their tokens",
    "eval_frames": "frames evaluated",
    "eval_hash": "sha256 of their tokens",
    "pretraining": "what the encoder was pretrained with and on how many frames, or none",
    "teacher": "image model of the pretraining, or none",
    "feature_channels": "width of the probed features",
    "head": "kind of head",
    "optimiser": "of the head",
    "learning_rate": "of the head, and of the encoder where it is trained",
    "augmentation": "of the clouds that the head or model was trained on",
    "losses": "with their weights",
    "batch_norm": "how its statistics were treated",
    "checkpoint": "last or best",
    "evaluated_on": "points or voxels",
    "seed": "of the run",
}


def index_protocol(index: Any, train_rows: Sequence[int], eval_rows: Sequence[int]) -> dict[str, Any]:
    """The fields that follow from the data: which dataset, which frames."""
    return {
        "dataset": index.card.name,
        "real": bool(index.card.real),
        "variant": index.variant,
        **_reading(index),
        "index_hash": index.hash,
        "card_hash": index.card.hash,
        "train_frames": len(train_rows),
        "train_hash": token_hash(index.tokens(train_rows)),
        "eval_frames": len(eval_rows),
        "eval_hash": token_hash(index.tokens(eval_rows)),
        "version": __version__,
    }


def data_record(index: Any, rows: Any, *, limits: Any, raw_intensity: bool) -> dict[str, Any]:
    """What a training dataset says of itself in checkpoints and cards.

    ``rows``: (R,) of the index. ``limits``: a `lidar.limits.Limits`, or None.
    """
    return {
        "dataset": index.card.name,
        "real": index.card.real,
        "licence": index.card.licence,
        "variant": index.variant,
        **_reading(index),
        "hash": index.hash,
        "card_hash": index.card.hash,
        "frames": len(rows),
        "tokens_hash": token_hash(index.tokens(rows)),
        "recordings": list(index.recordings(rows)),
        "limits": None if limits is None else limits.record(),
        "raw_intensity": raw_intensity,
    }


def _reading(index: Any) -> dict[str, Any]:
    """What is not the log's own in what is read of it: poses that were estimated, scans brought to one instant."""
    poses = {"poses": index.poses} if index.poses else {}
    return poses | ({"sweep_compensation": True} if index.sweep_compensation else {})


def token_hash(tokens: Sequence[str]) -> str:
    """sha256 of a set of tokens, whatever their order."""
    return hashlib.sha256("\n".join(sorted(tokens)).encode()).hexdigest()


def check_protocol(record: Mapping[str, Any]) -> None:
    """Raise ``InputError`` naming the first field that a result's protocol lacks (None counts as lacking)."""
    for name, meaning in PROTOCOL_FIELDS.items():
        if record.get(name) is None:
            raise InputError(
                f'the result does not say "{name}" ({meaning}); without it the figure cannot be compared'
            )
