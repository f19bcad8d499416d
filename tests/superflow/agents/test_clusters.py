"""Objects of predicted classes: clusters against connected neighbourhoods found by a plain search; a whole network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from superflow.agents.scene_clusters import REACH_M, cluster_objects, load_predictor, predicted_scene
from superflow.downstream.segmentor import Segmentor
from superflow.errors import InputError
from superflow.hub.checkpoint import write_checkpoint

pytest.importorskip("sklearn")
CLASSES = ("road", "pedestrian", "moving-car")


def blobs(places, generator, spread=0.1, count=12):
    """Points close around each place."""
    offsets = generator.uniform(-spread, spread, (len(places), count, 2))
    flat = (np.array(places)[:, None] + offsets).reshape(-1, 2)
    return np.column_stack([flat, generator.uniform(0, 1.7, len(flat))]).astype(np.float32)


def connected(points, reach):
    """Sets of points that a walk by steps of up to ``reach`` over ground connects."""
    left, found = set(range(len(points))), []
    while left:
        todo, group = [left.pop()], set()
        while todo:
            at = todo.pop()
            group.add(at)
            near = {i for i in left if np.linalg.norm(points[i, :2] - points[at, :2]) <= reach}
            left -= near
            todo += near
        found.append(frozenset(group))
    return found


def test_clusters_are_what_a_walk_connects():
    generator = np.random.default_rng(3)
    people = blobs(generator.uniform(-20, 20, (9, 2)), generator)
    cars = blobs([(30, 0), (33.0, 0)], generator, spread=0.45, count=20)
    road = blobs([(0, 0)], generator)
    points = np.concatenate([people, cars, road])
    labels = np.repeat([1, 2, 0], [len(people), len(cars), len(road)])
    objects = cluster_objects(points, labels, CLASSES, min_points=5)
    groups = connected(people, REACH_M["pedestrian"])
    assert sorted(o.points for o in objects if o.category == "pedestrian") == sorted(map(len, groups))
    assert [(o.category, o.points, o.status) for o in objects[-2:]] == [("car", 20, ("moving",))] * 2
    assert objects[-1].velocity is None
    assert len({o.track for o in objects}) == len(objects)


def test_lone_points_and_unknown_classes_are_no_objects():
    points = np.array([[0, 0, 0], [9, 0, 0], [0, 9, 0]], np.float32)
    assert cluster_objects(points, np.array([1, 1, -1]), CLASSES) == ()
    assert cluster_objects(points[:0], np.array([], int), CLASSES) == ()


def test_a_network_tells_the_objects_of_a_log_without_labels(small_index, tmp_path, caplog):
    classes = small_index.card.classes
    encoder = {
        "grid": {"type": "cubic", "size_m": 0.5},
        "backbone": {"depth": "tiny", "width": 0.25},
        "inputs": ("one",),
    }
    torch.manual_seed(0)
    segmentor = Segmentor({**encoder}, len(classes))
    segmentor.head.weight.data.zero_()
    segmentor.head.bias.data[classes.index("pedestrian")] = 9.0  # it takes everything for a pedestrian
    said = {**segmentor.record(), "data": {"train": {"raw_intensity": False}}}
    write_checkpoint(
        tmp_path / "iter_1.pth", {"meta": {}, "superflow": said, "state_dict": segmentor.state_dict()}
    )
    predict = load_predictor(tmp_path / "iter_1.pth", classes)
    row = int(small_index.rows()[0])
    scene = predicted_scene(small_index, row, predict, min_points=1)
    assert scene.source == "predictions"
    groups = connected(scene.points, REACH_M["pedestrian"])
    assert sorted(o.points for o in scene.objects) == sorted(map(len, groups))
    assert {o.category for o in scene.objects} == {"pedestrian"}
    with pytest.raises(InputError, match="tells 16 classes apart and the log has 3"):
        load_predictor(tmp_path / "iter_1.pth", CLASSES)
    swapped = [classes[1], classes[0], *classes[2:]]
    said["data"]["train"]["classes"] = list(classes)
    write_checkpoint(
        tmp_path / "named.pth", {"meta": {}, "superflow": said, "state_dict": segmentor.state_dict()}
    )
    load_predictor(tmp_path / "named.pth", classes)
    with pytest.raises(
        InputError, match=f"on the class '{classes[0]}' where the log has '{classes[1]}'; prepare"
    ):
        load_predictor(tmp_path / "named.pth", swapped)
    said["data"]["train"].pop("classes")
    write_checkpoint(
        tmp_path / "own.pth", {"meta": {}, "superflow": said, "state_dict": segmentor.state_dict()}
    )
    assert "no object" not in caplog.text
    load_predictor(tmp_path / "own.pth", ["lorry", "Car", *classes[2:]])
    assert "by the class names lorry; they are taken for background" in caplog.text
    write_checkpoint(
        tmp_path / "other.pth", {"meta": {}, "superflow": {"kind": "pretrainer"}, "state_dict": {}}
    )
    with pytest.raises(InputError, match="no fine-tuned network"):
        load_predictor(tmp_path / "other.pth", classes)
