"""Voxels in a hash table and sums over them, against sorted keys and torch's own sums, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from superflow.downstream.vote_voxels import VoxelTable, add_votes
from superflow.downstream.voting import Ballot, Voted, VotingOptions, confidence_weights, relative_pose, vote
from superflow.errors import OutOfReachError
from superflow.geometry import rotation_z, voxel_keys


def some_points(count: int, seed: int = 0, *, around=(0.0, 0.0, 0.0)) -> np.ndarray:
    spread = np.random.default_rng(seed).normal(0, 1, (count, 3)) * (20, 20, 2)
    return (spread + around).astype(np.float32)


def pose(x: float, turn_rad: float) -> np.ndarray:
    a_to_b = rotation_z(turn_rad)
    a_to_b[:3, 3] = x, 0.3 * x, 0.1
    return a_to_b


@pytest.mark.parametrize("around", [(0, 0, 0), (-700_000.0, 3_000_000.0, 400.0), (0.2, -0.4, 0.6)])
@pytest.mark.parametrize("size_m", [0.2, 0.05, 3.0])
def test_voxels_are_those_of_sorted_keys(around, size_m):
    own, other = some_points(3000, around=around), some_points(2500, 1, around=around)
    table = VoxelTable.of(own, size_m)
    keys = voxel_keys(own, size_m)
    distinct = np.unique(keys)
    assert table.count == len(distinct)
    key_of = np.full(table.count, -1)
    key_of[table.voxel_of] = keys  # a voxel is one key
    np.testing.assert_array_equal(key_of[table.voxel_of], keys)
    assert len(np.unique(key_of)) == len(distinct)
    keys_of_other = voxel_keys(other, size_m)
    found = table.find(other, np.eye(4))
    np.testing.assert_array_equal(found >= 0, np.isin(keys_of_other, distinct))
    np.testing.assert_array_equal(key_of[found[found >= 0]], keys_of_other[found >= 0])


def test_points_of_another_pose_are_moved_before_they_are_looked_up():
    own = some_points(3000)
    table, a_to_b = VoxelTable.of(own, 0.5), pose(3.0, 0.4)
    b_to_a = np.linalg.inv(a_to_b)
    from_b = (own.astype(np.float64) @ b_to_a[:3, :3].T + b_to_a[:3, 3]).astype(np.float32)
    same = table.find(from_b, a_to_b) == table.voxel_of
    assert same.mean() > 0.999  # a few lie within a rounding of a border
    assert (table.find(from_b, np.eye(4)) == table.voxel_of).mean() < 0.1


def test_no_points():
    table = VoxelTable.of(np.zeros((0, 3), np.float32), 0.2)
    assert (table.count, len(table.voxel_of)) == (0, 0)
    assert table.find(some_points(5), np.eye(4)).tolist() == [-1] * 5
    assert len(VoxelTable.of(some_points(5), 0.2).find(np.zeros((0, 3), np.float32), np.eye(4))) == 0


@pytest.mark.parametrize("wrong", [[np.nan, 0, 0], [0, np.inf, 0], [0, 0, 40_000.0], [1e18, 0, 0]])
def test_points_that_no_key_can_tell_apart_are_the_error_of_the_keys(wrong):
    points = np.concatenate([some_points(10), np.array([wrong], dtype=np.float32)])
    with pytest.raises(OutOfReachError) as plain:
        voxel_keys(points.astype(np.float64), 0.2)
    for ask in (
        lambda: VoxelTable.of(points, 0.2),
        lambda: VoxelTable.of(points[:9], 0.2).find(points, np.eye(4)),
    ):
        with pytest.raises(OutOfReachError) as got:
            ask()
        assert str(got.value) == str(plain.value)


def test_sums_are_those_of_index_add():
    draw = torch.Generator().manual_seed(0)
    target = torch.randint(-1, 50, (4000,), generator=draw, dtype=torch.int32)
    rows, share = torch.rand(4000, 7, generator=draw), torch.rand(4000, generator=draw)
    share[::3] = 0
    total, weight, votes = np.ones((50, 7), np.float32), np.ones(50, np.float32), np.zeros(50, np.int64)
    add_votes(target.numpy(), rows.numpy(), share.numpy(), total, weight, votes)
    hit = target >= 0
    place = target[hit].long()
    want = torch.ones(50, 7).index_add(0, place, rows[hit] * share[hit, None])
    assert torch.equal(torch.from_numpy(total), want)
    assert torch.equal(torch.from_numpy(weight), torch.ones(50).index_add(0, place, share[hit]))
    assert votes.tolist() == torch.bincount(place[share[hit] > 0], minlength=50).tolist()


def plain_vote(own: Ballot, others: dict[int, Ballot], options: VotingOptions) -> Voted:
    """A vote with sorted keys, torch's sums, and rows of all points, step by step."""
    keys = torch.from_numpy(voxel_keys(own.xyz.double().numpy(), options.voxel_m))
    voxels, voxel_of = keys.unique(return_inverse=True)
    total, weight = torch.zeros(len(voxels), own.probabilities.shape[1]), torch.zeros(len(voxels))
    votes = torch.zeros(len(voxels), dtype=torch.int64)
    for offset, ballot in ({0: own} if options.same_frame else others).items():
        a_to_b = relative_pose(ballot.lidar_to_world, own.lidar_to_world)
        x, y, z = ballot.xyz.double().numpy().T
        if offset:
            x, y, z = (x * row[0] + y * row[1] + z * row[2] + row[3] for row in a_to_b[:3])
        found = torch.from_numpy(voxel_keys(np.stack([x, y, z], axis=1), options.voxel_m))
        place = torch.searchsorted(voxels, found).clamp(max=len(voxels) - 1)
        chosen = (voxels[place] == found).nonzero()[:, 0]
        place, rows = place[chosen], ballot.probabilities[chosen]
        share = confidence_weights(rows, options.confidence) * options.decay ** abs(offset)
        total.index_add_(0, place, rows * share[:, None])
        weight.index_add_(0, place, share)
        votes += torch.bincount(place[share > 0], minlength=len(voxels))
    own_rows = own.probabilities
    mean = (total / weight.clamp(min=torch.finfo(weight.dtype).tiny)[:, None])[voxel_of]
    heeded = (votes >= options.min_votes)[voxel_of] & (weight > 0)[voxel_of]
    if options.thing_classes:
        is_thing = torch.tensor([c in options.thing_classes for c in range(own_rows.shape[1])])
        agreed = is_thing[own_rows.argmax(dim=1)] == is_thing[mean.argmax(dim=1)]
        heeded &= agreed | (own_rows == 0).all(dim=1)
    mixed = options.alpha * own_rows + (1 - options.alpha) * mean
    mixed = mixed / mixed.sum(dim=1, keepdim=True).clamp(min=torch.finfo(mixed.dtype).tiny)
    return Voted(torch.where(heeded[:, None], mixed, own_rows), votes[voxel_of], heeded)


@pytest.mark.parametrize(
    "options",
    [
        VotingOptions(),
        VotingOptions(confidence="max", alpha=0.3, voxel_m=1.0),
        VotingOptions(confidence="entropy", decay=0.7, min_votes=3, thing_classes=(1, 4)),
        VotingOptions(min_votes=1).control(),
    ],
)
def test_a_vote_has_the_bits_of_sorted_keys(options):
    ballots = {}
    for offset in (-2, -1, 0, 1, 2):
        draw = torch.Generator().manual_seed(offset + 9)
        rows = (3 * torch.randn(6000, 7, generator=draw)).softmax(1)
        rows[torch.rand(6000, generator=draw) < 0.1] = 0
        world = some_points(6000, offset + 5) * np.float32(0.15)
        there = np.linalg.inv(pose(1.5 * offset, 0.1 * offset))
        xyz = torch.from_numpy((world @ there[:3, :3].T + there[:3, 3]).astype(np.float32))
        ballots[offset] = Ballot(xyz, rows, pose(1.5 * offset, 0.1 * offset))
    own = ballots.pop(0)
    got, want = vote(own, ballots, options), plain_vote(own, ballots, options)
    assert 300 < int(want.heeded.sum()) < 6000
    for name in ("probabilities", "votes", "heeded"):
        assert torch.equal(getattr(got, name), getattr(want, name)), name
        assert getattr(got, name).dtype == getattr(want, name).dtype
