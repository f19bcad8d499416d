"""Standardise teacher features, give each scale equal weight, and keep the directions of largest variance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from ..errors import InputError
from ..files.access import reading
from ..files.writes import write_bytes

AGAIN = (
    "delete its folder and prepare it again"  # what to do about a part of a cache that is missing or damaged
)


@dataclass(frozen=True, slots=True)
class Reduction:
    """features (..., C, h, w) -> (..., K, h, w): subtract ``mean``, then multiply by ``basis``.

    mean: (C,) float32; basis: (K, C) float32, which holds the standardisation, the weight of each scale and the
    principal directions; kept_variance: share of the weighted variance that the K directions hold, 1 without PCA.
    """

    mean: Tensor
    basis: Tensor
    kept_variance: float

    @property
    def channels(self) -> int:
        return self.basis.shape[0]

    def __call__(self, features: Tensor) -> Tensor:
        """(B, K, h, w) float32 of ``features`` (B, C, h, w), on the device of the features."""
        mean, basis = self.mean.to(features.device), self.basis.to(features.device)
        centred = features.float() - mean[:, None, None]
        return torch.einsum("kc,bchw->bkhw", basis, centred)

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        tensors = {"mean": self.mean, "basis": self.basis, "kept_variance": torch.tensor(self.kept_variance)}
        write_bytes(path, save({name: value.contiguous() for name, value in tensors.items()}))

    @classmethod
    def load(cls, path: Path) -> Reduction:
        """Read what ``save`` wrote.

        Raises:
            MissingFileError, InputError: there is no such file; it is damaged.
        """
        tensors = read_tensors(path, ("mean", "basis", "kept_variance"))
        return cls(tensors["mean"], tensors["basis"], float(tensors["kept_variance"]))


def read_tensors(path: Path, names: Sequence[str]) -> dict[str, Tensor]:
    """The tensors of a safetensors file of a cache, ``names`` among them.

    Raises:
        MissingFileError, InputError: there is no such file; it is damaged or lacks a tensor.
    """
    try:
        with reading(path, AGAIN):
            tensors = load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path}: is damaged ({error}); {AGAIN}") from error
    for name in names:
        if name not in tensors:
            raise InputError(f"{path}: lacks the tensor {name!r}; {AGAIN}")
    return tensors


class ReductionFit:
    """Sums over feature maps, from which ``finish`` makes a ``Reduction``. Sums are float64 and order matters not."""

    def __init__(self, channels: int) -> None:
        self._count = 0
        self._shift: Tensor | None = None  # near the mean, so that the squares do not cancel
        self._total = torch.zeros(channels, dtype=torch.float64)
        self._outer = torch.zeros(channels, channels, dtype=torch.float64)

    def add(self, features: Tensor) -> None:
        """Take in ``features`` (B, C, h, w)."""
        rows = features.detach().cpu().float().permute(0, 2, 3, 1).flatten(0, 2)
        if self._shift is None:
            self._shift = rows.mean(dim=0)
        rows = rows - self._shift
        self._count += len(rows)
        self._total += rows.sum(dim=0, dtype=torch.float64)
        self._outer += (rows.T @ rows).double()  # one image at a time keeps float32 sums short

    def finish(self, scale_channels: Sequence[int], components: int | None) -> Reduction:
        """The reduction to ``components`` channels, or to all C of them (standardised and weighted) if None.

        Every channel gets variance 1, then every scale the same total: its channels are weighted by
        sqrt(C / (scales * channels of the scale)). Directions are ordered by variance; of each, the entry of
        largest size is positive, so that the same data always give the same signs.

        Raises:
            InputError: more components than channels.
            ValueError: no features were added.
        """
        channels = len(self._total)
        if components is not None and not 1 <= components <= channels:
            raise InputError(
                f"components must be in 1..{channels} (the teacher's channels), not {components}"
            )
        if self._shift is None:
            raise ValueError("no features were added; fit on at least one image")
        offset = self._total / self._count
        covariance = self._outer / self._count - torch.outer(offset, offset)
        std = covariance.diagonal().clamp(min=1e-12).sqrt()
        # a dead channel (ReLU that never fires) stays zero instead of growing to noise
        alive = std > 1e-5 * std.max()
        weight = torch.cat(
            [torch.full((n,), (channels / (len(scale_channels) * n)) ** 0.5) for n in scale_channels]
        ).double()
        gain = torch.where(alive, weight / std, torch.zeros(()).double())
        mean = (self._shift.double() + offset).float()
        if components is None:
            return Reduction(mean, torch.diag(gain).float(), 1.0)
        values, vectors = torch.linalg.eigh(gain[:, None] * covariance * gain)
        basis = vectors.flip(1)[:, :components].T
        sign = basis.gather(1, basis.abs().argmax(dim=1, keepdim=True)).sign()
        kept = values.flip(0)[:components].sum() / values.sum().clamp(min=1e-12)
        return Reduction(mean, (basis * sign * gain).float(), float(kept))
