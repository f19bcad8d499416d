"""Images that lie inside of another file, from the card to what the teacher is shown."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from image_files import read_image

from superflow.camera.images import camera_image
from superflow.datasets.card import DatasetCard, load_card
from superflow.datasets.formats.images import image_size
from superflow.datasets.formats.open_files import open_files
from superflow.datasets.index import LogIndex
from superflow.datasets.records import CameraRow, Place, ScanRow
from superflow.datasets.write import ListedLog, write_rows
from superflow.errors import InputError, MissingFileError

ZIPPED = replace(load_card("semantickitti"), image_format="zip")


@pytest.fixture
def pictures(tmp_path: Path) -> list[np.ndarray]:
    """Three images, in images.zip as left/0.png to left/2.png."""
    open_files.clear()
    images = list(np.random.default_rng(0).integers(0, 256, (3, 20, 30, 3), dtype=np.uint8))
    with zipfile.ZipFile(tmp_path / "images.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number, image in enumerate(images):
            archive.writestr(f"left/{number}.png", cv2.imencode(".png", image[..., ::-1])[1].tobytes())
    return images


def prepare(root: Path, card: DatasetCard, keys: list[str], size=(0, 0)) -> LogIndex:
    rows = []
    for number, key in enumerate(keys):
        np.zeros((5, 4), "<f4").tofile(root / f"{number}.bin")
        camera = CameraRow("left", f"i{number}", Place("images.zip", key), np.eye(3), np.eye(4), size)
        rows.append(ScanRow("s", f"t{number}", number, Place(f"{number}.bin"), np.eye(4), cameras=(camera,)))
    write_rows(root, root / "index", ListedLog("made", card, rows))
    return LogIndex.open(root / "index")


def test_images_in_an_archive_are_read_like_files(tmp_path, pictures):
    index = prepare(tmp_path, ZIPPED, [f"left/{number}.png" for number in (2, 0, 1)])
    for row, number in enumerate((2, 0, 1)):
        (camera,) = index.frame(row).cameras
        assert camera.size == (20, 30), "from its header, since the log gave none"
        np.testing.assert_array_equal(camera.image, pictures[number])
        np.testing.assert_array_equal(camera_image(replace(camera, image=None)), pictures[number])


def test_what_is_wrong_with_an_archive_is_named(tmp_path, pictures, monkeypatch):
    path = tmp_path / "images.zip"
    with pytest.raises(MissingFileError, match=r"images.zip: holds no 'left/9.png'; complete the download"):
        prepare(tmp_path, ZIPPED, ["left/9.png"])
    with pytest.raises(MissingFileError, match=r"gone.zip: this file is named in the log's tables"):
        read_image(tmp_path / "gone.zip", format="zip", key="a")
    with pytest.raises(InputError, match=r"images.zip: an image file has no part 'left/0.png'"):
        prepare(tmp_path, load_card("semantickitti"), ["left/0.png"])
    with pytest.raises(
        InputError, match=r"images.zip: left/0.png: the image is 30 x 20 pixels but its intrinsics"
    ):
        prepare(tmp_path, ZIPPED, ["left/0.png"], size=(40, 60)).frame(0)
    monkeypatch.setattr("superflow.datasets.formats.readers._LARGEST_IMAGE", 100)
    with pytest.raises(InputError, match=r"left/0.png has \d+ bytes, more than any image"):
        read_image(path, format="zip", key="left/0.png")
    monkeypatch.undo()
    data = bytearray(path.read_bytes())
    data[60:90] = bytes(30)
    (tmp_path / "torn.zip").write_bytes(data)
    (tmp_path / "cut.zip").write_bytes(data[: len(data) // 2])
    for name in ("torn.zip", "cut.zip"):
        with pytest.raises(InputError, match=rf"{name}: 'left/0.png' cannot be read from this archive"):
            read_image(tmp_path / name, format="zip", key="left/0.png")
    with zipfile.ZipFile(tmp_path / "text.zip", "w") as archive:
        archive.writestr("a.png", b"no image")
    with pytest.raises(InputError, match=r"text.zip: a.png: is no image that OpenCV can decode"):
        read_image(tmp_path / "text.zip", format="zip", key="a.png")
    with pytest.raises(InputError, match=r"text.zip: a.png: is no image whose header can be read"):
        image_size(tmp_path / "text.zip", format="zip", key="a.png")


def test_the_format_of_images_stands_in_the_card(tmp_path, repository):
    text = (repository / "datasets/cards/semantickitti.yaml").read_text(encoding="utf-8")
    (tmp_path / "a.yaml").write_text(text + "images: {format: zip}\n", encoding="utf-8")
    assert load_card(tmp_path / "a.yaml").image_format == "zip"
    (tmp_path / "a.yaml").write_text(text + "images: {format: rar}\n", encoding="utf-8")
    with pytest.raises(InputError, match="the format of images is 'rar'; choose one of file, zip"):
        load_card(tmp_path / "a.yaml")
