"""Predictions of scans as files, written anew."""

from __future__ import annotations

from superflow.downstream.predictions import PredictionFiles


def write_predictions(index, rows, predict, classes, folder, *, packed=False, **options):
    return PredictionFiles(index, rows, classes, folder, **options).write(predict, packed=packed)
