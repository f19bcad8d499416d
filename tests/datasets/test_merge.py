"""Sweeps fall onto the key frame's points where the world stands still."""

from __future__ import annotations

import numpy as np
import pytest

from superflow.datasets.merge import merge_sweeps, sweep_to_center
from superflow.datasets.moving import seen_through
from superflow.geometry import transform_points


def test_mistake_10_sweeps_align_through_the_pose_chain(small_index, small_log):
    """Ten sweeps, 0.5 s at 8 m/s and 0.3 rad/s: landmarks agree to 1e-4 m; the published shortcut is off by 0.6 m."""
    row = int(small_index.rows("scene-0001")[2])
    clip = small_index.clip(row, (), sweeps=10, images=False)
    merged = merge_sweeps(clip)
    assert merged.shape == (50 * 11, 6)
    stacks = merged.reshape(11, 50, 6)
    np.testing.assert_array_equal(stacks[0, :, :5], clip.center.points)
    np.testing.assert_allclose(stacks[:, :, :3], np.broadcast_to(stacks[0, :, :3], (11, 50, 3)), atol=1e-4)
    np.testing.assert_allclose(stacks[:, 0, 5], np.arange(11) * 0.05, atol=1e-6)
    oldest = clip.sweeps[-1]
    moved = sweep_to_center(clip.center, oldest)
    rotation, translation = moved[:3, :3], moved[:3, 3]
    shortcut = oldest.points[:, :3] @ rotation.T + rotation.T @ translation  # R p + R^T t
    assert np.linalg.norm(shortcut - clip.center.points[:, :3], axis=1).min() > 0.3


def test_ages_limit_the_cloud(small_index):
    row = int(small_index.rows()[1])
    clip = small_index.clip(row, (), sweeps=5, images=False)
    assert len(merge_sweeps(clip, max_age_s=0.12)) == 3 * 50
    assert len(merge_sweeps(clip, max_age_s=0.0)) == 50


def test_later_sweeps_align_and_have_negative_ages(small_index):
    row = int(small_index.rows("scene-0001")[1])
    clip = small_index.clip(row, (), sweeps=2, sweeps_after=3, images=False)
    stacks = merge_sweeps(clip).reshape(6, 50, 6)
    np.testing.assert_allclose(stacks[:, :, :3], np.broadcast_to(stacks[0, :, :3], (6, 50, 3)), atol=1e-4)
    ages = np.array([0, 0.05, 0.1, -0.05, -0.1, -0.15])
    np.testing.assert_allclose(stacks[:, :, 5], np.broadcast_to(ages[:, None], (6, 50)), atol=1e-6)
    kept = merge_sweeps(clip, max_age_s=0.07).reshape(3, 50, 6)
    np.testing.assert_array_equal(kept, stacks[[0, 1, 3]])


def test_landmarks_never_move(small_index):
    clip = small_index.clip(15, (), sweeps=4, sweeps_after=4, images=False)
    np.testing.assert_array_equal(merge_sweeps(clip, drop_moving=True), merge_sweeps(clip))


def test_what_moved_is_dropped_from_the_sweeps_alone(pandaset_index):
    """The whole cloud without the points of each sweep that are gone; the centre's own and the order stay."""
    row = int(pandaset_index.rows("scene-9102")[4])
    clip = pandaset_index.clip(row, (), sweeps=2, sweeps_after=1, images=False)
    whole = merge_sweeps(clip)
    keep = [np.ones(len(clip.center.points), dtype=bool)]
    for sweep in clip.sweeps:
        points = transform_points(sweep_to_center(clip.center, sweep), sweep.points)
        keep.append(~seen_through(points, clip.center.points))
        assert 0 < (~keep[-1]).mean() < 0.1
    np.testing.assert_array_equal(merge_sweeps(clip, drop_moving=True), whole[np.concatenate(keep)])
    young = merge_sweeps(clip, max_age_s=0.15, drop_moving=True)
    assert len(young) == keep[0].sum() + keep[1].sum() + keep[3].sum()


def test_without_sweeps_the_cloud_is_the_scan(small_index):
    clip = small_index.clip(0, (), sweeps=3, images=False)
    merged = merge_sweeps(clip)
    np.testing.assert_array_equal(merged[:, :5], clip.center.points)
    assert merged.dtype == np.float32
    assert not merged[:, 5].any()


def test_inputs_stay_unchanged(small_index):
    clip = small_index.clip(12, (), sweeps=2, images=False)
    before = [sweep.points.copy() for sweep in clip.sweeps]
    merge_sweeps(clip, drop_moving=True)
    for sweep, old in zip(clip.sweeps, before):
        np.testing.assert_array_equal(sweep.points, old)


def test_mistake_11_transforms_round_trip(small_index):
    a, b = small_index.frame(3), small_index.frame(17)
    there, back = sweep_to_center(a, b), sweep_to_center(b, a)
    np.testing.assert_allclose(there @ back, np.eye(4), atol=1e-9)


def test_real_scans_overlap_better_in_one_frame(pandaset_index):
    """Static voxels of a moving frame and its predecessor agree when merged, and do not when left as they are."""
    row = int(pandaset_index.rows("scene-9202")[-1])
    clip = pandaset_index.clip(row, (), sweeps=3, images=False)

    def overlap(other):
        cells = [
            {tuple(c) for c in np.floor(p[:, :3] / 0.3).astype(int)} for p in (clip.center.points, other)
        ]
        return len(cells[0] & cells[1]) / len(cells[1])

    count = len(clip.center.points)
    oldest = merge_sweeps(clip)[-len(clip.sweeps[-1].points) :]
    assert len(merge_sweeps(clip)) == count + sum(len(sweep.points) for sweep in clip.sweeps)
    assert overlap(oldest) > 1.5 * overlap(clip.sweeps[-1].points)
    assert clip.sweeps[-1].time_us == pytest.approx(clip.center.time_us - 300_000, abs=5_000)
