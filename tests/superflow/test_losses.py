"""Segmentation losses against slow loops over sets."""

from __future__ import annotations

import pytest
import torch

from superflow.losses import cross_entropy, inverse_root_weights, lovasz_softmax


def random_case(seed: int, rows: int = 23, classes: int = 5):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(classes - 1, (rows,), generator=generator)  # the last class never occurs
    labels[::6] = 255
    return logits, labels


def slow_cross_entropy(logits, labels, weights):
    total = weight_sum = 0.0
    for row, label in zip(logits.tolist(), labels.tolist()):
        if label != 255:
            log_sum = torch.tensor(row, dtype=torch.float64).logsumexp(0).item()
            total += weights[label] * (log_sum - row[label])
            weight_sum += weights[label]
    return total / weight_sum


def slow_lovasz(logits, labels, classes):
    """From the definition: the Lovasz extension of the set function 1 - Jaccard, with sets of rows."""
    keep = [row for row in range(len(labels)) if labels[row] != 255]
    probabilities = logits.softmax(1)

    def jaccard_loss(members: set, mistakes: set) -> float:
        return 1 - len(members - mistakes) / len(members | mistakes) if members | mistakes else 0.0

    losses = []
    for c in classes:
        members = {row for row in keep if labels[row] == c}
        error = {row: abs((row in members) - float(probabilities[row, c])) for row in keep}
        worst_first = sorted(keep, key=lambda row: -error[row])
        value, taken = 0.0, set()
        for row in worst_first:
            before = jaccard_loss(members, taken)
            taken = taken | {row}
            value += error[row] * (jaccard_loss(members, taken) - before)
        losses.append(value)
    return sum(losses) / len(losses)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_cross_entropy_matches_a_loop(seed):
    logits, labels = random_case(seed)
    weights = [0.5, 2.0, 1.0, 3.0, 1.0]
    got = cross_entropy(logits, labels, class_weights=torch.tensor(weights))
    assert float(got) == pytest.approx(slow_cross_entropy(logits, labels, weights), rel=1e-5)
    assert float(cross_entropy(logits, labels)) == pytest.approx(
        slow_cross_entropy(logits, labels, [1] * 5), rel=1e-5
    )


@pytest.mark.parametrize("loss", [cross_entropy, lovasz_softmax])
@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.int32])
def test_labels_of_any_integer_type_mean_the_same(loss, kind):
    logits, labels = random_case(1)
    assert torch.equal(loss(logits, labels.to(kind)), loss(logits, labels))
    with pytest.raises(ValueError, match=r"labels are torch\.float32; give whole numbers"):
        loss(logits, labels.float())


def test_rows_that_weigh_nothing_give_zero_and_leave_all_else_finite():
    """A batch may hold none but classes of weight 0: a mean over no weight would be no number, and end the run."""
    logits, labels = random_case(0)
    logits.requires_grad_()
    weights = torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0])  # of these the last alone, which never occurs
    value = cross_entropy(logits, labels, class_weights=weights)
    assert value.item() == 0
    value.backward()
    assert not logits.grad.any()
    weights[1] = 2.0
    only = torch.where(labels == 1, labels, 255)
    assert torch.equal(cross_entropy(logits, labels, class_weights=weights), cross_entropy(logits, only))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_lovasz_matches_its_definition(seed):
    logits, labels = random_case(seed)
    assert float(lovasz_softmax(logits, labels)) == pytest.approx(
        slow_lovasz(logits, labels, range(4)), rel=1e-5
    )


def test_lovasz_of_certain_predictions_is_one_minus_iou():
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    predicted = torch.tensor([0, 0, 1, 1, 2, 2])
    logits = 200.0 * torch.nn.functional.one_hot(predicted, 3).double()
    iou = (2 / 3 + 1 / 3 + 1 / 2) / 3
    assert float(lovasz_softmax(logits, labels)) == pytest.approx(1 - iou, abs=1e-6)


def test_lovasz_gradient_is_that_of_finite_differences():
    logits, labels = random_case(3, rows=7, classes=3)
    logits = logits.float().requires_grad_()
    lovasz_softmax(logits, labels).backward()
    with torch.no_grad():
        for row, column in ((1, 0), (2, 1), (5, 2)):
            up, down = logits.clone(), logits.clone()
            up[row, column] += 1e-2
            down[row, column] -= 1e-2
            slope = (lovasz_softmax(up, labels) - lovasz_softmax(down, labels)) / 2e-2
            assert float(logits.grad[row, column]) == pytest.approx(float(slope), abs=2e-3)


@pytest.mark.parametrize("loss", [cross_entropy, lovasz_softmax])
@pytest.mark.parametrize("rows", [0, 4])
def test_nothing_labelled_gives_zero_with_a_graph(loss, rows):
    logits = torch.randn(rows, 3, requires_grad=True)
    value = loss(logits, torch.full((rows,), 255))
    value.backward()
    assert float(value.detach()) == 0.0
    assert logits.grad.shape == (rows, 3)
    assert not logits.grad.any()


@pytest.mark.parametrize("loss", [cross_entropy, lovasz_softmax])
def test_ignored_rows_change_nothing(loss):
    logits, labels = random_case(5)
    noisy = logits.clone()
    noisy[labels == 255] = 50.0
    assert float(loss(noisy, labels)) == float(loss(logits, labels))


@pytest.mark.parametrize("loss", [cross_entropy, lovasz_softmax])
def test_wrong_labels_are_named(loss):
    with pytest.raises(ValueError, match=r"from 0 to 7, but there are 3 classes"):
        loss(torch.zeros(2, 3), torch.tensor([0, 7]))
    with pytest.raises(ValueError, match=r"\(2, 3\) and labels \(4,\)"):
        loss(torch.zeros(2, 3), torch.zeros(4, dtype=torch.int64))


def test_inverse_root_weights():
    weights = inverse_root_weights(torch.tensor([100, 25, 0, 1]))
    assert weights[1] / weights[0] == pytest.approx(2.0)
    assert weights[3] / weights[0] == pytest.approx(10.0)
    assert weights[2] == 1.0
    assert float(weights[[0, 1, 3]].mean()) == pytest.approx(1.0)
