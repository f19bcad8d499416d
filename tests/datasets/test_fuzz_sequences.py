"""Drives in KITTI's layouts and RELLIS-3D's that are wrong in many ways: taken, or refused in one sentence."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import cv2
import log_fuzz
import numpy as np
import pytest
from test_fuzz_point_files import huge_number, odd_word

from superflow.datasets.sets import prepare

TRIES = 200
SCANS = 4
LENS = "40 0 24 0 0 40 16 0 0 0 1 0"
POSES = "".join(f"1 0 0 {number} 0 1 0 0 0 0 1 0\n" for number in range(SCANS))
PICTURE = cv2.imencode(".png", np.zeros((32, 48, 3), np.uint8))[1].tobytes()


def put(folder: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def points(number: int) -> bytes:
    return np.full((5, 4), number + 1, "<f4").tobytes()


def semantickitti(root: Path) -> None:
    folder = root / "sequences/00"
    for i in range(SCANS):
        labels = np.array([10, 40, 252 | 7 << 16, 0, 99], "<u4").tobytes()
        scan = {"velodyne": points(i), "labels": labels, "image_2": PICTURE}
        endings = {"velodyne": "bin", "labels": "label", "image_2": "png"}
        put(folder, {f"{name}/{i:06d}.{endings[name]}": content for name, content in scan.items()})
    calib = f"P0: {LENS}\nP2: {LENS}\nP3: {LENS}\nTr: 0 -1 0 0 0 0 -1 0 1 0 0 -0.27\n"
    put(folder, {"calib.txt": calib, "poses.txt": POSES, "times.txt": "0.0\n0.1\n0.2\n0.3\n"})


def kitti_raw(root: Path) -> None:
    rigid = "calib_time: 15-Mar-2012 11:37:16\nR: 0 -1 0 0 0 -1 1 0 0\nT: 0 0 -0.27\n"
    upright = rigid.replace("0 -1 0 0 0 -1 1 0 0", "1 0 0 0 1 0 0 0 1")
    lens = f"R_rect_00: 1 0 0 0 1 0 0 0 1\nS_rect_02: 48 32\nP_rect_02: {LENS}\nP_rect_03: {LENS}\n"
    date, drive = root / "2011_09_26", root / "2011_09_26/2011_09_26_drive_0009_sync"
    put(
        date, {"calib_velo_to_cam.txt": rigid, "calib_imu_to_velo.txt": upright, "calib_cam_to_cam.txt": lens}
    )
    times = "".join(f"2011-09-26 13:04:32.{i}00000000\n" for i in range(SCANS))
    for name in ("velodyne_points", "image_02", "oxts"):
        put(drive, {f"{name}/timestamps.txt": times})
    for i in range(SCANS):
        packet = f"49.01{i} 8.42 116.4 0.02 0.01 0.6 {'0 ' * 19}4 11 6 6 6\n"
        put(drive, {f"velodyne_points/data/{i:010d}.bin": points(i), f"oxts/data/{i:010d}.txt": packet})
        put(drive, {f"image_02/data/{i:010d}.png": PICTURE})


def rellis3d(root: Path) -> None:
    folder = root / "00003"
    mount = "os1_cloud_node-pylon_camera_node:\n  q: {w: 0.5, x: -0.5, y: 0.5, z: -0.5}\n  t: {x: 0.1, y: 0, z: 0}\n"
    lines = {
        "camera_info.txt": "2800 2800 960 600\n",
        "poses.txt": POSES,
        "times.txt": "100.0\n100.1\n100.2\n100.3\n",
    }
    put(folder, {"transforms.yaml": mount, **lines})
    for i in range(SCANS):
        labels = np.array([3, 4, 34, 0, 99], "<u4").tobytes()
        put(folder, {f"os1_cloud_node_kitti_bin/{i:06d}.bin": points(i)})
        put(folder, {f"os1_cloud_node_semantickitti_label_id/{i:06d}.label": labels})
        put(folder, {f"pylon_camera_node/frame{i:06d}-100_{i}00.jpg": PICTURE})


@pytest.mark.parametrize("write", [semantickitti, kitti_raw, rellis3d], ids=lambda write: write.__name__)
def test_wrong_drives_are_taken_or_refused(write: Callable[[Path], None], tmp_path: Path) -> None:
    name, root, out = write.__name__, tmp_path / "work/root", tmp_path / "work/out"
    write(root)
    options = {"rescale_intrinsics": True} if name == "rellis3d" else {}
    assert log_fuzz.attempt(lambda: prepare(name, root, out, **options), out, tmp_path) is None, "it is well"
    files = sorted(path for path in root.rglob("*") if path.is_file())
    told: set[str] = set()
    for seed in range(TRIES):
        rng = random.Random(f"{name} {seed}")
        # what stands once in a drive as often as what each scan has
        path = rng.choice([path for path in files if path.suffix in (".txt", ".yaml")] if seed % 3 else files)
        before = path.read_bytes()
        change = rng.choice((*log_fuzz.BYTE_MUTATIONS, huge_number, odd_word, lambda rng, data: PICTURE))
        try:
            after = change(rng, before)
        except UnicodeDecodeError:  # a change of text alone
            continue
        path.unlink() if after is None else path.write_bytes(after)
        said = log_fuzz.attempt(lambda: prepare(name, root, out, **options), out, tmp_path)
        if said is not None:
            assert str(root) in said, said
            told.add(said)
        path.write_bytes(before)
    assert len(told) >= 20, "the changes are of many kinds"
