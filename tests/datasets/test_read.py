"""Single files: whole ones come back exactly, wrong ones are named."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from image_files import read_image

from superflow.datasets.formats import read
from superflow.datasets.formats.images import image_size
from superflow.datasets.formats.open_files import OpenFiles
from superflow.datasets.formats.readers import look_up, read_labels, read_points
from superflow.errors import InputError, MissingFileError

FIVE = ("x", "y", "z", "intensity", "ring")


def table(file):
    """(N, columns) of what was read."""
    return np.stack(list(file.columns.values()), axis=1)


def write(path, data):
    path.write_bytes(data)
    return path


def test_points_come_back_exactly(tmp_path):
    points = np.random.default_rng(0).normal(size=(7, 5)).astype("<f4")
    again = table(read_points(write(tmp_path / "a.bin", points.tobytes()), FIVE))
    np.testing.assert_array_equal(again, points)


def test_an_empty_cloud_is_a_cloud(tmp_path):
    assert table(read_points(write(tmp_path / "a.bin", b""), FIVE)).shape == (0, 5)
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
        read_points(write(tmp_path / "a.bin", data), FIVE)


def test_missing_files_are_named(tmp_path):
    for reader in (lambda p: read_points(p, FIVE), lambda p: read_labels(p, 3), read_image, image_size):
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


@pytest.mark.parametrize("label", [(1 << 32) + 5, (1 << 63) - 1, -(1 << 31) - 1])
def test_labels_of_more_than_32_bits_are_refused(tmp_path, label):
    """Their lower half names another class."""
    np.save(tmp_path / "l.npy", np.array([5, label, 7]))
    with pytest.raises(InputError, match=rf"l.npy: holds the label {label}, and labels have 32 bits; write"):
        read_labels(tmp_path / "l.npy", 3, format="npy", mask=0xFF)


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, ">i8", ">u4", np.int8])
def test_labels_of_any_whole_number_are_the_same_ids(tmp_path, dtype):
    np.save(tmp_path / "l.npy", np.array([5, 0, 127], dtype))
    assert read_labels(tmp_path / "l.npy", 3, format="npy").tolist() == [5, 0, 127]


def test_a_negative_label_is_the_unknown_id(tmp_path):
    table = np.zeros(65536, np.uint8)
    table[65535] = 255
    for dtype in (np.int8, np.int16, np.int32, np.int64):
        np.save(tmp_path / "l.npy", np.array([-1, 3], dtype))
        assert look_up(table, read_labels(tmp_path / "l.npy", 2, format="npy")).tolist() == [255, 0]


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


def test_labels_of_any_width_are_masked_and_unknown_ids_ignored(tmp_path):
    raw = np.array([10 | 7 << 16, 252, -1], "<i4")
    path = write(tmp_path / "l.label", raw.tobytes())
    assert read_labels(path, 3, format="u4", mask=0xFFFF).tolist() == [10, 252, 65535]
    assert read_labels(path, 3, format="u4", shift=16).tolist() == [7, 0, 65535]
    table = np.arange(65536).astype(np.uint8)
    table[-1] = 255
    assert look_up(table, read_labels(path, 3, format="i4")).tolist() == [255, 252, 255]
    with pytest.raises(InputError, match=r"l.label: holds float32 where labels are whole numbers"):
        read_labels(path, 3, format="f4")
    with pytest.raises(InputError, match=r"l.label: 12 labels for a scan of 3 points"):
        read_labels(path, 3)


def test_scans_of_one_numpy_file_are_read_by_their_number(tmp_path):
    stack = np.random.default_rng(0).normal(size=(3, 5, 4))
    np.save(tmp_path / "a.npy", stack)
    read = table(read_points(tmp_path / "a.npy", FIVE[:4], format="npy", key="2"))
    np.testing.assert_array_equal(read, stack[2])
    with pytest.raises(InputError, match=r"a.npy: holds 3 entries, and '3' is none of them"):
        read_points(tmp_path / "a.npy", FIVE[:4], format="npy", key="3")
    with pytest.raises(InputError, match=r"shape \(5, 4\) where its card says 5 columns"):
        read_points(tmp_path / "a.npy", FIVE, format="npy", key="2")
    with pytest.raises(InputError, match=r"a file of bare numbers has no part '2'"):
        read_points(tmp_path / "a.npy", FIVE[:4], key="2")
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=r"o.npy: is no NumPy file of plain numbers"):
        read_points(tmp_path / "o.npy", FIVE[:4], format="npy")


def test_the_longest_unused_file_is_let_go(tmp_path):
    opened = []
    files = OpenFiles(most=2)
    for name in ("a", "b", "a", "c", "a", "b"):
        files.get(tmp_path / name, lambda path: opened.append(path.name))
    assert opened == ["a", "b", "c", "b"]


def test_each_thread_has_open_files_of_its_own(tmp_path):
    """A scan of an MCAP that two threads read at once was said to be damaged: an open file has one position."""
    files = OpenFiles()

    def opened():
        return [files.get(tmp_path, lambda path: object()) for _ in range(2)]

    own, again = opened()
    with ThreadPoolExecutor(1) as thread:
        other, still_other = thread.submit(opened).result()
    assert own is again is opened()[0]
    assert other is still_other
    assert other is not own
