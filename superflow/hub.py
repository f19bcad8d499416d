"""Pretrained backbones as files: save, find, load, extract features."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from . import __version__
from .datasets.card import RAW_FULL
from .encoder_file import CARD_KEY, FORMAT, EncoderFile, build_encoder, read_encoder_file, weights_hash
from .errors import InputError, MissingFileError, write_atomically
from .lidar.encoder import LidarEncoder
from .limits import Limits

IntensityRange = Literal["0..1", "0..255"]
_FULL = {"0..1": 1.0, "0..255": RAW_FULL}
Points = TypeVar("Points", Tensor, NDArray[np.float32])


@dataclass(frozen=True, slots=True)
class BackboneCard:
    """What has to be known about a backbone file.

    name: for people. encoder: arguments of ``LidarEncoder`` (architecture, voxel grid, inputs), filled in when
    saved. intensity: range that the encoder was trained on. limits: region it was trained on, or None. teacher: record
    of the image model, or None. data: name, hash, licence, source, real or stand-in, frames. training: config,
    seed, steps and whatever a reader of results needs. weights_sha256, channels, version: filled in when saved.
    """

    name: str
    encoder: dict[str, Any] = field(default_factory=dict)
    intensity: IntensityRange = "0..1"
    limits: dict[str, Any] | None = None
    teacher: dict[str, Any] | None = None
    data: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    channels: int = 0
    weights_sha256: str = ""
    version: str = __version__
    format: int = FORMAT

    def __post_init__(self) -> None:
        if self.intensity not in _FULL:
            raise InputError(f'card: intensity is {self.intensity!r}; it must be "0..1" or "0..255"')

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> BackboneCard:
        """A card from its JSON; keys of later versions with the same format number are left out."""
        known = {f.name for f in fields(cls)}
        return cls(**{"name": "unnamed", **{key: value for key, value in record.items() if key in known}})


class Backbone(nn.Module):
    """A LiDAR encoder with the preprocessing it was trained with. ``card`` says where it comes from."""

    def __init__(self, encoder: LidarEncoder, card: BackboneCard) -> None:
        super().__init__()
        self.encoder = encoder
        self.card = card
        self._limits = Limits.from_record(card.limits)
        self.eval()

    @property
    def out_channels(self) -> int:
        """C, the width of a feature row."""
        return self.encoder.out_channels

    def forward(self, points: Tensor, cloud: Tensor, num_clouds: int) -> Tensor:
        """(N, C) features with gradients, for training; see ``LidarEncoder.point_features``."""
        return self.encoder.point_features(points, cloud, num_clouds)

    @torch.no_grad()
    def extract(self, points: Points, *, intensity: IntensityRange = "0..1") -> Points:
        """Features of one scan: (N, C) float32, one row per input point in input order.

        Args:
            points: (N, 4+) x, y, z [m, lidar frame: x forward, y left, z up], intensity; any N including 0.
            intensity: range of the intensity that is handed in; it is converted to what the encoder expects.

        Returns:
            An array for an array, a tensor (on the device it came from) for a tensor. Rows of points outside the
            card's limits are zero.

        Raises:
            InputError: another shape, NaN or infinite values, intensity outside the stated range.
        """
        given = torch.as_tensor(points)
        self._check(given, intensity)
        weight = next(self.encoder.parameters())
        cloud = given.to(weight.device, torch.float32, copy=True)
        cloud[:, 3] *= _FULL[self.card.intensity] / _FULL[intensity]
        inside = torch.ones(len(cloud), dtype=torch.bool, device=cloud.device)
        if self._limits is not None:
            inside = self._limits.mask(cloud)
        rows = cloud.new_zeros(len(cloud), self.out_channels)
        if bool(inside.any()):
            was_training = self.training
            self.eval()
            seen = cloud[inside]
            rows[inside] = self.encoder.point_features(
                seen, seen.new_zeros(len(seen), dtype=torch.int64), 1
            ).float()
            self.train(was_training)
        return rows.numpy(force=True) if isinstance(points, np.ndarray) else rows.to(given.device)

    @staticmethod
    def _check(points: Tensor, intensity: str) -> None:
        if intensity not in _FULL:
            raise InputError(f'intensity={intensity!r} must be "0..1" or "0..255"')
        if points.dim() != 2 or points.shape[1] < 4:
            raise InputError(f"points has shape {tuple(points.shape)}; give (N, 4+): x, y, z, intensity")
        finite = points.isfinite().all(dim=1)
        if not bool(finite.all()):
            row = int((~finite).nonzero()[0])
            raise InputError(
                f"points: row {row} holds NaN or infinity ({int((~finite).sum())} such rows); remove them first"
            )
        if (
            len(points)
            and not -1e-3
            <= float(points[:, 3].min())
            <= float(points[:, 3].max())
            <= 1.001 * _FULL[intensity]
        ):
            raise InputError(
                f"points: intensity runs from {float(points[:, 3].min()):g} to {float(points[:, 3].max()):g}, "
                f'not {intensity}; pass intensity="0..255" for raw values, or scale them to 0..1'
            )


def save_backbone(encoder: LidarEncoder, path: str | Path, card: BackboneCard) -> BackboneCard:
    """Write ``path`` (.safetensors, card inside) and a copy of the card for readers beside it (.json).

    Returns:
        The card as written, with architecture, width, hash and version filled in.

    Raises:
        InputError: another suffix, or the disk is full; nothing half-written stays.
    """
    from safetensors.torch import save

    path = Path(path)
    if path.suffix != ".safetensors":
        raise InputError(f"{path}: a backbone is saved as .safetensors; rename it to {path.stem}.safetensors")
    weights = {name: value.detach().cpu().contiguous() for name, value in encoder.state_dict().items()}
    card = replace(
        card,
        encoder=encoder.config(),
        channels=encoder.out_channels,
        weights_sha256=weights_hash(weights),
        version=__version__,
        format=FORMAT,
    )
    text = json.dumps(asdict(card), sort_keys=True)
    with write_atomically(path) as file:
        file.write(save(weights, metadata={CARD_KEY: text}))
    with write_atomically(path.with_suffix(".json"), "w") as file:
        file.write(json.dumps(asdict(card), indent=2) + "\n")
    return card


def load(name_or_path: str | Path, *, device: torch.device | str = "cpu") -> Backbone:
    """A pretrained backbone, in evaluation mode on ``device``.

    Args:
        name_or_path: an exported .safetensors, a checkpoint .pth of ``superflow train``, or the name of a file in the
            registry folder (``$SUPERFLOW_HOME``, else ``~/.cache/superflow``).

    Raises:
        MissingFileError: neither such a file nor such a name.
        InputError: the file is damaged, of an unknown format or of another architecture.
    """
    file = read_encoder_file(find(name_or_path))
    return Backbone(build_encoder(file), card_of(file)).to(device)


def card_of(file: EncoderFile) -> BackboneCard:
    """The card of a file that was read; for a checkpoint it is made of the checkpoint's record."""
    card = BackboneCard.from_record({**file.card, "encoder": file.config})
    if file.raw_intensity:
        card = replace(card, intensity="0..255")
    return replace(
        card,
        name=file.path.stem if card.name == "unnamed" else card.name,
        weights_sha256=weights_hash(file.weights),
    )


def registry_folder() -> Path:
    """Where named backbones lie: ``$SUPERFLOW_HOME``, else ``~/.cache/superflow``."""
    chosen = os.environ.get("SUPERFLOW_HOME")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "superflow"


def registered() -> list[str]:
    """Names of the backbones in the registry folder."""
    return sorted(path.stem for path in registry_folder().glob("*.safetensors"))


def find(name_or_path: str | Path) -> Path:
    """The file that a path or a registered name means.

    Raises:
        MissingFileError: none; the message lists the names that exist.
    """
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    if path.suffix in (".safetensors", ".pth") or len(path.parts) > 1:
        raise MissingFileError(f"{path}: there is no such file; check the path")
    named = registry_folder() / f"{path.name}.safetensors"
    if named.is_file():
        return named
    known = ", ".join(registered()) or "none yet"
    raise MissingFileError(
        f'"{path}" is no file and no backbone in {registry_folder()} (there: {known}); '
        "give the path of an exported file, or put it there with `superflow export --install`"
    )
