"""mCE and mRR on the published figures of nuScenes-C (Robo3D and papers that follow it)."""

from __future__ import annotations

import pytest

from superflow.datasets.corruptions.models import CORRUPTIONS
from superflow.downstream.robustness import robustness
from superflow.errors import InputError

# model, mCE, mRR, clean; fog, wet ground, snow, motion blur, beam missing, crosstalk, incomplete echo, cross sensor
WITH_CLEAN = """
MinkUNet-18 100.00 74.44 75.76 53.64 73.91 40.35 73.39 68.54 26.58 63.83 50.95
MinkUNet-34 96.37 75.08 76.90 56.91 74.93 37.50 75.24 70.10 29.32 64.96 52.96
SPVCNN-18 106.65 74.70 74.40 59.01 72.46 41.08 58.36 65.36 36.83 62.29 49.21
SPVCNN-34 97.45 75.10 76.57 55.86 74.04 41.95 74.63 68.94 28.11 64.96 51.57
Cylinder3D 105.56 78.08 73.54 61.42 71.02 58.40 56.02 64.15 45.36 59.97 43.03
PolarNet 115.09 76.34 71.37 58.23 69.91 64.82 44.60 61.91 40.77 53.64 42.01
CENet-34 112.79 76.04 73.28 67.01 69.87 61.64 58.31 49.97 60.89 53.31 24.78
WaffleIron 106.73 72.78 76.07 56.07 73.93 49.59 59.46 65.19 33.12 61.51 44.01
FRNet 98.63 77.48 77.65 69.14 76.58 69.49 54.49 68.32 41.43 58.74 43.13
"""
# model, mCE; the eight
WITHOUT_CLEAN = """
random-18 115.61 53.90 71.10 48.22 51.85 62.21 37.73 57.47 38.97
SuperFlow-18 109.00 54.95 72.79 49.56 57.68 62.82 42.45 59.61 41.77
random-34 112.20 62.96 70.65 55.48 51.71 62.01 31.56 59.64 39.41
PPKT-34 105.64 64.01 72.18 59.08 57.17 63.88 36.34 60.59 39.57
SLidR-34 106.08 65.41 72.31 56.01 56.07 62.87 41.94 61.16 38.90
LiMoE-34 101.74 67.92 73.25 57.02 56.30 64.72 44.81 61.23 45.37
Seal-34 92.63 72.66 74.31 66.22 66.14 65.96 57.44 59.87 39.85
SuperFlow-34 91.67 70.32 75.77 65.41 61.05 68.09 60.02 58.36 50.41
SuperFlow+LiMoE-34 88.43 71.10 75.92 65.66 63.86 68.52 60.78 61.91 50.66
random-50 113.76 49.95 71.16 45.36 55.55 62.84 36.94 59.12 43.15
SuperFlow-50 107.35 54.36 73.08 50.07 56.92 64.05 38.10 62.02 47.02
random-101 109.10 50.45 73.02 48.85 58.48 64.18 43.86 59.82 41.47
SuperFlow-101 96.44 56.92 76.29 54.70 59.35 71.89 55.13 60.27 51.60
PPKT-probe 183.44 30.65 35.42 28.12 29.21 32.82 19.52 28.01 20.71
SLidR-probe 179.38 34.88 38.09 32.64 26.44 33.73 20.81 31.54 21.44
LiMoE-probe 163.75 37.29 43.41 36.04 38.33 40.66 22.46 37.61 25.38
Seal-probe 166.18 37.33 42.77 29.93 37.73 40.32 20.31 37.73 24.94
SuperFlow-probe 161.78 37.59 43.42 37.60 39.57 41.40 23.64 38.03 26.69
SuperFlow+LiMoE-probe 155.77 40.35 45.28 39.14 42.10 44.21 27.33 39.20 29.49
"""
MISPRINT = {"PPKT-34": 105.94}  # what its own cells give


def lines(text: str, figures: int) -> list:
    rows = [line.split() for line in text.strip().splitlines()]
    return [
        (
            row[0],
            *map(float, row[1 : 1 + figures]),
            dict(zip(CORRUPTIONS, map(float, row[1 + figures :]), strict=True)),
        )
        for row in rows
    ]


@pytest.mark.parametrize(("model", "mce", "mrr", "clean", "cells"), lines(WITH_CLEAN, 3))
def test_published_rows_with_their_clean_score(model, mce, mrr, clean, cells):
    found = robustness(clean, {name: [value] for name, value in cells.items()}, "nuscenes")
    assert found.mce == pytest.approx(mce, abs=0.011)
    assert found.mrr == pytest.approx(mrr, abs=0.011)


@pytest.mark.parametrize(("model", "mce", "cells"), lines(WITHOUT_CLEAN, 1))
def test_published_rows_without(model, mce, cells):
    found = robustness(
        70.0, {name: [value - 3, value, value + 3] for name, value in cells.items()}, "nuscenes_c"
    )
    assert found.mce == pytest.approx(MISPRINT.get(model, mce), abs=0.011)


@pytest.mark.parametrize(
    ("dataset", "clean", "mrr"), [("semantickitti", 62.76, 81.90), ("waymo", 69.06, 91.22)]
)
def test_the_baseline_of_every_dataset_is_100(dataset, clean, mrr):
    from superflow.downstream.robustness import _BASELINES

    cells = {name: [value] for name, value in zip(CORRUPTIONS, _BASELINES[dataset])}
    found = robustness(clean, cells, dataset)
    assert found.mce == pytest.approx(100)
    assert found.mrr == pytest.approx(mrr, abs=0.011)


def test_no_baseline_no_mce_and_nothing_to_compare_is_said():
    found = robustness(50.0, {"fog": [25.0, 20.0, 15.0], "snow": [40.0]}, "mine")
    assert (found.mce, found.mrr) == (None, pytest.approx(60.0))
    assert found.resilience == {"fog": pytest.approx(40.0), "snow": pytest.approx(80.0)}
    for clean, cells, said in (
        (0.0, {"fog": [1.0]}, "clean mIoU above 0"),
        (5.0, {}, "of every corruption"),
        (5.0, {"fog": []}, "of every corruption"),
    ):
        with pytest.raises(InputError, match=said):
            robustness(clean, cells, "mine")
    with pytest.raises(InputError, match="'rain' is no corruption; they are fog, wet_ground"):
        robustness(5.0, {"rain": [1.0]}, "mine")
