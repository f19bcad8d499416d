"""What images of a bag are seen by: rectified ones, those of 16 bits, and topics that are of several sensors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
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


@pytest.mark.parametrize(
    ("format", "is_mosaic"),
    [
        ("bayer_rggb8; png compressed ", True),
        ("bayer_rggb8; png compressed bgr8", False),
        ("rgb8; png compressed bgr8", False),
    ],
)
def test_compressed_mosaics_are_seen_in_colour(format, is_mosaic, tmp_path):
    """image_transport of some releases compresses them as they are, of others in colour, and says so or not."""
    colours = np.zeros((*SIZE, 3), np.uint8)
    colours[:, :32], colours[:, 32:] = (200, 100, 50), (20, 60, 220)  # BGR
    mosaic = colours[..., 1].copy()
    mosaic[0::2, 0::2], mosaic[1::2, 1::2] = colours[0::2, 0::2, 2], colours[1::2, 1::2, 0]

    def change(rows):
        for topic, _, _, message in rows:
            if topic == "/eye/image/compressed":
                message.format = format
                stored = cv2.imencode(".png", mosaic if is_mosaic else colours)[1]
                message.data = np.frombuffer(stored.tobytes(), np.uint8)
        return rows

    rewritten(tmp_path / "bags/drive", change)
    image = prepare("ros", tmp_path / "bags", tmp_path / "out").frame(0).cameras[0].image
    for part in np.s_[2:-2, 2:28], np.s_[2:-2, 36:-2]:
        np.testing.assert_array_equal(image[part], colours[part][..., ::-1])


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


@pytest.mark.parametrize(("window", "blocks"), [((8, 4), (1, 1)), ((0, 0), (2, 2)), ((16, 12), (4, 2))])
def test_a_window_of_a_sensor_and_joined_pixels_are_seen_where_they_are(window, blocks, tmp_path):
    """K is of the whole sensor (REP 104); a point falls on the pixel that holds the one of the sensor."""
    left, top = window
    height, width = SIZE[0] * blocks[1], SIZE[1] * blocks[0]
    focal = 22.0 * np.array(blocks)
    centre = np.array([left + width / 2, top + height / 2])

    def change(rows):
        for topic, _, _, message in rows:
            if topic == "/raw/camera_info":
                message.k = np.array([focal[0], 0, centre[0], 0, focal[1], centre[1], 0, 0, 1])
                message.height, message.width = height + top + 3, width + left + 5
                message.binning_x, message.binning_y = blocks
                message.roi.x_offset, message.roi.y_offset = window
                message.roi.height, message.roi.width = height, width
        return rows

    rewritten(tmp_path / "bags/drive", change)
    frame = prepare("ros", tmp_path / "bags", tmp_path / "out", sweep_compensation=False).frame(1)
    camera = frame.cameras[1]
    assert camera.size == camera.image.shape[:2] == SIZE
    seen = project(frame.cloud.xyz, frame.lidar_to_camera(camera), camera.lens)
    way = frame.lidar_to_camera(camera)
    u, v, w = way[:3, :3] @ frame.cloud.xyz[seen.rows].T + way[:3, 3:]
    on_sensor = focal * np.stack([u / w, v / w], axis=1) + centre
    # edges of pixels, from the corner of the window on
    want = (on_sensor + 0.5 - window) / blocks - 0.5
    assert len(want) > 3
    np.testing.assert_allclose(seen.pixels, want, atol=2e-3)


def test_a_window_beyond_its_sensor_is_refused(tmp_path):
    def change(rows):
        for topic, _, _, message in rows:
            if topic == "/raw/camera_info":
                message.roi.x_offset, message.roi.height, message.roi.width = 8, *SIZE
        return rows

    rewritten(tmp_path / "bags/drive", change)
    with pytest.raises(
        InputError, match=r"/raw/camera_info tells of a window of 64 x 36 pixels from \(8, 0\) on a"
    ):
        prepare("ros", tmp_path / "bags", tmp_path / "out")


@pytest.mark.parametrize(("change", "is_other"), [(0.2, False), (5.0, True)])
def test_a_lens_that_changes_on_the_way_is_refused(change, is_other, tmp_path):
    def later(rows):
        topic, kind, time_ns, message = next(row for row in rows if row[0] == "/raw/camera_info")
        other = replace(message, k=message.k + np.array([change, 0, 0, 0, change, 0, 0, 0, 0]))
        return [*rows, (topic, kind, time_ns + 400_000_000, other)]

    rewritten(tmp_path / "bags/drive", later)
    if not is_other:
        prepare("ros", tmp_path / "bags", tmp_path / "out")
        return
    with pytest.raises(
        InputError, match=r"/raw/camera_info tells of another lens from 1700000000100000000 ns on"
    ):
        prepare("ros", tmp_path / "bags", tmp_path / "out")


def test_images_of_another_clock_are_told_of(tmp_path):
    def later(rows):
        for topic, _, _, message in rows:
            if topic == "/eye/image/compressed":
                message.header.stamp.sec += 37
        return rows

    rewritten(tmp_path / "bags/drive", later)
    index = prepare("ros", tmp_path / "bags", tmp_path / "out")
    assert index.channels == ("raw_image_raw",)
    told = (
        "no image of /eye/image/compressed is within 0.05 s of a scan, the nearest 36.710 s from one; all are"
    )
    assert any(told in line for line in index.warnings)
