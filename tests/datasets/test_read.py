"""Single files: whole ones come back exactly, wrong ones are named."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from superflow.datasets import read
from superflow.datasets.formats import read_labels, read_points
from superflow.datasets.read import image_size, read_image
from superflow.errors import InputError, MissingFileError


def write(path, data):
    path.write_bytes(data)
    return path


def test_points_come_back_exactly(tmp_path):
    points = np.random.default_rng(0).normal(size=(7, 5)).astype("<f4")
    again = read_points(write(tmp_path / "a.bin", points.tobytes()), 5)
    np.testing.assert_array_equal(again, points)
    assert again.flags.writeable


def test_an_empty_cloud_is_a_cloud(tmp_path):
    assert read_points(write(tmp_path / "a.bin", b""), 5).shape == (0, 5)
    assert read_labels(write(tmp_path / "l.bin", b""), 0).shape == (0,)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"x" * 50, r"a.bin: 50 bytes are not whole points of 5 float32 \(20 bytes\); the file is cut off"),
        (
            np.array([[0, np.nan, 0, 0, 0], [0, 0, 0, 0, np.inf], [1, 1, 1, 1, 1]], "<f4").tobytes(),
            r"a.bin: 2 of 3 points",
        ),
        (b"# .PCD v0.7 - Point Cloud", r"a.bin: is a PCD file with a header"),
    ],
)
def test_wrong_points_are_named(tmp_path, data, message):
    with pytest.raises(InputError, match=message):
        read_points(write(tmp_path / "a.bin", data), 5)


def test_missing_files_are_named(tmp_path):
    for reader in (lambda p: read_points(p, 5), lambda p: read_labels(p, 3), read_image, image_size):
        with pytest.raises(
            MissingFileError, match=r"gone: this file is named in the log's tables but is not there"
        ):
            reader(tmp_path / "gone")


def test_label_count_must_be_the_point_count(tmp_path):
    path = write(tmp_path / "l.bin", bytes([3, 4, 5]))
    assert read_labels(path, 3).tolist() == [3, 4, 5]
    with pytest.raises(
        InputError, match=r"l.bin: 3 labels for a scan of 4 points; one of the two files is cut off"
    ):
        read_labels(path, 4)


@pytest.fixture
def picture():
    return np.random.default_rng(1).integers(0, 255, (20, 30, 3)).astype(np.uint8)


def test_images_are_rgb(tmp_path, picture):
    path = write(tmp_path / "a.png", cv2.imencode(".png", picture[..., ::-1])[1].tobytes())
    np.testing.assert_array_equal(read_image(path), picture)
    assert image_size(path) == (20, 30)


def test_images_are_rgb_with_an_opencv_that_only_knows_bgr(tmp_path, picture, monkeypatch):
    path = write(tmp_path / "a.png", cv2.imencode(".png", picture[..., ::-1])[1].tobytes())
    monkeypatch.delattr(cv2, "IMREAD_COLOR_RGB", raising=False)
    image = read_image(path)
    np.testing.assert_array_equal(image, picture)
    assert image.flags.c_contiguous


def test_a_rotation_in_exif_is_not_applied(tmp_path, picture):
    """Intrinsics belong to the pixels as stored."""
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees
    Image.fromarray(picture).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg", (20, 30)).shape == (20, 30, 3)
    assert image_size(tmp_path / "a.jpg") == (20, 30)


def test_wrong_images_are_named(tmp_path, picture):
    jpg = cv2.imencode(".jpg", picture)[1].tobytes()
    path = write(tmp_path / "a.jpg", jpg)
    with pytest.raises(
        InputError, match=r"a.jpg: the image is 30 x 20 pixels but its intrinsics are for 60 x 40; .*--resc"
    ):
        read_image(path, (40, 60))
    with pytest.raises(InputError, match=r"b.jpg: the JPEG is cut off"):
        read_image(write(tmp_path / "b.jpg", jpg[: len(jpg) // 2]))
    for data in (b"", b"no image at all"):
        with pytest.raises(InputError, match=r"c.jpg: is no image that OpenCV can decode"):
            read_image(write(tmp_path / "c.jpg", data))
    with pytest.raises(InputError, match=r"c.jpg: is no image whose header can be read"):
        image_size(tmp_path / "c.jpg")


def test_files_that_may_not_be_read_are_named(tmp_path):
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory\)"):
        read.read_bytes(tmp_path)
