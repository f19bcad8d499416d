"""Small files of points and images that unpack to huge ones: refused before memory is taken for them."""

from __future__ import annotations

import struct
import zipfile
import zlib
from io import BytesIO
from pathlib import Path

import cv2
import laspy
import numpy as np
import pytest
from image_files import read_image
from peak_memory import PeakMemory

from superflow.datasets.formats.pcd import _LZF
from superflow.datasets.formats.read import MOST_TIMES
from superflow.datasets.formats.readers import read_points
from superflow.errors import InputError
from superflow.files.images import decode_image

ROWS = 1 << 22  # of four zeros: 64 MiB
LITTLE = 32 << 20  # bytes that a refusal may take


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is a bomb begins at 4 MiB and a million pixels, so that those of the tests are made quickly."""
    monkeypatch.setattr("superflow.datasets.formats.read.LARGEST", 1 << 22)
    monkeypatch.setattr("superflow.files.images._MOST_PIXELS", 1 << 20)


def packed_arrays(path: Path, method: int, **arrays: np.ndarray) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, array in arrays.items():
            plain = BytesIO()
            np.save(plain, array)
            archive.writestr(f"{name}.npy", plain.getvalue())
    return path


def refused(path: Path, said: str, format: str) -> None:
    with PeakMemory() as memory, pytest.raises(InputError, match=said) as told:
        read_points(path, ("x", "y", "z"), format=format)
    assert str(told.value).startswith(f"{path}: ")
    assert memory.grown < LITTLE


def test_arrays_of_zeros_are_not_unpacked(tmp_path):
    zeros = np.zeros(ROWS, "f4")
    said = "claims to unpack from .* more than any scan or image"
    columns = packed_arrays(tmp_path / "a.npz", zipfile.ZIP_DEFLATED, x=zeros, y=zeros[:9], z=zeros[:9])
    refused(columns, said, "npz")
    refused(packed_arrays(tmp_path / "b.npz", zipfile.ZIP_DEFLATED, data=zeros.reshape(-1, 4)), said, "npz")
    # each of them may be one, all together are none
    third = zeros[: 1 << 19]
    refused(packed_arrays(tmp_path / "c.npz", zipfile.ZIP_DEFLATED, x=third, y=third, z=third), said, "npz")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_python_would_unpack_at_once_is_refused(method, tmp_path):
    """Of these two, zipfile unpacks all that a piece of the file holds, whatever size the member claims."""
    path = packed_arrays(tmp_path / "a.npz", method, x=np.zeros(ROWS, "f4"))
    data = bytearray(path.read_bytes())
    size = struct.pack("<I", 4 * ROWS + 128)
    assert data.count(size) >= 2
    path.write_bytes(data.replace(size, struct.pack("<I", 200)))
    with (
        PeakMemory() as memory,
        pytest.raises(InputError, match=r"packed by the method [0-9]+ and not by deflate"),
    ):
        read_points(path, ("x", "x", "x"), format="npz")
    assert memory.grown < LITTLE
    path.rename(tmp_path / "a.zip")
    with pytest.raises(
        InputError, match=r"'x.npy' cannot be read from this archive \(it is packed by the method"
    ):
        read_image(tmp_path / "a.zip", format="zip", key="x.npy")


def test_points_of_zeros_in_a_laz_file_are_not_unpacked(tmp_path):
    header = laspy.LasHeader(point_format=0, version="1.2")
    points = laspy.LasData(header)
    points.x = points.y = points.z = np.zeros(ROWS)
    points.write(tmp_path / "a.laz", do_compress=True)
    del points
    assert (tmp_path / "a.laz").stat().st_size < 20 * ROWS / MOST_TIMES
    refused(tmp_path / "a.laz", "claims to unpack from .* more than any scan or image", "las")


def test_a_compressed_pcd_cannot_hold_more_than_it_may():
    assert _LZF < MOST_TIMES, "what LZF packs most is less than what is refused elsewhere"


@pytest.mark.parametrize("ending", [".png", ".jpg", ".bmp", ".webp", ".tiff"])
def test_an_image_of_too_many_pixels_is_not_decoded(ending, tmp_path):
    path = tmp_path / f"a{ending}"
    path.write_bytes(cv2.imencode(ending, np.zeros((1, 1 << 13, 3), np.uint8))[1].tobytes())
    assert read_image(path).shape == (1, 1 << 13, 3)
    picture = np.zeros((4096, 5120, 3), np.uint8)
    path.write_bytes(cv2.imencode(ending, picture)[1].tobytes())
    del picture
    said = r"claims more pixels than any camera has \(5120 x 4096\)"
    with PeakMemory() as memory, pytest.raises(InputError, match=said):
        read_image(path)
    assert memory.grown < LITTLE + path.stat().st_size


@pytest.mark.parametrize("sides", [(60_000, 60_000), (1 << 20, 1 << 20), (9_999_999, 9)])
def test_a_head_that_claims_a_thousand_million_pixels_is_refused(sides):
    whole = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes()
    head = whole[12:29]  # IHDR, the sides, how the pixels are stored
    assert whole[29:33] == struct.pack(">I", zlib.crc32(head))
    claimed = b"IHDR" + struct.pack(">II", *sides) + head[12:]
    data = whole[:12] + claimed + struct.pack(">I", zlib.crc32(claimed)) + whole[33:]
    with pytest.raises(InputError, match=r"a.png: claims more pixels than any camera has"):
        decode_image(data, "a.png")
