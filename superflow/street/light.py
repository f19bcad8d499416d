"""Sun, sky, haze and film of a scene."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Film:
    """How light becomes a picture."""

    exposure: float
    noise: float = 0.008  # deviation, of white
    # (3,) gains of RGB
    balance: NDArray[np.float64] = field(default_factory=lambda: np.array([1.0, 1.0, 1.0]))
    gamma: float = 1.0  # of the coded values
    saturation: float = 1.0


@dataclass(frozen=True, slots=True)
class Light:
    """Sun, haze and film of a scene."""

    sun: NDArray[np.float64]  # (3,) unit vector towards it
    levels: NDArray[np.float64]  # (3,) direct, ambient, distance of haze [m]
    haze: NDArray[np.float64]  # (3,) linear RGB
    film: Film
    sun_rgb: NDArray[np.float64] = field(default_factory=lambda: np.array([1.06, 1.00, 0.90]))
    shade_rgb: NDArray[np.float64] = field(default_factory=lambda: np.array([0.92, 1.00, 1.14]))
