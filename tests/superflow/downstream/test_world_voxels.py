"""Voxels of the world, by which places are known again, and what is looked up in them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from superflow.downstream.evaluation import lookup_scores
from superflow.downstream.features import read_scan
from superflow.downstream.places import label_lookup, majority_by_key, seen_voxels
from superflow.geometry import voxel_keys


def test_voxel_keys_are_equal_exactly_within_a_voxel():
    random = np.random.default_rng(0)
    xyz = np.concatenate(
        [random.uniform(-3, 3, (500, 3)), [[0, 0, 0], [-1e-9, 0, 0], [0.5, 0, 0], [5e5, -5e5, 900]]]
    )
    cells = [tuple(cell) for cell in np.floor(xyz / 0.5).astype(int).tolist()]
    keys = voxel_keys(xyz, 0.5).tolist()
    number = {cell: key for cell, key in zip(cells, keys)}
    assert [number[cell] for cell in cells] == keys
    assert len(set(keys)) == len(set(cells))
    assert min(keys) >= 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e9])
def test_voxel_keys_refuse_what_cannot_be_packed(bad):
    with pytest.raises(ValueError, match=r"cannot be packed into voxels of 0.5 m"):
        voxel_keys(np.array([[0, 0, 0], [0, bad, 0]]), 0.5)


@pytest.mark.parametrize(
    "origin", [(691_000.0, 5_334_000.0, 520.0), (4.1e6, 0.9e6, 4.8e6), (-8_388_608.0, 0, 0)]
)
def test_voxel_keys_tell_voxels_apart_far_from_the_origin(origin):
    """UTM in Munich, ECEF, and a log that lies across the place where keys wrap."""
    xyz = np.random.default_rng(0).uniform(-40, 40, (3000, 3)) * [1, 1, 0.1] + origin
    cells = [tuple(cell) for cell in np.floor(xyz / 0.5).astype(int).tolist()]
    keys = voxel_keys(xyz, 0.5).tolist()
    assert min(keys) >= 0
    assert len(set(zip(cells, keys))) == len(set(cells)) == len(set(keys))


def world_cells(log, row, size_m):
    frame = log.frame(row)
    xyz = (
        frame.points[:, :3].astype(np.float64) @ frame.lidar_to_world[:3, :3].T + frame.lidar_to_world[:3, 3]
    )
    return [tuple(cell) for cell in np.floor(xyz / size_m).astype(int).tolist()]


def test_seen_voxels_match_a_set(log):
    seen = seen_voxels(log, [0, 1, 2], 0.5)
    cells = {cell for row in (0, 1, 2) for cell in world_cells(log, row, 0.5)}
    assert len(seen.keys) == len(cells)
    got = seen.contains(read_scan(log, 5).world)
    want = [cell in cells for cell in world_cells(log, 5, 0.5)]
    assert got.tolist() == want
    assert 0 < sum(want) < len(want)
    assert not seen_voxels(log, [], 0.5).contains(read_scan(log, 5).world).any()


def test_label_lookup_matches_a_dictionary(log):
    votes: dict[tuple, Counter] = {}
    totals = Counter()
    for row in (0, 1, 2):
        for cell, label in zip(world_cells(log, row, 1.0), log.frame(row).labels.tolist()):
            if label != 255:
                votes.setdefault(cell, Counter())[label] += 1
                totals[label] += 1
    default = totals.most_common(1)[0][0]
    want = [
        min(votes[cell], key=lambda c, cell=cell: (-votes[cell][c], c)) if cell in votes else default
        for cell in world_cells(log, 4, 1.0)
    ]
    table = label_lookup(log, [0, 1, 2], size_m=1.0)
    assert table.default == default
    assert table.predict(read_scan(log, 4).world).tolist() == want
    assert (label_lookup(log, [0], size_m=1.0, default=3).predict(read_scan(log, 8).world) == 3).all()


def test_majority_ties_go_to_the_lower_id():
    keys, labels = majority_by_key(np.array([5, 5, 9, 9, 9]), np.array([3, 1, 0, 2, 2], dtype=np.uint8))
    assert keys.tolist() == [5, 9]
    assert labels.tolist() == [1, 2]


def test_lookup_knows_places_and_nothing_else(log):
    scores = lookup_scores(log, [0, 1, 2, 3], [4, 5], size_m=0.5)
    assert scores["label look-up"]["accuracy"] > 85, "static places keep their labels"
    new = scores["label look-up, new places"]
    assert new["iou"]["road"] is None or new["iou"]["wall"] == 0.0
    elsewhere = lookup_scores(log, [0, 1, 2], [8], size_m=0.5)
    assert elsewhere["label look-up"] == elsewhere["label look-up, new places"], "scene b was never seen"
