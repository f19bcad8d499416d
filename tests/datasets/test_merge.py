"""Sweeps fall onto the key frame's points where the world stands still."""

from __future__ import annotations

import numpy as np
import pytest

from superflow.datasets.merge import merge_sweeps, sweep_to_center


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


def test_without_sweeps_the_cloud_is_the_scan(small_index):
    clip = small_index.clip(0, (), sweeps=3, images=False)
    merged = merge_sweeps(clip)
    np.testing.assert_array_equal(merged[:, :5], clip.center.points)
    assert merged.dtype == np.float32
    assert not merged[:, 5].any()


def test_inputs_stay_unchanged(small_index):
    clip = small_index.clip(12, (), sweeps=2, images=False)
    before = [sweep.points.copy() for sweep in clip.sweeps]
    merge_sweeps(clip)
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
