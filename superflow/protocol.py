"""What a figure needs beside it to be compared with another one."""

from __future__ import annotations

import hashlib
import resource
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
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


def commit() -> str | None:
    """Hash of the checkout this code runs from, with ``-dirty`` for changed files; None when it is installed."""
    here = Path(__file__).resolve()

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()

    try:
        # an environment may lie in a repository of something else
        git("ls-files", "--error-unmatch", here.name)
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*") or None
    except (OSError, subprocess.SubprocessError):
        return None


def device_name() -> str:
    """Name of the GPU, or CPU with the number of threads."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"cpu, {torch.get_num_threads()} threads"


def peak_memory() -> dict[str, float]:
    """Highest memory so far [MB]: of this process, and of its CUDA device where there is one."""
    import torch

    peaks = {"peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)}
    if torch.cuda.is_available():
        peaks["peak_cuda_memory_mb"] = round(cuda_peak() / 2**20, 1)
    return peaks


_cuda_peak = 0  # of what was read so far: mmengine starts torch's own count anew with every line of the log


def cuda_peak() -> int:
    """Highest memory so far [bytes] of tensors on the CUDA device; 0 where there is none.

    To be read before anything that starts torch's count anew.
    """
    import torch

    global _cuda_peak
    if torch.cuda.is_available():
        _cuda_peak = max(_cuda_peak, torch.cuda.max_memory_allocated())
    return _cuda_peak
