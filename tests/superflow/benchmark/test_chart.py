"""The chart has a bar for every mean that was measured, as long as the mean is high."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from superflow.benchmark.chart import COLUMNS, draw_chart

ROWS = {
    "look-up": {"mIoU": [61.0], "new places": [4.0]},
    "random": {"mIoU": [15.0, 17.0, 19.0], "new places": [15.0, None, 17.0]},
    "pretrained": {"mIoU": [34.0, 34.0, 34.0], "new places": [None, None, None]},
    "stopped": {"mIoU": [None], "new places": [None]},
}


def pixels(path, colour: str) -> np.ndarray:
    """(H,) how many pixels of a row of the picture have the colour."""
    image = np.asarray(Image.open(path).convert("RGB")).astype(int)
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return (np.abs(image - wanted).max(axis=2) < 6).sum(axis=1)


def test_bars_are_as_long_as_means(tmp_path):
    assert draw_chart(ROWS, tmp_path / "chart.png", leave_out=["look-up"]) == 3
    found = pixels(tmp_path / "chart.png", COLUMNS["mIoU"])
    rows = np.flatnonzero(found > 60)  # the legend's patch is narrower
    halves = np.split(rows, np.flatnonzero(np.diff(rows) > 3) + 1)
    assert len(halves) == 2
    random, pretrained = (np.median(found[half]) for half in halves)
    assert pretrained / random == pytest.approx(2, rel=0.05)


def test_nothing_measured_is_no_picture(tmp_path):
    assert draw_chart({"stopped": ROWS["stopped"]}, tmp_path / "chart.png") == 0
    assert not (tmp_path / "chart.png").exists()
