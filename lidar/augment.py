"""A cloud turned, mirrored and scaled at random, and as another sensor might have seen it, with the transform drawn."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import InputError


def augment(
    points: Tensor,
    generator: torch.Generator,
    *,
    rotation_rad: tuple[float, float] = (-math.pi, math.pi),
    flip: float = 0.5,
    scale: tuple[float, float] = (0.95, 1.05),
    height_m: tuple[float, float] = (0.0, 0.0),
    jitter_m: float = 0.0,
    intensity_gain: tuple[float, float] = (1.0, 1.0),
    intensity_power: tuple[float, float] = (1.0, 1.0),
    drop_intensity: float = 0.0,
    drop_point_intensity: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """The cloud under a random flip of x, flip of y, turn about z and scale.

    Args:
        points: (N, 4+) x, y, z [m], ...; columns after the third are kept.
        generator: the only source of randomness, on the CPU; four numbers are drawn, whatever the options, and
            further ones only for those options that are not left at their defaults, in the order of this list.
        rotation_rad: range of the angle, a full turn in both directions by default.
        flip: probability of each of the two flips.
        scale: range of the factor on all coordinates.
        height_m: range of a shift along z [m]: of a sensor mounted lower or higher.
        jitter_m: largest deviation of noise on each coordinate [m]; that of a cloud is drawn between 0 and this.
        intensity_gain, intensity_power: ranges of a and p of min(1, a i^p), the response of another sensor to an
            intensity i in [0, 1].
        drop_intensity: probability that no point of the cloud has an intensity (NaN), so that a network learns to do
            without (after Utonia, ICML 2026); drop_point_intensity: that a single point has none.

    Returns:
        The new points, and ``a_to_b`` (4, 4) float64 from the given to the new frame. ``transform(other, a_to_b)``
        moves another cloud, say the dense one of the same instant, in the same way.

    Raises:
        InputError: an option that is no probability or range; a gain or power with an intensity above 1.
    """
    if not 0 <= drop_intensity <= 1 or not 0 <= drop_point_intensity <= 1:
        raise InputError(
            f"drop_intensity {drop_intensity} and drop_point_intensity {drop_point_intensity} must be probabilities"
        )
    if (
        jitter_m < 0
        or height_m[0] > height_m[1]
        or not all(0 < low <= high for low, high in (intensity_gain, intensity_power))
    ):
        raise InputError(
            f"height_m {height_m}, jitter_m {jitter_m}, intensity_gain {intensity_gain} and intensity_power "
            f"{intensity_power} do not fit: give a range, a deviation and two positive ranges"
        )
    a_to_b = _turn(generator, rotation_rad, flip, scale)
    if tuple(height_m) != (0.0, 0.0):
        a_to_b[2, 3] = _between(height_m, generator)
    moved = transform(points, a_to_b)
    if jitter_m:
        noise = torch.randn(len(points), 3, generator=generator) * _between((0.0, jitter_m), generator)
        moved[:, :3] += noise.to(moved)
    if {*intensity_gain, *intensity_power} != {1.0}:
        moved[:, 3] = _other_response(moved[:, 3], intensity_gain, intensity_power, generator)
    if drop_intensity or drop_point_intensity:
        whole = torch.rand((), generator=generator) < drop_intensity
        single = torch.rand(len(points), generator=generator) < drop_point_intensity
        moved[:, 3] = moved[:, 3].masked_fill((whole | single).to(points.device), torch.nan)
    return moved, a_to_b


def _turn(
    generator: torch.Generator, rotation_rad: tuple[float, float], flip: float, scale: tuple[float, float]
) -> Tensor:
    """(4, 4) float64 of a turn, two flips and a factor, of four numbers that are drawn."""
    if not 0 <= flip <= 1 or not 0 < scale[0] <= scale[1] or rotation_rad[0] > rotation_rad[1]:
        raise InputError(
            f"flip {flip}, scale {scale} and rotation_rad {rotation_rad} do not fit: "
            "give a probability, a positive range and a range"
        )
    draws = torch.rand(4, generator=generator, dtype=torch.float64)
    angle = rotation_rad[0] + (rotation_rad[1] - rotation_rad[0]) * float(draws[0])
    factor = scale[0] + (scale[1] - scale[0]) * float(draws[1])
    sign_x, sign_y = (-1.0 if float(draw) < flip else 1.0 for draw in draws[2:4])
    cos, sin = math.cos(angle), math.sin(angle)
    a_to_b = torch.eye(4, dtype=torch.float64)
    a_to_b[:3, :3] = factor * torch.tensor(
        [[cos * sign_x, -sin * sign_y, 0.0], [sin * sign_x, cos * sign_y, 0.0], [0.0, 0.0, 1.0]],
        dtype=torch.float64,
    )
    return a_to_b


def turned_and_mirrored(turns: int) -> list[Tensor]:
    """(4, 4) float64 transforms of a cloud: ``turns`` even steps of a full turn about z, each also with y mirrored.

    The first leaves the cloud as it is. With an even number, mirrored x is among them.

    Raises:
        InputError: ``turns`` is below 1.
    """
    if turns < 1:
        raise InputError(f"{turns} turns of a cloud are none; give 1 or more")
    found = []
    for mirror in (1.0, -1.0):
        for turn in range(turns):
            angle = 2 * math.pi * turn / turns
            cos, sin = math.cos(angle), math.sin(angle)
            found.append(torch.eye(4, dtype=torch.float64))
            found[-1][:2, :2] = torch.tensor([[cos, -sin * mirror], [sin, cos * mirror]], dtype=torch.float64)
    return found


def _between(limits: tuple[float, float], generator: torch.Generator) -> float:
    return limits[0] + (limits[1] - limits[0]) * float(torch.rand((), generator=generator))


def _other_response(
    intensity: Tensor, gain: tuple[float, float], power: tuple[float, float], generator: torch.Generator
) -> Tensor:
    if bool((intensity > 1).any()):
        raise InputError(
            f"intensity_gain and intensity_power need an intensity in [0, 1], not up to {float(intensity.max()):g}; "
            "leave them out where raw_intensity is set"
        )
    a, p = _between(gain, generator), _between(power, generator)
    return (a * intensity.clamp(min=0) ** p).clamp(max=1)


def transform(points: Tensor, a_to_b: Tensor) -> Tensor:
    """``points`` (N, 3+) of frame a with x, y, z in frame b; the input is not changed, further columns are kept."""
    a_to_b = a_to_b.to(points.device, torch.float64)
    moved = points.clone()
    # columns: a product with rows of three takes longer; converted while they are copied, a quarter of the time
    columns = points.new_empty((3, len(points)), dtype=torch.float64).copy_(points[:, :3].T)
    for place, column in enumerate((a_to_b[:3, :3] @ columns).add_(a_to_b[:3, 3:])):
        moved[:, place] = column
    return moved
