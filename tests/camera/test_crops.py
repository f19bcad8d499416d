"""Image, superpixels, intrinsics and pixels stay together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from superflow.camera.crops import (
    ImageView,
    crop_view,
    draw_crop,
    flip_view,
    random_crop_view,
    resize_ids,
    resize_image,
    resize_view,
)
from superflow.camera.projection import nearest_pixels
from superflow.errors import InputError

INTRINSICS = np.array([[70.0, 0, 47.5], [0, 65.0, 31.5], [0, 0, 1]])


def make_view(
    pairs: int = 200, size: tuple[int, int] = (64, 96), seed: int = 0
) -> tuple[ImageView, np.ndarray]:
    """A view in which nothing may be written, and the (P, 3) points in the camera frame behind its pixels."""
    generator = np.random.default_rng(seed)
    depth = generator.uniform(2, 30, (pairs, 1))
    pixels = generator.uniform(1, 1, (pairs, 2)) * generator.uniform(1, np.array(size[::-1]) - 2, (pairs, 2))
    points = np.c_[pixels, np.ones(pairs)] @ np.linalg.inv(INTRINSICS).T * depth
    image = generator.integers(0, 256, (*size, 3)).astype(np.uint8)
    ids = generator.integers(0, 400, size).astype(np.uint16)
    view = ImageView(image, ids, INTRINSICS.copy(), pixels.astype(np.float32), np.ones(pairs, bool))
    for array in (view.image, view.superpixels, view.intrinsics, view.pixels, view.kept):
        array.setflags(write=False)
    return view, points


def reproject(view: ImageView, points: np.ndarray) -> np.ndarray:
    homogeneous = points @ view.intrinsics.T
    return homogeneous[:, :2] / homogeneous[:, 2:]


@pytest.mark.parametrize("seed", range(5))
def test_pixels_follow_the_intrinsics_through_any_chain(seed):
    view, points = make_view(seed=seed)
    generator = np.random.default_rng(seed)
    for _ in range(6):
        step = generator.integers(4)
        if step == 0:
            view = resize_view(view, tuple(generator.integers(20, 120, 2)))
        elif step == 1:
            view = crop_view(view, draw_crop(view.size, generator))
        elif step == 2:
            view = flip_view(view)
        else:
            view = random_crop_view(view, (40, 72), generator)
    np.testing.assert_allclose(view.pixels, reproject(view, points), atol=2e-3)
    assert view.image.shape[:2] == view.superpixels.shape == view.size
    inside = ((view.pixels >= -0.5) & (view.pixels < np.array(view.size[::-1]) - 0.5)).all(axis=1)
    assert not (view.kept & ~inside).any()


def test_ids_and_colours_stay_under_the_pixels():
    view, _ = make_view()
    for changed in (
        flip_view(view),
        crop_view(view, (10, 20, 40, 50)),
        flip_view(crop_view(view, (3, 5, 51, 77))),
    ):
        before = nearest_pixels(view.pixels[changed.kept], view.size)
        after = nearest_pixels(changed.pixels[changed.kept], changed.size)
        np.testing.assert_array_equal(
            changed.superpixels[after[:, 1], after[:, 0]], view.superpixels[before[:, 1], before[:, 0]]
        )
        np.testing.assert_array_equal(
            changed.image[after[:, 1], after[:, 0]], view.image[before[:, 1], before[:, 0]]
        )


def test_crop_keeps_exactly_the_pairs_whose_pixel_is_in_it():
    view, _ = make_view()
    cropped = crop_view(view, (10, 20, 30, 40))
    column, row = nearest_pixels(view.pixels, view.size).T
    np.testing.assert_array_equal(cropped.kept, (row >= 10) & (row < 40) & (column >= 20) & (column < 60))
    # a pair lost once stays lost
    assert not crop_view(cropped, (0, 0, 30, 40)).kept[~cropped.kept].any()


def test_doubling_puts_pixel_centres_between_new_ones():
    """Convention: pixel 0 of a doubled image covers positions -0.25 .. 0.25 of the old one, so 0 -> 0.5."""
    view, _ = make_view()
    doubled = resize_view(view, (128, 192))
    np.testing.assert_allclose(doubled.pixels, view.pixels * 2 + 0.5, rtol=1e-6)
    np.testing.assert_array_equal(doubled.superpixels, np.kron(view.superpixels, np.ones((2, 2), np.uint16)))


def test_ids_take_the_pixel_under_their_centre():
    ids = np.arange(35, dtype=np.uint16).reshape(5, 7)
    for size in ((3, 4), (5, 7), (11, 9), (1, 1)):
        got = resize_ids(ids, size)
        for i in range(size[0]):
            for j in range(size[1]):
                y, x = (i + 0.5) * 5 / size[0] - 0.5, (j + 0.5) * 7 / size[1] - 0.5
                assert got[i, j] == ids[int(np.floor(y + 0.5)), int(np.floor(x + 0.5))]


def test_mistake_18_antialias_is_ours_to_choose():
    """Stripes three pixels apart, at a quarter of the size: even grey with antialiasing, false stripes without."""
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::3] = 255
    assert resize_image(stripes, (16, 16), antialias=True)[:, 1:-1].std() < 15
    assert resize_image(stripes, (16, 16), antialias=False)[:, 1:-1].std() > 45
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3)).astype(np.uint8)
    ours = resize_image(noise, (20, 31), antialias=True).astype(int)
    pil = np.asarray(Image.fromarray(noise).resize((31, 20), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(ours - pil).max() <= 1
    plain = resize_image(noise, (20, 31), antialias=False)
    for i, j in ((0, 0), (7, 11), (19, 30)):
        y, x = (i + 0.5) * 64 / 20 - 0.5, (j + 0.5) * 96 / 31 - 0.5
        top, left = int(y), int(x)
        patch = noise[top : top + 2, left : left + 2].astype(float)
        across = patch[:, 0] * (1 - x + left) + patch[:, 1] * (x - left)
        expected = across[0] * (1 - y + top) + across[1] * (y - top)
        assert np.abs(plain[i, j] - expected).max() <= 1
    # the default is stated, and views pass the choice on
    np.testing.assert_array_equal(resize_image(noise, (20, 31)), ours)
    view = ImageView(noise, None, INTRINSICS, np.zeros((0, 2), np.float32), np.zeros(0, bool))
    np.testing.assert_array_equal(resize_view(view, (20, 31), antialias=False).image, plain)


class Counting:
    """A generator that counts how many boxes were asked of it."""

    def __init__(self, seed: int) -> None:
        self.generator, self.boxes = np.random.default_rng(seed), 0

    def uniform(self, *limits):
        self.boxes += 0.5  # a share and a ratio a box
        return self.generator.uniform(*limits)

    def integers(self, high):
        return self.generator.integers(high)


def test_mistake_33_random_crop_always_ends():
    view, _ = make_view(pairs=0)
    generator = Counting(0)
    assert random_crop_view(view, (32, 48), generator).size == (32, 48)
    assert generator.boxes == 1  # nothing can be lost, so the first draw is good
    # all pairs in one corner pixel that crops of this size rarely hold
    corner = ImageView(view.image, None, INTRINSICS, np.full((9, 2), 0.2, np.float32), np.ones(9, bool))
    generator = Counting(3)
    cropped = random_crop_view(corner, (32, 48), generator, area=(0.05, 0.06), tries=7)
    assert generator.boxes <= 7
    assert cropped.size == (32, 48)


@pytest.mark.parametrize("option", [{"ratio": (2.0, 1.0)}, {"area": (0.0, 1.0)}])
def test_a_crop_of_no_range_is_named(option):
    with pytest.raises(
        InputError, match=r"^crop: area .* and ratio .* do not fit; give ranges of numbers above 0"
    ):
        random_crop_view(make_view()[0], (32, 48), np.random.default_rng(0), **option)


def test_random_crop_takes_the_draw_that_keeps_enough_or_most():
    view, _ = make_view(pairs=400)
    for seed in range(20):
        cropped = random_crop_view(view, (32, 48), np.random.default_rng(seed), tries=40)
        assert cropped.kept.sum() >= 300
    few = random_crop_view(view, (32, 48), np.random.default_rng(0), area=(0.1, 0.2), tries=5)
    draws = np.random.default_rng(0)
    counts = [crop_view(view, draw_crop(view.size, draws, area=(0.1, 0.2))).kept.sum() for _ in range(5)]
    assert few.kept.sum() == max(counts)


def test_same_generator_same_crop():
    view, _ = make_view()
    first, second = (random_crop_view(view, (32, 48), np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.pixels, second.pixels)


def test_flip_twice_is_the_same_and_shares_no_memory():
    view, _ = make_view()
    flipped = flip_view(view)
    twice = flip_view(flipped)
    np.testing.assert_array_equal(twice.image, view.image)
    np.testing.assert_allclose(twice.intrinsics, view.intrinsics)
    same_size = resize_view(view, view.size)
    for changed in (flipped, same_size, crop_view(view, (0, 0, *view.size))):
        assert not np.shares_memory(changed.image, view.image)
        assert not np.shares_memory(changed.superpixels, view.superpixels)


@pytest.mark.parametrize("size", [(32, 48), (64, 96)])
def test_an_image_is_mirrored_alike_in_planes_and_in_pixels(size):
    view = resize_view(make_view()[0], size)
    planes = np.ascontiguousarray(view.image.transpose(2, 0, 1)).transpose(1, 2, 0)
    for image in (planes, np.ascontiguousarray(view.image)):
        mirrored = flip_view(replace(view, image=image)).image
        np.testing.assert_array_equal(mirrored, view.image[:, ::-1])
        assert mirrored.strides == image.strides


def test_parts_that_do_not_belong_together_are_named():
    view, _ = make_view()
    with pytest.raises(ValueError, match=r"superpixels \(3, 3\) do not fit the image \(64, 96\)"):
        ImageView(view.image, np.zeros((3, 3), np.uint16), INTRINSICS, view.pixels, view.kept)
    with pytest.raises(ValueError, match="200 pixels but 3 kept"):
        ImageView(view.image, None, INTRINSICS, view.pixels, view.kept[:3])
    with pytest.raises(ValueError, match="uint8"):
        ImageView(view.image.astype(float), None, INTRINSICS, view.pixels, view.kept)
    with pytest.raises(ValueError, match="does not lie in a view"):
        crop_view(view, (0, 0, 65, 10))
