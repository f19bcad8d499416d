"""What a check of a log draws beside the overlays: a scan from above, and counts of classes, ranges and intensities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets.frame import Frame
from ..datasets.index import LogIndex
from ..files.access import file_in
from ..files.writes import write_atomically
from .coloring import class_colors, map_colors, readable
from .picture import Key, birds_eye, class_key, write_png

_HEIGHTS_M = (-3.0, 5.0)  # over the sensor, of the colours of a scan without labels
_BINS = 60


def write_log_pictures(
    index: LogIndex, row: int, labels: Sequence[Mapping[str, Any]], folder: Path
) -> list[Path]:
    """``..._above.png``, the points of a scan by class, or by height where it has no labels; and ``..._counts.png``.

    Args:
        labels: of the report of the check: points of each class in all that was read.

    Raises:
        InputError: a file of the scan is missing or wrong, or a picture cannot be written.
    """
    frame = index.frame(row, images=False)
    title = f"{index.card.name}, {frame.scene}, scan {frame.token}"
    colours, key = _colours(index, frame)
    above = file_in(folder, f"{frame.scene}_{frame.token}_above.png")
    write_png(above, birds_eye(frame.points, colours, title=title, key=key))
    counts = file_in(folder, f"{frame.scene}_{frame.token}_counts.png")
    _draw_counts(index, frame, labels, counts, title)
    return [above, counts]


def _colours(index: LogIndex, frame: Frame) -> tuple[NDArray[np.uint8], Key]:
    if frame.labels is not None:
        palette = index.card.palette
        return class_colors(frame.labels, palette), class_key(frame.labels, index.card.classes, palette)
    low, high = _HEIGHTS_M
    colours = map_colors(frame.points[:, 2], low=low, high=high, colormap="turbo")
    return colours, Key(bar=("height over the sensor [m]", low, high), colormap="turbo")


def _draw_counts(
    index: LogIndex, frame: Frame, labels: Sequence[Mapping[str, Any]], path: Path, title: str
) -> None:
    """Points of each class of the log, and of the scan by range and intensity."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.5), dpi=100, layout="constrained")
    by_class, by_range, by_intensity = figure.subplots(1, 3, width_ratios=(1.4, 1, 1))
    seen = [entry for entry in labels if entry["points"]]
    colour_of = dict(zip(index.card.classes, readable(index.card.palette) / 255.0))
    by_class.barh(
        [entry["class"] for entry in seen],
        [entry["points"] for entry in seen],
        color=[colour_of.get(entry["class"], (0.5, 0.5, 0.5)) for entry in seen],
    )
    by_class.invert_yaxis()
    by_class.set(xscale="log" if seen else "linear", xlabel="points of the log", title="classes")
    ranges = np.linalg.norm(frame.points[:, :3], axis=1)
    by_range.hist(ranges[np.isfinite(ranges)], _BINS)
    by_range.set(xlabel="range [m]", ylabel="points of the scan", title="ranges")
    intensity = frame.cloud.intensity
    by_intensity.hist([] if intensity is None else intensity[np.isfinite(intensity)], _BINS, range=(0, 1))
    by_intensity.set(
        xlabel="intensity, 1 is full", title="intensities" if intensity is not None else "no intensities"
    )
    for axes in (by_class, by_range, by_intensity):
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=9)
    with write_atomically(path) as file:
        figure.savefig(file, format="png", metadata={"Software": None})
