"""Colours of points: by class, by the principal components of their features, by similarity to one of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IGNORED_COLOR = (70, 74, 84)  # of points without a label or a feature: there, but not in the way


def class_colors(labels: NDArray, palette: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N, 3) RGB of ``labels`` (N,), 255 = ignored, by ``palette`` (C, 3)."""
    table = np.full((256, 3), IGNORED_COLOR, dtype=np.uint8)
    table[: len(palette)] = readable(palette)
    return table[np.asarray(labels, dtype=np.int64)]


def readable(palette: NDArray[np.uint8], *, least: float = 0.28) -> NDArray[np.uint8]:
    """``palette`` (C, 3) with dark colours mixed with white until their luminance (0..1) reaches ``least``."""
    color = palette / 255.0
    luminance = color @ np.array([0.299, 0.587, 0.114])
    share = np.clip((least - luminance) / np.maximum(1 - luminance, 1e-9), 0, 1)[:, None]
    return (255 * (color + share * (1 - color))).round().astype(np.uint8)


@dataclass(frozen=True, slots=True)
class FeatureColors:
    """Three principal components as red, green, blue; fit once to give several pictures the same colours.

    Rows of zeros are points without a feature (outside a backbone's limits): they are grey and no part of the fit.

    mean: (C,); axes: (C, 3); low, high: (3,) components that become 0 and 255.
    """

    mean: NDArray[np.float64]
    axes: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @classmethod
    def fit(cls, features: NDArray, *, limit: int = 20_000) -> FeatureColors:
        """Axes of ``features`` (N, C); at most ``limit`` evenly spaced rows are looked at.

        The signs of the axes are fixed (the largest entry is positive), so equal features give equal colours.
        """
        features = np.asarray(features)[np.any(features, axis=1)]
        sample = features[:: max(1, len(features) // limit)].astype(np.float64)
        width = sample.shape[1]
        if len(sample) == 0:
            return cls(np.zeros(width), np.zeros((width, 3)), np.zeros(3), np.ones(3))
        mean = sample.mean(axis=0)
        covariance = (sample - mean).T @ (sample - mean)
        axes = np.linalg.eigh(covariance)[1][:, ::-1][:, :3]
        axes = np.pad(axes, ((0, 0), (0, 3 - axes.shape[1])))
        largest = np.abs(axes).argmax(axis=0)
        axes = axes * np.where(axes[largest, np.arange(3)] < 0, -1, 1)
        components = (sample - mean) @ axes
        # the outermost percents would else press everything into grey
        low, high = np.percentile(components, [2, 98], axis=0)
        return cls(mean, axes, low, np.maximum(high, low + 1e-9))

    def __call__(self, features: NDArray) -> NDArray[np.uint8]:
        """(N, 3) RGB of ``features`` (N, C)."""
        components = (np.asarray(features, dtype=np.float64) - self.mean) @ self.axes
        share = np.clip((components - self.low) / (self.high - self.low), 0, 1)
        colors = (30 + 225 * share).astype(np.uint8)  # never black on the dark ground
        colors[~np.any(features, axis=1)] = IGNORED_COLOR
        return colors


def similarity(features: NDArray, row: int) -> NDArray[np.float32]:
    """(N,) cosine of every row of ``features`` (N, C) with row ``row``."""
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    return (unit @ unit[row]).astype(np.float32)


def map_colors(
    values: NDArray, *, low: float = 0.0, high: float = 1.0, colormap: str = "magma"
) -> NDArray[np.uint8]:
    """(N, 3) RGB of ``values`` (N,) by a matplotlib ``colormap`` from ``low`` to ``high``."""
    from matplotlib import colormaps

    share = np.clip((np.asarray(values, dtype=np.float64) - low) / max(high - low, 1e-12), 0, 1)
    return (colormaps[colormap](share)[:, :3] * 255).round().astype(np.uint8)
