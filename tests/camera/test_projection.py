"""Projection and the one rounding rule."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from superflow.camera.lens import bend
from superflow.camera.projection import _in_front, nearest_pixels, project
from superflow.datasets.cloud import Cloud
from superflow.datasets.frame import Camera, Frame
from superflow.datasets.records import FISHEYE, Lens
from superflow.geometry import invert, rotation_z, transform_points

SIZE = (60, 80)
INTRINSICS = np.array([[50.0, 0, 39.5], [0, 50.0, 29.5], [0, 0, 1]])
LENS = Lens(INTRINSICS, SIZE)
# lidar x forward, y left, z up -> camera x right, y down, z forward
LIDAR_TO_CAMERA = np.array([[0, -1.0, 0, 0], [0, 0, -1.0, 0.3], [1.0, 0, 0, -0.2], [0, 0, 0, 1]])


def some_points(count: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return np.c_[generator.uniform(-20, 40, (count, 3)) * (1, 0.5, 0.2), np.ones(count)].astype(np.float32)


def shift(x: float, y: float, z: float) -> np.ndarray:
    a_to_b = np.eye(4)
    a_to_b[:3, 3] = x, y, z
    return a_to_b


def test_matches_a_loop_over_points():
    points = some_points(500)
    got = project(points, LIDAR_TO_CAMERA, LENS)
    rows, pixels, depths = [], [], []
    for row, point in enumerate(points):
        x, y, z = (LIDAR_TO_CAMERA @ [*point[:3].astype(float), 1.0])[:3]
        if z <= 1.0:
            continue
        u, v = 50 * x / z + 39.5, 50 * y / z + 29.5
        if 0 < u < SIZE[1] - 1 and 0 < v < SIZE[0] - 1:
            rows.append(row)
            pixels.append((u, v))
            depths.append(z)
    assert len(rows) > 50
    np.testing.assert_array_equal(got.rows, rows)
    np.testing.assert_allclose(got.pixels, pixels, atol=1e-4)
    np.testing.assert_allclose(got.depth, depths, rtol=1e-6)


@pytest.mark.parametrize("lens", [LENS, Lens(INTRINSICS, SIZE, FISHEYE, (0.02, -0.01, 0.002, 0.0))])
def test_the_bits_are_those_of_whole_rows(lens):
    points = some_points(5003, seed=1)
    points[::17, 1] = np.nan
    points[5::400, 0] = np.inf
    rows = np.flatnonzero(np.isfinite(points[:, :3]).all(axis=1))
    in_camera = transform_points(LIDAR_TO_CAMERA, points[rows, :3].astype(np.float64))
    rows, in_camera = rows[in_camera[:, 2] > 1.0], in_camera[in_camera[:, 2] > 1.0]
    pixels = bend(in_camera, lens) @ INTRINSICS.T
    pixels = pixels[:, :2] / pixels[:, 2:]
    inside = ((pixels > 0) & (pixels < (SIZE[1] - 1, SIZE[0] - 1))).all(axis=1)
    got = project(points, LIDAR_TO_CAMERA, lens)
    assert len(got) > 300
    np.testing.assert_array_equal(got.rows, rows[inside], strict=True)
    np.testing.assert_array_equal(got.pixels, pixels[inside].astype(np.float32), strict=True)
    np.testing.assert_array_equal(got.depth, in_camera[inside, 2].astype(np.float32), strict=True)


def test_the_bits_are_those_of_columns_that_are_multiplied_and_added():
    points = some_points(5003, seed=2)
    points[::50, 2] = np.nan
    m = shift(0.1, -0.4, 0.3) @ rotation_z(0.7) @ LIDAR_TO_CAMERA
    x, y, z = points[:, :3].astype(np.float64).T
    at = np.stack([row[0] * x + row[1] * y + row[2] * z + row[3] for row in m[:3]], axis=1)
    rows = np.flatnonzero(at[:, 2] > 1.0)
    got = _in_front(points[:, :3], m, 1.0, INTRINSICS, *SIZE, True)
    assert len(rows) > 1000
    np.testing.assert_array_equal(got[0], rows, strict=True)
    np.testing.assert_array_equal(got[1], at[rows], strict=True)


def test_borders_and_depth_are_strict():
    # depth 1 is out, just above is in; a position exactly on the first or last pixel centre is out
    points = np.array([[1.2, 0, 0.3], [1.3, 0, 0.3], [10.2, 0, 0.3]])
    assert project(points, LIDAR_TO_CAMERA, LENS).rows.tolist() == [1, 2]
    eye = np.eye(3)
    places = np.array([[0, 5, 2], [1, 5, 2], [79 * 2, 5, 2], [78 * 2, 5, 2], [5, 0, 2], [5, 59 * 2, 2.0]])
    assert project(places, np.eye(4), Lens(eye, SIZE)).rows.tolist() == [1, 3]


def test_points_that_are_not_finite_are_left_out_and_empty_clouds_are_fine():
    points = np.array([[10, 0, 0.3], [np.nan, 0, 0], [np.inf, 0, 0.3], [10, -np.inf, 0.3]], dtype=np.float32)
    before = points.copy()
    with np.errstate(all="raise"):
        assert project(points, LIDAR_TO_CAMERA, LENS).rows.tolist() == [0]
    np.testing.assert_array_equal(points, before)
    empty = project(points[:0], LIDAR_TO_CAMERA, LENS)
    assert len(empty) == 0
    assert empty.pixels.shape == (0, 2)


def test_equals_the_devkit_on_real_frames(pandaset, pandaset_root):
    tables = import_module("nuscenes.nuscenes").NuScenes(
        version="v1.0-mini", dataroot=str(pandaset_root), verbose=False
    )
    compared = 0
    for place in (0, 40, 70):  # 40 and 70: the vehicle moves
        frame = pandaset.frame(place)
        for camera in frame.cameras:
            ours = project(frame.points, frame.lidar_to_camera(camera), camera.lens)
            # the devkit also drops the outermost pixel
            ours = ours.select((ours.pixels > 1).all(axis=1))
            theirs, depth, _ = tables.explorer.map_pointcloud_to_image(
                frame.token, camera.token, min_dist=1.0
            )
            assert len(ours) == theirs.shape[1]
            np.testing.assert_allclose(ours.pixels, theirs[:2].T, atol=0.01)
            np.testing.assert_allclose(ours.depth, depth, atol=1e-3)
            compared += len(ours)
    assert compared > 100_000


def test_mistake_12_both_ego_poses():
    """At 20 m/s and 50 ms between scan and exposure a pole 10 m ahead is 1 m nearer in the image."""
    lidar_to_ego, camera_to_ego = shift(0.8, 0, 1.8), shift(1.5, 0, 1.5) @ invert(LIDAR_TO_CAMERA)
    at_scan, at_exposure = rotation_z(0.4), rotation_z(0.4) @ shift(1.0, 0, 0)
    camera = Camera("c", "CAM", 50_000, INTRINSICS, camera_to_ego, at_exposure, "", SIZE)
    pole_in_world = at_scan @ np.array([10.0, 3.0, 1.0, 1])
    point = (invert(at_scan @ lidar_to_ego) @ pole_in_world)[:3]
    frame = Frame("f", "s", 0, True, Cloud.from_table(point[None]), lidar_to_ego, at_scan, (camera,))

    got = project(frame.points, frame.lidar_to_camera(camera), LENS)
    expected = INTRINSICS @ (invert(at_exposure @ camera_to_ego) @ pole_in_world)[:3]
    np.testing.assert_allclose(got.pixels[0], expected[:2] / expected[2], atol=1e-3)

    one_pose = invert(camera_to_ego) @ lidar_to_ego
    mistaken = project(frame.points, one_pose, LENS)
    assert np.abs(mistaken.pixels[0] - got.pixels[0]).max() > 1.5


def test_mistake_17_one_rounding_rule():
    positions = [[0.5, 1.5], [2.5, 3.5], [0.49, 7.51], [-0.5, -0.4]]
    assert nearest_pixels(np.array(positions), (20, 20)).tolist() == [[1, 2], [3, 4], [0, 8], [0, 0]]


@given(st.lists(st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)), max_size=20))
@settings(max_examples=50)
def test_mistake_39_clipped_on_both_sides(positions):
    got = nearest_pixels(np.array(positions).reshape(-1, 2), SIZE)
    assert ((got >= 0) & (got < (SIZE[1], SIZE[0]))).all()
    assert nearest_pixels(np.array([[-3.0, -3.0], [500, 500]]), SIZE).tolist() == [[0, 0], [79, 59]]
