"""ROS bags of either version and container, written with every number known, and a real one against a plain read."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from bag_writer import (
    CAMERA_TO_BASE,
    COUNT,
    FISHEYE,
    KINDS,
    SIZE,
    START_NS,
    TOP_TO_BASE,
    Messages,
    messages,
    picture,
    points_of,
    pose_at,
    write_bag,
)
from rosbags.rosbag2 import Writer as Writer2

from superflow.camera.projection import project
from superflow.clips.dataset import PretrainDataset
from superflow.datasets.index import LogIndex
from superflow.datasets.prepare import prepare
from superflow.errors import InputError
from superflow.tools import main as tools


@pytest.fixture(scope="module", params=KINDS)
def bag(request, tmp_path_factory) -> Path:
    return write_bag(tmp_path_factory.mktemp("bags") / "drive", request.param)


def check_scans(index: LogIndex) -> None:
    assert len(index) == COUNT
    for i in range(COUNT):
        frame, want = index.frame(i), points_of(i)
        file_row = np.arange(2, len(want["x"]))
        np.testing.assert_array_equal(frame.cloud.file_row, file_row)
        np.testing.assert_array_equal(frame.cloud.xyz, np.stack([want[axis] for axis in "xyz"], axis=1)[2:])
        np.testing.assert_allclose(frame.cloud.intensity, want["reflectivity"][2:] / 255, rtol=1e-6)
        np.testing.assert_array_equal(frame.cloud.extra["ring"], want["ring"][2:])
        np.testing.assert_allclose(frame.cloud.extra["time_s"], want["t"][2:] * 1e-9, rtol=1e-6)
        assert frame.time_us == (START_NS + i * 100_000_000) // 1000


def test_every_number_comes_back(bag, tmp_path):
    index = prepare("ros", bag.parent, tmp_path / "out", sweep_compensation=False)  # as they lie in the file
    check_scans(index)
    assert (index.scenes, index.channels) == (("drive",), ("eye_image_compressed", "raw_image_raw"))
    for i in range(COUNT):
        frame = index.frame(i)
        np.testing.assert_allclose(frame.lidar_to_ego, TOP_TO_BASE, atol=1e-12)
        np.testing.assert_allclose(frame.ego_to_world, pose_at(0.1 * i), atol=1e-6)
        eye, raw = frame.cameras
        for camera in frame.cameras:
            np.testing.assert_array_equal(camera.image, picture(i)[..., ::-1])
            np.testing.assert_allclose(camera.camera_to_ego, CAMERA_TO_BASE, atol=1e-12)
            np.testing.assert_allclose(camera.ego_to_world, pose_at(0.1 * i + 0.01), atol=1e-4)
            assert camera.time_us == frame.time_us + 10_000
        assert (eye.model, eye.distortion, eye.size) == ("fisheye", FISHEYE, SIZE)
        assert (raw.model, raw.distortion) == ("radial_tangential", (0.0,) * 5)
    assert [line.partition(": ")[2].split(",")[0] for line in index.warnings] == [
        "intensities reach 198 in the first cloud"
    ]


def test_pixels_of_a_fisheye_are_opencvs(bag, tmp_path):
    frame = prepare("ros", bag.parent, tmp_path / "out").frame(1)
    camera = frame.cameras[0]
    way = np.linalg.inv(CAMERA_TO_BASE) @ np.linalg.inv(pose_at(0.11)) @ pose_at(0.1) @ TOP_TO_BASE
    np.testing.assert_allclose(frame.lidar_to_camera(camera), way, atol=1e-4)
    seen = project(frame.cloud.xyz, frame.lidar_to_camera(camera), camera.lens)
    assert len(seen.rows) > 3
    matrix = np.array([[40, 0, 32], [0, 41, 18], [0, 0, 1.0]])
    turn = cv2.Rodrigues(way[:3, :3])[0]
    own = frame.cloud.xyz[seen.rows].astype(float)[:, None]
    want = cv2.fisheye.projectPoints(own, turn, way[:3, 3], matrix, np.array(FISHEYE))[0][:, 0]
    np.testing.assert_allclose(seen.pixels, want, atol=2e-2)


def test_clips_to_pretrain_on_are_made_of_a_bag(bag, tmp_path):
    dataset = PretrainDataset(
        prepare("ros", bag.parent, tmp_path / "out"),
        region="world_cell",
        times={"offsets": [-0.1, 0.0, 0.1], "unit": "seconds"},
        clouds={"sweeps": 0},
        views={"size": (36, 64), "flip": 0.0},
    )
    batch = dataset[1]
    assert len(batch.images) >= 3
    assert len(batch.pair_point) > 20


@pytest.mark.parametrize("organised", [True, False])
@pytest.mark.parametrize("big", [True, False])
@pytest.mark.parametrize(("gap", "tail"), [(0, 0), (4, 0), (1, 9)])
def test_clouds_of_any_layout(organised, big, gap, tail, tmp_path):
    write_bag(tmp_path / "drive", "ros2_db3", organised=organised, big=big, gap=gap, tail=tail)
    check_scans(prepare("ros", tmp_path, tmp_path / "out", sweep_compensation=False))


def test_poses_come_from_transforms_where_there_is_no_odometry(tmp_path):
    write_bag(tmp_path / "drive", "ros2_mcap", odometry=False)
    index = prepare("ros", tmp_path, tmp_path / "out")
    for i in range(COUNT):
        frame = index.frame(i)
        np.testing.assert_allclose(frame.lidar_to_world, pose_at(0.1 * i) @ TOP_TO_BASE, atol=1e-6)
        np.testing.assert_allclose(
            frame.cameras[0].ego_to_world, pose_at(0.1 * i + 0.01) @ TOP_TO_BASE, atol=1e-4
        )
        want = np.linalg.inv(TOP_TO_BASE) @ CAMERA_TO_BASE
        np.testing.assert_allclose(frame.cameras[0].camera_to_ego, want, atol=1e-12)


@pytest.mark.parametrize(
    ("step_s", "late_s", "base_told", "world"),
    [(0.02, 0.0, True, "map"), (1.5, 0.0, True, "odom"), (0.02, 0.13, True, "odom"), (0.02, 0.0, False, "")],
)
def test_a_localisation_that_is_slow_or_begins_late_takes_no_pose_away(
    step_s, late_s, base_told, world, tmp_path
):
    """Corrections map -> odom come as seldom as a localisation is sure; odom -> base at the rate of wheels."""
    turn = np.array([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])

    def change(rows):
        make = Messages(False)
        found = [row for row in rows if row[0] != "/odom"]
        for k in range(-5, 80):
            time_ns = START_NS + k * 20_000_000
            told = [make.transform(time_ns, "odom", "base", pose_at(0.02 * k))]
            map_to_odom = turn.copy()
            map_to_odom[0, 3] = 100 + 1e-6 * k
            if k % round(step_s / 0.02) == 0 and 0.02 * k >= late_s:
                told.append(make.transform(time_ns, "map", "odom", map_to_odom))
            if base_told or k > 70:
                found.append(("/tf", "tf2_msgs/TFMessage", time_ns, make.transforms(*told)))
        return sorted(found, key=lambda row: row[2])

    rewritten(tmp_path / "drive", change)
    index = prepare("ros", tmp_path, tmp_path / "out")
    said = " ".join(index.warnings)
    assert ("poses are those in odom" in said) == (world == "odom")
    assert ("not within a second around the time of a scan" in said) == (world == "")
    for i in range(COUNT):
        frame = index.frame(i)
        if not world:
            assert frame.ego_to_world is None
            continue
        want = pose_at(0.1 * i) @ TOP_TO_BASE
        if world == "map":
            want = turn @ want
            want[0, 3] += 100
        np.testing.assert_allclose(frame.lidar_to_world, want, atol=1e-4)


def test_of_several_odometries_one_is_asked_for(tmp_path):
    def twice(rows):
        return [*rows, *(("/wheels", *row[1:]) for row in rows if row[0] == "/odom")]

    rewritten(tmp_path / "bags/drive", twice)
    index = prepare("ros", tmp_path / "bags", tmp_path / "out")
    assert any(
        line.endswith("scans have no poses; of /odom, /wheels name one with --topics")
        for line in index.warnings
    )
    named = prepare("ros", tmp_path / "bags", tmp_path / "one", topics=["/top/points", "/odom"])
    np.testing.assert_allclose(named.frame(1).ego_to_world, pose_at(0.1), atol=1e-6)


def test_a_bag_without_type_definitions_is_read_by_those_of_a_release(tmp_path):
    """As ros2 bag of Foxy to Humble writes them: no table of definitions, which rosbags' own reader of all refuses."""
    import sqlite3

    folder = write_bag(tmp_path / "drive", "ros2_db3")
    file = next(folder.glob("*.db3"))
    shutil.move(file, tmp_path / "old.db3")
    shutil.rmtree(folder)
    with sqlite3.connect(tmp_path / "old.db3") as base:
        base.execute("DROP TABLE message_definitions")
        base.execute("DROP TABLE schema")
        base.execute("ALTER TABLE topics DROP COLUMN type_description_hash")
    check_scans(prepare("ros", tmp_path, tmp_path / "out", typestore="ros2_foxy", sweep_compensation=False))
    check_scans(prepare("ros", tmp_path, tmp_path / "out", sweep_compensation=False))
    with pytest.raises(
        InputError, match=r"--typestore ros2_next: there is no such store; choose one of .*ros2_humble"
    ):
        prepare("ros", tmp_path, tmp_path / "out", typestore="ros2_next")


def test_the_command_takes_bags_and_topics(bag, tmp_path, caplog, capsys):
    out = tmp_path / "out"
    given = ["prepare", "ros", "--bag", str(bag), "--out", str(out)]
    with caplog.at_level("INFO"):
        assert tools.main([*given, "--topics", "/top/points", "/eye/image/compressed"]) == 0
    assert LogIndex.open(out).channels == ("eye_image_compressed",)
    assert (
        "passing over /odom (nav_msgs/Odometry), /raw/camera_info (sensor_msgs/CameraInfo), /raw/image_raw"
        in caplog.text
    )
    capsys.readouterr()
    assert tools.main([*given, "--topics", "/bottom/points"]) == 2
    said = capsys.readouterr().err
    assert "has no topic /bottom/points, but /eye/camera_info sensor_msgs/CameraInfo (1)" in said
    assert "/top/points sensor_msgs/PointCloud2 (4)" in said


def test_a_real_bag_of_ros_1_in_an_mcap_is_that_of_a_plain_read(shared_data, tmp_path):
    """The bytes of the cloud are cut out of the message by hand."""
    from mcap.reader import make_reader

    root = shared_data / "fragments/ouster_os1_mcap"
    with open(root / "os1_points_ros1_profile.mcap", "rb") as file:
        found = make_reader(file).iter_messages(topics=["/os1_cloud_node/points"])
        data = next(message.data for _, _, message in found)
    seconds, nanoseconds = struct.unpack_from("<II", data, 4)
    size = 64 * 2048 * 48
    (written,) = struct.unpack_from("<I", data, len(data) - size - 1 - 4)
    assert written == size
    rows = np.frombuffer(data, np.uint8)[len(data) - size - 1 : -1].reshape(64 * 2048, 48)
    xyz = rows[:, :12].copy().view("<f4")
    here = np.flatnonzero(xyz.any(axis=1))
    index = prepare("ros", root, tmp_path / "out")
    frame = index.frame(0)
    assert len(here) == len(frame.cloud) == 45716
    np.testing.assert_array_equal(frame.cloud.file_row, here)
    np.testing.assert_array_equal(frame.cloud.xyz, xyz[here])
    intensity = rows[:, 16:20].copy().view("<f4")[here, 0]
    want = np.log1p(intensity) / np.log1p(np.float32(65535))
    np.testing.assert_allclose(frame.cloud.intensity, want, rtol=1e-5)
    offset = rows[:, 20:24].copy().view("<u4")[here, 0]
    np.testing.assert_allclose(frame.cloud.extra["time_s"], offset * 1e-9, rtol=1e-6)
    assert frame.time_us == seconds * 1_000_000 + nanoseconds // 1000
    assert any("neither odometry nor transforms" in line for line in index.warnings)


def test_a_real_bag_of_packets_says_what_it_lacks(shared_data, tmp_path):
    with pytest.raises(
        InputError,
        match=r"has no sensor_msgs/PointCloud2 among its topics, /sensing/lidar/front/velodyne_packets "
        r"velodyne_msgs/VelodyneScan \(5\); packets of a driver become clouds by replaying",
    ):
        prepare("ros", shared_data / "fragments/vehicle_drivers", tmp_path / "out")


def test_what_is_said_beside_the_bags_overrules(bag, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (shutil.copytree if bag.is_dir() else shutil.copyfile)(bag, root / bag.name)
    said = {"name": "tuesday", "licence": "mine", "intensity": {"raw_max": 510}, "splits": {"val": ["drive"]}}
    (root / "dataset.json").write_text(json.dumps(said))
    index = prepare("ros", root, tmp_path / "out")
    assert (index.card.name, index.card.licence, index.warnings) == ("tuesday", "mine", ())
    assert index.rows("val").tolist() == list(range(COUNT))
    np.testing.assert_allclose(
        index.frame(0).cloud.intensity, points_of(0)["reflectivity"][2:] / 510, rtol=1e-6
    )


@pytest.mark.parametrize("odometry", [True, False])
def test_images_whose_stamps_are_late_are_of_the_time_of_the_shutter(odometry, tmp_path):
    """A driver that stamps what has arrived; a car at 7 m/s is 0.2 m further by then."""
    write_bag(tmp_path / "drive", "ros2_mcap", odometry=odometry)
    (tmp_path / "dataset.json").write_text(json.dumps({"late_s": {"/eye/image/compressed": 0.03}}))
    index = prepare("ros", tmp_path, tmp_path / "out")
    ego = np.eye(4) if odometry else TOP_TO_BASE
    for i in range(1, COUNT):
        frame = index.frame(i)
        late, other = frame.cameras
        assert (late.time_us, other.time_us) == (frame.time_us - 20_000, frame.time_us + 10_000)
        np.testing.assert_allclose(late.ego_to_world, pose_at(0.1 * i - 0.02) @ ego, atol=1e-4)
        np.testing.assert_array_equal(late.image, picture(i)[..., ::-1])


@pytest.mark.parametrize(
    ("late_s", "message"),
    [
        ({"/eye/image": 0.03}, r"late_s: '/eye/image' is no topic of images .* mean '/eye/image/compressed'"),
        ({"/points": 0.03}, r"late_s: '/points' is no topic of images of these bags; "),
        ({"/raw/image_raw": "soon"}, r"late_s of /raw/image_raw is 'soon'; it must be the seconds"),
        ({"/raw/image_raw": 35_000}, r"late_s of /raw/image_raw is 35000; .* at most 60"),
        (0.03, r"late_s is 0.03; it must be topics of images with seconds"),
    ],
)
def test_a_wrong_delay_of_images_is_one_sentence(late_s, message, bag, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (shutil.copytree if bag.is_dir() else shutil.copyfile)(bag, root / bag.name)
    (root / "dataset.json").write_text(json.dumps({"late_s": late_s}))
    with pytest.raises(InputError, match=f"dataset.json: {message}"):
        prepare("ros", root, tmp_path / "out")


def rewritten(path: Path, change) -> Path:
    """A bag of the changed messages of a drive."""
    make, rows = messages(False)
    rows = change(rows)
    types = {topic: name.replace("/", "/msg/") for topic, name, _, _ in rows}
    with Writer2(path, version=9) as writer:
        connections = {t: writer.add_connection(t, name, typestore=make.store) for t, name in types.items()}
        for topic, _, time_ns, message in rows:
            writer.write(connections[topic], time_ns, make.store.serialize_cdr(message, types[topic]))
    return path


def test_a_cloud_that_was_recorded_twice_is_read_once(tmp_path):
    """One at the same time of recording, one later; as bags have it that were merged."""

    def twice(rows):
        clouds = [row for row in rows if row[0] == "/top/points"]
        late = [(topic, kind, time_ns + 1, message) for topic, kind, time_ns, message in clouds]
        return sorted([*rows, clouds[0], late[2]], key=lambda row: row[2])

    rewritten(tmp_path / "drive", twice)
    index = prepare("ros", tmp_path, tmp_path / "out", sweep_compensation=False)
    check_scans(index)
    said = "2 clouds of /top/points are of a time that an earlier one has; they are left out"
    assert any(said in line for line in index.warnings)


def test_the_scale_of_intensities_is_that_of_the_first_cloud_with_points(tmp_path):
    def first_is_empty(rows):
        cloud = next(row[3] for row in rows if row[0] == "/top/points")
        cloud.height, cloud.width, cloud.row_step, cloud.data = 1, 0, 0, np.zeros(0, np.uint8)
        return rows

    rewritten(tmp_path / "drive", first_is_empty)
    index = prepare("ros", tmp_path, tmp_path / "out", sweep_compensation=False)
    assert (index.card.intensity_rule, index.card.intensity_max) == ("linear", 255)
    assert len(index.frame(0, images=False).cloud) == 0
    np.testing.assert_allclose(
        index.frame(1).cloud.intensity, points_of(1)["reflectivity"][2:] / 255, rtol=1e-6
    )
