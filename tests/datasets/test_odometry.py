"""Poses that KISS-ICP makes of the scans of a car between walls, marked as estimated wherever they go."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.spatial.transform import Rotation

from superflow.camera.projection import project
from superflow.datasets.card import load_card
from superflow.datasets.check.log import check_log
from superflow.datasets.index import LogIndex
from superflow.datasets.odometry import with_estimated_poses
from superflow.datasets.prepare import prepare
from superflow.datasets.records import Boxes, Place, ScanRow
from superflow.datasets.write import ListedLog
from superflow.errors import InputError
from superflow.protocol import data_record, index_protocol

COUNT = 12
MOUNT = np.eye(4)
MOUNT[:3, 3] = [0.4, 0, 1.7]


def street() -> np.ndarray:
    """(N, 3) points of a ground, two walls with bays, and poles, none of which looks the same along the way."""
    rng = np.random.default_rng(2)
    ground = np.column_stack(
        [rng.uniform(-40, 60, (9000, 1)), rng.uniform(-12, 12, (9000, 1)), np.zeros(9000)]
    )
    along, high = rng.uniform(-40, 60, 9000), rng.uniform(0, 6, 9000)
    side = np.where(rng.random(9000) < 0.5, -1, 1)
    bays = 9 + 1.5 * ((along + 3 * side) % 11 < 4) + 0.8 * ((along * side) % 7 < 2)
    walls = np.column_stack([along, side * bays, high])
    foot = np.column_stack([rng.uniform(-40, 60, 25), rng.uniform(-8, 8, 25)])
    poles = np.repeat(foot, 120, axis=0) + rng.normal(0, 0.05, (3000, 2))
    return np.concatenate([ground, walls, np.column_stack([poles, rng.uniform(0, 4, 3000)])])


def pose_at(i: float) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("z", 0.03 * i).as_matrix()
    pose[:3, 3] = [0.9 * i, 0.01 * i * i, 0]
    return pose


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Scans at 10 Hz, each of other points of the street, without poses; two drives alike."""
    root = tmp_path_factory.mktemp("odometry") / "log"
    world, rng = street(), np.random.default_rng(3)
    for drive in ("a", "b"):
        (root / drive).mkdir(parents=True)
        for i in range(COUNT):
            some = world[rng.random(len(world)) < 0.5]
            own = (np.column_stack([some, np.ones(len(some))]) @ np.linalg.inv(pose_at(i) @ MOUNT).T)[:, :3]
            own = own[np.linalg.norm(own, axis=1) < 45]
            (own + rng.normal(0, 0.01, own.shape)).astype("<f4").tofile(root / f"{drive}/{i}.bin")
    (root / "times.txt").write_text("".join(f"{100 + 0.1 * i:.3f}\n" for i in range(COUNT)))
    layout = {
        "points": {"files": "{scene}/*.bin"},
        "times": {"file": "times.txt"},
        "lidar_to_ego": MOUNT.tolist(),
    }
    (root / "folder.yaml").write_text(yaml.safe_dump(layout))
    return root


@pytest.fixture(scope="module")
def index(root, tmp_path_factory) -> LogIndex:
    return prepare("folder", root, tmp_path_factory.mktemp("out"), poses="kiss-icp")


def test_the_poses_are_those_of_the_drive(index):
    """Each drive has a world of its own, which is the ego frame of its first scan."""
    assert index.scenes == ("a", "b")
    for row in range(len(index)):
        i = row % COUNT
        error = np.linalg.inv(pose_at(i)) @ index.frame(row).ego_to_world
        assert np.linalg.norm(error[:3, 3]) < 0.15, row
        assert np.degrees(Rotation.from_matrix(error[:3, :3]).magnitude()) < 0.5


def test_estimated_poses_are_marked_in_the_index_and_in_every_result(index, root, tmp_path):
    assert index.poses.startswith("estimated by kiss-icp 1.")
    assert data_record(index, [0], limits=None, raw_intensity=False)["poses"] == index.poses
    assert index_protocol(index, [0], [1])["poses"] == index.poses
    assert any(index.poses in note and "drift" in note for note in check_log(index, project=project).notes)
    bare = prepare("folder", root, tmp_path / "bare")
    assert (bare.poses, bare.has_poses) == ("", False)
    assert bare.hash != index.hash
    assert "poses" not in data_record(bare, [0], limits=None, raw_intensity=False)


def _seen_boxes(row: ScanRow) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centres, rotations and velocities of its boxes in the frame of the ego, by hand."""
    boxes, to_ego = row.boxes, np.linalg.inv(row.ego_to_world)
    centers = np.column_stack([boxes.centers, np.ones(len(boxes))]) @ to_ego.T
    turns = to_ego[:3, :3] @ Rotation.from_quat(np.roll(boxes.rotations, -1, axis=1)).as_matrix()
    return centers[:, :3], turns, boxes.velocities @ to_ego[:3, :3].T


def test_boxes_stay_where_they_are_seen_from_their_scan(root):
    """They are in the world, and the world is another one: in the frame of the ego nothing may move."""
    rng = np.random.default_rng(4)
    old = np.eye(4)
    old[:3, :3], old[:3, 3] = Rotation.from_euler("z", 2.0).as_matrix(), [4e5, -300, 12]
    turns = Rotation.random(3, random_state=5)
    boxes = Boxes.placed(
        centers=rng.uniform(-20, 20, (3, 3)) + old[:3, 3],
        sizes=np.ones((3, 3)),
        rotations=np.roll(turns.as_quat(), 1, axis=1),
        categories=("car",) * 3,
        tracks=("a", "b", "c"),
    )
    boxes = replace(boxes, velocities=rng.normal(0, 5, (3, 3)))
    bare = ScanRow("a", "0", 0, Place("a/0.bin"), MOUNT)
    rows = [
        replace(bare, time_us=0, ego_to_world=old @ pose_at(0), boxes=boxes),
        replace(bare, time_us=100_000, ego_to_world=old @ pose_at(1), boxes=boxes.part(0, 0)),
        replace(bare, time_us=200_000, boxes=boxes),
    ]
    listed = ListedLog("folder", load_card("folder"), rows)
    found = list(with_estimated_poses(root, listed, "kiss-icp").scans)
    assert np.linalg.norm(found[0].ego_to_world[:3, 3] - rows[0].ego_to_world[:3, 3]) > 1e5
    (was, turned, went), (now, turned_now, went_now) = map(_seen_boxes, (rows[0], found[0]))
    np.testing.assert_allclose(now, was, atol=1e-6)
    np.testing.assert_allclose(turned_now, turned, atol=1e-9)
    np.testing.assert_allclose(went_now, went, atol=1e-9)
    assert len(found[1].boxes) == 0
    assert found[2].boxes is None, "where they are seen from a scan without a pose, nobody knows"


def test_the_same_scans_give_the_same_poses(index, root, tmp_path):
    assert prepare("folder", root, tmp_path / "again", poses="kiss-icp").hash == index.hash


def test_another_estimator_is_none(root, tmp_path):
    with pytest.raises(
        InputError, match=r"--poses orb-slam: there is no such estimator; choose one of kiss-icp"
    ):
        prepare("folder", root, tmp_path / "out", poses="orb-slam")
