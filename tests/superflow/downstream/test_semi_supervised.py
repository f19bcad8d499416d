"""What unlabelled scans add: each way against a plain twin, and what may not be seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from superflow.datasets.frame import IGNORE_LABEL
from superflow.downstream.budgets import Budget, labelled_scans
from superflow.downstream.features import read_scan
from superflow.downstream.finetuning import MeanTeacher, Recipe, fine_tune
from superflow.downstream.semi_supervised import ALONE, WAYS, FewLabels
from superflow.downstream.voting import VotingOptions
from superflow.errors import InputError

SHORT = Recipe(steps=4, rate=5e-3, head_rate=2e-2, points=None)
LABELLED = (0, 9)


@pytest.fixture
def few(log, encoder):
    scans = dict(zip(LABELLED, labelled_scans(log, list(LABELLED), Budget(), seed=1)))
    return FewLabels(encoder, log, scans, [1, 2, 8], [4, 5, 11], SHORT, 3, threshold=0.3)


def test_hidden_labels_stay_hidden(few, monkeypatch):
    """Each way ends in a model of its own, which is the same when unlabelled and evaluated scans have other labels."""
    read = few.index.frame

    def lying(row, **options):
        frame = read(row, **options)
        if int(row) in LABELLED or frame.labels is None:
            return frame
        return replace(frame, labels=np.zeros_like(frame.labels))

    honest = {name: run(few)[1].weight for name, run in WAYS.items()}
    weights = list(honest.values())
    assert all(not torch.equal(a, b) for n, a in enumerate(weights) for b in weights[:n])
    again = FewLabels(
        few.encoder, few.index, few.labelled, few.unlabelled, few.evaluated, SHORT, 3, threshold=0.3
    )
    monkeypatch.setattr(few.index, "frame", lying)
    assert all(torch.equal(weight, WAYS[name](again)[1].weight) for name, weight in honest.items())


def test_without_votes_they_are_the_sure_classes_of_the_model(few, log):
    source, head = few.alone
    for row, scan in zip(few.unlabelled, few.voted(ALONE)):
        sure, best = head.probabilities(source(read_scan(log, row).points)).max(dim=1)
        assert torch.equal(scan.labels, torch.where(sure >= 0.3, best, IGNORE_LABEL))


def test_votes_of_the_past_look_at_nothing_later(few, monkeypatch):
    asked = []
    read = few.index.frame
    few.alone  # noqa: B018  (trained before)
    monkeypatch.setattr(
        few.index, "frame", lambda row, **options: asked.append(int(row)) or read(row, **options)
    )
    few.voted(VotingOptions.window(2, causal=True))
    assert set(asked) <= {0, 1, 2, 6, 7, 8}  # of scenes 0-5 and 6-11; 3 lies after 2, 4 and 5 are evaluated
    asked.clear()
    few.voted(VotingOptions.window(2))
    assert {3, 9, 10} <= set(asked)
    assert not {4, 5, 11} & set(asked)


def test_carried_labels_are_those_of_the_same_place(few, log):
    own = few.voted(ALONE)
    for row, scan, before in zip(few.unlabelled, few.carried(), own):
        near = few.labelled[0 if row < 6 else 9]
        of_place: dict[tuple, list[int]] = {}
        for key, label in zip(np.floor(near.world / 0.2).astype(int), near.labels.tolist()):
            if label != IGNORE_LABEL:
                of_place.setdefault(tuple(key), []).append(label)
        expected = []
        for key, fallback in zip(np.floor(scan.world / 0.2).astype(int), before.labels.tolist()):
            seen = of_place.get(tuple(key))
            expected.append(fallback if seen is None else min(set(seen), key=lambda c: (-seen.count(c), c)))
        assert scan.labels.tolist() == expected
        assert (scan.labels != before.labels).any()


def test_the_second_network_sees_both_kinds_as_often(few, monkeypatch):
    given = []
    blank = few.voted(ALONE)[0]
    monkeypatch.setattr(few, "tuned", lambda scans, recipe: given.extend(scans))
    nothing = replace(blank, labels=torch.full_like(blank.labels, IGNORE_LABEL))
    pseudo = [replace(blank, labels=torch.zeros_like(blank.labels)) for _ in range(5)]
    few.second([nothing, *pseudo])
    of_labels = [scan for scan in given if any(scan is own for own in few.labelled.values())]
    assert (len(given), len(of_labels)) == (11, 6)


def test_a_mean_teacher_is_what_a_plain_loop_does(few, log, monkeypatch):
    """The twin keeps the average by hand and names the scans by it."""
    from superflow.downstream import finetuning

    scans, others = list(few.labelled.values()), [read_scan(log, row, labels=False) for row in few.unlabelled]
    recipe = replace(SHORT, steps=6, warm=0.3)
    states, seen = [], []
    step = finetuning._step

    def noting(model, batch, optimiser):
        seen.append(batch.labels)
        if not states:
            states.append({name: value.clone() for name, value in model.state_dict().items()})
        step(model, batch, optimiser)
        states.append({name: value.clone() for name, value in model.state_dict().items()})

    monkeypatch.setattr(finetuning, "_step", noting)
    taught = MeanTeacher(others, decay=0.5, threshold=0.4)
    source, head = fine_tune(few.encoder, scans, 4, recipe, seed=2, mean_teacher=taught)
    average = states[1]  # torch's average begins with the weights after the first step
    for state in states[2:]:
        average = {
            name: 0.5 * average[name] + 0.5 * value if value.is_floating_point() else value
            for name, value in state.items()
        }
    torch.testing.assert_close(head.weight, average["head.weight"].T)
    for name, value in source.encoder.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, average[f"encoder.{name}"])
    hidden = {tuple(read_scan(log, row).labels.tolist()) for row in few.unlabelled}
    assert len(seen) == 6
    assert not hidden & {tuple(labels.tolist()) for labels in seen}


def test_a_scan_that_is_evaluated_or_labelled_is_refused_as_unlabelled(few):
    for rows in ([1, 4], [0, 1]):
        with pytest.raises(InputError, match="taken as unlabelled and is also labelled or evaluated"):
            replace(few, unlabelled=rows)
    with pytest.raises(InputError, match="no scan is left without a label"):
        replace(few, unlabelled=[])


@pytest.mark.parametrize(
    "options", [{"decay": 0.0}, {"decay": 1.0}, {"threshold": 0.0}, {"threshold": float("nan")}]
)
def test_a_mean_teacher_that_would_not_teach_is_refused(options):
    with pytest.raises(InputError, match=r"mean teacher: decay .* and threshold .* must lie above 0"):
        MeanTeacher([], **options)
