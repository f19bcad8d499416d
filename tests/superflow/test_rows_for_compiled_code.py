"""What compiled code is handed: it reads beyond rows and poses of another shape, so these are refused before."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from superflow.camera.occlusion import scan_surface
from superflow.camera.projection import project
from superflow.clips.within import rows_within
from superflow.datasets.records import FISHEYE, RADIAL_TANGENTIAL, Lens
from superflow.downstream.vote_voxels import ScanVoxels
from superflow.downstream.voting import Ballot
from superflow.errors import InputError
from superflow.geometry import transform_points, voxel_keys
from superflow.lidar.limits import Limits

SIZE = (480, 640)
INTRINSICS = np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]])
LENS = Lens(INTRINSICS, SIZE)
LIDAR_TO_CAMERA = np.array([[0, -1, 0, 0.2], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])
NEAR = Limits(range_m=(2, 20), height_m=(-1, 1))


def make_points(count: int = 300) -> np.ndarray:
    """(N, 4) float32 eighths, which every type of number here holds."""
    drawn = np.random.default_rng(0)
    points = np.round(drawn.random((count, 4)) * [320, 320, 32, 8] - [160, 160, 16, 0]) / 8
    return points.astype(np.float32)


FORMS = {
    "half": lambda p: p.astype(np.float16),
    "double": lambda p: p.astype(np.float64),
    "long double": lambda p: p.astype(np.longdouble),
    "big-endian": lambda p: p.astype(">f4"),
    "objects": lambda p: p.astype(object),
    "lists": lambda p: p.tolist(),
    "tensor": torch.from_numpy,
    "negative strides": lambda p: np.ascontiguousarray(p[::-1, ::-1])[::-1, ::-1],
    "three columns of five": lambda p: np.column_stack([p, p])[:, :3],
}


@pytest.mark.parametrize("form", FORMS)
def test_numbers_of_any_form_mean_the_same(form):
    points, given = make_points(), FORMS[form](make_points())
    want, got = project(points, LIDAR_TO_CAMERA, LENS), project(given, LIDAR_TO_CAMERA, LENS)
    assert len(want) > 10
    assert got.rows.tolist() == want.rows.tolist()
    assert np.allclose(got.pixels, want.pixels, atol=1e-4)
    hidden = scan_surface(points).hides(want, LIDAR_TO_CAMERA, LENS)
    assert scan_surface(given).hides(want, LIDAR_TO_CAMERA, LENS).tolist() == hidden.tolist()
    assert rows_within(NEAR, given).tolist() == rows_within(NEAR, points).tolist()
    flat = np.hypot(points[:, 0], points[:, 1])
    inside = (flat >= 2) & (flat <= 20) & (np.abs(points[:, 2]) <= 1)
    assert rows_within(NEAR, given).tolist() == np.flatnonzero(inside).tolist()
    voxels = ScanVoxels.of(given, np.eye(4), 0.5)
    assert voxels.keys[voxels.voxel_of].tolist() == voxel_keys(points[:, :3], 0.5).tolist()


@pytest.mark.parametrize(
    ("points", "shape"),
    [
        (make_points()[:, :2], "(300, 2)"),
        (make_points()[0], "(4,)"),
        (make_points()[None], "(1, 300, 4)"),
        (np.float32(3), "()"),
        (np.zeros(3, [("x", "f4"), ("y", "f4"), ("z", "f4")]), "(3,)"),
    ],
)
@pytest.mark.parametrize(
    "use",
    [
        lambda points: project(points, LIDAR_TO_CAMERA, LENS),
        scan_surface,
        lambda points: rows_within(NEAR, points),
        lambda points: ScanVoxels.of(points, np.eye(4), 0.5),
    ],
)
def test_rows_that_are_no_points_are_refused(points, shape, use):
    with pytest.raises(InputError, match="points have the shape") as told:
        use(points)
    assert shape in str(told.value)


@pytest.mark.parametrize("pose", [np.eye(3), np.eye(4)[None], np.eye(4)[:, :3], np.zeros(16)])
@pytest.mark.parametrize(
    "use",
    [
        lambda pose: project(make_points(), pose, LENS),
        lambda pose: scan_surface(make_points()).seen_by(pose, LENS),
        lambda pose: Ballot(torch.ones(2, 3), torch.ones(2, 1), pose).voxels(0.5),
    ],
)
def test_poses_of_another_shape_are_refused(pose, use):
    with pytest.raises(InputError, match=r"a transform has the shape .*; give \(4, 4\)"):
        use(pose)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"intrinsics": np.eye(2)}, r"intrinsics of shape \(2, 2\)"),
        ({"intrinsics": np.eye(3, 4)}, r"intrinsics of shape \(3, 4\)"),
        ({"size": (480,)}, r"the size \(480,\)"),
        (
            {"model": "fish"},
            r"\(\) of the model 'fish'; models, and how .* pinhole 0, radial_tangential 5",
        ),
        ({"model": FISHEYE, "distortion": (0.1,) * 5}, "of the model 'fisheye'"),
        ({"model": RADIAL_TANGENTIAL, "distortion": (0.1,) * 8}, "of the model 'radial_tangential'"),
        ({"model": FISHEYE, "distortion": (np.nan,)}, r"parameters \(nan,\) of the model 'fisheye'"),
        ({"distortion": (0.1,)}, r"parameters \(0.1,\) of the model 'pinhole'"),
    ],
)
def test_a_lens_that_nothing_can_be_seen_through_is_refused(given, told):
    with pytest.raises(InputError, match=told):
        Lens(**{"intrinsics": INTRINSICS, "size": SIZE, **given})


@pytest.mark.parametrize("kind", [np.int16, np.uint8, np.int64, bool])
def test_whole_numbers_are_not_cut_where_they_are_moved(kind):
    points = np.abs(make_points(20)).astype(kind)
    turned = np.array([[0.8, -0.6, 0, 0.25], [0.6, 0.8, 0, 0], [0, 0, 1, 0.5], [0, 0, 0, 1]])
    moved = transform_points(turned, points)
    want = [turned[:3, :3] @ row[:3].astype(float) + turned[:3, 3] for row in points]
    assert np.allclose(moved[:, :3], want, atol=1e-12)
    assert np.array_equal(moved[:, 3], points[:, 3])
