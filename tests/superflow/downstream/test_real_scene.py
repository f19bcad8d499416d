"""The same promises on one real scene: counts of the files, poses, places, and voting at full size."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
import torch

from superflow.datasets.sets.nuscenes import write_index
from superflow.downstream.evaluation import lookup_scores
from superflow.downstream.features import RawCoordinates, read_scan, sample_features
from superflow.downstream.heads import fit_linear_probe
from superflow.downstream.segment_data import SegmentDataset
from superflow.downstream.tracks import points_in_boxes, standing_points
from superflow.downstream.voting import Ballot, VotingOptions, neighbour_rows, vote
from superflow.geometry import invert


@pytest.fixture(scope="module")
def index(pandaset_root, tmp_path_factory):
    return write_index(pandaset_root, tmp_path_factory.mktemp("real"), version="v1.0-mini")


def test_evaluated_points_are_those_of_the_label_files(index):
    dataset = SegmentDataset(index, frames=["scene-9202"], max_points=10, limits={"range_m": [2, 50]})
    for item in (0, len(dataset) - 1):
        raw = np.fromfile(index.label_path(int(dataset.rows[item])), dtype=np.uint8)
        batch = dataset[(item, 1)]
        assert len(batch.labels) == len(raw)
        assert np.array_equal(batch.labels.numpy(), index.card.label_map[raw])


def test_poses_bring_static_things_together(index):
    a, b = read_scan(index, 60), read_scan(index, 70)

    def overlap(xyz):
        cells = [
            set(map(tuple, np.floor(c / 0.4).astype(int).tolist())) for c in (xyz, b.points[:, :3].numpy())
        ]
        return len(cells[0] & cells[1]) / len(cells[0] | cells[1])

    a_to_b = invert(b.lidar_to_world) @ a.lidar_to_world
    assert np.linalg.norm(a_to_b[:3, 3]) > 5, "the vehicle has moved"
    xyz = a.points[:, :3].double().numpy()
    assert overlap(xyz @ a_to_b[:3, :3].T + a_to_b[:3, 3]) > 1.5 * overlap(xyz)


def test_most_evaluation_points_lie_where_labels_were(index):
    scores = lookup_scores(index, range(0, 40, 4), [52, 66])
    everything, new = scores["label look-up"], scores["label look-up, new places"]
    assert everything["accuracy"] > 75
    assert new["accuracy"] < everything["accuracy"]
    assert new["points"] < 0.5 * everything["points"]


def test_voting_at_full_size_is_quick_and_helps(index):
    sample = sample_features(RawCoordinates(), index, range(0, 40, 5), max_points=8000)
    head = fit_linear_probe(sample.features, sample.labels, len(index.card.classes), iterations=20)

    def ballot(row):
        scan = read_scan(index, row)
        return Ballot(
            scan.points[:, :3], head.probabilities(RawCoordinates()(scan.points)), scan.lidar_to_world
        )

    options = VotingOptions.window(2)
    others = {offset: ballot(row) for offset, row in neighbour_rows(index, 62, options.offsets).items()}
    own, labels = ballot(62), read_scan(index, 62).labels
    assert len(own.xyz) > 100_000
    assert len(others) == 4
    begun = time.process_time()
    voted = vote(own, others, options)
    assert time.process_time() - begun < 1.5, "0.12 s on an idle core"
    known = labels != 255
    before = (own.probabilities.argmax(1) == labels)[known].float().mean()
    after = (voted.probabilities.argmax(1) == labels)[known].float().mean()
    assert float(voted.heeded.float().mean()) > 0.5
    assert float(after) > float(before) - 0.002
    torch.testing.assert_close(voted.probabilities.sum(1), torch.ones(len(labels)))


def test_parked_cars_stand_and_driving_ones_do_not(index, pandaset_root):
    """What drives and what is parked the annotators wrote down; the index does not read it."""
    tables = pandaset_root / "v1.0-mini"
    names = {one["token"]: one["name"] for one in json.loads((tables / "attribute.json").read_text())}
    row = 30
    annotated = [
        one
        for one in json.loads((tables / "sample_annotation.json").read_text())
        if [one["sample_token"]] == index.sample_tokens([row])
    ]
    scan, boxes = read_scan(index, row), index.boxes(row)
    inside = dict(zip(boxes.tracks, points_in_boxes(boxes, scan.world)))
    points = scan.points.numpy()
    still = standing_points(index, row, (-2, -1, 1, 2), points, scan.lidar_to_world, max_m=0.2)
    number = {"object_motion.parked": 0, "object_motion.moving": 0}
    for one in annotated:
        rows = inside[one["instance_token"]]
        # the scans are rounded to 4 mm: a few points cross a surface
        assert abs(len(rows) - one["num_lidar_pts"]) <= 2 + 0.002 * one["num_lidar_pts"]
        motion = {names[token] for token in one["attribute_tokens"]} & set(number)
        if motion and len(rows) >= 50:
            number[motion.pop()] += 1
            (found,) = np.unique(still[rows])
            assert found == ("object_motion.parked" in {names[token] for token in one["attribute_tokens"]})
    assert number["object_motion.parked"] > 20
    assert number["object_motion.moving"] > 5
    everything = np.concatenate(list(inside.values()))
    assert not still[np.setdiff1d(np.arange(len(still)), everything)].any()
