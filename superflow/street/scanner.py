"""One turn of the spinning LiDAR, each column cast from its own pose at its own time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .fans import turn_fans
from .surfaces import echoes
from .trace import MISS, Caster

BEAMS = 32
COLUMNS = 1085  # 20 turns a second, a firing every 46.08 us
MIN_RANGE, MAX_RANGE = 0.9, 80.0  # m


@dataclass(frozen=True, slots=True)
class Echoes:
    """What A columns of B beams met, without noise."""

    origins: NDArray[np.float64]  # (A, 3) where each column was cast from [m, world]
    directions: NDArray[np.float64]  # (A, B, 3) unit vectors, world frame
    ranges: NDArray[np.float64]  # (A, B) [m], 0 = nothing
    strength: NDArray[np.float64]  # (A, B) share of the light that returns
    labels: NDArray[np.uint8]  # (A, B) raw class
    prims: NDArray[np.int32]  # (A, B) row of the world's primitives, or trace.GROUND, trace.MISS


def scan(caster: Caster, poses: NDArray, azimuths: NDArray, elevations: NDArray) -> Echoes:
    """Cast a turn.

    Args:
        caster: its movers' interval is the turn.
        poses: (A, 4, 4) sensor to world of each column.
        azimuths: (A,) of each column, clockwise from y [rad]; elevations: (B,) of each beam [rad].
    """
    shape = (len(azimuths), len(elevations))
    flat = np.cos(elevations)[None, :]
    directions = np.stack(
        [
            np.sin(azimuths)[:, None] * flat,
            np.cos(azimuths)[:, None] * flat,
            np.broadcast_to(np.sin(elevations)[None, :], shape),
        ],
        axis=-1,
    )
    world, movers = caster.world, caster.movers
    fans = turn_fans(world, movers, poses, directions, azimuths, elevations, MAX_RANGE)
    ranges, prims = fans.meet(world, movers, MIN_RANGE, MAX_RANGE)
    strength, labels = echoes(world, movers, fans.share, fans.origins, fans.directions, ranges, prims)
    return Echoes(
        fans.origins, fans.directions, np.where(prims == MISS, 0.0, ranges), strength, labels, prims
    )


def add_noise(
    turn: Echoes, rng: np.random.Generator, *, sigma_m: float = 0.02, dropout: float = 0.02
) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.bool_]]:
    """Measured ranges, intensities 0 .. 255 (whole numbers, as the sensor gives them) and which beams came back.

    Beams are lost at random, and more often where little light returns: dark, slanted or far surfaces.
    """
    ranges, strength = turn.ranges, turn.strength
    measured = ranges + sigma_m * rng.standard_normal(ranges.shape)
    # the power received falls with the square of the range; the sensor corrects the intensity, not the detection
    power = strength * (30.0 / np.maximum(ranges, 5.0)) ** 2
    lost = dropout + 0.9 * np.exp(-power / 0.012)
    back = (ranges > 0.0) & (rng.random(ranges.shape) >= lost)
    gain = 1.0 + 0.08 * rng.standard_normal(ranges.shape)
    intensity = np.clip(np.rint(255.0 * strength * gain), 0, 255)
    return measured, intensity.astype(np.float32), back
