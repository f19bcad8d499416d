"""Our reader against the official one, row by row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from superflow.datasets.index import LogIndex
from superflow.datasets.sets.nuscenes import write_index
from superflow.geometry import make_transform, rotation_z

FILE_TO_LIDAR = rotation_z(-np.pi / 2)


@pytest.fixture(scope="module", params=["small", "pandaset"])
def pair(request, devkit, tmp_path_factory):
    """(index, devkit) of a made log with sweeps and of the real scene."""
    if request.param == "pandaset":
        root: Path = request.getfixturevalue("pandaset_root")
        index = request.getfixturevalue("pandaset_index")
    else:
        index = request.getfixturevalue("small_index")
        root = index.root
    return index, devkit(root, "v1.0-mini")


def walk(nusc):
    """(scene name, LIDAR_TOP sample_data) in the devkit's order: scenes as listed, scans along ``next``."""
    for scene in nusc.scene:
        token = nusc.get("sample", scene["first_sample_token"])["data"]["LIDAR_TOP"]
        while token:
            scan = nusc.get("sample_data", token)
            yield scene["name"], scan
            token = scan["next"]


def test_scans_come_in_the_devkits_order(pair):
    index, nusc = pair
    theirs = list(walk(nusc))
    rows = np.arange(len(index))
    assert index.tokens(rows) == [scan["token"] for _, scan in theirs]
    assert [index.scene(row) for row in rows] == [scene for scene, _ in theirs]
    assert index.is_key.tolist() == [scan["is_key_frame"] for _, scan in theirs]
    assert index.time_us.tolist() == [scan["timestamp"] for _, scan in theirs]
    key_samples = [scan["sample_token"] for _, scan in theirs if scan["is_key_frame"]]
    assert index.sample_tokens(index.rows()) == key_samples


def test_key_neighbours_are_the_devkits_prev_and_next(pair):
    index, nusc = pair
    row_of = dict(zip(index.sample_tokens(index.rows()), index.rows().tolist()))
    for token, row in row_of.items():
        sample = nusc.get("sample", token)
        assert index.neighbour(row, -1) == row_of.get(sample["prev"])
        assert index.neighbour(row, 1) == row_of.get(sample["next"])


def test_sweeps_are_the_devkits_prev_chain(pair):
    index, nusc = pair
    row_of = {token: row for row, token in enumerate(index.tokens(np.arange(len(index))))}
    for row in range(0, len(index), 7):
        theirs, token = [], nusc.get("sample_data", index.tokens([row])[0])["prev"]
        while token and len(theirs) < 12:
            theirs.append(row_of[token])
            token = nusc.get("sample_data", token)["prev"]
        assert index.sweeps(row, 12) == theirs


def test_poses_points_cameras_and_labels_are_the_devkits(pair):
    index, nusc = pair
    for row in [*range(0, len(index), 29), len(index) - 1]:
        frame = index.frame(row, raw_intensity=True)
        scan = nusc.get("sample_data", frame.token)
        calibration = nusc.get("calibrated_sensor", scan["calibrated_sensor_token"])
        pose = nusc.get("ego_pose", scan["ego_pose_token"])
        sensor_to_ego = make_transform(calibration["rotation"], calibration["translation"])
        raw = np.fromfile(Path(nusc.dataroot) / scan["filename"], dtype=np.float32).reshape(-1, 5)
        # the file's frame is x right, y forward: the same place in the vehicle must come out
        in_ego = raw[:, :3] @ sensor_to_ego[:3, :3].T + sensor_to_ego[:3, 3]
        ours = frame.points[:, :3] @ frame.lidar_to_ego[:3, :3].T + frame.lidar_to_ego[:3, 3]
        np.testing.assert_allclose(ours, in_ego, atol=1e-4)
        np.testing.assert_array_equal(frame.points[:, 3:], raw[:, 3:])
        np.testing.assert_array_equal(frame.points[:, 0], raw[:, 1])
        np.testing.assert_array_equal(frame.points[:, 1], -raw[:, 0])
        np.testing.assert_allclose(frame.lidar_to_ego, sensor_to_ego @ FILE_TO_LIDAR.T, atol=1e-12)
        np.testing.assert_allclose(frame.ego_to_world, make_transform(pose["rotation"], pose["translation"]))
        assert {c.channel for c in frame.cameras} == {
            c for c in nusc.get("sample", scan["sample_token"])["data"] if c[:3] == "CAM" and frame.is_key
        }
        for camera in frame.cameras:
            theirs = nusc.get("sample_data", camera.token)
            calibration = nusc.get("calibrated_sensor", theirs["calibrated_sensor_token"])
            pose = nusc.get("ego_pose", theirs["ego_pose_token"])
            assert (theirs["channel"], theirs["timestamp"]) == (camera.channel, camera.time_us)
            assert camera.path == nusc.get_sample_data_path(camera.token)
            np.testing.assert_array_equal(camera.intrinsics, calibration["camera_intrinsic"])
            np.testing.assert_allclose(
                camera.ego_to_world, make_transform(pose["rotation"], pose["translation"]), atol=1e-12
            )
            np.testing.assert_allclose(
                camera.camera_to_ego, make_transform(calibration["rotation"], calibration["translation"])
            )
        if frame.is_key:
            label_path = Path(nusc.dataroot) / nusc.get("lidarseg", frame.token)["filename"]
            name_of = {c["index"]: c["name"] for c in nusc.category}
            for raw_id, train_id in zip(np.fromfile(label_path, np.uint8)[::97], frame.labels[::97]):
                assert train_id == index.card.class_of.get(name_of[raw_id], 255)
        else:
            assert frame.labels is None


def test_boxes_are_the_devkits(pair):
    index, nusc = pair
    for row in index.rows()[::9]:
        boxes = index.boxes(int(row))
        sample = nusc.get("sample", index.sample_tokens([row])[0])
        theirs = [nusc.get_box(token) for token in sample["anns"]]
        assert sorted(boxes.categories) == sorted(box.name for box in theirs)
        order = [
            boxes.tracks.index(nusc.get("sample_annotation", t)["instance_token"]) for t in sample["anns"]
        ]
        # the devkit goes by links, and takes differences of float seconds since 1970
        speeds = [nusc.box_velocity(token) for token in sample["anns"]]
        np.testing.assert_allclose(boxes.velocities[order], speeds, rtol=1e-5, atol=1e-5)
        known = [
            " ".join(
                nusc.get("attribute", a)["name"] for a in nusc.get("sample_annotation", t)["attribute_tokens"]
            )
            for t in sample["anns"]
        ]
        assert [boxes.status[i] for i in order] == known
        np.testing.assert_allclose(boxes.centers[order], [box.center for box in theirs])
        np.testing.assert_allclose(boxes.sizes[order][:, [1, 0, 2]], [box.wlh for box in theirs])
        np.testing.assert_allclose(
            np.abs(boxes.rotations[order]), np.abs([box.orientation.elements for box in theirs]), atol=1e-6
        )


def test_projection_into_the_camera_is_the_devkits(pandaset_index: LogIndex, pandaset_root, devkit):
    """The devkit's own drawing function, to 0.01 px, on a real frame."""
    from superflow.camera.projection import project

    nusc = devkit(pandaset_root, "v1.0-mini")
    row = int(pandaset_index.rows("scene-9202")[-1])
    frame = pandaset_index.frame(row, images=False)
    for camera in frame.cameras[::2]:
        theirs, depth, _ = nusc.explorer.map_pointcloud_to_image(frame.token, camera.token, min_dist=1.0)
        ours = project(frame.points, frame.lidar_to_camera(camera), camera.lens)
        # the devkit's limits are 1 px narrower at the upper left
        inside = (ours.pixels > 1).all(axis=1)
        assert inside.sum() == theirs.shape[1] > 1000
        np.testing.assert_allclose(ours.pixels[inside], theirs[:2].T, atol=0.01)
        np.testing.assert_allclose(ours.depth[inside], depth, atol=1e-3)


def test_nuscenes_tables_of_the_published_schema_load_in_both(small_log, tmp_path, devkit):
    """The made log is a fair stand-in only as long as the devkit accepts it unchanged."""
    root = small_log.write()
    assert len(devkit(root, small_log.version).sample_data) == len(small_log.tables["sample_data"])
    assert len(write_index(root, tmp_path / "index")) == 62
