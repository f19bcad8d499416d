"""Images become 8-bit RGB, also those of cameras that write 10, 12 or 14 bits into 16."""

from __future__ import annotations

import logging

import cv2
import numpy as np
import pytest
from image_files import read_image as read_log_image

from superflow.camera.images import camera_image
from superflow.datasets.frame import Camera
from superflow.errors import InputError
from superflow.files import images as image_file
from superflow.files.images import decode_image


def scene(bits: int, *, seed: int = 0) -> np.ndarray:
    """(24, 32, 3) RGB with values of ``bits`` bits, the largest among them."""
    image = np.random.default_rng(seed).integers(0, 2**bits, (24, 32, 3), dtype=np.uint16)
    image[0, 0, 0] = 2**bits - 1
    return image


def encoded(image: np.ndarray, ending: str) -> bytes:
    return cv2.imencode(ending, image[..., ::-1])[1].tobytes()


@pytest.mark.parametrize("ending", [".png", ".tiff"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_the_upper_bits_in_use_are_read(tmp_path, ending, bits):
    image = scene(bits)
    path = tmp_path / f"image{ending}"
    path.write_bytes(encoded(image, ending))
    eye = np.eye(4)
    camera = Camera("t", "c", None, np.eye(3), eye, None, str(path), (24, 32))
    for found in (camera_image(camera), read_log_image(path)):
        np.testing.assert_array_equal(found, image >> (bits - 8))
        assert found.dtype == np.uint8


@pytest.mark.parametrize(
    ("largest", "bits"), [(0, 8), (255, 8), (256, 10), (1024, 12), (4095, 12), (4096, 14), (16384, 16)]
)
def test_bits_are_counted_in_twos(largest, bits):
    image = np.zeros((4, 4, 3), dtype=np.uint16)
    image[1, 2] = largest
    assert decode_image(encoded(image, ".png"), "a.png").max() == largest >> (bits - 8)


def test_fewer_bits_are_said_once(caplog, monkeypatch):
    monkeypatch.setattr(image_file, "_said", set())
    with caplog.at_level(logging.WARNING):
        for name in ("a.png", "b.png"):
            decode_image(encoded(scene(12), ".png"), name)
        decode_image(encoded(scene(16), ".png"), "c.png")
    assert caplog.messages == [
        "a.png: a 16-bit image whose values use 12 bits; such images are read as 12 bits"
    ]


@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp", ".bmp", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_eight_bit_images_are_read_as_opencv_reads_them(ending, channels):
    image = np.random.default_rng(1).integers(0, 256, (24, 32, channels), dtype=np.uint8)
    data = cv2.imencode(ending, image)[1]
    plain = cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(decode_image(data.tobytes(), f"a{ending}"), plain)


@pytest.mark.parametrize("data", [b"", b"no image", b"\x89PNG\r\n\x1a\n", b"BM" + bytes(60)])
def test_what_is_no_image_is_named(data):
    with pytest.raises(
        InputError, match=rf"a\.png: is no image that OpenCV can decode \({len(data)} bytes\); copy it"
    ):
        decode_image(data, "a.png")


def test_a_jpeg_that_is_cut_off_is_named():
    data = cv2.imencode(".jpg", np.zeros((24, 32, 3), dtype=np.uint8))[1].tobytes()
    with pytest.raises(InputError, match=r"a\.jpg: the JPEG is cut off"):
        decode_image(data[:-2], "a.jpg")


def textured(height: int, width: int) -> np.ndarray:
    """(H, W, 3) uint8 with large shapes and fine grain, as photographs have them."""
    coarse = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int64)
    return np.clip(smooth + np.random.default_rng(1).integers(-8, 9, smooth.shape), 0, 255).astype(np.uint8)


def test_half_a_jpeg_shows_what_the_whole_one_does():
    data = encoded(textured(90, 160), ".jpg")
    half, whole = decode_image(data, "a.jpg", half=True), decode_image(data, "a.jpg").astype(int)
    assert half.shape == (45, 80, 3)
    # means of 2 x 2 pixels lie where the pixels of the half do; shifted by one, they are much further away
    means, shifted = (
        np.stack([part[y::2, x::2] for y in (0, 1) for x in (0, 1)]).mean(0)
        for part in (whole, np.roll(whole, 1, axis=1))
    )
    off = np.abs(half - means).mean()
    assert off < 1.5
    assert np.abs(half - shifted).mean() > 2 * off
    assert not np.array_equal(half, half[..., ::-1])


def test_half_a_jpeg_is_rgb_with_an_opencv_that_only_knows_bgr(monkeypatch):
    data = encoded(textured(90, 160), ".jpg")
    found = decode_image(data, "a.jpg", half=True)
    monkeypatch.delattr(cv2, "IMREAD_COLOR_RGB", raising=False)
    np.testing.assert_array_equal(decode_image(data, "a.jpg", half=True), found)


@pytest.mark.parametrize(
    ("size", "ending", "at_least", "found"),
    [
        ((90, 160), ".jpg", (45, 80), (45, 80)),
        ((90, 160), ".jpg", (46, 80), (90, 160)),  # the half would be too small
        ((91, 160), ".jpg", (20, 40), (91, 160)),  # has no half of whole pixels
        ((90, 160), ".png", (20, 40), (90, 160)),
        ((90, 160), ".jpg", None, (90, 160)),
    ],
)
def test_a_camera_reads_half_an_image_only_where_that_is_enough(tmp_path, size, ending, at_least, found):
    path = tmp_path / f"image{ending}"
    path.write_bytes(encoded(textured(*size), ending))
    eye = np.eye(4)
    camera = Camera("t", "c", None, np.eye(3), eye, None, str(path), size)
    assert camera_image(camera, at_least).shape == (*found, 3)
    assert image_file.jpeg_size(path.read_bytes()) == (size if ending == ".jpg" else None)
    twice = Camera("t", "c", None, np.eye(3), eye, None, str(path), (2 * size[0], 2 * size[1]))
    with pytest.raises(InputError, match="its intrinsics are for"):
        camera_image(twice, at_least)


def test_no_size_is_read_of_a_damaged_header():
    data = encoded(textured(90, 160), ".jpg")
    assert [image_file.jpeg_size(data[:length]) for length in (0, 2, 3, 10, 20)] == [None] * 5
    assert image_file.jpeg_size(data[:2] + b"\xff\xe0\0\0" * 5) is None


@pytest.mark.parametrize(
    "hidden", [b"\xff\xff\xe0\0\x10", b"\xff\xd0\0\x0e", b"\xff\xe0\0\x01\0", b"\xff\xe0\0\0\0"]
)
def test_a_size_behind_what_libjpeg_passes_over_is_not_believed(hidden):
    """A mark that is not what it seems would lead to a small size, and libjpeg to the large one that is decoded."""
    small = b"\xff\xc0\0\x0b\x08\0\x08\0\x08\1\1\x11\0"
    for lead in range(20):
        assert image_file.jpeg_size(b"\xff\xd8" + hidden + bytes(lead) + small) is None


def test_a_jpeg_that_claims_too_many_pixels_is_refused_before_it_is_decoded():
    data = encoded(textured(90, 160), ".jpg")
    assert data.count(b"\0\x5a\0\xa0") == 1
    with pytest.raises(InputError, match=r"a\.jpg: claims more pixels than any camera has \(65535 x 65535\)"):
        decode_image(data.replace(b"\0\x5a\0\xa0", b"\xff" * 4), "a.jpg")
