"""Argoverse 2: a real sweep against a plain read of its file, and images that are matched by time."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pyarrow
import pytest
import small_drives
from pyarrow import feather

from superflow.camera.projection import project
from superflow.clips.dataset import PretrainDataset
from superflow.datasets.index import LogIndex
from superflow.datasets.prepare import prepare
from superflow.errors import InputError

LOG = "7fab2350-7eaf-3b7e-a39d-6937a4c1bede"
SWEEP = 315966265259836000


@pytest.fixture(scope="module")
def root(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real log, with images of two ring cameras (made: there are none) and of one of the stereo pair."""
    root = tmp_path_factory.mktemp("av2") / "log"
    shutil.copytree(shared_data / "fragments/av2", root, copy_function=shutil.copyfile)
    poses = feather.read_table(root / f"val/{LOG}/city_SE3_egovehicle.feather")["timestamp_ns"].to_pylist()
    for name, size in (
        ("ring_front_center", (2048, 1550)),
        ("ring_side_left", (1550, 2048)),
        ("stereo_front_left", (9, 9)),
    ):
        folder = root / f"val/{LOG}/sensors/cameras" / name
        folder.mkdir(parents=True)
        picture = cv2.imencode(".jpg", np.zeros((*size, 3), np.uint8))[1].tobytes()
        for time in poses[::7]:
            (folder / f"{time}.jpg").write_bytes(picture)
    return root


@pytest.fixture(scope="module")
def index(root: Path, tmp_path_factory: pytest.TempPathFactory) -> LogIndex:
    return prepare("argoverse2", root, tmp_path_factory.mktemp("index"))


def columns(path: Path) -> dict[str, np.ndarray]:
    table = pyarrow.ipc.open_file(path).read_all()
    return {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}


def transform(row: dict[str, np.ndarray], i: int) -> np.ndarray:
    """(4, 4) by hand from quaternion and translation."""
    w, x, y, z = (float(row[f"q{axis}"][i]) for axis in "wxyz")
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    matrix[:3, 3] = [row[f"t{axis}_m"][i] for axis in "xyz"]
    return matrix


def test_points_are_those_of_the_file(index, root):
    want = columns(root / f"val/{LOG}/sensors/lidar/{SWEEP}.feather")
    frame = index.frame(0)
    assert len(frame.cloud) == 99229
    for place, axis in enumerate("xyz"):
        np.testing.assert_array_equal(frame.cloud.xyz[:, place], want[axis].astype(np.float32))
    np.testing.assert_allclose(frame.cloud.intensity, want["intensity"] / 255, rtol=1e-6)
    np.testing.assert_allclose(frame.cloud.extra["time_s"], want["offset_ns"] * 1e-9, rtol=1e-6)
    assert (frame.time_us, frame.labels) == (SWEEP // 1000, None)
    assert index.rows("val").tolist() == [0]


def test_each_laser_keeps_its_elevation_seen_from_the_lidar_that_it_is_said_to_be_of(index):
    """Which half of the lasers is whose is not documented; the rays of the real sweep tell it."""
    frame = index.frame(0)
    assert [lidar.name for lidar in frame.lidars] == ["up_lidar", "down_lidar"]
    laser, of = frame.cloud.extra["laser_number"], frame.cloud.extra["lidar"]
    spread = {}
    for number, lidar in enumerate(frame.lidars):
        seen = (frame.cloud.xyz.astype(float) - lidar.to_cloud[:3, 3]) @ lidar.to_cloud[:3, :3]
        elevation = np.degrees(np.arcsin(seen[:, 2] / np.linalg.norm(seen, axis=1)))
        far = np.linalg.norm(seen, axis=1) > 5
        for half in (0, 1):
            lasers = range(32 * half, 32 * half + 32)
            spread[number, half] = np.median(
                [elevation[far & (laser == i)].std() for i in lasers if (far & (laser == i)).sum() > 99]
            )
    assert spread[0, 0] < 0.07 < 0.15 < spread[1, 0]
    assert spread[1, 1] < 0.07 < 0.15 < spread[0, 1]
    np.testing.assert_array_equal(of, laser >= 32)


def test_poses_and_boxes_are_those_of_the_tables(index, root):
    frame = index.frame(0, boxes=True)
    poses = columns(root / f"val/{LOG}/city_SE3_egovehicle.feather")
    pose = transform(poses, poses["timestamp_ns"].tolist().index(SWEEP))
    np.testing.assert_allclose(frame.ego_to_world, pose, atol=1e-9)
    want = columns(root / f"val/{LOG}/annotations.feather")
    rows = np.flatnonzero(want["timestamp_ns"] == SWEEP)
    boxes = frame.boxes
    assert 0 < len(boxes) == len(rows) < len(want["timestamp_ns"])
    assert boxes.categories == tuple(want["category"][rows])
    assert boxes.tracks == tuple(want["track_uuid"][rows])
    inside = 0
    xyz = np.column_stack([frame.cloud.xyz, np.ones(len(frame.cloud))])
    for place, i in enumerate(rows.tolist()):
        to_world = pose @ transform(want, i)
        np.testing.assert_allclose(boxes.centers[place], to_world[:3, 3], atol=1e-6)
        half = np.array([want[f"{side}_m"][i] for side in ("length", "width", "height")]) / 2
        local = xyz @ np.linalg.inv(transform(want, i)).T
        inside += (
            abs(int((np.abs(local[:, :3]) <= half).all(axis=1).sum()) - want["num_interior_pts"][i]) <= 2
        )
        assert boxes.points[place] == want["num_interior_pts"][i]
        np.testing.assert_allclose(boxes.sizes[place], 2 * half)
    assert inside > 0.95 * len(rows), "the boxes hold the points that the file says"


def test_images_are_the_nearest_in_time_with_the_pose_of_their_own(index, root):
    frame = index.frame(0)
    assert [camera.channel for camera in frame.cameras] == ["ring_front_center", "ring_side_left"]
    mounts, lenses = (
        columns(root / f"val/{LOG}/calibration/{name}.feather")
        for name in ("egovehicle_SE3_sensor", "intrinsics")
    )
    poses = columns(root / f"val/{LOG}/city_SE3_egovehicle.feather")
    for camera in frame.cameras:
        times = sorted(int(path.stem) for path in Path(camera.path).parent.iterdir())
        image = min(times, key=lambda time: abs(time - SWEEP))
        assert Path(camera.path).stem == str(image)
        pose = transform(poses, poses["timestamp_ns"].tolist().index(image))
        chain = np.linalg.inv(transform(mounts, mounts["sensor_name"].tolist().index(camera.channel)))
        chain = chain @ np.linalg.inv(pose) @ frame.ego_to_world
        i = lenses["sensor_name"].tolist().index(camera.channel)
        xyz = (np.column_stack([frame.cloud.xyz, np.ones(len(frame.cloud))]) @ chain.T)[:, :3]
        seen = project(frame.points, frame.lidar_to_camera(camera), camera.lens)
        u = lenses["fx_px"][i] * xyz[:, 0] / xyz[:, 2] + lenses["cx_px"][i]
        v = lenses["fy_px"][i] * xyz[:, 1] / xyz[:, 2] + lenses["cy_px"][i]
        np.testing.assert_allclose(seen.pixels, np.stack([u, v], 1)[seen.rows], atol=0.05)
        height, width = camera.size
        inside = (xyz[:, 2] > 1) & (u > 0) & (v > 0) & (u < width - 1) & (v < height - 1)
        assert abs(int(inside.sum()) - len(seen)) <= 3
        assert len(seen) > 3000


def test_clips_to_pretrain_on_are_made_of_it(index):
    dataset = PretrainDataset(
        index,
        region="world_cell",
        times={"offsets": [0]},
        clouds={"sweeps": 0, "max_points": 8000},
        views={"size": (96, 96), "flip": 0.0},
    )
    batch = dataset[0]
    assert len(batch.images) == 2
    assert len(batch.pair_point) > 100


def test_an_image_of_another_time_is_none_of_the_sweeps(root, tmp_path):
    shutil.copytree(root / "val" / LOG, tmp_path / "log" / LOG)
    folder = tmp_path / "log" / LOG / "sensors/cameras/ring_front_center"
    kept = sorted(folder.iterdir())
    for path in kept:
        if abs(int(path.stem) - SWEEP) < 60_000_000:
            path.unlink()
    frame = prepare("argoverse2", tmp_path / "log", tmp_path / "index").frame(0, images=False)
    assert [camera.channel for camera in frame.cameras] == ["ring_side_left"]


def test_without_poses_and_boxes_a_log_has_none(root, tmp_path):
    shutil.copytree(root / "val" / LOG, tmp_path / "log" / LOG)
    for name in ("city_SE3_egovehicle", "annotations"):
        (tmp_path / "log" / LOG / f"{name}.feather").unlink()
    index = prepare("argoverse2", tmp_path / "log", tmp_path / "index")
    assert (index.frame(0, boxes=True).ego_to_world, index.boxes(0)) == (None, None)
    assert any("1 of 1 sweeps have no pose" in warning for warning in index.warnings)


def test_splits_that_a_log_states_count_more_than_its_folders(tmp_path):
    """Two logs lie in the folder val, and dataset.json learns from one of them."""
    small_drives.argoverse2(tmp_path / "log")
    (log,) = (tmp_path / "log/val").iterdir()
    shutil.copytree(log, log.parent / "other")
    index = prepare("argoverse2", tmp_path / "log", tmp_path / "index")
    assert [index.scene(row) for row in index.rows("val[:1]")] == [log.name, "other"]
    splits = {"train": ["other"], "val": [log.name]}
    (tmp_path / "log/dataset.json").write_text(json.dumps({"splits": splits}))
    index = prepare("argoverse2", tmp_path / "log", tmp_path / "index")
    assert {name: [index.scene(row) for row in index.rows(f"{name}[:1]")] for name in splits} == splits
    (tmp_path / "log/v.txt").write_text(index.tokens([1])[0])
    (tmp_path / "log/dataset.json").write_text(json.dumps({"splits": {"val": "v.txt"}}))
    index = prepare("argoverse2", tmp_path / "log", tmp_path / "index")
    assert index.rows("val").tolist() == [1]


def test_sweeps_that_nobody_annotated_have_no_boxes_rather_than_an_empty_street(tmp_path):
    """Of five sweeps the second to the fourth were annotated, and nothing stood around the third."""
    small_drives.argoverse2(tmp_path / "log")
    (log,) = (tmp_path / "log/val").iterdir()
    times = sorted(int(path.stem) for path in (log / "sensors/lidar").iterdir())
    for name, shifts in (("annotations", (1, 3)), ("city_SE3_egovehicle", range(5))):
        rows = feather.read_table(log / f"{name}.feather").to_pylist()[:1]
        step = [{**rows[0], "timestamp_ns": times[0] + i * 100_000_000} for i in shifts]
        feather.write_feather(pyarrow.Table.from_pylist(step), log / f"{name}.feather")
    for i in (3, 4):
        shutil.copy(
            log / f"sensors/lidar/{times[0]}.feather", log / f"sensors/lidar/{times[0] + i * 10**8}.feather"
        )
    index = prepare("argoverse2", tmp_path / "log", tmp_path / "index")
    assert [boxes if boxes is None else len(boxes) for boxes in map(index.boxes, range(5))] == [
        None,
        1,
        0,
        1,
        None,
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), "is no whole feather file"),
        (lambda path: path.write_bytes(b""), "is no whole feather file"),
        (
            lambda path: feather.write_feather(feather.read_table(path).drop_columns(["offset_ns"]), path),
            "has no column offset_ns",
        ),
        (lambda path: path.unlink(), "is not there"),
    ],
)
def test_a_sweep_that_cannot_be_read_is_named(root, tmp_path, change, said):
    shutil.copytree(root / "val" / LOG, tmp_path / "log" / LOG)
    index = prepare("argoverse2", tmp_path / "log", tmp_path / "index")
    path = index.point_path(0)
    change(path)
    with pytest.raises(InputError, match=said) as told:
        index.frame(0)
    assert str(path) in str(told.value)


def test_tables_that_lack_something_are_named(root, tmp_path):
    shutil.copytree(root / "val" / LOG, tmp_path / "log" / LOG)
    path = tmp_path / "log" / LOG / "calibration/egovehicle_SE3_sensor.feather"
    table = feather.read_table(path)
    feather.write_feather(
        table.filter(pyarrow.compute.not_equal(table["sensor_name"], "ring_side_left")), path
    )
    with pytest.raises(InputError, match="calibration: has no calibration of the camera ring_side_left"):
        prepare("argoverse2", tmp_path / "log", tmp_path / "index")
    feather.write_feather(table.filter(pyarrow.compute.not_equal(table["sensor_name"], "up_lidar")), path)
    with pytest.raises(InputError, match=r"egovehicle_SE3_sensor.feather: has no row up_lidar"):
        prepare("argoverse2", tmp_path / "log", tmp_path / "index")
