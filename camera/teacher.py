"""Frozen image models whose features a LiDAR backbone learns to reproduce.

A teacher is one file in ``teachers/`` and one line in ``TEACHERS``; every other name goes to timm.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError, suggest

log = logging.getLogger(__name__)

# name -> module in teachers/ with `build(name, path=None, **options)` and `is_present(name)` (no download)
TEACHERS = {
    "efficientnet_lite0": "efficientnet_lite",
    "efficientnet_lite1": "efficientnet_lite",
    "efficientnet_lite2": "efficientnet_lite",
    "dinov2_small_embedded": "embedded_dinov2",
    "filter_bank": "filter_bank",
}
# what `auto` tries, best first; hub models only if their file is already on this machine
AUTO = (
    "vit_small_patch14_dinov2",
    "vit_base_patch14_dinov2",
    "vit_large_patch14_dinov2",
    "dinov2_small_embedded",
    "efficientnet_lite0",
    "filter_bank",
)


class Teacher(nn.Module):
    """A network in eval mode that never learns, with all that is needed to name it in a record.

    Attributes:
        name: as given to ``make_teacher``.
        channels: C of the features.
        stride: input pixels a feature cell covers along each side.
        multiple: both sides of an input must be multiples of this.
        scale_channels: how many channels, in order, come from each scale (or kind) of feature; sums to C.
    """

    mean: Tensor  # (1, 3, 1, 1)
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str,
        scale_channels: Sequence[int],
        stride: int,
        multiple: int,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
        source: Mapping[str, Any],
    ) -> None:
        """``network`` maps (B, 3, H, W) standardised by ``mean`` and ``std`` to (B, C, H / stride, W / stride)."""
        super().__init__()
        self.network = network
        self.name = name
        self.scale_channels = tuple(scale_channels)
        self.channels = sum(self.scale_channels)
        self.stride = stride
        self.multiple = multiple
        self._source = dict(source)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Teacher:
        """Stays in eval mode: a parent's ``train()`` must not wake dropout or batch statistics."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H / stride, W / stride) float32 features of ``images`` (B, 3, H, W) float32 RGB in [0, 1].

        Feature cell (i, j) stands for the input position ((i + 0.5) stride - 0.5, (j + 0.5) stride - 0.5).
        On CUDA the network runs in float16.

        Raises:
            ValueError: not (B, 3, H, W).
            InputError: a side is no multiple of ``multiple``.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"{self.name}: images must be (B, 3, H, W), not {tuple(images.shape)}")
        if images.shape[2] % self.multiple or images.shape[3] % self.multiple:
            raise InputError(
                f"{self.name}: image sides must be multiples of {self.multiple}, not "
                f"{images.shape[2]} x {images.shape[3]}; the nearest size is {self.fit_size(images.shape[2:])} "
                "(in training: train_dataloader.dataset.views.size)"
            )
        if images.device.type == "cuda":
            with torch.autocast("cuda", dtype=torch.float16):
                return self._seen(images)
        # the maps of one image stay in the cache of a CPU, those of a batch do not, and fill its memory
        features = torch.empty(
            len(images),
            self.channels,
            *self.grid(images.shape[2:]),
            device=images.device,
            memory_format=torch.channels_last,
        )
        for image, place in zip(images.split(1), features.split(1)):
            place.copy_(self._seen(image))
        return features

    def _seen(self, images: Tensor) -> Tensor:
        return self.network((images.float() - self.mean) / self.std).float()

    def fit_size(self, size: Sequence[int]) -> tuple[int, int]:
        """The allowed height, width nearest to ``size``."""
        height, width = (max(self.multiple, round(side / self.multiple) * self.multiple) for side in size)
        return height, width

    def grid(self, size: Sequence[int]) -> tuple[int, int]:
        """Height, width of the features of an image of ``size``."""
        return size[0] // self.stride, size[1] // self.stride

    def record(self) -> dict[str, Any]:
        """What made the features: name, weights with sha256, package, version, licence, options. Plain values."""
        return {
            "name": self.name,
            **self._source,
            "channels": self.channels,
            "scale_channels": list(self.scale_channels),
            "stride": self.stride,
            "multiple": self.multiple,
            "mean": [round(value, 6) for value in self.mean.flatten().tolist()],
            "std": [round(value, 6) for value in self.std.flatten().tolist()],
        }

    def extra_repr(self) -> str:
        return f"{self.name!r}, channels={self.channels}, stride={self.stride}, multiple={self.multiple}"


def make_teacher(name: str = "efficientnet_lite0", path: str | Path | None = None, **options: Any) -> Teacher:
    """A frozen teacher on the CPU; never one with random weights.

    Args:
        name: a key of ``TEACHERS``, any model of timm, or ``auto``: the first of ``AUTO`` that is on this machine.
        path: weights to take instead of the installed or downloaded ones (.safetensors, or torch.save's file).
        options: knobs of that teacher (``output`` of a ViT, ``out_indices`` of a CNN).

    Raises:
        InputError: the weights are not there (with the command that brings them), are not the expected ones, or not
            finite; that teacher has no such knob.
    """
    if name == "auto":
        name = next(candidate for candidate in AUTO if _module(candidate).is_present(candidate))
        log.info("teacher: auto took %s", name)
    build = _module(name).build
    known = signature(build).parameters.keys() - {"name"}
    for wrong in options.keys() - known:
        raise InputError(f"teacher {name}: has no option {wrong!r}{suggest(wrong, known)}")
    teacher = build(name, path=path, **options)
    for part, value in teacher.state_dict().items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise InputError(
                f"teacher {name}: {part} of {path or 'its weights'} is not finite; copy the file again"
            )
    source = teacher.record()
    log.info("teacher: %s, weights %s (sha256 %.12s)", name, source["weights"], source["sha256"] or "none")
    if name == "filter_bank":
        log.warning("teacher: filter_bank has no learned weights; use it to try things out, not for results")
    return teacher


def _module(name: str) -> Any:
    return import_module(f".teachers.{TEACHERS.get(name, 'timm_model')}", __package__)
