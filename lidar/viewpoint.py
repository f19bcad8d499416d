"""A scan as if its scanner had stood elsewhere: the same surfaces, thinned as they would be seen from there."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import InputError

NEAREST_M = 1.0  # a scanner sees nothing nearer, so density stops growing there


def draw_spot(radius_m: float, generator: torch.Generator) -> Tensor:
    """(2,) float32 x, y [m], evenly drawn in the disc of ``radius_m`` around the scanner."""
    turn, area = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
    reach = radius_m * math.sqrt(area)
    return torch.tensor([reach * math.cos(2 * math.pi * turn), reach * math.sin(2 * math.pi * turn)])


def check_viewpoint(radius_m: float, count: object) -> None:
    """A cloud can be seen from elsewhere only if it is thinned.

    Raises:
        InputError: ``count``, the number of points to keep, is None although ``radius_m`` is not 0.
    """
    if radius_m and count is None:
        raise InputError("viewpoint_m thins clouds; say to how many points with max_points")


def thin_as_from_elsewhere(
    points: Tensor,
    radius_m: float,
    count: int,
    generator: torch.Generator,
    *,
    origins: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """``thin_as_from`` a spot that is drawn: (M,) int64 rows, and the spot (2,) x, y [m]."""
    spot = draw_spot(radius_m, generator)
    return thin_as_from(points, spot, count, generator, origins=origins), spot


def thin_as_from(
    points: Tensor, spot: Tensor, count: int, generator: torch.Generator, *, origins: Tensor | None = None
) -> Tensor:
    """Rows of about ``count`` points, as dense as a scanner at ``spot`` would have them.

    A spinning scanner's beams spread in both angles, so points on a surface thin out with the square of their
    distance: a point stays with probability min(1, c (r / r')^2), r and r' its horizontal distances from the scanner
    and from the spot. What is hidden from the scanner stays hidden.

    Args:
        points: (N, 3+) x, y, z [m] in the LiDAR frame. spot: (2,) x, y [m] in it.
        count: expected number; c follows from it. With N points or fewer all stay.
        origins: (N, 2+) x, y [m] where the ray of each point began, in a cloud of several LiDARs, which then all move
            by ``spot``; None for the origin.

    Returns:
        (M,) int64 ascending. Shift ``points[rows]`` by -``spot`` for coordinates from there.
    """
    if count >= len(points):
        return torch.arange(len(points))
    ray = points[:, :2].double() if origins is None else points[:, :2].double() - origins[:, :2].double()
    here = ray.norm(dim=1).clamp(min=NEAREST_M)
    there = (ray - spot).norm(dim=1).clamp(min=NEAREST_M)
    stays = inclusion_probabilities((here / there).square(), count)
    drawn = torch.rand(len(points), generator=generator, dtype=torch.float64) < stays
    return drawn.nonzero()[:, 0]


def inclusion_probabilities(weight: Tensor, count: int) -> Tensor:
    """(N,) min(1, c weight) with the c that makes their sum ``count``, for positive weights and count < N."""
    ordered = weight.sort(descending=True).values
    # with the k heaviest certain, the others share count - k by weight
    rest = ordered.flip(0).cumsum(0).flip(0)
    factor = (count - torch.arange(len(weight), dtype=weight.dtype)) / rest
    certain = int((factor * ordered > 1).sum())  # true for the first ones only
    return (factor[certain] * weight).clamp(max=1.0)
