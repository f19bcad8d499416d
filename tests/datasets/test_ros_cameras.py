"""What images of a bag are seen by: rectified ones, those of 16 bits, and topics that are of several sensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bag_writer import CAMERA_TO_BASE, SIZE, TOP_TO_BASE, picture, pose_at
from scipy.spatial.transform import Rotation
from test_ros import rewritten

from superflow.camera.projection import project
from superflow.datasets.prepare import prepare
from superflow.errors import InputError

PROJECTION = np.array([[30.0, 0, 31, 0], [0, 30, 17, 0], [0, 0, 1, 0]])
TURN = Rotation.from_euler("xyz", [0.02, -0.05, 0.01]).as_matrix()


def rectified(name: str, projection: np.ndarray):
    """The images of the fisheye as rectified ones, with P and R in its CameraInfo."""

    def change(rows):
        for topic, _, _, message in rows:
            if topic == "/eye/camera_info":
                message.p, message.r = projection.reshape(-1), TURN.reshape(-1)
        return [(row[0].replace("/eye/image/", f"/eye/{name}/"), *row[1:]) for row in rows]

    return change


@pytest.mark.parametrize("name", ["image_rect", "image_rect_color"])
def test_rectified_images_are_seen_by_r_and_p_without_distortion(name, tmp_path):
    rewritten(tmp_path / "bags/drive", rectified(name, PROJECTION))
    frame = prepare("ros", tmp_path / "bags", tmp_path / "out", sweep_compensation=False).frame(1)
    camera, other = frame.cameras
    assert (camera.channel, other.channel) == (f"eye_{name}_compressed", "raw_image_raw")
    assert (camera.model, camera.distortion, other.model) == ("pinhole", (), "radial_tangential")
    seen = project(frame.cloud.xyz, frame.lidar_to_camera(camera), camera.lens)
    assert len(seen.rows) > 3
    # as sensor_msgs/CameraInfo says it: P [R X, 1], of X in the frame of the images
    way = np.linalg.inv(CAMERA_TO_BASE) @ np.linalg.inv(pose_at(0.11)) @ pose_at(0.1) @ TOP_TO_BASE
    in_camera = frame.cloud.xyz[seen.rows].astype(float) @ way[:3, :3].T + way[:3, 3]
    u, v, w = PROJECTION @ np.vstack([TURN @ in_camera.T, np.ones(len(seen.rows))])
    np.testing.assert_allclose(seen.pixels, np.stack([u / w, v / w], axis=1), atol=2e-2)


def test_rectified_images_of_a_second_camera_or_without_p_are_told_of(tmp_path):
    shifted = PROJECTION + [[0, 0, 0, -3.6], [0, 0, 0, 0], [0, 0, 0, 0]]
    rewritten(tmp_path / "pair/drive", rectified("image_rect", shifted))
    index = prepare("ros", tmp_path / "pair", tmp_path / "out")
    assert index.channels == ("raw_image_raw",)
    assert any(
        "/eye/image_rect/compressed has rectified images of the second camera" in w for w in index.warnings
    )
    rewritten(tmp_path / "none/drive", rectified("image_rect", np.zeros((3, 4))))
    with pytest.raises(
        InputError, match=r"intrinsics of the rectified images of /eye/camera_info are \[\[0.0"
    ):
        prepare("ros", tmp_path / "none", tmp_path / "out")


def test_images_of_12_bits_in_16_are_not_black(tmp_path):
    def deep(rows):
        for topic, _, _, message in rows:
            if topic == "/raw/image_raw":
                grey = picture(0)[..., 0].astype("<u2") << 4
                grey[0, 0] = 4095
                message.encoding, message.step, message.data = (
                    "mono16",
                    2 * SIZE[1],
                    grey.view("u1").reshape(-1),
                )
        return rows

    rewritten(tmp_path / "bags/drive", deep)
    image = prepare("ros", tmp_path / "bags", tmp_path / "out").frame(0).cameras[1].image
    want = np.repeat(picture(0)[..., :1], 3, axis=2)
    np.testing.assert_array_equal(image[1:], want[1:])


@pytest.mark.parametrize(("topic", "frame"), [("/top/points", "rear"), ("/eye/image/compressed", "side")])
def test_a_topic_of_two_sensors_is_refused(topic, frame, tmp_path):
    """As a driver writes it that publishes all of them under one name; slashes of ROS 1 make no difference."""

    def change(rows, to):
        last = [row[3] for row in rows if row[0] == topic][-1]
        last.header.frame_id = to if to else "/" + last.header.frame_id
        return rows

    rewritten(tmp_path / "fine/drive", lambda rows: change(rows, ""))
    prepare("ros", tmp_path / "fine", tmp_path / "out")
    rewritten(tmp_path / "two/drive", lambda rows: change(rows, frame))
    with pytest.raises(InputError, match=f"{topic} has messages of the frames .* and {frame}"):
        prepare("ros", tmp_path / "two", tmp_path / "out")


def test_odometry_of_no_frame_is_told_of(tmp_path: Path):
    def nameless(rows):
        for topic, _, _, message in rows:
            if topic == "/odom":
                message.child_frame_id = ""
        return rows

    rewritten(tmp_path / "bags/drive", nameless)
    index = prepare("ros", tmp_path / "bags", tmp_path / "out")
    assert any("/odom names no child frame; it is taken for the way of top" in w for w in index.warnings)
