"""Scans that are brought to one instant while they are read: a LiDAR that turns while the car drives past a street."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.spatial.transform import Rotation

from superflow.camera.projection import project
from superflow.datasets.check.log import check_log
from superflow.datasets.index import LogIndex
from superflow.datasets.prepare import prepare
from superflow.datasets.sweep import at_one_instant
from superflow.datasets.trajectory import Trajectory
from superflow.errors import InputError
from superflow.protocol import data_record, index_protocol

COUNT, TURN_S = 4, 0.1
LANDMARKS = np.random.default_rng(5).uniform([-20, -15, 0], [60, 15, 6], (300, 3))
MOUNT = np.eye(4)
MOUNT[:3, :3] = Rotation.from_euler("z", 0.2).as_matrix()
MOUNT[:3, 3] = [0.5, 0, 1.8]


def pose_at(seconds: float) -> np.ndarray:
    """A car at 12 m/s in a bend, by hand."""
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("zy", [0.3 * seconds, 0.02 * seconds]).as_matrix()
    pose[:3, 3] = [12 * seconds, 2 * seconds * seconds, 0.1 * seconds]
    return pose


def seen_from(pose: np.ndarray, point: np.ndarray) -> np.ndarray:
    """A point of the world as a LiDAR on a car at this pose sees it."""
    return (np.linalg.inv(pose @ MOUNT) @ [*point, 1.0])[:3]


def write_log(root: Path, **points: object) -> Path:
    """Scans of all landmarks, each at a time of its own; poses at 100 Hz; the last column is the time."""
    (root / "lidar").mkdir(parents=True)
    offsets = np.random.default_rng(6).uniform(0, TURN_S, len(LANDMARKS))
    for i in range(COUNT):
        xyz = [seen_from(pose_at(i * TURN_S + t), point) for t, point in zip(offsets, LANDMARKS)]
        np.column_stack([xyz, offsets]).astype("<f4").tofile(root / f"lidar/{i}.bin")
    (root / "times.txt").write_text("".join(f"{i * TURN_S + 100}\n" for i in range(COUNT)))
    lines = []
    for k in range(-20, 10 * COUNT + 20):
        pose = pose_at(0.01 * k)
        turn = Rotation.from_matrix(pose[:3, :3]).as_quat()
        lines.append(" ".join(repr(float(v)) for v in (0.01 * k + 100, *pose[:3, 3], *turn)))
    (root / "poses.txt").write_text("\n".join(lines))
    time = {"column": "t", "unit_s": 1, "since": "scan"}
    layout = {
        "points": {"files": "lidar/*.bin", "columns": ["x", "y", "z", "t"], "time": time} | points,
        "times": {"file": "times.txt", "unit_s": 1},
        "poses": {"file": "poses.txt", "form": "tum"},
        "lidar_to_ego": MOUNT.tolist(),
    }
    (root / "folder.yaml").write_text(yaml.safe_dump(layout))
    return root


def distance_from_world(index: LogIndex, row: int) -> float:
    """Furthest distance of a point from where its landmark is at the time of the scan."""
    want = [seen_from(pose_at(row * TURN_S), point) for point in LANDMARKS]
    return float(np.linalg.norm(index.frame(row).cloud.xyz - want, axis=1).max())


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_log(tmp_path_factory.mktemp("sweep") / "log")


def test_points_stand_where_the_world_is_at_the_time_of_the_scan(root, tmp_path):
    """Poses of 10 Hz are all that the index keeps: between them the motion is not quite the car's."""
    index = prepare("folder", root, tmp_path / "out")
    assert index.sweep_compensation
    for row in range(COUNT):
        assert distance_from_world(index, row) < 0.05
    off = prepare("folder", root, tmp_path / "off", sweep_compensation=False)
    assert not off.sweep_compensation
    assert off.hash != index.hash
    for row in range(COUNT):
        assert distance_from_world(off, row) > 1.0
        raw = np.fromfile(root / f"lidar/{row}.bin", "<f4").reshape(-1, 4)
        np.testing.assert_array_equal(off.frame(row).cloud.xyz, raw[:, :3])


def test_each_point_is_moved_by_the_motion_between_the_poses_beside_it(root, tmp_path):
    """A twin that takes one point after the other through matrices of its own."""
    index = prepare("folder", root, tmp_path / "out")
    poses = [pose_at(i * TURN_S) for i in range(COUNT)]
    for row in range(COUNT):
        start = min(row, COUNT - 2)
        first, step = poses[start], np.linalg.inv(poses[start]) @ poses[start + 1]
        turn = Rotation.from_matrix(step[:3, :3]).as_rotvec()
        raw = np.fromfile(root / f"lidar/{row}.bin", "<f4").reshape(-1, 4).astype(float)
        want = []
        for x, y, z, t in raw:
            share = (row - start) + t / TURN_S
            pose = np.eye(4)
            pose[:3, :3] = first[:3, :3] @ Rotation.from_rotvec(turn * share).as_matrix()
            pose[:3, 3] = (1 - share) * first[:3, 3] + share * poses[start + 1][:3, 3]
            want.append((np.linalg.inv(poses[row] @ MOUNT) @ pose @ MOUNT @ [x, y, z, 1])[:3])
        np.testing.assert_allclose(index.frame(row).cloud.xyz, want, atol=2e-3)


def test_points_of_the_scans_own_time_and_of_none_stay(root, tmp_path):
    index = prepare("folder", root, tmp_path / "out")
    off = prepare("folder", root, tmp_path / "off", sweep_compensation=False)
    cloud = off.frame(1).cloud
    cloud.extra["time_s"][::2], cloud.extra["time_s"][1::4] = 0, np.nan
    way = Trajectory(index.time_us, np.array([pose_at(i * TURN_S) for i in range(COUNT)]))
    moved = at_one_instant(cloud, int(index.time_us[1]), way, MOUNT, name="a scan")
    same = (moved.xyz == cloud.xyz).all(axis=1)
    np.testing.assert_array_equal(same[::2], True)
    np.testing.assert_array_equal(same[1::4], True)
    assert not same[3::4].any()


def test_what_is_compensated_already_is_left_alone(tmp_path):
    index = prepare("folder", write_log(tmp_path / "log", compensated=True), tmp_path / "out")
    assert not index.sweep_compensation
    assert distance_from_world(index, 1) > 1.0


def test_without_poses_there_is_nothing_to_go_by(root, tmp_path):
    log = write_log(tmp_path / "log")
    (log / "folder.yaml").write_text(
        yaml.safe_dump(
            {k: v for k, v in yaml.safe_load((log / "folder.yaml").read_text()).items() if k != "poses"}
        )
    )
    assert not prepare("folder", log, tmp_path / "out").sweep_compensation


def test_the_check_and_every_result_say_so(root, tmp_path):
    on = prepare("folder", root, tmp_path / "on")
    off = prepare("folder", root, tmp_path / "off", sweep_compensation=False)
    bare = prepare(
        "folder", write_log(tmp_path / "log", columns=["x", "y", "z", "u"], time=None), tmp_path / "bare"
    )
    notes = [" ".join(check_log(index, project=project).notes) for index in (on, off, bare)]
    assert "scans are brought to one instant while they are read" in notes[0]
    assert "scans are read as they were taken, point by point, although their points carry times" in notes[1]
    assert "the points carry no time, so scans are not brought to one instant" in notes[2]
    for index, want in ((on, True), (off, None), (bare, None)):
        assert data_record(index, [0], limits=None, raw_intensity=False).get("sweep_compensation") is want
        assert index_protocol(index, [0], [1]).get("sweep_compensation") is want


def test_the_check_says_which_scenes_stay_as_they_were_taken(root, tmp_path):
    one = prepare("folder", root, tmp_path / "one", limit=1)
    notes = " ".join(check_log(one, project=project).notes)
    assert "1 of 1 scenes have no two poses; their scans stay as they were taken" in notes
    whole = prepare("folder", root, tmp_path / "whole")
    assert "stay as they were taken" not in " ".join(check_log(whole, project=project).notes)
    taken = prepare("folder", root, tmp_path / "taken", sweep_compensation=False)
    np.testing.assert_array_equal(one.frame(0).cloud.xyz, taken.frame(0).cloud.xyz)


def test_times_of_another_unit_are_told_of(tmp_path):
    log = write_log(tmp_path / "log", time={"column": "t", "unit_s": 1000, "since": "scan"})
    index = prepare("folder", log, tmp_path / "out")
    with pytest.raises(
        InputError, match=r"0.bin: the times of its points reach 99\.\d s from that of the scan"
    ):
        index.frame(0)
    report = check_log(index, project=project)
    assert report.problem_counts == {"points": COUNT}, "what cannot be read so is found before a training"


@pytest.mark.parametrize(("unit_s", "is_told"), [(1, False), (1e-3, True), (1e-9, True)])
def test_times_by_which_a_scan_is_of_an_instant_are_told_of(tmp_path, unit_s, is_told):
    """Scans stay as they were taken, and nothing else says so."""
    time = {"column": "t", "unit_s": unit_s, "since": "scan"}
    index = prepare("folder", write_log(tmp_path / "log", time=time), tmp_path / "out")
    told = [note for note in check_log(index, project=project).notes if "in which no LiDAR turns" in note]
    assert bool(told) is is_told


def test_the_motion_beside_a_gap_of_poses_goes_on():
    """A car stands, nobody knows a minute of it, then it drives 600 m further on."""
    times_us = np.array([0, 100, 200, 60_000, 60_100, 60_200]) * 1000
    poses = np.tile(np.eye(4), (6, 1, 1))
    poses[3:, 0, 3] = [600, 601, 602]
    trajectory = Trajectory(times_us, poses)
    asked = np.array([150, 200, 290, 59_900, 60_050, 60_300]) * 1000
    places = trajectory.around(asked, max_gap_us=1_000_000)[:, 0, 3]
    np.testing.assert_allclose(places, [0, 0, 0, 599, 600.5, 603])
    known = trajectory.around(asked, max_gap_us=100_000_000)[:, 0, 3]
    np.testing.assert_allclose(known[[0, 4, 5]], [0, 600.5, 603])
    assert 0.9 < known[2] < 1  # the mean speed over the minute
    two = Trajectory(times_us[2:4], poses[2:4])  # there is no other motion
    np.testing.assert_allclose(two.around(asked[1:2], max_gap_us=1_000_000)[:, 0, 3], [0])
