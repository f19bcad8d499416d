"""Rows of earlier steps and learned temperatures, against loops and by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from small_batch import Fixed, make_objective, matches, of, value

from superflow.clips.batch import collate
from superflow.method.matches import Superpoints
from superflow.method.negatives import Content, LearnedTemperature, NegativeQueue
from superflow.method.pretrainer import Pretrainer

CHANNELS = 4


def unit(count: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(count, CHANNELS, generator=torch.Generator().manual_seed(seed)), dim=1)


def scene(q: torch.Tensor, k: torch.Tensor, ids: torch.Tensor):
    return matches([(0, False)], q[None], k[None], ids=ids)


def content(names: torch.Tensor, teacher: torch.Tensor | None = None) -> Content:
    return Content(names, torch.zeros(len(names), 0) if teacher is None else teacher)


def slow_loss(q, k, ids, old, old_ids, temperature, *, same_id: str) -> float:
    """Mean of -log softmax over this step's columns and the old ones, by loops."""
    total = 0.0
    for i in range(len(q)):
        logits = [float(q[i] @ k[i])]
        for j in range(len(k)):
            if j != i and not (same_id == "ignored" and ids[j] == ids[i]):
                logits.append(float(q[i] @ k[j]))
        for j in range(len(old)):
            if not (same_id == "ignored" and old_ids[j] == ids[i]):
                logits.append(float(q[i] @ old[j]))
        exponentials = [math.exp(value / temperature) for value in logits]
        total -= math.log(exponentials[0] / sum(exponentials)) / len(q)
    return total


def test_what_the_teacher_saw_travels_with_the_queue_only_where_it_is_compared(student):
    plain, tolerant = (
        model_with(student, {"type": "spatial", "queue": 16, "tolerance": tolerance})
        for tolerance in (None, 0.5)
    )
    assert "objectives.spatial.queue.teacher" not in plain.state_dict()  # files of earlier runs go on
    assert tolerant.state_dict()["objectives.spatial.queue.teacher"].shape == (16, Fixed.channels)


@pytest.mark.parametrize("same_id", ["negative", "ignored"])
def test_queued_rows_are_further_negatives(same_id):
    ids = torch.tensor([3, 1, 3])
    steps = [(unit(3, 2 * step), unit(3, 2 * step + 1)) for step in range(4)]
    old, old_ids = torch.zeros(0, CHANNELS), torch.zeros(0, dtype=torch.int64)
    spatial = make_objective("spatial", scene(*steps[0], ids), temperature=0.3, same_id=same_id, queue=7)
    for q, k in steps:
        found = of(spatial, scene(q, k, ids))
        spatial.end_step()
        wanted = slow_loss(q, k, ids, old, old_ids, 0.3, same_id=same_id)
        assert float(found) == pytest.approx(wanted, rel=1e-5)
        # seven rows fit: the oldest leave first
        old, old_ids = torch.cat([old, k])[-7:], torch.cat([old_ids, ids])[-7:]
    assert len(old) == 7
    assert float(found) > slow_loss(*steps[-1], ids, old[:0], old_ids[:0], 0.3, same_id=same_id) + 0.1


def test_queued_rows_that_the_teacher_finds_alike_are_no_negatives():
    ids, tolerance, spatial = torch.arange(3), 0.3, None
    old, old_teacher, dropped = torch.zeros(0, CHANNELS), torch.zeros(0, 3), 0
    for step in range(4):
        q, k = unit(3, 2 * step), unit(3, 2 * step + 1)
        teacher = torch.randn(3, 3, generator=torch.Generator().manual_seed(step))
        matches = scene(q, k, ids)
        matches[Superpoints] = replace(matches[Superpoints], teacher=teacher)
        options = {"temperature": 0.3, "tolerance": tolerance, "queue": 7}
        spatial = spatial or make_objective("spatial", matches, **options)
        found = of(spatial, matches)
        spatial.end_step()
        columns, shown, total = torch.cat([k, old]), torch.cat([teacher, old_teacher]), 0.0
        for i in range(3):
            kept = [
                j
                for j in range(len(columns))
                if j == i or float(F.cosine_similarity(teacher[i], shown[j], dim=0)) <= tolerance
            ]
            dropped += len(columns) - len(kept)
            exponentials = [math.exp(float(q[i] @ columns[j]) / 0.3) for j in kept]
            total -= math.log(math.exp(float(q[i] @ k[i]) / 0.3) / sum(exponentials)) / 3
        assert float(found) == pytest.approx(total, rel=1e-5)
        old, old_teacher = torch.cat([old, k])[-7:], torch.cat([old_teacher, teacher])[-7:]
    assert dropped > 5


def test_rows_of_a_step_wait_for_its_end():
    """Else a place would be a negative of itself at the next time of the same clip."""
    shown = scene(unit(3, 0), unit(3, 1), torch.arange(3))
    spatial = make_objective("spatial", shown, queue=8)
    first, second = (float(of(spatial, shown)) for _ in range(2))
    assert first == second
    spatial.end_step()
    assert float(of(spatial, shown)) > first


def test_more_rows_than_the_queue_holds_leave_the_newest():
    queue = NegativeQueue(4, 1)
    queue.push(torch.arange(9.0)[:, None], content(torch.arange(9)))
    queue.commit()
    assert sorted(queue.columns()[0].flatten().tolist()) == [5, 6, 7, 8]
    queue.push(torch.tensor([[9.0]]), content(torch.tensor([9])))
    queue.commit()
    assert sorted(queue.columns()[1].names.tolist()) == [6, 7, 8, 9]


def test_evaluation_leaves_the_queue_alone(student, clip):
    model = model_with(student, {"type": "spatial", "queue": 16})
    model.eval().loss(clip(0))
    assert not model.objectives["spatial"].queue.filled.any()
    model.train().loss(clip(0))["loss"].backward()  # the queue is written before the gradient is taken
    assert model.objectives["spatial"].queue.filled.any()


def test_the_queue_travels_with_the_weights(student, clip):
    one, two = (model_with(student, {"type": "spatial", "queue": 16}) for _ in range(2))
    one.loss(clip(0))
    two.load_state_dict(one.state_dict())
    assert torch.equal(one.loss(clip(1))["loss"], two.loss(clip(1))["loss"])


def test_a_queue_needs_the_rows_of_all_ranks():
    with pytest.raises(ValueError, match="needs gather=True"):
        value("spatial", scene(unit(2, 0), unit(2, 1), torch.arange(2)), gather=False, queue=4)
    with pytest.raises(ValueError, match="queue is -1"):
        NegativeQueue(-1, CHANNELS)


def model_with(student, *objectives) -> Pretrainer:
    torch.manual_seed(1)
    return Pretrainer(student, Fixed(), objectives=objectives, channels=6)


def test_a_learned_temperature_starts_where_it_was_told_and_follows_its_gradient(student, clip):
    batch = collate([clip(0), clip(1)])
    fixed = model_with(student, {"type": "spatial", "temperature": 0.3})
    learned = model_with(student, {"type": "spatial", "temperature": 0.3, "learn_temperature": True})
    out = learned.loss(batch)
    assert float(out["loss"].detach()) == pytest.approx(float(fixed.loss(batch)["loss"].detach()), rel=1e-5)
    assert float(out["spatial_temperature"]) == pytest.approx(0.3, rel=1e-5)
    out["loss"].backward()
    parameter = learned.objectives["spatial"].learned_temperature.log_inverse
    step, slopes = 1e-3, []
    for sign in (1, -1):
        moved = math.exp(-(float(parameter.detach()) + sign * step))
        shifted = model_with(student, {"type": "spatial", "temperature": moved})
        slopes.append(float(shifted.loss(batch)["loss"].detach()))
    assert float(parameter.grad) == pytest.approx((slopes[0] - slopes[1]) / (2 * step), rel=1e-2)


def test_a_temperature_never_falls_below_its_least():
    learned = LearnedTemperature(0.02)
    with torch.no_grad():
        learned.log_inverse.fill_(50.0)
    temperature = learned()
    assert float(temperature.detach()) == pytest.approx(0.01, rel=1e-5)
    temperature.sum().backward()
    assert float(learned.log_inverse.grad) != 0  # it can come back
    with pytest.raises(ValueError, match=r"0\.001 must be 0\.01 or more"):
        LearnedTemperature(0.001)


def test_an_empty_queue_takes_nothing_from_a_learned_temperature(student, clip):
    model = model_with(student, {"type": "spatial", "queue": 8, "learn_temperature": True})
    model.loss(clip(0))["loss"].backward()
    plain = model_with(student, {"type": "spatial", "learn_temperature": True})
    plain.loss(clip(0))["loss"].backward()
    slope, wanted = (
        float(m.objectives["spatial"].learned_temperature.log_inverse.grad) for m in (model, plain)
    )
    assert slope == pytest.approx(wanted, rel=1e-5)


def test_a_term_without_rows_still_gives_the_temperature_a_gradient(student, clip):
    model = model_with(student, {"type": "temporal", "learn_temperature": True})
    model.loss(clip(0, offsets=(0,)))["loss"].backward()
    assert float(model.objectives["temporal"].learned_temperature.log_inverse.grad) == 0
