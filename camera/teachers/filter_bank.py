"""Hand-made image features that need no weights: colour, edges and texture on a grid of 8-pixel cells.

61 channels of four kinds: CIE Lab mean and spread, Gabor energy, histograms of gradient orientation (Dalal and
Triggs 2005) and rotation-invariant uniform local binary patterns (Ojala et al. 2002). No position is among them.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import InputError
from ..teacher import Teacher

CELL = 8
LEVELS, ORIENTATIONS, BINS = 4, 6, 9


def is_present(name: str) -> bool:
    """Always: there is nothing to load."""
    return True


def build(name: str, *, path: str | Path | None = None) -> Teacher:
    """The filter bank as a teacher; its record says that it holds no weights.

    Raises:
        InputError: a weight file was given.
    """
    if path is not None:
        raise InputError(f"{path}: filter_bank takes no weights; leave path out or choose another teacher")
    return Teacher(
        FilterBank(),
        name=name,
        scale_channels=(9, LEVELS * ORIENTATIONS, 2 * BINS, 10),
        stride=CELL,
        multiple=CELL,
        source={
            "weights": "no weights",
            "sha256": "",
            "package": "superflow-lidar",
            "version": "filter bank 1",
            "licence": "Apache-2.0",
            "trained_on": "nothing",
        },
    )


class FilterBank(nn.Module):
    """(B, 3, H, W) RGB in [0, 1] -> (B, 61, H / 8, W / 8)."""

    gabor: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("gabor", gabor_kernels(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):  # squares of float16 lose too much
            lab = rgb_to_lab(images)
            light = lab[:, :1] / 100
            return torch.cat(
                [
                    colour_moments(lab),
                    self._gabor_energy(light),
                    gradient_histograms(light),
                    binary_patterns(light),
                ],
                1,
            )

    def _gabor_energy(self, light: Tensor) -> Tensor:
        """(B, 24, h, w) mean response magnitude in each cell; each level looks at an image of half the size."""
        energies = []
        for level in range(LEVELS):
            response = F.conv2d(F.pad(light, (4, 4, 4, 4), mode="replicate"), self.gabor)
            even, odd = response.chunk(2, dim=1)
            energies.append(F.avg_pool2d((even.square() + odd.square()).sqrt(), CELL >> level))
            if level + 1 < LEVELS:
                light = F.avg_pool2d(light, 2)
        return torch.cat(energies, dim=1)


def rgb_to_lab(images: Tensor) -> Tensor:
    """(B, 3, H, W) CIE L*a*b* (L in 0..100) of sRGB in [0, 1], white point D65."""
    linear = torch.where(images <= 0.04045, images / 12.92, ((images.clamp(min=0.04) + 0.055) / 1.055) ** 2.4)
    to_xyz = images.new_tensor(
        [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
    )
    white = images.new_tensor([0.950456, 1.0, 1.088754])
    ratio = torch.einsum("ij,bjhw->bihw", to_xyz / white[:, None], linear)
    cubic = torch.where(ratio > 0.008856, ratio.clamp(min=0.008) ** (1 / 3), 7.787 * ratio + 16 / 116)
    x, y, z = cubic.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def colour_moments(lab: Tensor) -> Tensor:
    """(B, 9, h, w): mean and deviation in each cell, and the mean over 5 x 5 cells around it."""
    mean = F.avg_pool2d(lab, CELL)
    spread = (F.avg_pool2d(lab.square(), CELL) - mean.square()).clamp(min=0).sqrt()
    return torch.cat([mean, spread, _around(mean, 2)], dim=1)


def gabor_kernels() -> Tensor:
    """(12, 1, 9, 9): six directions, first their even then their odd parts; wavelength 5 pixels, mean 0."""
    y, x = torch.meshgrid(torch.arange(-4.0, 5.0), torch.arange(-4.0, 5.0), indexing="ij")
    angle = torch.arange(ORIENTATIONS).view(-1, 1, 1) * torch.pi / ORIENTATIONS
    phase = 2 * torch.pi / 5 * (x * angle.cos() + y * angle.sin())
    envelope = torch.exp(-(x.square() + y.square()) / (2 * 2.0**2))
    kernels = torch.cat([phase.cos() * envelope, phase.sin() * envelope])
    kernels = kernels - envelope * (kernels.sum((1, 2), keepdim=True) / envelope.sum())
    return (kernels / kernels.abs().sum((1, 2), keepdim=True))[:, None]


def gradient_histograms(light: Tensor) -> Tensor:
    """(B, 18, h, w): direction of the gradient (modulo pi, 9 bins, split between two) in each cell, then over 3 x 3.

    Both are divided by the length of the wider histogram, so that contrast cancels.
    """
    padded = F.pad(light, (1, 1, 1, 1), mode="replicate")
    dx = (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]) / 2
    dy = (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]) / 2
    place = torch.remainder(torch.atan2(dy, dx), torch.pi) * BINS / torch.pi
    bins = torch.arange(BINS, device=light.device).view(1, -1, 1, 1)
    distance = torch.remainder(place - bins + BINS / 2, BINS) - BINS / 2
    share = (1 - distance.abs()).clamp(min=0)
    cells = F.avg_pool2d(share * (dx.square() + dy.square()).sqrt(), CELL)
    wider = _around(cells, 1)
    length = wider.square().sum(1, keepdim=True).sqrt() + 0.005
    return torch.cat([cells / length, wider / length], dim=1)


def binary_patterns(light: Tensor) -> Tensor:
    """(B, 10, h, w): share of pixels of each pattern of the 8 neighbours that are not darker.

    Channels 0..8: so many neighbours in one run; channel 9: more than one run.
    """
    padded = F.pad(light, (1, 1, 1, 1), mode="replicate")
    height, width = light.shape[2:]
    ring = ((0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0))
    bits = torch.cat([padded[:, :, y : y + height, x : x + width] >= light for y, x in ring], dim=1)
    changes = (bits != bits.roll(1, dims=1)).sum(1, keepdim=True)
    pattern = torch.where(changes <= 2, bits.sum(1, keepdim=True), 9)
    return torch.cat([F.avg_pool2d((pattern == p).float(), CELL) for p in range(10)], dim=1)


def _around(cells: Tensor, radius: int) -> Tensor:
    """Mean over the cells within ``radius``; outside the image the border cell is repeated."""
    padded = F.pad(cells, (radius,) * 4, mode="replicate")
    return F.avg_pool2d(padded, 2 * radius + 1, stride=1)
