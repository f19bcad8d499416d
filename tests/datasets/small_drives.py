"""The smallest drives of every set, written by hand; those of another layout than nuScenes' also to be broken."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np
import test_folder
import test_pandaset_raw
import test_synth4d
import test_waymo
from bag_writer import write_bag

SCANS = 4
LENS = "40 0 24 0 0 40 16 0 0 0 1 0"
POSES = "".join(f"1 0 0 {number} 0 1 0 0 0 0 1 0\n" for number in range(SCANS))
PICTURE = cv2.imencode(".png", np.zeros((32, 48, 3), np.uint8))[1].tobytes()
JPEG = cv2.imencode(".jpg", np.zeros((32, 48, 3), np.uint8))[1].tobytes()


def put(folder: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def points(number: int, columns: int = 4) -> bytes:
    return np.full((5, columns), number + 1, "<f4").tobytes()


def semantickitti(root: Path) -> None:
    folder = root / "sequences/00"
    for i in range(SCANS):
        labels = np.array([10, 40, 252 | 7 << 16, 0, 99], "<u4").tobytes()
        scan = {"velodyne": points(i), "labels": labels, "image_2": PICTURE}
        endings = {"velodyne": "bin", "labels": "label", "image_2": "png"}
        put(folder, {f"{name}/{i:06d}.{endings[name]}": content for name, content in scan.items()})
    calib = f"P0: {LENS}\nP2: {LENS}\nP3: {LENS}\nTr: 0 -1 0 0 0 0 -1 0 1 0 0 -0.27\n"
    put(folder, {"calib.txt": calib, "poses.txt": POSES, "times.txt": "0.0\n0.1\n0.2\n0.3\n"})


def scribblekitti(root: Path) -> None:
    semantickitti(root)
    for i in range(SCANS):
        put(root / "sequences/00/scribbles", {f"{i:06d}.label": np.array([10, 0, 0, 0, 0], "<u4").tobytes()})


def semanticposs(root: Path) -> None:
    semantickitti(root)
    for path in (root / "sequences/00/image_2").iterdir():
        path.unlink()


def semanticstf(root: Path) -> None:
    for i in range(SCANS):
        labels = np.array([1, 9, 20, 0, 99], "<i4").tobytes()
        put(root / "train", {f"velodyne/{i:06d}.bin": points(i, 5), f"labels/{i:06d}.label": labels})
    put(
        root / "train",
        {"train.txt": "".join(f"{i:06d},{'rain' if i % 2 else 'snow'}\n" for i in range(SCANS))},
    )


def synlidar(root: Path) -> None:
    for i in range(SCANS):
        labels = np.array([1, 2, 31, 0, 99], "<u4").tobytes()
        put(root / "00", {f"velodyne/{i:06d}.bin": points(i), f"labels/{i:06d}.label": labels})


def daps3d(root: Path) -> None:
    for i in range(SCANS):
        labels = np.array([10, 30, 40, 0, 99], "<i4").tobytes()
        put(root / "daps-1/data/00", {f"clouds/{i:06d}.bin": points(i), f"labels/{i:06d}.label": labels})


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


def synth4d(root: Path) -> None:
    test_synth4d.town(root, "kitti_synth/Town03", [f"{i:06d}" for i in range(SCANS)], [7, 10, 22, 99, 0])
    lines = [f"kitti_synth/Town03/velodyne/{i:06d}.npy\n" for i in range(SCANS)]
    put(root, {"training_split.txt": "".join(lines[:2]), "validation_split.txt": "".join(lines[2:])})


def waymo(root: Path) -> None:
    shapes = {1: (8, 6), 2: (2, 3), 3: (2, 3), 4: (2, 3), 5: (2, 3)}
    sizes = dict.fromkeys(test_waymo.SIZES, (16, 24))
    with patch.multiple(test_waymo, TIMES=test_waymo.TIMES[:2], SHAPES=shapes, SIZES=sizes):
        test_waymo.write(root)


def pandaset_raw(root: Path) -> None:
    test_pandaset_raw.write(root)


def argoverse2(root: Path) -> None:
    """One log of three sweeps, a ring camera and a box."""
    import pyarrow
    from pyarrow import feather

    log = root / "val" / "7fab2350-7eaf-3b7e-a39d-6937a4c1bede"
    times = [315966265259836000 + i * 100_000_000 for i in range(3)]
    turned = {"qw": math.sqrt(0.5), "qx": -math.sqrt(0.5), "qy": 0.0, "qz": 0.0}
    unit = {"qw": 1.0, "qx": 0.0, "qy": 0.0, "qz": 0.0}

    def place(x: float, turn: dict[str, float] = unit) -> dict[str, float]:
        return {**turn, "tx_m": x, "ty_m": 0.1, "tz_m": 0.4}

    def table(name: str, rows: list[dict[str, object]]) -> None:
        (log / name).parent.mkdir(parents=True, exist_ok=True)
        feather.write_feather(pyarrow.Table.from_pylist(rows), log / f"{name}.feather")

    for i, time in enumerate(times):
        rows = [
            {"x": 1.0 + i, "y": 2.0, "z": float(k), "intensity": k, "laser_number": 13 * k, "offset_ns": k}
            for k in range(5)
        ]
        table(f"sensors/lidar/{time}", rows)
        put(log, {f"sensors/cameras/ring_front_center/{time + 20_000_000}.jpg": JPEG})
    box = {"track_uuid": "a", "category": "BUS", "length_m": 9.0, "width_m": 3.0, "height_m": 3.0}
    table("annotations", [{"timestamp_ns": times[0], "num_interior_pts": 7, **box, **place(4.0)}])
    poses = [
        {"timestamp_ns": time + k, **place(3.0 * i)} for i, time in enumerate(times) for k in (0, 20_000_000)
    ]
    table("city_SE3_egovehicle", poses)
    sensors = {"up_lidar": place(1.3), "down_lidar": place(1.3), "ring_front_center": place(1.6, turned)}
    table(
        "calibration/egovehicle_SE3_sensor", [{"sensor_name": name, **own} for name, own in sensors.items()]
    )
    lens = {"fx_px": 40.0, "fy_px": 40.0, "cx_px": 24.0, "cy_px": 16.0, "height_px": 32, "width_px": 48}
    table("calibration/intrinsics", [{"sensor_name": "ring_front_center", **lens}])


def nuscenes_c(root: Path) -> None:
    """A copy of two key frames beside tables of nuScenes and an image."""
    from small_log import SmallLog

    log = SmallLog(root)
    log.write()
    keys = [row for row in log.tables["sample_data"] if row["is_key_frame"] and "LIDAR" in row["token"]][-2:]
    for row in keys:
        scan = b"".join(struct.pack("<5f", i + 1.0, 5.0, 0.5, 51.0, 2.0) for i in range(5))
        labels = f"lidarseg/v1.0-trainval/{row['token']}_lidarseg.bin"
        put(root / "fog/heavy", {row["filename"]: scan, labels: bytes([17, 24, 41, 0, 99])})


DRIVES: dict[str, Callable[[Path], None]] = {
    write.__name__: write
    for write in (
        *(semantickitti, scribblekitti, semanticposs, semanticstf, synlidar, daps3d, kitti_raw, rellis3d),
        *(synth4d, nuscenes_c, waymo, argoverse2, pandaset_raw),
    )
}


def nuscenes(root: Path) -> None:
    from small_log import SmallLog

    SmallLog(root).write()


def folder(root: Path) -> None:
    test_folder.write_log(root)


def ros(root: Path) -> None:
    root.mkdir(parents=True)
    write_bag(root / "drive", "ros2_mcap", count=2)


EVERY: dict[str, Callable[[Path], None]] = {**DRIVES, "nuscenes": nuscenes, "folder": folder, "ros": ros}
