"""SLIC against a slow twin, against scikit-image, and the two passes over connected areas."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy import ndimage

from superflow.camera.superpixels.ids import connected_components, merge_small
from superflow.camera.superpixels.slic import Slic, slic

SIZE = (64, 96)


def slow_assign(image: np.ndarray, rows: int, columns: int, weight: float, iterations: int) -> np.ndarray:
    """SLIC's rounds as the paper describes them, one pixel at a time."""
    height, width = image.shape[:2]
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB).astype(float)
    centres = {}
    for r in range(rows):
        for c in range(columns):
            y, x = int((r + 0.5) * height / rows), int((c + 0.5) * width / columns)
            centres[r, c] = np.array([*lab[y, x], y, x])
    for _ in range(iterations):
        labels = np.zeros((height, width), int)
        members: dict[tuple, list] = {key: [] for key in centres}
        for y in range(height):
            for x in range(width):
                r, c = y * rows // height, x * columns // width
                near = [
                    (nr, nc) for nr in (r - 1, r, r + 1) for nc in (c - 1, c, c + 1) if (nr, nc) in centres
                ]
                here = np.array([*lab[y, x], y, x])
                costs = [
                    ((here - centres[k])[:3] ** 2).sum() + weight * ((here - centres[k])[3:] ** 2).sum()
                    for k in near
                ]
                best = near[int(np.argmin(costs))]
                labels[y, x] = best[0] * columns + best[1]
                members[best].append(here)
        centres |= {key: np.mean(value, axis=0) for key, value in members.items() if value}
    return labels


@pytest.mark.parametrize(
    ("size", "segments"), [((30, 40), 12), ((23, 37), 9), ((9, 50), 20), ((31, 5), 7), ((13, 11), 60)]
)
def test_equals_the_slow_twin(scene, size, segments):
    """Also where cells do not share the pixels evenly, and where there is one column of cells."""
    height, width = size
    image = scene[0][:height, :width]
    step = (height * width / segments) ** 0.5
    rows, columns = max(round(height / step), 1), max(round(width / step), 1)
    expected = slow_assign(image, rows, columns, (10 / step) ** 2, 3)
    merged = merge_small(expected, max(int(step * step / 4), 1))
    got = slic(image, segments=segments, compactness=10, iterations=3)
    np.testing.assert_array_equal(got, connected_components(merged)[0])
    assert len(np.unique(got)) > 3


@pytest.mark.parametrize("size", [(64, 96), (63, 95), (17, 200)])
def test_regions_are_connected_and_numbered_in_raster_order(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    ids = Slic(segments=20)(image)
    assert ids.dtype == np.uint16
    assert ids.shape == size
    present, first = np.unique(ids, return_index=True)
    assert present.tolist() == list(range(len(present)))
    assert (np.diff(first) > 0).all()
    assert all(ndimage.label(ids == i)[1] == 1 for i in present)
    np.testing.assert_array_equal(Slic(segments=20)(image), ids)


def best_class(ids: np.ndarray, blob: np.ndarray) -> float:
    """Share of pixels that have the commonest blob of their region."""
    return sum(np.bincount(blob[ids == i]).max() for i in np.unique(ids)) / ids.size


def test_follows_edges_at_least_as_well_as_scikit_image(scene):
    image, blob = scene
    own, other = Slic(segments=40, shrink=1), Slic(segments=40, shrink=1, implementation="skimage")
    ours, theirs = own(image), other(image)
    assert 25 <= len(np.unique(ours)) <= 70
    assert 25 <= len(np.unique(theirs)) <= 70
    assert best_class(ours, blob) > 0.985
    assert best_class(ours, blob) > best_class(theirs, blob) - 0.01
    grid = (np.mgrid[:64, :96] // 11 * [[[100]], [[1]]]).sum(axis=0)
    assert (
        best_class(ours, blob)
        > best_class(np.unique(grid, return_inverse=True)[1].reshape(SIZE), blob) + 0.02
    )
    assert best_class(Slic(segments=40)(image), blob) > 0.96  # half size


def test_compactness_trades_colour_for_shape(scene):
    square, loose = (Slic(segments=40, compactness=c)(scene[0]) for c in (200.0, 5.0))
    assert best_class(square, scene[1]) < best_class(loose, scene[1])


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (3, 2), (5, 5)])
def test_images_smaller_than_the_segments(size):
    ids = Slic(segments=150)(np.full((*size, 3), 90, np.uint8))
    assert ids.shape == size
    assert ids.max() < ids.size


def test_options_are_checked():
    for options, words in (
        ({"segments": 0}, r"segments must be in 1\.\.20000"),
        ({"compactness": 0}, "above 0"),
        ({"implementation": "fast"}, "'own' or 'skimage'"),
    ):
        with pytest.raises(ValueError, match=words):
            Slic(**options)


def test_connected_components_equal_scipy():
    regions = np.random.default_rng(1).integers(0, 3, (20, 31))
    numbers, count = connected_components(regions)
    expected = 0
    for value in range(3):
        label, n = ndimage.label(regions == value)
        expected += n
        for i in range(1, n + 1):
            assert len(np.unique(numbers[label == i])) == 1
    assert count == expected == len(np.unique(numbers))
    first = np.unique(numbers, return_index=True)[1]
    assert (np.diff(first) > 0).all()


def test_small_areas_join_the_neighbour_before_them():
    regions = np.array([[5, 5, 5, 5], [5, 1, 5, 2], [5, 5, 5, 2], [3, 3, 3, 3]])
    before = regions.copy()
    merged = merge_small(regions, 3)
    np.testing.assert_array_equal(merged, [[5, 5, 5, 5], [5, 5, 5, 5], [5, 5, 5, 5], [3, 3, 3, 3]])
    np.testing.assert_array_equal(regions, before)
    np.testing.assert_array_equal(merge_small(regions, 1), regions)
    # the very first area has no neighbour before it
    assert merge_small(np.array([[1, 2, 2]]), 2).tolist() == [[1, 2, 2]]
