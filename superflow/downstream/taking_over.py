"""What of a pretrained encoder a downstream network takes over, and in which form."""

from __future__ import annotations

import re
from typing import Literal

import torch
from torch import nn

from ..lidar.encoder import LidarEncoder
from ..lidar.minkunet import ConvNorm

Keep = Literal["all", "encoder", "nothing"]
_STAGE = re.compile(r"^backbone\.(?:resample|blocks)\.(\d+)\.")


def stage_of(name: str) -> int:
    """Place of a parameter of an encoder on the way through it: 0 for the stem, then 1, 2, ... for the stages."""
    found = _STAGE.match(name)
    return 0 if found is None else int(found.group(1)) + 1


def stages(encoder: LidarEncoder) -> int:
    """Number of stages after the stem, down and up."""
    return len(encoder.backbone.resample)


def is_encoder_half(encoder: LidarEncoder, name: str) -> bool:
    """Whether a parameter or buffer belongs to the way down, which a decoder follows."""
    return stage_of(name) < encoder.backbone.levels


def take_over(encoder: LidarEncoder, keep: Keep, *, seed: int) -> LidarEncoder:
    """A new encoder of the same architecture: the part that is kept has the weights of ``encoder``, the rest is fresh.

    Args:
        keep: "all"; the "encoder" half (the stem and the way down); or "nothing".
        seed: of the fresh weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = LidarEncoder(**encoder.config())
    fresh.raw_intensity = encoder.raw_intensity
    kept = {
        name: value
        for name, value in encoder.state_dict().items()
        if keep == "all" or (keep == "encoder" and is_encoder_half(encoder, name))
    }
    fresh.load_state_dict({**fresh.state_dict(), **kept})
    return fresh


@torch.no_grad()
def reset_statistics(encoder: nn.Module) -> None:
    """Forget the running means and variances of all batch normalisations, in place; scale and shift stay."""
    for module in encoder.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()


@torch.no_grad()
def rescale(encoder: nn.Module) -> None:
    """Give every convolution before a batch normalisation the norm of its initialisation, in place.

    The normalisation divides by the scale of what it is given, so the function stays the same (up to its epsilon),
    while a step of a given length turns the weights as far as it turns those of a fresh network.
    """
    for module in encoder.modules():
        if not isinstance(module, ConvNorm):
            continue
        weight = module.conv.weight
        # He initialisation over the outputs: see `lidar.conv.Convolution.reset_parameters`
        fresh = (2.0 / (weight.shape[0] * module.conv.out_channels)) ** 0.5 * weight.numel() ** 0.5
        factor = fresh / float(weight.norm().clamp(min=1e-12))
        weight.mul_(factor)
        if module.norm.running_mean is not None and module.norm.running_var is not None:
            module.norm.running_mean.mul_(factor)
            module.norm.running_var.mul_(factor**2)
