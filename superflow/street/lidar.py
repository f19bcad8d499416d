"""Spinning LiDARs: the one of the plain street, and others drawn from what data sheets say of the kinds in use."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# where a turn starts and ends, from the vehicle's x axis; it goes clockwise, as in nuScenes
START_DEG = 110.0
MOST_RAYS = 120_000  # a turn


@dataclass(frozen=True, slots=True)
class Lidar:
    """One kind of LiDAR. The defaults are the plain street's, after the 32 beams of nuScenes.

    Attributes:
        elevations: (B,) of the beams, rising [rad]: ring 0 looks down.
        columns: firings a turn.
        turn_s: of one turn [s].
        max_range: [m]
        sigma_m: deviation of a range [m].
        dropout: share of the returns lost at random.
        weakest: power at which one return in three is lost; that of a surface of reflectance 1, faced at 30 m, is 1.
        gain: of the intensity.
        bend: how far the intensity is compressed: gain * s for 0, else log(1 + bend s) / log(1 + bend).
        falloff: power of the range with which the intensity falls beyond 10 m; 0 = corrected by the sensor.
        step: of the intensity's 256 levels that the sensor tells apart.
        mixed: share of the rays beside an edge that return a range between both surfaces.
    """

    elevations: NDArray[np.float64]
    columns: int = 1085  # 20 turns a second, a firing every 46.08 us
    turn_s: float = 0.05
    max_range: float = 80.0
    sigma_m: float = 0.02
    dropout: float = 0.02
    weakest: float = 0.012
    gain: float = 1.0
    bend: float = 0.0
    falloff: float = 0.0
    step: int = 1
    mixed: float = 0.0

    @property
    def azimuths(self) -> NDArray[np.float64]:
        """(A,) azimuth of each column of a turn, clockwise from the LiDAR's y axis [rad]; y is the vehicle's x."""
        return np.deg2rad(-START_DEG) + np.arange(1, self.columns + 1) / self.columns * 2 * np.pi

    @property
    def times(self) -> NDArray[np.float64]:
        """(A,) time of each column before the end of the turn [s], <= 0."""
        return (np.arange(1, self.columns + 1) / self.columns - 1.0) * self.turn_s


STREET_LIDAR = Lidar(np.deg2rad(np.linspace(-30.67, 10.67, 32)))


def draw_lidar(rng: np.random.Generator) -> Lidar:
    """A LiDAR of 16 to 128 beams."""
    elevations = np.sort(_draw_beams(rng))
    turn_s = 0.1 if rng.random() < 0.6 else 0.05
    most = MOST_RAYS // len(elevations)
    columns = int(min(rng.choice((900, 1085, 1440, 1800, 2048)), most))
    curve = rng.integers(3)
    return Lidar(
        elevations=np.deg2rad(elevations),
        columns=columns,
        turn_s=turn_s,
        max_range=float(rng.uniform(60.0, 130.0)),
        sigma_m=float(rng.uniform(0.008, 0.035)),
        dropout=float(rng.uniform(0.0, 0.08)),
        weakest=math.exp(rng.uniform(math.log(0.003), math.log(0.03))),
        # linear, bent or saturated
        gain=float(rng.uniform(0.6, 1.5) if curve < 2 else rng.uniform(1.5, 4.0)),
        bend=math.exp(rng.uniform(math.log(3.0), math.log(60.0))) if curve == 1 else 0.0,
        falloff=float(rng.uniform(0.0, 1.0) if rng.random() < 0.4 else 0.0),
        step=int(rng.choice((1, 1, 2, 4, 8))),
        mixed=float(rng.uniform(0.0, 0.3)),
    )


def _draw_beams(rng: np.random.Generator) -> NDArray[np.float64]:
    """(B,) elevations [deg] after one of the layouts in use, stretched and shifted a little."""
    layout = rng.integers(6)
    if layout == 0:  # evenly spaced: VLP-16 (-15 .. 15), HDL-32E (-30.67 .. 10.67), OS1 (-22.5 .. 22.5)
        beams = np.linspace(-rng.uniform(15, 31), rng.uniform(2, 22), int(rng.choice((16, 32, 40, 64, 128))))
    elif layout == 1:  # HDL-64E: a third of a degree from 2 to -8.33, half of one from -8.83 to -24.33
        beams = np.concatenate([np.linspace(2, -8.33, 32), np.linspace(-8.83, -24.33, 32)])
    elif layout == 2:  # Pandar64: a sixth of a degree from 2 to -6, whole degrees around, 5 and 6 at the ends
        beams = np.concatenate(
            [[15, 11, 8, 5, 3], np.linspace(2, -6, 49), np.arange(-7, -15, -1), [-19, -25]]
        )
    elif layout == 3:  # Pandar40: a third of a degree from 2 to -6, whole degrees around
        beams = np.concatenate([[7, 6, 5, 4, 3], np.linspace(2, -6, 25), np.arange(-7, -17, -1)])
    elif layout == 4:  # VLP-32C, VLS-128: -25 .. 15, many near the horizon and ever fewer away from it
        beams = _dense_at_horizon(int(rng.choice((32, 64, 128))), -25.0, 15.0, rng.uniform(1.5, 3.0))
    else:
        beams = _dense_at_horizon(
            int(rng.choice((24, 48, 96))), -rng.uniform(20, 35), rng.uniform(3, 20), rng.uniform(1.0, 2.0)
        )
    return beams * rng.uniform(0.92, 1.08) + rng.uniform(-0.8, 0.8)


def _dense_at_horizon(count: int, low: float, high: float, power: float) -> NDArray[np.float64]:
    """``count`` angles from ``low`` < 0 to ``high`` > 0 whose distance from -1 grows with this power."""
    spread = np.linspace(-(abs(low) ** (1 / power)), high ** (1 / power), count)
    return np.sign(spread) * np.abs(spread) ** power - 1.0
