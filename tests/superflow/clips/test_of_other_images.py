"""Features and superpixels of another log, or of images that were replaced, are not taken for those of this one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from superflow.benchmark.preparation import prepare_features, prepare_superpixels
from superflow.clips.dataset import PretrainDataset
from superflow.datasets.index import LogIndex
from superflow.datasets.prepare import prepare
from superflow.errors import InputError

CAMERA_TO_LIDAR = [[0, 0, 1, 0.3], [-1, 0, 0, 0], [0, -1, 0, -0.2]]
SIZE = (32, 64)


def drive(folder: Path, seed: int) -> LogIndex:
    """Three scans with an image each; the names of files, and so all tokens, are those of any other such drive."""
    root = folder / "drive"
    root.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for i in range(3):
        rng.uniform([3, -9, -1], [30, 9, 3], (300, 3)).astype("<f4").tofile(root / f"{i}.bin")
        shade = rng.integers(0, 256, (36, 64, 3)).astype(np.uint8)
        cv2.imwrite(str(root / f"{i}.png"), shade)
    (root / "times.txt").write_text("".join(f"{100 + 0.1 * i:.1f}\n" for i in range(3)))
    camera = {"images": "*.png", "intrinsics": [40, 40, 32, 18], "camera_to_lidar": CAMERA_TO_LIDAR}
    layout = {"points": {"files": "*.bin"}, "times": {"file": "times.txt"}, "cameras": {"front": camera}}
    (root / "folder.yaml").write_text(yaml.safe_dump({**layout, "lidar_to_ego": np.eye(4).tolist()}))
    return prepare("folder", root, folder / "prepared")


def read(index: LogIndex, kind: str, folder: Path) -> None:
    """A dataset with features or superpixels, and its first clip."""
    views = {"size": SIZE, "flip": 0.0} | ({"features": folder} if kind == "features" else {})
    regions = {"superpixels": folder} if kind == "superpixels" else {"region": "world_cell"}
    PretrainDataset(index, clouds={"sweeps": 0}, times={"offsets": [0]}, views=views, **regions)[0, 0]


def made(index: LogIndex, kind: str) -> Path:
    if kind == "features":
        return prepare_features(index, None, teacher="filter_bank", size=SIZE, components=4)
    return prepare_superpixels(index, None, segments=20)


@pytest.mark.parametrize("kind", ["features", "superpixels"])
def test_what_was_made_of_other_images_is_refused(tmp_path, kind):
    index, other = drive(tmp_path / "one", 0), drive(tmp_path / "other", 1)
    assert index.camera_tokens(index.rows()) == other.camera_tokens(other.rows())
    folder = made(index, kind)
    read(index, kind, folder)
    with pytest.raises(InputError, match=rf"made of another image than that of {other.root} \(3 such"):
        read(other, kind, folder)
    image = index.root / "1.png"
    os.utime(image, (1, 1))  # a copy on another disk
    read(index, kind, folder)
    shutil.copy(other.root / "1.png", image)
    with pytest.raises(InputError, match=rf"\(1 such images in 3 frames .* run `superflow prepare {kind}`"):
        read(index, kind, folder)
    made(index, kind)
    read(index, kind, folder)
    if kind == "features":
        image.unlink()  # features may be all that is kept
        read(index, kind, folder)
