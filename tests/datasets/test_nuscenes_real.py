"""A key frame of nuScenes itself, six images and all: points, intensities and pixels against a plain NumPy read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from superflow.camera.projection import project
from superflow.datasets.check.log import check_log
from superflow.datasets.index import LogIndex
from superflow.datasets.prepare import prepare
from superflow.geometry import to_quaternion

Facts = dict[str, Any]


@pytest.fixture(scope="module")
def facts(shared_data: Path) -> Facts:
    """Of the frame: mounts, pose and, of each camera, where the LiDAR's points are in it."""
    return json.loads((shared_data / "fragments/nuscenes_mmdet3d/info.json").read_text())["data_list"][0]


def tables(facts: Facts) -> dict[str, list[Facts]]:
    """The frame in nuScenes' tables. A camera's own pose is what leads from its mount to where the points are in it."""
    pose, lidar = np.array(facts["ego2global"]), np.array(facts["lidar_points"]["lidar2ego"])
    found: dict[str, list[Facts]] = {
        name: [] for name in ("sensor", "calibrated_sensor", "ego_pose", "sample_data")
    }

    def add(
        channel: str, file: str, mount: np.ndarray, own_pose: np.ndarray, time_s: float, **more: Any
    ) -> None:
        is_camera = channel != "LIDAR_TOP"
        place = {"translation": mount[:3, 3].tolist(), "rotation": to_quaternion(mount[:3, :3]).tolist()}
        found["sensor"].append(
            {"token": channel, "channel": channel, "modality": "camera" if is_camera else "lidar"}
        )
        found["calibrated_sensor"].append(
            {
                **{"token": f"mount {channel}", "sensor_token": channel, **place},
                "camera_intrinsic": more.pop("matrix", []),
            }
        )
        place = {
            "translation": own_pose[:3, 3].tolist(),
            "rotation": to_quaternion(own_pose[:3, :3]).tolist(),
        }
        found["ego_pose"].append({"token": f"pose {channel}", "timestamp": 0, **place})
        found["sample_data"].append(
            {
                **{
                    "token": more.pop("token", channel),
                    "sample_token": facts["token"],
                    "prev": "",
                    "next": "",
                },
                **{"ego_pose_token": f"pose {channel}", "calibrated_sensor_token": f"mount {channel}"},
                **{
                    "timestamp": round(time_s * 1e6),
                    "filename": f"samples/{channel}/{file}",
                    "is_key_frame": True,
                },
                **{"width": 1600 * is_camera, "height": 900 * is_camera},
            }
        )

    add("LIDAR_TOP", facts["lidar_points"]["lidar_path"], lidar, pose, facts["timestamp"])
    for channel, camera in facts["images"].items():
        mount, to_camera = np.array(camera["cam2ego"]), np.array(camera["lidar2cam"])
        own_pose = pose @ lidar @ np.linalg.inv(to_camera) @ np.linalg.inv(mount)
        more = {"token": camera["sample_data_token"], "matrix": camera["cam2img"]}
        add(channel, camera["img_path"], mount, own_pose, camera["timestamp"], **more)
    time_us = found["sample_data"][0]["timestamp"]
    sample = {"token": facts["token"], "timestamp": time_us, "scene_token": "s", "prev": "", "next": ""}
    scene = {"token": "s", "name": "scene-0061", "first_sample_token": facts["token"]}
    return {"scene": [scene], "sample": [sample], **found}


@pytest.fixture(scope="module")
def index(facts: Facts, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> LogIndex:
    root = tmp_path_factory.mktemp("nuscenes")
    (root / "samples").symlink_to(shared_data / "fragments/nuscenes_mmdet3d/samples")
    (root / "v1.0-mini").mkdir()
    for name, rows in tables(facts).items():
        (root / f"v1.0-mini/{name}.json").write_text(json.dumps(rows))
    return prepare("nuscenes", root, tmp_path_factory.mktemp("index"))


@pytest.fixture(scope="module")
def rows(facts: Facts, shared_data: Path) -> np.ndarray:
    """(N, 5) of the file."""
    folder = shared_data / "fragments/nuscenes_mmdet3d/samples/LIDAR_TOP"
    return np.fromfile(folder / facts["lidar_points"]["lidar_path"], "<f4").reshape(-1, 5)


def test_points_and_intensities_are_those_of_a_plain_read(index, rows):
    cloud = index.frame(0).cloud
    assert len(cloud) == len(rows) == 34_688
    np.testing.assert_array_equal(cloud.xyz, np.stack([rows[:, 1], -rows[:, 0], rows[:, 2]], axis=1))
    want, _ = np.histogram(rows[:, 3], bins=256, range=(0, 256))
    found, _ = np.histogram(np.rint(cloud.intensity * 255), bins=256, range=(0, 256))
    np.testing.assert_array_equal(found, want)
    np.testing.assert_array_equal(
        np.bincount(cloud.extra["ring"].astype(int)), np.bincount(rows[:, 4].astype(int))
    )
    assert set(rows[:, 4].tolist()) == set(range(32)), "five columns, of which the last is the beam"


def test_pixels_are_those_of_the_published_transforms(index, rows, facts):
    frame = index.frame(0)
    assert len(frame.cameras) == len(facts["images"]) == 6
    for camera in frame.cameras:
        told = facts["images"][camera.channel]
        assert camera.image.shape == (900, 1600, 3)
        assert camera.time_us == round(told["timestamp"] * 1e6)
        assert -50_000 < camera.time_us - frame.time_us <= 0, "images are taken while the LiDAR turns"
        moved = np.linalg.norm(camera.ego_to_world[:3, 3] - frame.ego_to_world[:3, 3])
        assert moved < 0.5, "the car is where it was some hundredths of a second before"
        own = np.hstack([rows[:, :3].astype(float), np.ones((len(rows), 1))]) @ np.array(told["lidar2cam"]).T
        u, v, depth = np.array(told["cam2img"]) @ own[:, :3].T
        with np.errstate(divide="ignore", invalid="ignore"):
            pixels = np.stack([u / depth, v / depth], axis=1)
        seen = project(frame.cloud.xyz, frame.lidar_to_camera(camera), camera.lens)
        np.testing.assert_allclose(seen.pixels, pixels[seen.rows], atol=0.05)
        inside = (depth > 1) & (pixels > 1).all(axis=1) & (pixels[:, 0] < 1598) & (pixels[:, 1] < 898)
        assert set(np.flatnonzero(inside).tolist()) <= set(seen.rows.tolist())
        assert inside.sum() > 2000


def test_the_check_finds_nothing_wrong(index):
    report = check_log(index, project=project)
    assert [str(problem) for problem in report.problems] == []
    assert report.counts["points"] == 34_688
