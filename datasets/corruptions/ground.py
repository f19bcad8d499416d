"""How much light a laser sends, and how little its receiver still sees: lines through the intensities of the ground."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FEWEST = 1000  # points of ground that lines are fitted through
_BIN_M = 1.0
_FEWEST_OF_BIN, _FEWEST_BINS = 5, 3
_FLATTEST = 1e-3  # cosine of the angle of incidence, below which nothing is told


def incidence_cosines(xyz: NDArray[np.floating], ranges: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) cosine of the angle at which level ground is hit; at least a thousandth."""
    return np.maximum(-xyz[:, 2].astype(np.float64) / np.maximum(ranges, 1e-9), _FLATTEST)


def power_line(ranges: NDArray[np.float64], normalised: NDArray[np.float64]) -> NDArray[np.float64]:
    """Slope [1/m] and offset of the intensities at normal incidence over range."""
    return np.polyfit(ranges, normalised, 1)


def noise_line(ranges: NDArray[np.float64], normalised: NDArray[np.float64]) -> NDArray[np.float64]:
    """Slope [1/m] and offset of the lowest intensity of every metre; of all intensities where ground is too short."""
    bins = (ranges / _BIN_M).astype(np.int64)
    enough = np.flatnonzero(np.bincount(bins) >= _FEWEST_OF_BIN)
    if len(enough) < _FEWEST_BINS:
        return power_line(ranges, normalised)
    lowest = np.full(bins.max() + 1, np.inf)
    np.minimum.at(lowest, bins, normalised)
    return np.polyfit((enough + 0.5) * _BIN_M, lowest[enough], 1)
