"""Labels as an objective: the loss against a slow loop, alone and beside the image teacher."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from small_batch import CLASSES, Fixed, make_objective, of

from superflow.clips.batch import collate
from superflow.errors import InputError
from superflow.losses import lovasz_softmax
from superflow.method.matches import LabelledPoints
from superflow.method.pretrainer import Pretrainer

SPATIAL = {"type": "spatial"}
IMAGES = ("images", "image_clip", "image_offset", "image_camera", "image_space", "superpixels")
PAIRS = ("pair_point", "pair_image", "pair_pixel", "pair_region")


def some_points(seed: int, labels: list[int]) -> LabelledPoints:
    draw = torch.Generator().manual_seed(seed)
    voxel = torch.randint(5, (len(labels),), generator=draw)
    return LabelledPoints(torch.randn(5, 3, generator=draw), voxel, torch.tensor(labels))


def slow_cross_entropy(head, points: LabelledPoints, seen: list[int] | None) -> float:
    """A loop over points; a class weighs the inverse root of its number ``seen``, with mean 1 over those seen."""
    roots = [n**-0.5 if n else 0.0 for n in seen or []]
    mean = sum(roots) / max(sum(map(bool, roots)), 1)
    total, weights = 0.0, 0.0
    for voxel, label in zip(points.voxel.tolist(), points.label.tolist()):
        logits = head(points.voxels[voxel]).tolist()
        weight = roots[label] / mean if seen else 1.0
        total += weight * (math.log(sum(map(math.exp, logits))) - logits[label])
        weights += weight
    return total / weights


@pytest.mark.parametrize("lovasz", [0.0, 2.0])
def test_segmentation_is_a_mean_over_points_whose_classes_weigh_by_how_often_they_were_seen(lovasz):
    steps = [some_points(1, [0, 0, 0, 0, 2, 1, 0]), some_points(2, [1, 1, 0, 2, 2])]
    torch.manual_seed(0)
    objective = make_objective("segmentation", {LabelledPoints: steps[0]}, lovasz=lovasz)
    seen = [0] * CLASSES
    for step in steps:
        for label in step.label.tolist():
            seen[label] += 1
        wanted = slow_cross_entropy(objective.head, step, seen)
        wanted += lovasz * float(lovasz_softmax(objective.head(step.voxels)[step.voxel], step.label).detach())
        assert float(of(objective, {LabelledPoints: step}).detach()) == pytest.approx(wanted, rel=1e-5)
    assert objective.seen.tolist() == seen
    objective.eval()  # an evaluation is no training
    of(objective, {LabelledPoints: steps[0]})
    assert objective.seen.tolist() == seen


def test_without_class_weights_all_points_count_alike():
    points = some_points(3, [0, 0, 0, 1, 3])
    objective = make_objective("segmentation", {LabelledPoints: points}, class_weights="none")
    wanted = slow_cross_entropy(objective.head, points, None)
    assert float(of(objective, {LabelledPoints: points}).detach()) == pytest.approx(wanted, rel=1e-5)


def test_labels_alone_need_neither_images_nor_a_teacher(student, clip):
    model = Pretrainer(student, objectives=[{"type": "segmentation"}], num_classes=CLASSES)
    batch = replace(collate([clip(0), clip(1)]), **dict.fromkeys((*IMAGES, *PAIRS)))
    out = model.loss(batch)
    assert out["labelled_points"] == int((batch.labels != 255).sum())
    assert not {"pairs", "regions"} & set(out)
    out["loss"].backward()
    assert [name for name, p in model.named_parameters() if not p.grad.abs().sum() > 0] == []
    assert model.record()["teacher"] is None
    assert model.record()["classes"] == CLASSES
    assert set(model.needs) == {"labelled_points"}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(20):
        optimizer.zero_grad()
        model.loss(batch)["loss"].backward()
        optimizer.step()
    assert float(model.loss(batch)["loss"].detach()) < float(out["loss"].detach()) - 0.05


def test_clips_without_labels_add_nothing(student, clip):
    """Beside an image objective; to the loss, the gradients and the counts of classes."""
    model = Pretrainer(
        student, Fixed(), objectives=[SPATIAL, {"type": "segmentation"}], channels=6, num_classes=CLASSES
    )
    batch = clip(0)
    for without in (None, torch.full_like(batch.labels, 255)):
        model.zero_grad()
        out = model.loss(replace(batch, labels=without))
        assert float(out["segmentation"]) == 0
        assert torch.equal(out["loss"], out["spatial"])
        out["loss"].backward()
        assert not any(p.grad.any() for p in model.objectives["segmentation"].parameters())
    assert not model.objectives["segmentation"].seen.any()
    labelled = model.loss(batch)
    assert float(labelled["loss"].detach()) == pytest.approx(
        float(labelled["spatial"]) + float(labelled["segmentation"]), rel=1e-6
    )


def test_half_of_a_batch_may_have_labels(student, clip):
    """The mean runs over the labelled points of the batch, wherever they are."""
    model = Pretrainer(
        student, objectives=[{"type": "segmentation", "class_weights": "none"}], num_classes=CLASSES
    )
    bare = replace(clip(1), labels=torch.full_like(clip(1).labels, 255))
    both, alone = (float(model.loss(batch)["loss"].detach()) for batch in (collate([clip(0), bare]), clip(0)))
    assert both == pytest.approx(alone, rel=1e-5)
    features = model.student(clip(0).points, clip(0).cloud, 1)
    logits = model.objectives["segmentation"].head(features.features)[features.inverse]
    wanted = F.cross_entropy(logits, clip(0).labels, ignore_index=255).detach()
    assert alone == pytest.approx(float(wanted), rel=1e-5)


def test_what_cannot_be_learned_is_one_sentence(student, clip):
    with pytest.raises(InputError, match="segmentation learns from labels, and the data have none"):
        Pretrainer(student, objectives=[{"type": "segmentation"}])
    with pytest.raises(InputError, match="class_weights 'root' is unknown; use one of none, inverse_root"):
        Pretrainer(student, objectives=[{"type": "segmentation", "class_weights": "root"}], num_classes=4)
    with pytest.raises(ValueError, match="labels run from 0 to 3, but there are 2 classes"):
        Pretrainer(student, objectives=[{"type": "segmentation"}], num_classes=2).loss(clip(0))
    with pytest.raises(ValueError, match="give either a teacher or the folder"):
        Pretrainer(student, objectives=[{"type": "segmentation"}, SPATIAL], num_classes=4)
    with pytest.raises(
        ValueError, match="no objective learns from images, so the teacher would teach nothing"
    ):
        Pretrainer(student, Fixed(), objectives=[{"type": "segmentation"}], num_classes=4)
