"""A log of one's own that knows no pose: clips are single scans, and what that leaves out is said."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from superflow.clips.dataset import PretrainDataset
from superflow.datasets.index import LogIndex
from superflow.datasets.prepare import prepare
from superflow.errors import InputError

LEFT_OUT = ["the dense cloud of several scans", "the scans before and after"]
CAMERA_TO_LIDAR = [[0, 0, 1, 0.3], [-1, 0, 0, 0], [0, -1, 0, -0.2]]
MOUNT = np.array([[1.0, 0, 0, 0.4], [0, 1, 0, 0], [0, 0, 1, 1.7], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Four scans at 10 Hz with an image each; three poses beside them that nothing reads."""
    root = tmp_path_factory.mktemp("log") / "drive"
    root.mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):
        rng.uniform([3, -9, -1], [30, 9, 3], (900, 3)).astype("<f4").tofile(root / f"{i}.bin")
        shade = rng.integers(0, 256, (36, 64, 3)).astype(np.uint8)
        (root / f"{i}.png").write_bytes(cv2.imencode(".png", shade)[1].tobytes())
    (root / "times.txt").write_text("".join(f"{100 + 0.1 * i:.1f}\n" for i in range(4)))
    (root / "poses.txt").write_text("".join(f"{100 + 0.1 * i:.1f} {i} 0 0 0 0 0 1\n" for i in range(3)))
    return root


def index_of(root: Path, out: Path, **keys: object) -> LogIndex:
    layout = {
        "points": {"files": "*.bin"},
        "times": {"file": "times.txt"},
        "lidar_to_ego": MOUNT.tolist(),
        "cameras": {
            "front": {"images": "*.png", "intrinsics": [40, 40, 32, 18], "camera_to_lidar": CAMERA_TO_LIDAR}
        },
    }
    (root / "folder.yaml").write_text(yaml.safe_dump(layout | keys))
    return prepare("folder", root, out)


def test_clips_are_single_scans_and_the_rest_is_named(root, tmp_path, caplog):
    index = index_of(root, tmp_path / "out")
    with caplog.at_level(logging.WARNING):
        dataset = PretrainDataset(index, region="world_cell", cell_m=0.5, views={"size": (36, 64)})
    assert "knows no pose, so clips are single scans; left out: " + " and ".join(LEFT_OUT) in caplog.text
    assert dataset.record()["left_out"] == LEFT_OUT
    spaces = set()
    for item in range(4):
        batch = dataset[item, 1]
        assert batch.cloud_offset.tolist() == [0]
        assert batch.cloud_dense.tolist() == [False]
        assert len(batch.pair_point) > 50
        spaces |= set(batch.image_space.tolist())
    assert len(spaces) == 4, "a cell of one scan is none of another's"


def test_regions_are_cells_around_the_car(root, tmp_path):
    """A twin: pairs share a region where their points lie in one cell of half a metre of the ego frame."""
    dataset = PretrainDataset(
        index_of(root, tmp_path / "out"),
        region="world_cell",
        cell_m=0.5,
        views={"size": (36, 64)},
        augmentation={"rotation_rad": (0.0, 0.0), "flip": 0.0, "scale": (1.0, 1.0)},
    )
    batch = dataset[2, 5]
    xyz = batch.points[batch.pair_point.long()][:, :3].numpy().astype(float) + MOUNT[:3, 3]
    cells: dict[tuple[int, ...], set[int]] = {}
    for point, region in zip(xyz, batch.pair_region.tolist()):
        cells.setdefault(tuple(int(np.floor(c / 0.5)) for c in point), set()).add(region)
    assert all(len(regions) == 1 for regions in cells.values())
    assert len(cells) == len(set(batch.pair_region.tolist())) > 20


def test_a_log_of_which_some_poses_are_known_is_refused_as_ever(root, tmp_path):
    index = index_of(root, tmp_path / "out", poses={"file": "poses.txt"})
    assert not index.has_poses
    with pytest.raises(
        InputError, match=r"a dense cloud of several scans needs poses of every scan, and this log lacks"
    ):
        PretrainDataset(index, region="world_cell", views={"size": (36, 64)})


def test_a_log_with_poses_leaves_out_nothing(root, tmp_path):
    (root / "poses.txt").write_text("".join(f"{100 + 0.1 * i:.1f} {i} 0 0 0 0 0 1\n" for i in range(4)))
    index = index_of(root, tmp_path / "out", poses={"file": "poses.txt"})
    dataset = PretrainDataset(index, region="world_cell", views={"size": (36, 64)})
    assert "left_out" not in dataset.record()
    batch = dataset[1, 0]
    assert batch.cloud_offset.tolist() == [-1, 0, 1, 0]
    assert torch.equal(batch.image_space, batch.image_space[:1].expand(3)), "one world, one space"
