"""Reads a LiDAR encoder from disk: an exported backbone (.safetensors) or a checkpoint of training (.pth)."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError, MissingFileError
from ..files.access import check_readable, reading
from ..lidar.encoder import LidarEncoder
from ..lidar.limits import Limits
from .checkpoint import find_last, load_weights, read_checkpoint
from .leakage import seen_recordings
from .shelf import find, with_home

FORMAT = 1  # of the card inside an exported file; raised when an older reader would misread a newer file
CARD_KEY = "superflow_card"

# what stands under the keys of a card that are read; null is as good as left out
_KINDS = {
    **dict.fromkeys(("name", "licence"), str),
    **dict.fromkeys(("encoder", "limits", "teacher", "method", "data", "training"), dict),
    "metrics": list,
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EncoderFile:
    """What a file says about an encoder.

    config: arguments of ``LidarEncoder``. weights: its state by name. card: everything else that is recorded, under
    the names of a ``BackboneCard`` (of an exported file its card, of a checkpoint what one will say).
    """

    path: Path
    config: dict[str, Any]
    weights: dict[str, Tensor]
    card: dict[str, Any]

    @property
    def raw_intensity(self) -> bool | None:
        """Whether it was trained on intensity 0..255 instead of [0, 1]; None where the file does not say."""
        if "intensity" in self.card:
            return self.card["intensity"] == "0..255"
        trained_on = (self.card.get("data") or {}).get("train") or {}
        return trained_on.get("raw_intensity")


def read_encoder_file(path: str | os.PathLike[str]) -> EncoderFile:
    """Config and weights of the encoder in ``path``, on the CPU; of a run's folder, in its newest checkpoint.

    Args:
        path: a file, the folder of a run, or the name of a backbone, see `shelf`.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is damaged, of an unknown format, or holds no encoder.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(
            f"a backbone is no {type(path).__name__}; give a file, the folder of a run, or a name"
        )
    if not str(path).strip():  # most often a variable of a shell that is not set; Path("") is this folder
        raise InputError("the name of a backbone is empty; give a file, the folder of a run, or a name")
    path = Path(path)
    with reading(path):  # also names that no file can have
        if with_home(path).is_dir():
            path = _newest_checkpoint(with_home(path))
        path = find(path)
    check_readable(path)
    with reading(path):
        is_exported = path.suffix == ".safetensors" or _holds_safetensors(path)
    return _read_exported(path) if is_exported else _read_checkpoint(path)


def load_encoder(path: str | Path) -> LidarEncoder:
    """The encoder in ``path``, built from the config that the file carries.

    Raises:
        InputError: see ``read_encoder_file``; or config and weights do not belong together.
    """
    return build_encoder(read_encoder_file(path))


def build_encoder(file: EncoderFile) -> LidarEncoder:
    """The encoder that ``file`` describes, with its weights: on the CPU in float32, whatever else is PyTorch's default.

    Others set the defaults of a process: who loads a language model beside it, for one.
    """
    try:
        with torch.device("cpu"):
            encoder = LidarEncoder(**file.config).float()
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(
            f"{file.path}: its encoder config is not understood ({error}); "
            "it was written by another version, export it again with this one"
        ) from error
    load_weights(encoder, file.weights, str(file.path))
    encoder.raw_intensity = bool(file.raw_intensity)
    return encoder


def fill_encoder(encoder: LidarEncoder, path: str | Path) -> dict[str, Any]:
    """Give ``encoder`` the weights of ``path``; returns where they came from, for the record and its checks.

    A voxel size or input that differs from the file's is allowed, and logged.

    Raises:
        InputError: the file holds another architecture.
    """
    file = read_encoder_file(path)
    own, differing = encoder.config(), differing_settings(encoder.config(), file.config)
    said = "; ".join(
        f"{key} is {file.config[key]} in the file and {own[key]} in the model" for key in differing
    )
    shapes = {name: weight.shape for name, weight in file.weights.items()}
    own_shapes = {name: weight.shape for name, weight in encoder.state_dict().items()}
    if {"backbone", "inputs"} & {*differing} and shapes != own_shapes:
        raise InputError(
            f"{file.path}: does not fit this model: {said}; use the config that it was trained with, set these alike, "
            "or take another file"
        )
    load_weights(encoder, file.weights, str(file.path))
    encoder.raw_intensity = bool(file.raw_intensity)
    if differing:
        _log.warning("%s was trained with other settings of %s: %s", file.path, ", ".join(differing), said)
    return {
        "file": file.path.name,
        "weights_sha256": weights_hash(file.weights),
        "raw_intensity": file.raw_intensity,
        "teacher": taught_by(file.card),
        "recordings": seen_recordings(file.card),
    }


def differing_settings(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Settings by which two encoders compute otherwise with the same weights; what only one of them says is none.

    The momentum of batch norm is none either: it says how statistics follow in training.
    """
    was, now = (
        {**config, "backbone": {k: v for k, v in config.get("backbone", {}).items() if k != "momentum"}}
        for config in (other, one)
    )
    return sorted(key for key in now if now[key] != was.get(key, now[key]))


def taught_by(card: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record of the image model that taught an encoder or the one it began with; None if none did."""
    before = (card.get("method") or {}).get("pretrained") or {}
    return card.get("teacher") or before.get("teacher")


def weights_hash(weights: Mapping[str, Tensor]) -> str:
    """sha256 over names, types, shapes and bytes of ``weights``, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _holds_safetensors(path: Path) -> bool:
    """Whether a file is one by its first bytes: copies and links may have any name."""
    with open(path, "rb") as file:
        return file.read(9)[8:] == b"{"  # behind the length of the header, which is JSON


def _newest_checkpoint(folder: Path) -> Path:
    newest = find_last(folder)
    if newest is None:
        raise MissingFileError(
            f"{folder}: holds no checkpoint; give the folder of a run, a .pth or a .safetensors file"
        )
    return newest


def _read_exported(path: Path) -> EncoderFile:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (no mapping)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(
            f"{path}: is truncated or no safetensors file ({error}); copy it anew or export it again"
        ) from error
    if CARD_KEY not in metadata:
        raise InputError(
            f"{path}: has no card and so no known architecture; write it with `superflow export`"
        )
    try:
        card = json.loads(metadata[CARD_KEY])
        version, card = card["format"], _without_null(card)
        config = card["encoder"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: its card cannot be read ({error!r}); export it again") from error
    if version != FORMAT:
        raise InputError(
            f"{path}: is of format {version}, this version reads format {FORMAT}; "
            "update superflow-lidar or export the file again"
        )
    _check_kinds(path, card)
    if card.get("weights_sha256") not in (None, weights_hash(weights)):
        raise InputError(
            f"{path}: its weights do not match the hash in its card; copy it anew or export it again"
        )
    return EncoderFile(path, config, weights, card)


def _read_checkpoint(path: Path) -> EncoderFile:
    checkpoint = read_checkpoint(path)
    state, record = checkpoint["state_dict"], checkpoint.get("superflow")
    tensors = all(isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items())
    if not tensors or not isinstance(record, dict) or "encoder" not in record:
        raise InputError(
            f"{path}: holds no record of a LiDAR encoder; give a checkpoint that `superflow train` wrote"
        )
    record = _without_null(record)
    _check_kinds(path, record)
    try:
        names = list(LidarEncoder(**record["encoder"]).state_dict())
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(
            f"{path}: its encoder config is not understood ({error}); it was written by another version"
        ) from error
    prefix = _encoder_prefix(path, state, names)
    weights = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
    if not prefix:
        weights = {name: weights[name] for name in names if name in weights}
    return EncoderFile(path, dict(record["encoder"]), weights, _card(record, checkpoint["meta"]))


def _without_null(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if value is not None or key not in _KINDS}


def _check_kinds(path: Path, record: Mapping[str, Any]) -> None:
    for key, kind in _KINDS.items():
        if not isinstance(record.get(key, kind()), kind):
            raise InputError(
                f"{path}: its card cannot be read ({key} is {str(record[key])[:60]!r}); export it again, or leave the "
                "card as it was written"
            )


def _card(record: Mapping[str, Any], meta: Mapping[str, Any]) -> dict[str, Any]:
    """What the card of a checkpoint's encoder says, from what the model, the data and the run said of themselves."""
    parts = ("encoder", "teacher", "data")
    data = record.get("data") or {}
    # a dataset leaves out what its limits leave out, and a model does so again
    limits = Limits.both((data.get("train") or {}).get("limits"), record.get("limits"))
    run = ("iter", "seed", "seconds", "world_size", "version", "commit", "plan", "config")
    return {
        "limits": None if limits is None else limits.record(),
        "teacher": taught_by({"teacher": record.get("teacher"), "method": record}),
        "data": data,
        "method": {key: value for key, value in record.items() if key not in parts},
        "training": {key: meta[key] for key in run if key in meta},
    }


def _encoder_prefix(path: Path, state: Mapping[str, Tensor], names: list[str]) -> str:
    """What stands before the encoder's names in ``state``, such as "student." or "encoder."."""
    found = {key.removesuffix(names[0]) for key in state if key.endswith(names[0])}
    found = {prefix for prefix in found if prefix == "" or prefix.endswith(".")}
    whole = [prefix for prefix in found if all(prefix + name in state for name in names)]
    for ending in ("student.", "encoder.", ""):
        fitting = sorted((prefix for prefix in whole if prefix.endswith(ending)), key=len)
        if fitting:
            return fitting[0]
    raise InputError(
        f"{path}: holds the weights of another architecture: no part of it has all {len(names)} tensors of its "
        f"encoder, {names[0]} for one; choose the checkpoint that belongs to its record"
    )
