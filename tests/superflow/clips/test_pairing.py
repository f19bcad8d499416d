"""Pairs of points and pixels, and the choice among them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from superflow.camera.occlusion import scan_surface
from superflow.clips.pairing import (
    FramePairs,
    ids_under,
    join,
    nearest_of_region,
    pair,
    resized_pixels,
    world_cells,
)
from superflow.clips.views import TeacherView
from superflow.datasets.cloud import Cloud
from superflow.datasets.frame import Camera, Frame
from superflow.geometry import invert, make_transform

# camera axes (x right, y down, z forward) of a camera that looks along the vehicle's x
FORWARD = np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]], dtype=np.float64)


def camera(*, height_m: float = 1.5, ego_to_world: np.ndarray | None = None) -> Camera:
    to_ego = FORWARD.copy()
    to_ego[2, 3] = height_m
    return Camera(
        token="image",
        channel="CAM_FRONT",
        time_us=0,
        intrinsics=np.array([[100.0, 0, 99.5], [0, 100, 49.5], [0, 0, 1]]),
        camera_to_ego=to_ego,
        ego_to_world=np.eye(4) if ego_to_world is None else ego_to_world,
        path=str(Path("none")),
        size=(100, 200),
    )


def frame(points: np.ndarray, cameras: tuple[Camera, ...] = (), **poses) -> Frame:
    lidar_to_ego = np.eye(4)
    lidar_to_ego[2, 3] = 1.8
    poses = {"lidar_to_ego": lidar_to_ego, "ego_to_world": np.eye(4)} | poses
    return Frame("scan", "scene", 0, True, Cloud.from_table(points), cameras=cameras, **poses)


def test_a_point_ahead_falls_on_the_principal_point():
    found = pair(frame(np.zeros((0, 4))), np.array([[10.0, 0, -0.3, 0]]), [camera()], surface=None)
    assert found.point.tolist() == [0]
    assert found.pixel[0] == pytest.approx([99.5, 49.5], abs=1e-4)


def test_mistake_12_the_vehicle_moves_between_scan_and_exposure():
    moved = make_transform((1, 0, 0, 0), (2.0, 0, 0))
    point = np.array([[12.0, 3.0, -0.3, 0]])
    at_rest = pair(frame(point), point, [camera()], surface=None).pixel[0]
    moving = pair(frame(point), point, [camera(ego_to_world=moved)], surface=None).pixel[0]
    assert at_rest == pytest.approx([99.5 - 100 * 3 / 12, 49.5], abs=1e-4)
    assert moving == pytest.approx([99.5 - 100 * 3 / 10, 49.5], abs=1e-4)


def test_mistake_13_a_hidden_point_has_no_pixel():
    side, up = np.meshgrid(np.linspace(-1, 1, 21), np.linspace(-1, 1, 21))
    near = np.column_stack([np.full(441, 8.0), side.ravel(), up.ravel() - 0.3, np.zeros(441)])
    behind = near * [2.0, 2.0, 1.0, 1.0] + [0, 0, 0, 0]
    points = np.concatenate([near, behind])
    with_test = pair(frame(points), points, [camera()], surface=scan_surface(points))
    without = pair(frame(points), points, [camera()], surface=None)
    inside = np.abs(behind[:, 2] + 0.3) < 0.5  # those whose line of sight the near wall crosses
    assert not set(441 + np.flatnonzero(inside & (np.abs(behind[:, 1]) < 1.5))) & set(with_test.point)
    assert set(range(441, 882)) <= set(without.point)


def test_a_choice_of_points_and_cameras_is_counted_anew():
    pairs = FramePairs(
        np.array([0, 3, 3, 5]),
        np.array([0, 0, 2, 1]),
        np.arange(8, dtype=np.float32).reshape(4, 2),
        np.arange(4, dtype=np.float32),
    )
    chosen = pairs.of(np.array([3, 5]), [2, 1])
    assert chosen.point.tolist() == [0, 1]
    assert chosen.camera.tolist() == [0, 1]
    assert chosen.pixel.tolist() == [[4, 5], [6, 7]]
    assert chosen.depth.tolist() == [2, 3]
    nothing = pairs.of(np.zeros(0, np.int64), [])
    assert len(nothing.point) == 0


def test_the_compiled_choice_is_that_of_whole_columns():
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, 500, 3000), rng.integers(0, 6, 3000)
    pairs = FramePairs(*drawn, rng.random((3000, 2), np.float32), rng.random(3000, np.float32))
    for points, cameras in (
        (np.sort(rng.choice(500, 200, replace=False)), [4, 0, 7]),
        (np.arange(500), [5, 4, 3, 2, 1, 0]),
    ):
        new_point, new_camera = np.full(500, -1), np.full(8, -1)
        new_point[points], new_camera[cameras] = np.arange(len(points)), np.arange(len(cameras))
        kept = (new_point[pairs.point] >= 0) & (new_camera[pairs.camera] >= 0)
        expected = new_point[pairs.point[kept]], new_camera[pairs.camera[kept]]
        chosen = pairs.of(points, cameras)
        np.testing.assert_array_equal([chosen.point, chosen.camera], expected)
        np.testing.assert_array_equal(chosen.pixel, pairs.pixel[kept], strict=True)
        np.testing.assert_array_equal(chosen.depth, pairs.depth[kept], strict=True)


def test_the_pairs_of_two_clouds_become_those_of_one():
    near, far = (
        np.array([[10.0, 0, 0, 0], [12, 1, 0, 0]]),
        np.array([[20.0, 0, 0, 0], [30, 2, 0, 0], [-5, 0, 0, 0]]),
    )
    cameras, here = [camera(), camera(height_m=1.0)], frame(np.zeros((0, 4)))
    joint = join(
        pair(here, near, cameras, surface=None), pair(here, far, cameras, surface=None), first=len(near)
    )
    whole = pair(here, np.concatenate([near, far]), cameras, surface=None)
    order, expected = (np.lexsort((pairs.camera, pairs.point)) for pairs in (joint, whole))
    for name in ("point", "camera", "pixel", "depth"):
        np.testing.assert_array_equal(getattr(joint, name)[order], getattr(whole, name)[expected])
    assert sorted(set(joint.point)) == [0, 1, 2, 3]


def test_points_behind_the_nearest_of_their_superpixel_go():
    draws = np.random.default_rng(0)
    region, depth = draws.integers(-1, 6, 400), draws.uniform(10, 30, 400).astype(np.float32)
    kept = nearest_of_region(region, depth)
    for row in range(400):
        nearest = depth[region == region[row]].min()
        assert kept[row] == (region[row] < 0 or depth[row] <= nearest * 1.2 + 0.5)
    assert 0.2 < kept.mean() < 0.8
    assert nearest_of_region(region[:0], depth[:0]).tolist() == []


def test_the_ignore_id_of_the_files_is_no_region():
    ids = np.full((4, 6), 7, np.uint16)
    ids[2, 3] = 65535
    assert ids_under(ids, np.array([[3.4, 1.6], [0.0, 0.0]])).tolist() == [-1, 7]


def test_resizing_keeps_pixel_centres():
    to_view = resized_pixels((100, 200), (50, 100))
    assert to_view @ [0.5, 0.5, 1] == pytest.approx([0, 0, 1])
    assert to_view @ [199.5, 99.5, 1] == pytest.approx([99.5, 49.5, 1])


def test_world_cells_are_the_same_at_all_times():
    pose = make_transform((np.cos(0.2), 0, 0, np.sin(0.2)), (5.0, -3.0, 0.4))
    world = np.random.default_rng(0).uniform(-20, 20, (200, 3))
    cells = []
    for ego_to_world in (np.eye(4), pose):
        here = frame(np.zeros((0, 4)), ego_to_world=ego_to_world)
        to_lidar = invert(here.lidar_to_world)
        points = world @ to_lidar[:3, :3].T + to_lidar[:3, 3]
        cells.append(world_cells(here, points, 1.0))
    assert np.array_equal(*cells)
    slow = {tuple(np.floor(p).astype(int)) for p in world}
    assert len(np.unique(cells[0])) == len(slow)


def test_pairs_of_a_view_are_those_whose_pixel_lies_in_it():
    rng = np.random.default_rng(1)
    pixels = rng.uniform(-6, 30, (200, 2)).astype(np.float32)
    # on the borders: the first and the third are inside
    pixels[:4] = [[-0.5, 3], [9.5, 3], [3, -0.5], [3, 5.5]]
    camera = rng.integers(0, 2, 200)
    camera[:4] = 1
    pairs = FramePairs(np.arange(200), camera, pixels, np.ones(200, np.float32))
    image, to_view = torch.zeros(3, 6, 10), np.eye(3)
    mine, pixel = TeacherView(0, 1, "one", image, None, to_view).pairs(pairs, (6, 10))
    plain = [
        row for row, (u, v) in enumerate(pixels) if camera[row] == 1 and -0.5 <= u < 9.5 and -0.5 <= v < 5.5
    ]
    assert mine.tolist() == plain
    assert mine[:2].tolist() == [0, 2]
    assert pixel.dtype == np.float32
    assert np.array_equal(pixel, pixels[plain])


def test_pixels_of_a_view_have_the_bits_of_a_matrix_product():
    rng = np.random.default_rng(2)
    pixels = rng.uniform(0, (1599, 899), (5000, 2)).astype(np.float32)
    pairs = FramePairs(np.arange(5000), np.zeros(5000, np.int64), pixels, np.ones(5000, np.float32))
    to_view = np.diag([-1.0, 1.0, 1.0]) @ resized_pixels((900, 1600), (224, 448))  # mirrored
    to_view[0, 2] += 447
    moved = (pixels @ to_view[:2, :2].T + to_view[:2, 2]).astype(np.float32)
    view = TeacherView(0, 0, "one", torch.zeros(3, 224, 448), None, to_view)
    np.testing.assert_array_equal(view.pairs(pairs, (224, 448))[1], moved, strict=True)
