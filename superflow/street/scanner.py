"""One turn of the spinning LiDAR, each column cast from its own pose at its own time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .fans import turn_fans
from .lidar import Lidar
from .surfaces import echoes
from .trace import MISS, Caster

MIN_RANGE = 0.9  # m
_EDGE = 0.3  # m between neighbouring returns of two surfaces


@dataclass(frozen=True, slots=True)
class Echoes:
    """What A columns of B beams met, without noise."""

    origins: NDArray[np.float64]  # (A, 3) where each column was cast from [m, world]
    directions: NDArray[np.float64]  # (A, B, 3) unit vectors, world frame
    ranges: NDArray[np.float64]  # (A, B) [m], 0 = nothing
    strength: NDArray[np.float64]  # (A, B) share of the light that returns
    labels: NDArray[np.uint8]  # (A, B) raw class
    prims: NDArray[np.int32]  # (A, B) row of the world's primitives, or trace.GROUND, trace.MISS


def scan(caster: Caster, poses: NDArray, lidar: Lidar) -> Echoes:
    """Cast a turn.

    Args:
        caster: its movers' interval is the turn.
        poses: (A, 4, 4) sensor to world of each column.
    """
    azimuths, elevations = lidar.azimuths, lidar.elevations
    flat = np.cos(elevations)[None, :]
    directions = np.stack(
        [
            np.sin(azimuths)[:, None] * flat,
            np.cos(azimuths)[:, None] * flat,
            np.broadcast_to(np.sin(elevations)[None, :], (len(azimuths), len(elevations))),
        ],
        axis=-1,
    )
    world, movers = caster.world, caster.movers
    fans = turn_fans(world, movers, poses, directions, azimuths, elevations, lidar.max_range)
    ranges, prims = fans.meet(world, movers, MIN_RANGE, lidar.max_range)
    strength, labels = echoes(world, movers, fans.share, fans.origins, fans.directions, ranges, prims)
    return Echoes(
        fans.origins, fans.directions, np.where(prims == MISS, 0.0, ranges), strength, labels, prims
    )


def add_noise(
    turn: Echoes, lidar: Lidar, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.bool_]]:
    """Measured ranges, intensities 0 .. 255 (whole numbers, as the sensor gives them) and which beams came back.

    Beams are lost at random, and more often where little light returns: dark, slanted or far surfaces.
    """
    ranges, strength = turn.ranges, turn.strength
    measured = ranges + lidar.sigma_m * rng.standard_normal(ranges.shape)
    # the power received falls with the square of the range; the sensor corrects the intensity, not the detection
    power = strength * (30.0 / np.maximum(ranges, 5.0)) ** 2
    lost = lidar.dropout + 0.9 * np.exp(-power / lidar.weakest)
    back = (ranges > 0.0) & (rng.random(ranges.shape) >= lost)
    gain = 1.0 + 0.08 * rng.standard_normal(ranges.shape)
    intensity = np.clip(np.rint(255.0 * respond(strength * gain, ranges, lidar)), 0, 255)
    if lidar.step > 1:
        intensity = np.floor(intensity / lidar.step) * lidar.step
    if lidar.mixed > 0.0:
        measured = _mix(measured, back, lidar.mixed, rng)
    return measured, intensity.astype(np.float32), back


def respond(strength: NDArray, ranges: NDArray, lidar: Lidar) -> NDArray[np.float64]:
    """Intensity, 1 = the sensor's highest, for light of this strength from these ranges [m]."""
    if lidar.falloff > 0.0:
        strength = strength * (10.0 / np.maximum(ranges, 10.0)) ** lidar.falloff
    if lidar.bend > 0.0:
        strength = np.log1p(lidar.bend * np.maximum(strength, 0.0)) / np.log1p(lidar.bend)
    return lidar.gain * strength


def _mix(ranges: NDArray, back: NDArray, share: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Ranges of which a share, where the next column's return lies further, is between the two: a beam has a width."""
    behind = np.roll(ranges, -1, axis=0)
    gap = np.where(np.roll(back, -1, axis=0), behind - ranges, 0.0)
    edge = (gap > _EDGE) & (gap < 3.0) & (rng.random(ranges.shape) < share)
    return np.where(edge, ranges + rng.random(ranges.shape) * gap, ranges)
