"""Loops over frames that take minutes say how far they are."""

from __future__ import annotations

import itertools
import logging

import pytest
import torch

from superflow.downstream.evaluation import evaluate_heads
from superflow.downstream.features import RawCoordinates, sample_features
from superflow.downstream.heads import fit_linear_probe
from superflow.downstream.probe import ProbeOptions, choose_linear_probe
from superflow.downstream.pseudo_labels import PseudoLabelFiles
from superflow.downstream.vote_log import evaluate_voting
from superflow.downstream.voting import VotingOptions


@pytest.fixture
def slow_clock(monkeypatch):
    """Eleven seconds between any two looks at the clock."""
    clock = itertools.count(0, 11.0)
    monkeypatch.setattr("superflow.progress.time.monotonic", lambda: next(clock))


def test_every_long_loop_logs_what_is_left(log, slow_clock, caplog, tmp_path):
    source, classes = RawCoordinates(), log.card.classes
    with caplog.at_level(logging.INFO, logger="superflow"):
        sample = sample_features(source, log, [0, 1])
        assert "features of frames: 1/2, 11 s left" in caplog.messages
        options = ProbeOptions(weight_decays=(1e-2,), iterations=5)
        choose_linear_probe(sample, sample, classes, options)
        assert "options of the linear probe: 1/2, 11 s left" in caplog.messages
        heads = {"linear": fit_linear_probe(sample.features, sample.labels, 4, iterations=5)}
        evaluate_heads(source, log, [4, 5], heads)
        assert "evaluating linear on frames: 1/2, 11 s left" in caplog.messages

        def even(scan):
            return torch.full((len(scan.points), 4), 0.25)

        evaluate_voting(log, [2, 3], even, {"voted": VotingOptions.window(1)}, labelled_rows=[])
        assert "voting on frames: 1/2, 11 s left" in caplog.messages
        PseudoLabelFiles(log, [2, 3], tmp_path, VotingOptions.window(1), evaluation_rows=[]).write(even)
        assert "pseudo-labels of frames: 1/2, 11 s left" in caplog.messages
