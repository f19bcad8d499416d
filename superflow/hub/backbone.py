"""Pretrained backbones as files: save, find, load, extract features."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from .. import __version__
from ..datasets.card import RAW_FULL
from ..devices import usable_device
from ..errors import InputError
from ..files.access import read_json
from ..files.writes import write_bytes, write_text
from ..lidar.encoder import LidarEncoder
from ..lidar.evaluation import evaluating
from ..lidar.limits import Limits
from .checkpoint import not_finite
from .encoder_file import CARD_KEY, FORMAT, EncoderFile, build_encoder, read_encoder_file, weights_hash
from .point_columns import MOST_COLUMNS, read_columns

log = logging.getLogger(__name__)
IntensityRange = Literal["0..1", "0..255"]
_FULL = {"0..1": 1.0, "0..255": RAW_FULL}


@dataclass(frozen=True, slots=True)
class BackboneCard:
    """What has to be known about a backbone file.

    name: for people. encoder: arguments of ``LidarEncoder`` (architecture, voxel grid, inputs), filled in when
    saved. intensity: range that the encoder was trained on. limits: region it was trained on, or None for everywhere.
    teacher: record of the image model that taught it or the backbone it began with, or None. method: what trained it,
    as the model says it: of pretraining its objectives, regions and pooling; of a fine-tuned one its classes, losses
    and pretraining. data: of each dataset name, hash of the index and of the frames, licence, real or stand-in.
    training: the run: resolved config, commit, seed, steps, seconds, processes. licence: of the weights, where their
    maker states one; else that of the data holds.
    metrics: what was measured: plain values by name. weights_sha256, channels, version: filled in when saved.
    """

    name: str
    encoder: dict[str, Any] = field(default_factory=dict)
    intensity: IntensityRange = "0..1"
    limits: dict[str, Any] | None = None
    teacher: dict[str, Any] | None = None
    method: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    licence: str = ""
    metrics: list[dict[str, Any]] = field(default_factory=list)
    channels: int = 0
    weights_sha256: str = ""
    version: str = __version__
    format: int = FORMAT

    def __post_init__(self) -> None:
        if self.intensity not in _FULL:
            raise InputError(f'card: intensity is {self.intensity!r}; it must be "0..1" or "0..255"')
        Limits.from_record(self.limits)

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
        encoder.raw_intensity = card.intensity == "0..255"  # for who takes the encoder alone
        self.eval()

    @property
    def out_channels(self) -> int:
        """C, the width of a feature row."""
        return self.encoder.out_channels

    def forward(self, points: Tensor, cloud: Tensor, num_clouds: int) -> Tensor:
        """(N, C) features with gradients, for training; see ``LidarEncoder.point_features``.

        Takes points as they are, best those of `as_trained`: every one gets its feature, also outside the card's
        limits.
        """
        return self.encoder.point_features(points, cloud, num_clouds)

    @overload
    def extract(
        self, points: Tensor, *, intensity: IntensityRange = ..., everywhere: bool = ...
    ) -> Tensor: ...

    @overload
    def extract(
        self, points: ArrayLike, *, intensity: IntensityRange = ..., everywhere: bool = ...
    ) -> NDArray[np.float32]: ...

    @torch.no_grad()
    def extract(
        self,
        points: Tensor | ArrayLike,
        *,
        intensity: IntensityRange = "0..1",
        everywhere: bool = False,
    ) -> Tensor | NDArray[np.float32]:
        """Features of one scan: (N, C) float32, one row per input point in input order.

        Points outside ``card.limits``, the region that training saw, get a row of zeros and are not shown to the
        network; `within_limits` says which they are. Where that are all points, a warning is logged.

        Args:
            points: (N, 4+) x, y, z [m, lidar frame: x forward, y left, z up], intensity; any N including 0. An array of
                any numbers, byte order and strides, a structured array or a data frame with x, y, z, intensity, a
                tensor, or lists; columns that the encoder does not read do not matter. One that knows whether a point
                has an intensity (input ``has_intensity``) takes NaN for none, and (N, 3).
            intensity: range of the intensity that is handed in; it is converted to what the encoder expects.
            everywhere: give points outside the limits their features too, as the network makes them out of what it
                never saw. Those of points near the border change a little with it: they have more neighbours.

        Returns:
            A tensor (on the device it came from) for a tensor, else an array.

        Raises:
            InputError: another shape, NaN or infinity in a column that is read, intensity outside the stated range.
        """
        cloud = self.as_trained(points, intensity=intensity)
        inside = self._mask(cloud) if not everywhere else cloud.new_ones(len(cloud), dtype=torch.bool)
        rows = cloud.new_zeros(len(cloud), self.out_channels)
        if bool(inside.any()):
            with evaluating(self):
                seen = cloud[inside]
                one = seen.new_zeros(len(seen), dtype=torch.int64)
                rows[inside] = self.encoder.point_features(seen, one, 1).float()
        elif len(cloud):  # zeros are taken for features
            log.warning(
                "none of the %d points lies within %s, where the backbone was trained: all features are zero; give "
                "points in the frame of the LiDAR, in metres, not in that of a map",
                len(cloud),
                self.card.limits,
            )
        return _like(points, rows)

    def as_trained(self, points: Tensor | ArrayLike, *, intensity: IntensityRange = "0..1") -> Tensor:
        """(N, 4+) float32 copy of the points on the backbone's device, with the intensity that training saw.

        What `forward` takes, also of a backbone that was trained on another range of intensity than is handed in.
        Arguments and errors as of `extract`; columns that the encoder does not read are zero.
        """
        cloud = self._read(points)
        self._check_intensity(cloud, intensity)
        cloud = cloud.to(next(self.encoder.parameters()).device)
        cloud[:, 3] *= _FULL[self.card.intensity] / _FULL[intensity]
        return cloud

    @overload
    def within_limits(self, points: Tensor) -> Tensor: ...

    @overload
    def within_limits(self, points: ArrayLike) -> NDArray[np.bool_]: ...

    def within_limits(self, points: Tensor | ArrayLike) -> Tensor | NDArray[np.bool_]:
        """(N,) bool, True for points that training could have seen: the others' rows of `extract` are zero.

        Takes what `extract` takes. All are True where the card has no limits.
        """
        return _like(points, self._mask(self._read(points)))

    def _read(self, points: Any) -> Tensor:
        """(N, C) float32 of what the encoder reads of the points."""
        return read_columns(points, self.encoder.columns, needs_intensity=self.encoder.needs_intensity)

    def _mask(self, cloud: Tensor) -> Tensor:
        if self._limits is None:
            return cloud.new_ones(len(cloud), dtype=torch.bool)
        return self._limits.mask(cloud)

    @staticmethod
    def _check_intensity(cloud: Tensor, intensity: str) -> None:
        if intensity not in _FULL:
            raise InputError(f'intensity={intensity!r} must be "0..1" or "0..255"')
        given = cloud[:, 3][~cloud[:, 3].isnan()]
        if not len(given):
            return
        low, high = float(given.min()), float(given.max())
        if intensity == "0..255" and 0 < high <= 1 and bool((given % 1 != 0).any()):
            log.warning(
                'points: intensity runs from %g to %g, all but black of 0..255; leave out intensity="0..255" if it is '
                "0..1",
                low,
                high,
            )
        if not -1e-3 <= low <= high <= 1.001 * _FULL[intensity]:
            few = (
                f"; if these {len(cloud)} rows are columns, give points.T"
                if len(cloud) <= MOST_COLUMNS
                else ""
            )
            raise InputError(
                f"points: intensity runs from {low:g} to {high:g}, not {intensity}; "
                f'pass intensity="0..255" for raw values, or scale them to 0..1{few}'
            )


def _like(points: Any, values: Tensor) -> Any:
    """``values`` as what ``points`` are: a tensor of their device, or an array."""
    return values.to(points.device) if isinstance(points, Tensor) else values.numpy(force=True)


def save_backbone(
    encoder: LidarEncoder, path: str | Path, card: BackboneCard, *, half: bool = False
) -> BackboneCard:
    """Write ``path`` (.safetensors, card inside) and a copy of the card for readers beside it (.json).

    Args:
        half: store the convolutions in float16, which halves the file; loaded, they are float32 again.

    Returns:
        The card as written, with architecture, width, hash and version filled in.

    Raises:
        InputError: another suffix, a weight that is not finite or that float16 cannot hold, or the disk is full;
            nothing half-written stays. Or the copy of the card would take the place of a file that is none.
    """
    from safetensors.torch import save

    path = Path(path)
    check_free(path)
    weights = {name: value.detach().cpu().contiguous() for name, value in encoder.state_dict().items()}
    if broken := not_finite({"state_dict": weights}, weights):
        raise InputError(
            f"{path}: {broken[0].removeprefix('state_dict.')} is not finite, so it would give no features; "
            "export an earlier checkpoint"
        )
    if half:
        weights = {
            name: value.half() if value.ndim > 1 else value  # statistics and scales are few, and may be large
            for name, value in weights.items()
        }
        if spilt := [name for name, value in weights.items() if not bool(torch.isfinite(value).all())]:
            raise InputError(f"{path}: {spilt[0]} does not fit float16; save it whole")
    card = replace(
        card,
        encoder=encoder.config(),
        channels=encoder.out_channels,
        weights_sha256=weights_hash(weights),
        version=__version__,
        format=FORMAT,
    )
    text = json.dumps(asdict(card), sort_keys=True)
    write_bytes(path, save(weights, metadata={CARD_KEY: text}))
    write_text(path.with_suffix(".json"), json.dumps(asdict(card), indent=2) + "\n")
    return card


def check_free(path: Path) -> None:
    """Refuse a place that no backbone can be saved at, before the work of making one.

    Raises:
        InputError: see ``save_backbone``.
    """
    if path.suffix != ".safetensors":
        raise InputError(f"{path}: a backbone is saved as .safetensors; rename it to {path.stem}.safetensors")
    beside = path.with_suffix(".json")
    other = f"is no card of a backbone, and that of {path.name} would be written over it; choose another name"
    if beside.is_file() and "weights_sha256" not in read_json(beside, other):
        raise InputError(f"{beside}: {other}")


def load(name_or_path: str | Path, *, device: torch.device | str | int | None = "cpu") -> Backbone:
    """A pretrained backbone, in evaluation mode on ``device``.

    Args:
        name_or_path: an exported .safetensors, a checkpoint .pth of ``superflow train``, or a name: of a backbone that
            comes with the package, or of a file in the registry folder (``$SUPERFLOW_HOME``, else
            ``~/.cache/superflow``).
        device: see `superflow.devices.usable_device`.

    Raises:
        MissingFileError: neither such a file nor such a name.
        InputError: the file is damaged, of an unknown format or of another architecture; the device cannot be used.
    """
    place = usable_device(device)
    file = read_encoder_file(name_or_path)
    return Backbone(build_encoder(file), card_of(file)).to(place)


def card_of(file: EncoderFile) -> BackboneCard:
    """The card of a file that was read."""
    try:
        card = BackboneCard.from_record({**file.card, "encoder": file.config})
    except InputError as error:
        raise InputError(f"{file.path}: {error}") from error
    if file.raw_intensity:
        card = replace(card, intensity="0..255")
    return replace(
        card,
        name=file.path.stem if card.name == "unnamed" else card.name,
        weights_sha256=weights_hash(file.weights),
    )
