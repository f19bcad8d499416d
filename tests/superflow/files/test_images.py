"""Images become 8-bit RGB, also those of cameras that write 10, 12 or 14 bits into 16."""

from __future__ import annotations

import logging

import cv2
import numpy as np
import pytest

from superflow.camera.images import camera_image
from superflow.datasets.frame import Camera
from superflow.datasets.images import read_image as read_log_image
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
