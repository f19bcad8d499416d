"""Voxels of the world, sums over them and votes, against sorted keys and torch's own sums, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from superflow.clips.batch import Source
from superflow.downstream.vote_voxels import ScanVoxels, VoxelSums
from superflow.downstream.voting import Ballot, Voted, VotingOptions, confidence_weights, vote
from superflow.errors import InputError, OutOfReachError
from superflow.geometry import rotation_z, voxel_keys


def some_points(count: int, seed: int = 0, *, around=(0.0, 0.0, 0.0)) -> np.ndarray:
    spread = np.random.default_rng(seed).normal(0, 1, (count, 3)) * (20, 20, 2)
    return (spread + around).astype(np.float32)


def pose(x: float, turn_rad: float, *, around=(0.0, 0.0, 0.0)) -> np.ndarray:
    lidar_to_world = rotation_z(turn_rad)
    lidar_to_world[:3, 3] = np.array([x, 0.3 * x, 0.1]) + around
    return lidar_to_world


def in_world(xyz: np.ndarray, m: np.ndarray) -> np.ndarray:
    x, y, z = xyz.astype(np.float64).T
    return np.stack([x * row[0] + y * row[1] + z * row[2] + row[3] for row in m[:3]], axis=1)


@pytest.mark.parametrize("around", [(0, 0, 0), (-700_000.0, 3_000_000.0, 400.0), (0.2, -0.4, 0.6)])
@pytest.mark.parametrize("size_m", [0.2, 0.05, 3.0])
def test_voxels_are_those_of_sorted_keys(around, size_m):
    xyz, there = some_points(3000), pose(4.0, 0.7, around=around)
    keys, voxel_of = np.unique(voxel_keys(in_world(xyz, there), size_m), return_inverse=True)
    voxels = ScanVoxels.of(xyz, there, size_m)
    np.testing.assert_array_equal(voxels.keys, keys)
    np.testing.assert_array_equal(voxels.voxel_of, voxel_of)
    assert (voxels.keys.dtype, voxels.voxel_of.dtype) == (np.int64, np.int32)
    world = in_world(xyz, there)
    np.testing.assert_allclose(voxels.corners, [world.min(0), world.max(0)], atol=size_m / 2 * (1 + 1e-6))


def test_the_grid_does_not_turn_with_the_scan():
    world = some_points(3000)
    keys = []
    for there in (np.eye(4), pose(3.0, 0.4)):
        back = np.linalg.inv(there)
        xyz = (world.astype(np.float64) @ back[:3, :3].T + back[:3, 3]).astype(np.float32)
        voxels = ScanVoxels.of(xyz, there, 0.5)
        keys.append(voxels.keys[voxels.voxel_of])
    assert (keys[0] == keys[1]).mean() > 0.999  # a few lie within a rounding of a border


def test_no_points():
    nothing, something = np.zeros((0, 3), np.float32), some_points(5)
    empty, voxels = (ScanVoxels.of(xyz, np.eye(4), 0.2) for xyz in (nothing, something))
    assert (len(empty.keys), len(empty.voxel_of), empty.corners.shape) == (0, 0, (0, 3))
    sums = VoxelSums.of(voxels, np.ones((5, 2), np.float32), np.ones(5, np.float32))
    for one, other in ((empty, voxels), (voxels, empty), (empty, empty)):
        one.check_reach(other)
        total = VoxelSums.zero(len(one.keys), 2)
        total.add(one.keys, sums if other is voxels else VoxelSums.zero(0, 2), other.keys, 1.0)
        assert total.votes.sum() == 0


@pytest.mark.parametrize("wrong", [[np.nan, 0, 0], [0, np.inf, 0], [0, 0, 40_000.0], [1e18, 0, 0]])
def test_points_that_no_key_can_tell_apart_are_the_error_of_the_keys(wrong):
    points = np.concatenate([some_points(10), np.array([wrong], dtype=np.float32)])
    there = pose(4.0, 0.7)
    with np.errstate(invalid="ignore"), pytest.raises(OutOfReachError) as plain:
        voxel_keys(in_world(points, there), 0.2)
    with pytest.raises(OutOfReachError) as got:
        ScanVoxels.of(points, there, 0.2)
    assert str(got.value) == str(plain.value)


def test_sums_are_those_of_index_add():
    draw = torch.Generator().manual_seed(0)
    voxels = ScanVoxels.of(some_points(4000) * np.float32(0.1), np.eye(4), 1.0)
    rows, weights = torch.rand(4000, 7, generator=draw), torch.rand(4000, generator=draw)
    weights[::3] = 0
    got, count = VoxelSums.of(voxels, rows.numpy(), weights.numpy()), len(voxels.keys)
    place = torch.from_numpy(voxels.voxel_of).long()
    want = torch.zeros(count, 7).index_add(0, place, rows * weights[:, None])
    assert torch.equal(torch.from_numpy(got.probabilities), want)
    assert torch.equal(torch.from_numpy(got.weight), torch.zeros(count).index_add(0, place, weights))
    assert got.votes.tolist() == torch.bincount(place[weights > 0], minlength=count).tolist()


def test_sums_of_another_scan_are_added_where_keys_are_equal():
    rng = np.random.default_rng(0)
    keys, theirs = (np.unique(rng.integers(0, 300, 150)) for _ in range(2))
    own, other = (
        VoxelSums(
            rng.random((len(k), 3), np.float32), rng.random(len(k), np.float32), rng.integers(0, 9, len(k))
        )
        for k in (keys, theirs)
    )
    want = {int(k): (own.probabilities[n].copy(), own.weight[n], own.votes[n]) for n, k in enumerate(keys)}
    for n, k in enumerate(theirs.tolist()):
        if k in want:
            row, weight, votes = want[k]
            half = np.float32(0.5)
            want[k] = (
                row + other.probabilities[n] * half,
                weight + other.weight[n] * half,
                votes + other.votes[n],
            )
    own.add(keys, other, theirs, 0.5)
    for n, k in enumerate(keys.tolist()):
        np.testing.assert_array_equal(own.probabilities[n], want[k][0])
        assert (own.weight[n], own.votes[n]) == want[k][1:]


def plain_vote(own: Ballot, others: dict[int, Ballot], options: VotingOptions) -> Voted:
    """A vote with sorted keys, torch's sums, and rows of all points, step by step."""

    def cells(ballot: Ballot) -> tuple[torch.Tensor, torch.Tensor]:
        world = in_world(ballot.xyz.numpy(), ballot.lidar_to_world)
        return torch.from_numpy(voxel_keys(world, options.voxel_m)).unique(return_inverse=True)

    voxels, voxel_of = cells(own)
    total, weight = torch.zeros(len(voxels), own.probabilities.shape[1]), torch.zeros(len(voxels))
    votes = torch.zeros(len(voxels), dtype=torch.int64)
    for offset, ballot in ({0: own} if options.same_frame else others).items():
        theirs, place = cells(ballot)
        rows = ballot.probabilities
        share = confidence_weights(rows, options.confidence)
        said = torch.zeros(len(theirs), rows.shape[1]).index_add(0, place, rows * share[:, None])
        weights = torch.zeros(len(theirs)).index_add(0, place, share)
        counts = torch.bincount(place[share > 0], minlength=len(theirs))
        both = torch.isin(theirs, voxels)
        here = torch.searchsorted(voxels, theirs[both])
        total[here] += said[both] * options.decay ** abs(offset)
        weight[here] += weights[both] * options.decay ** abs(offset)
        votes[here] += counts[both]
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


def drive(*, around=(0.0, 0.0, 0.0)) -> dict[int, Ballot]:
    """Scans of one place from five poses; one point in ten has no prediction."""
    ballots = {}
    for offset in (-2, -1, 0, 1, 2):
        draw = torch.Generator().manual_seed(offset + 9)
        rows = (3 * torch.randn(6000, 7, generator=draw)).softmax(1)
        rows[torch.rand(6000, generator=draw) < 0.1] = 0
        world = some_points(6000, offset + 5) * np.float32(0.15)
        there = np.linalg.inv(pose(1.5 * offset, 0.1 * offset))
        xyz = torch.from_numpy((world @ there[:3, :3].T + there[:3, 3]).astype(np.float32))
        ballots[offset] = Ballot(xyz, rows, pose(1.5 * offset, 0.1 * offset, around=around))
    return ballots


def assert_equal(got: Voted, want: Voted) -> None:
    for name in ("probabilities", "votes", "heeded"):
        assert torch.equal(getattr(got, name), getattr(want, name)), name
        assert getattr(got, name).dtype == getattr(want, name).dtype


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
    ballots = drive()
    own = ballots.pop(0)
    got, want = vote(own, ballots, options), plain_vote(own, ballots, options)
    assert 300 < int(want.heeded.sum()) < 6000
    assert_equal(got, want)


def around(ballots: dict[int, Ballot], center: int) -> dict[int, Ballot]:
    return {offset - center: ballot for offset, ballot in ballots.items() if offset != center}


def test_a_scan_that_has_voted_votes_as_a_fresh_one():
    options = [VotingOptions(), VotingOptions(confidence="max", voxel_m=0.5), VotingOptions().control()]
    kept = drive()
    for center in (0, -1, 2, 0):
        for chosen in options:
            fresh = drive()
            got = vote(kept[center], around(kept, center), chosen)
            assert_equal(got, vote(fresh[center], around(fresh, center), chosen))


def test_a_scan_is_summed_once_for_all_that_it_votes_for(monkeypatch):
    summed, plain = [], VoxelSums.of.__func__

    def spy(cls, voxels, probabilities, weights):
        summed.append(id(voxels))
        return plain(cls, voxels, probabilities, weights)

    monkeypatch.setattr(VoxelSums, "of", classmethod(spy))
    ballots = drive()
    for center in ballots:
        for options in (VotingOptions(), VotingOptions(alpha=0.2), VotingOptions().control()):
            vote(ballots[center], around(ballots, center), options)
    assert len(summed) == len(set(summed)) == 5
    vote(ballots[0], around(ballots, 0), VotingOptions(confidence="entropy"))
    assert len(summed) == 9, "once more for another rule"


@pytest.mark.parametrize(
    "far",
    [(500_000.0, 5_400_000.0, 300.0), (-2_097_152.0, 2_097_152.0, 4096.0)],
    ids=["utm", "where keys wrap"],
)
def test_a_vote_is_the_same_wherever_the_world_begins(far):
    options = VotingOptions(voxel_m=0.25)
    near, away = drive(), drive(around=far)
    assert_equal(vote(away[0], around(away, 0), options), vote(near[0], around(near, 0), options))


@pytest.mark.parametrize("apart", [(2.0**24, 0, 0), (0, -(2.0**24), 0), (0, 0, 2.0**15)])
def test_scans_whose_voxels_would_share_keys_by_wrapping_are_refused(apart):
    near, away = drive(), drive(around=np.array(apart) * 0.25)
    with pytest.raises(
        OutOfReachError, match=r"m apart, cannot be packed into voxels of 0.25 m; look for wrong poses"
    ):
        vote(near[0], {1: away[1]}, VotingOptions(voxel_m=0.25))
    one = away[1]
    known = Ballot(one.xyz, one.probabilities, one.lidar_to_world, source=Source("scan 8", "scans/8.bin"))
    said = (
        r"^scans/8.bin: scan scan 8 and the one that it votes for have coordinates up to .* m apart, cannot"
    )
    with pytest.raises(InputError, match=said):
        vote(near[0], {1: known}, VotingOptions(voxel_m=0.25))
