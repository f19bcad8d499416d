"""Pixels of bent rays are those of OpenCV, and what a model does not hold for is nowhere on the image."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from superflow.camera.lens import first_turn
from superflow.camera.projection import project
from superflow.clips.pairing import pair
from superflow.datasets.card import load_card
from superflow.datasets.index import LogIndex
from superflow.datasets.records import (
    CAMERA_MODELS,
    FISHEYE,
    PINHOLE,
    RADIAL_TANGENTIAL,
    CameraRow,
    Lens,
    Place,
    ScanRow,
)
from superflow.datasets.write import ListedLog, write_rows
from superflow.errors import InputError

SIZE = (600, 800)
K = np.array([[400.0, 0, 399.5], [0, 410.0, 299.5], [0, 0, 1]])
USUAL = {
    RADIAL_TANGENTIAL: (-0.28, 0.07, 1e-3, -5e-4, -0.01),
    FISHEYE: (-0.02, 0.004, -0.003, 5e-4),
}


def by_opencv(points: np.ndarray, lens: Lens) -> np.ndarray:
    """(N, 2) pixels of points in the camera's frame."""
    none, given_points = np.zeros(3), points.astype(np.float64).reshape(1, -1, 3)
    if lens.model == FISHEYE:
        return cv2.fisheye.projectPoints(
            given_points, none, none, lens.intrinsics, np.array(lens.distortion)
        )[0][0]
    return cv2.projectPoints(given_points, none, none, lens.intrinsics, np.array(lens.distortion))[0][:, 0]


def turns_back(lens: Lens, points: np.ndarray) -> np.ndarray:
    """(N,) whether the distance from the middle stops growing somewhere on the way to the point: by many steps."""
    flat = np.hypot(points[:, 0], points[:, 1]) / points[:, 2]
    radius = np.arctan(flat) if lens.model == FISHEYE else flat
    way = radius[:, None] * np.linspace(0, 1, 400)
    k1, k2, k3, k4 = (
        lens.distortion if lens.model == FISHEYE else (*np.array(lens.distortion)[[0, 1, 4]], 0.0)
    )
    bent = way * (1 + k1 * way**2 + k2 * way**4 + k3 * way**6 + k4 * way**8)
    return (np.diff(bent, axis=1) <= 0).any(axis=1)


@pytest.mark.parametrize("model", [*USUAL, PINHOLE])
def test_pixels_are_those_of_opencv(model):
    lens = Lens(K, SIZE, model, USUAL.get(model, ()))
    rng = np.random.default_rng(0)
    points = rng.uniform([-1, -0.7, 0.2], [1, 0.7, 1], (3000, 3)) * 20
    seen = project(points, np.eye(4), lens)
    opencv = by_opencv(points, Lens(K, SIZE, model, USUAL.get(model, (0.0,) * 5)))
    np.testing.assert_allclose(seen.pixels, opencv[seen.rows], atol=1e-3)
    inside = ((opencv > 0) & (opencv < np.array(SIZE[::-1]) - 1)).all(axis=1) & (points[:, 2] > 1)
    if model != PINHOLE:
        inside &= ~turns_back(lens, points)
    assert set(np.flatnonzero(inside).tolist()) == set(seen.rows.tolist())
    assert 500 < len(seen) < 2900


@settings(max_examples=150)
@given(
    model=st.sampled_from([RADIAL_TANGENTIAL, FISHEYE]),
    k=st.tuples(st.floats(-1, 1), st.floats(-1, 1), st.floats(-0.5, 0.5), st.floats(-0.2, 0.2)),
    tangential=st.tuples(st.floats(-0.01, 0.01), st.floats(-0.01, 0.01)),
    seed=st.integers(0, 99),
)
def test_what_the_model_does_not_hold_for_never_projects(model, k, tangential, seed):
    lens = Lens(K, SIZE, model, k if model == FISHEYE else (k[0], k[1], *tangential, k[2]))
    rng = np.random.default_rng(seed)
    points = np.column_stack([rng.uniform(-40, 40, (300, 2)), rng.uniform(-5, 20, 300)])
    seen = project(points, np.eye(4), lens)
    assert (points[seen.rows, 2] > 1).all()
    assert not turns_back(lens, points[seen.rows]).any()
    np.testing.assert_allclose(seen.pixels, by_opencv(points, lens)[seen.rows], atol=2e-3)


def test_a_camera_with_a_barrel_lens_does_not_show_what_is_beside_it():
    """With the polynomial alone the point at 70 degrees would fall into the image."""
    lens = Lens(K, SIZE, RADIAL_TANGENTIAL, (-0.28, 0.07, 0.0, 0.0, 0.0))
    beside = np.array([[np.tan(np.radians(70)) * 5, 0.0, 5.0]])
    strong = Lens(K, SIZE, RADIAL_TANGENTIAL, (-0.12, 0.0, 0.0, 0.0, 0.0))
    assert 0 < by_opencv(beside, strong)[0, 0] < SIZE[1]
    assert len(project(beside, np.eye(4), strong)) == 0
    assert first_turn(-0.12, 0.0, 0.0) == pytest.approx(1 / 0.36)
    assert first_turn(0.1, 0.0, 0.0) == first_turn(0.0, 0.0, 0.0, 0.0) == np.inf
    assert len(project(beside, np.eye(4), lens)) == 0


@pytest.mark.parametrize(("model", "given_numbers"), [(RADIAL_TANGENTIAL, 4), (FISHEYE, 4), (PINHOLE, 0)])
def test_a_lens_goes_through_the_index_to_the_pairs(tmp_path, model, given_numbers):
    distortion = USUAL.get(model, ())[:given_numbers]
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((*SIZE, 3), np.uint8))
    points = np.random.default_rng(0).uniform([4, -8, -3, 0], [20, 8, 3, 1], (400, 4)).astype("<f4")
    points.tofile(tmp_path / "0.bin")
    to_ego = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])

    def prepare(distortion):
        camera = CameraRow("c", "i", Place("0.png"), K, to_ego, SIZE, model=model, distortion=distortion)
        scan = ScanRow("s", "t", 0, Place("0.bin"), np.eye(4), cameras=(camera,))
        write_rows(tmp_path, tmp_path / "index", ListedLog("made", load_card("semantickitti"), [scan]))
        return LogIndex.open(tmp_path / "index").frame(0)

    frame = prepare(distortion)
    full = (*distortion, *[0.0] * (CAMERA_MODELS[model] - len(distortion)))
    assert (frame.cameras[0].lens.model, frame.cameras[0].lens.distortion) == (model, full)
    pairs = pair(frame, frame.points, frame.cameras, surface=None)
    in_camera = points[:, :3].astype(np.float64) @ to_ego[:3, :3]
    opencv = by_opencv(in_camera, Lens(K, SIZE, model, full or (0.0,) * 5))
    np.testing.assert_allclose(pairs.pixel, opencv[pairs.point], atol=1e-3)
    assert len(pairs.point) > 100
    with pytest.raises(
        InputError, match=rf"the model {model} has {CAMERA_MODELS[model]} finite numbers; mend"
    ):
        prepare((0.1,) * 6)
    with pytest.raises(InputError, match="finite numbers; mend the calibration"):
        prepare((np.nan,))
