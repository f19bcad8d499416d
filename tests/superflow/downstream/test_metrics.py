"""The confusion matrix against plain counting."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from superflow.downstream.metrics import NO_PREDICTION, ConfusionMatrix, class_predictions

NAMES = ("road", "wall", "car", "tree", "sign")


def random_points(seed: int = 0, count: int = 400):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, count)  # no sign
    predicted = np.where(random.uniform(size=count) < 0.6, labels, random.integers(0, 5, count))
    labels[::9] = 255
    predicted[::11] = NO_PREDICTION
    return predicted, labels, random.uniform(0, 80, count)


def slow_scores(predicted, labels):
    """IoU of each class that occurs, and accuracy, by comparing point after point."""
    pairs = [(p, t) for p, t in zip(predicted.tolist(), labels.tolist()) if t != 255]
    iou = {}
    for c in sorted({t for _, t in pairs}):
        both = sum(p == c and t == c for p, t in pairs)
        either = sum(p == c or t == c for p, t in pairs)
        iou[c] = 100 * both / either
    return iou, 100 * sum(p == t for p, t in pairs) / len(pairs)


@pytest.mark.parametrize("seed", [0, 1])
def test_equals_a_plain_count(seed):
    predicted, labels, ranges = random_points(seed)
    matrix = ConfusionMatrix(5)
    for part in np.array_split(np.arange(len(labels)), 3):
        matrix.update(predicted[part], torch.from_numpy(labels[part]), ranges[part])
    summary = matrix.summary(NAMES)
    iou, accuracy = slow_scores(predicted, labels)
    assert summary["iou"] == {**{NAMES[c]: pytest.approx(value) for c, value in iou.items()}, "sign": None}
    assert summary["miou"] == pytest.approx(sum(iou.values()) / len(iou))
    assert summary["accuracy"] == pytest.approx(accuracy)
    assert summary["points"] == int((labels != 255).sum())
    edges = (0, 10, 20, 30, 50, math.inf)
    for low, high, name in zip(edges, edges[1:], ("0-10 m", "10-20 m", "20-30 m", "30-50 m", "50+ m")):
        chosen = (ranges >= low) & (ranges < high)
        iou, accuracy = slow_scores(predicted[chosen], labels[chosen])
        part = summary["ranges"][name]
        assert part["miou"] == pytest.approx(sum(iou.values()) / len(iou))
        assert part["accuracy"] == pytest.approx(accuracy)
        assert part["points"] == int((labels[chosen] != 255).sum())


def test_a_point_at_an_edge_belongs_to_the_farther_bin():
    matrix = ConfusionMatrix(2)
    matrix.update(np.zeros(3), np.zeros(3), np.array([9.99, 10.0, 50.0]))
    points = {name: part["points"] for name, part in matrix.summary(("a", "b"))["ranges"].items()}
    assert points == {"0-10 m": 1, "10-20 m": 1, "20-30 m": 0, "30-50 m": 0, "50+ m": 1}


def test_mistake_45_out_of_range_predictions_do_not_leak():
    matrix = ConfusionMatrix(16)
    with pytest.raises(ValueError, match=r"a prediction is 16, but there are classes 0\.\.15"):
        matrix.update(np.array([3, 16]), np.array([3, 3]))
    assert int(matrix.counts.sum()) == 0, "nothing of a refused update may stay"
    with pytest.raises(ValueError, match=r"a prediction is -2"):
        matrix.update(np.array([-2]), np.array([3]))
    with pytest.raises(ValueError, match=r"a label is 16"):
        matrix.update(np.array([3]), np.array([16]))
    scores = torch.zeros(1, 17)
    scores[0, 16], scores[0, 3] = 0.9, 0.1
    matrix.update(class_predictions(scores, suppress=[16]), np.array([3]))
    assert matrix.counts[0, 3, 3] == 1


def test_what_is_no_whole_number_is_no_class():
    """Probabilities of one class would all be counted as class 0."""
    predicted, labels, ranges = random_points()
    want = ConfusionMatrix(5)
    want.update(predicted, labels, ranges)
    matrix = ConfusionMatrix(5)
    for kind in (np.int8, np.float32, np.int64):
        matrix.counts.zero_()
        matrix.update(
            predicted.astype(kind), labels.astype(np.int16).astype(kind if kind != np.int8 else int), ranges
        )
        assert torch.equal(matrix.counts, want.counts)
    matrix.counts.zero_()
    scores = np.random.default_rng(0).random(len(labels))
    with pytest.raises(ValueError, match=r"a prediction is 0\.\d+; give whole numbers, as of argmax"):
        matrix.update(scores, labels)
    with pytest.raises(ValueError, match=r"a label is 0\.\d+; give whole numbers"):
        matrix.update(predicted, torch.from_numpy(scores))
    ranges[3] = np.nan
    with pytest.raises(ValueError, match=r"1 of 400 ranges are NaN; leave these points out"):
        matrix.update(predicted, labels, ranges)
    assert not matrix.counts.any()


def test_mistake_46_ignoring_class_zero_is_ignoring():
    random = np.random.default_rng(0)
    scores = torch.from_numpy(random.dirichlet(np.ones(4), 200)).float()
    labels = random.integers(0, 4, 200)
    matrix = ConfusionMatrix(4, ignore=0)
    matrix.update(class_predictions(scores, suppress=[0]), labels)
    summary = matrix.summary(("nothing", "a", "b", "c"))
    # the same data with the ignored class left out altogether
    shifted = ConfusionMatrix(3)
    shifted.update(class_predictions(scores[:, 1:]), np.where(labels == 0, 255, labels - 1))
    assert summary["miou"] == shifted.summary(("a", "b", "c"))["miou"]
    assert summary["points"] == int((labels != 0).sum())
    assert summary["absent"] == ["nothing"]


def test_mistake_47_absent_classes_are_excluded_and_named():
    matrix = ConfusionMatrix(5)
    matrix.update(np.array([0, 0, 1, 4]), np.array([0, 0, 1, 1]))  # no wall-2, tree; sign only predicted
    summary = matrix.summary(NAMES)
    assert summary["absent"] == ["car", "tree", "sign"]
    assert summary["iou"] == {"road": 100.0, "wall": 50.0, "car": None, "tree": None, "sign": None}
    assert summary["miou"] == 75.0
    assert summary["frequent"] == ["road", "wall"]


def test_mistake_48_points_without_prediction_are_errors():
    matrix = ConfusionMatrix(2)
    matrix.update(np.array([0, 0, NO_PREDICTION, 1]), np.array([0, 0, 0, 1]))
    summary = matrix.summary(("a", "b"))
    assert summary["points"] == 4
    assert summary["no_prediction"] == 1
    assert summary["accuracy"] == 75.0
    assert summary["iou"]["a"] == pytest.approx(200 / 3)
    assert summary["iou"]["b"] == 100.0, "an unseen point is nobody's false positive"


def test_summary_is_plain_json():
    matrix = ConfusionMatrix(2)
    assert json.loads(json.dumps(matrix.summary(("a", "b"))))["miou"] is None
    matrix.update(np.array([0]), np.array([0]))
    json.dumps(matrix.summary(("a", "b")))


def test_counts_beyond_float32():
    matrix = ConfusionMatrix(1)
    matrix.counts += 2**40
    matrix.update(np.array([0]), np.array([0]))
    assert int(matrix.counts[0, 0, 0]) == 2**40 + 1


def test_merge_adds_and_refuses_strangers():
    predicted, labels, ranges = random_points()
    whole, first, second = ConfusionMatrix(5), ConfusionMatrix(5), ConfusionMatrix(5)
    whole.update(predicted, labels, ranges)
    first.update(predicted[:150], labels[:150], ranges[:150])
    second.update(predicted[150:], labels[150:], ranges[150:])
    first.merge(second)
    assert torch.equal(first.counts, whole.counts)
    with pytest.raises(ValueError, match="same classes"):
        first.merge(ConfusionMatrix(4))


def test_class_predictions_edges():
    scores = torch.tensor([[0.2, 0.8], [0.0, 0.0], [0.6, 0.4]])
    assert class_predictions(scores).tolist() == [1, NO_PREDICTION, 0]
    assert class_predictions(torch.zeros(0, 2)).shape == (0,)
    with pytest.raises(ValueError, match="1 of 2 rows of scores hold NaN"):
        class_predictions(torch.tensor([[0.1, 0.9], [math.nan, 0.0]]))


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="3 predictions for 2 labels"):
        ConfusionMatrix(2).update(np.zeros(3), np.zeros(2))
    with pytest.raises(ValueError, match="3 class names for 2 classes"):
        ConfusionMatrix(2).summary(("a", "b", "c"))
