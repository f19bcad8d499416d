"""Sums over pixels of an enlarged map, from its patches: no map of full resolution is built.

A pixel of a bilinearly enlarged map is a weighted sum of four patches. A sum over pixels is therefore a sum over
patches, whose weights are small: one for each region and patch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

# of each of four patches: (M,) int32 its number, (M,) float32 its weight
Taps = Sequence[tuple[Tensor, Tensor]]


def taps_of_pixels(view_size: tuple[int, int], grid: tuple[int, int], device: torch.device) -> Taps:
    """The four patches and weights of every pixel of a view, row by row (M = H * W; align_corners=False)."""
    y, x = (
        _along_axis(torch.arange(size, device=device), size, cells) for size, cells in zip(view_size, grid)
    )
    return [
        (
            (patch_y[:, None] * grid[1] + patch_x[None]).flatten().int(),
            (weight_y[:, None] * weight_x[None]).flatten(),
        )
        for patch_y, weight_y in y
        for patch_x, weight_x in x
    ]


def taps_at(pixel: Tensor, view_size: tuple[int, int], grid: tuple[int, int]) -> Taps:
    """The same of any places (M, 2): u, v, pixel centres at whole numbers."""
    y = _along_axis(pixel[:, 1], view_size[0], grid[0])
    x = _along_axis(pixel[:, 0], view_size[1], grid[1])
    return [
        ((patch_y * grid[1] + patch_x).int(), weight_y * weight_x)
        for patch_y, weight_y in y
        for patch_x, weight_x in x
    ]


def _along_axis(pixel: Tensor, size: int, cells: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The two cells that places on an axis of ``size`` pixels take from, with weights; clamped at the borders."""
    position = ((pixel + 0.5) * cells / size - 0.5).clamp(0, cells - 1)
    low = position.floor().long()
    part = (position - low).float()
    return (low, 1 - part), ((low + 1).clamp(max=cells - 1), part)


def patch_weights(region: Tensor, share: Tensor, taps: Taps, regions: int, patches: int) -> Tensor:
    """(regions, patches): times the patches, the sums over the pixels of each region, each pixel times its share.

    Args:
        region: (M,) int32, each below ``regions``. share: (M,) float32, 0 where a pixel has no region.
    """
    weights = share.new_zeros(regions * patches)
    for patch, weight in taps:
        weights.index_add_(0, region * patches + patch, weight * share)
    return weights.view(regions, patches)


def unit_sums(patches: Tensor, region: Tensor, found: Tensor, taps: Taps, view: View, regions: int) -> Tensor:
    """(regions, C) sums over the pixels of each region, each pixel normalised first; with gradients to the patches.

    Args:
        patches: (h, w, C). region: (H * W,) int32, and ``found``, whether a pixel has one.
    """
    squares = view.squares(patches)
    return _UnitSums.apply(patches.flatten(0, 1), squares.flatten(), region, found, taps, regions)


class _UnitSums(torch.autograd.Function):
    """Keeps for the gradient what is small: a number a pixel, and the weights of the patches."""

    @staticmethod
    def forward(
        ctx: Any,
        patches: Tensor,
        squares: Tensor,
        region: Tensor,
        found: Tensor,
        taps: Taps,
        regions: int,
    ) -> Tensor:
        share = squares.clamp(min=LEAST_SQUARE).rsqrt() * found
        weights = patch_weights(region, share, taps, regions, len(patches))
        ctx.save_for_backward(patches, share, region, weights)
        ctx.taps = taps
        return weights @ patches

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        patches, share, region, weights = ctx.saved_tensors
        of_weights = (grad @ patches.T).flatten()
        of_share = torch.zeros_like(share)
        for patch, weight in ctx.taps:
            of_share.addcmul_(of_weights.index_select(0, region * len(patches) + patch), weight)
        # of 1 / sqrt(squares); none where it is held at its largest
        of_squares = torch.where(share < LEAST_SQUARE**-0.5, of_share * share.pow(3) * -0.5, 0.0)
        return weights.T @ grad, of_squares, None, None, None, None


LEAST_SQUARE = 1e-24  # of a norm that divides, as in F.normalize


class View:
    """Squared norms of the pixels of a view, from its patches alone.

    The square of a weighted sum of neighbouring patches is a sum of their products, weighted along each axis apart:
    small matrix products give it for all pixels.
    """

    def __init__(self, view_size: tuple[int, int], grid: tuple[int, int], device: torch.device) -> None:
        self._y, self._x = (_square_weights(size, cells, device) for size, cells in zip(view_size, grid))

    def squares(self, patches: Tensor) -> Tensor:
        """(H, W) of ``patches`` (h, w, C)."""
        padded = torch.cat([patches, patches[-1:]])  # so that every pixel has a next patch
        padded = torch.cat([padded, padded[:, -1:]], 1)
        next_x = (padded[:, :-1] * padded[:, 1:]).sum(2)
        next_y = (padded[:-1] * padded[1:]).sum(2)
        across = (padded[:-1, :-1] * padded[1:, 1:] + padded[:-1, 1:] * padded[1:, :-1]).sum(2)
        (squares_y, mixed_y), (squares_x, mixed_x) = self._y, self._x
        squared = (squares_y @ padded.square().sum(2) + 2 * mixed_y @ next_y) @ squares_x.T
        return squared + 2 * (squares_y @ next_x + mixed_y @ across) @ mixed_x.T


def _square_weights(size: int, cells: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(size, cells + 1) squares of a pixel's weights, and (size, cells) the product of the two, at the first."""
    rows = torch.arange(size, device=device)
    (low, first), (_, second) = _along_axis(rows, size, cells)
    squares = torch.zeros(size, cells + 1, device=device)
    squares[rows, low], squares[rows, low + 1] = first.square(), second.square()
    mixed = torch.zeros(size, cells, device=device)
    mixed[rows, low] = first * second
    return squares, mixed
