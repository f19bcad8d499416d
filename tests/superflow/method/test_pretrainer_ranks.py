"""Pretraining in two processes has the gradient of one with both clips, with every option of every objective."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pretrainer_rank
import pytest
import torch

from superflow.clips.batch import collate
from superflow.engine.keys import arguments
from superflow.method.objectives import OBJECTIVES

HERE = Path(__file__).parent.parent  # what tests and their processes share
CASES = {label: (options, clips) for label, options, clips in pretrainer_rank.cases()}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> list[dict]:
    """What each of two processes found, by case."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, str(HERE / "pretrainer_rank.py")]
    processes = [
        subprocess.Popen([*command, str(rank), str(folder / "store"), str(folder / f"{rank}.pt")])
        for rank in (0, 1)
    ]
    assert [process.wait(300) for process in processes] == [0, 0]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.fixture(autouse=True)
def draws(monkeypatch):
    monkeypatch.setattr(torch, "randperm", pretrainer_rank.first_come)


def test_every_option_of_every_objective_is_tried():
    assert set(pretrainer_rank.TRIED) == set(OBJECTIVES)
    for name, tried in pretrainer_rank.TRIED.items():
        known = set(arguments(OBJECTIVES[name]) or ()) - {"sizes", "weight"}
        assert set(tried) == known, f"{name}: give each option a value in pretrainer_rank.TRIED"


@pytest.mark.parametrize("label", CASES)
def test_mistake_44_negatives_of_all_ranks_make_the_joint_gradient(ranks, label):
    options, clips = CASES[label]
    batches = pretrainer_rank.CLIPS[clips]
    if options["objectives"][0].get("gather") is False:  # each rank learns alone, and gradients are averaged
        alone = [pretrainer_rank.outcome(options, batch) for batch in batches]
        first, second = (found["gradients"] for found in alone)
        wanted = {name: (first[name] + second[name]) / 2 for name in first}
        values = {name: sum(found["values"][name] for found in alone) / 2 for name in alone[0]["values"]}
        values |= {name: 2 * values[name] for name in ("pairs", "regions")}
        for name in [name for name in values if name.endswith(("_columns", "_top1"))]:  # of all rows alike
            between = sorted(found["values"][name] for found in alone)
            values[name] = ranks[0][label]["values"][name]
            assert between[0] <= values[name] <= between[1]
    else:
        joint = pretrainer_rank.outcome(options, collate(batches))
        wanted, values = joint["gradients"], joint["values"]
        assert set(ranks[0][label]["state"]) == set(joint["state"])
        for name, value in joint["state"].items():  # queues, too
            torch.testing.assert_close(ranks[0][label]["state"][name], value, rtol=1e-4, atol=1e-5)
    for found in ranks:
        assert found[label]["values"] == pytest.approx(values, rel=1e-4, abs=1e-5)
        for name, gradient in wanted.items():
            torch.testing.assert_close(found[label]["gradients"][name], gradient, rtol=1e-4, atol=1e-5)


def test_one_clip_alone_has_another_gradient():
    """Else the comparison above could not fail."""
    for label, (options, clips) in CASES.items():
        batches = pretrainer_rank.CLIPS[clips]
        if clips == "unequal":
            joint, alone = (
                pretrainer_rank.outcome(options, batch)["gradients"]
                for batch in (collate(batches), batches[0])
            )
            assert any(not torch.allclose(joint[name], alone[name], rtol=1e-2) for name in joint), label
