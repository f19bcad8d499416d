"""PandaSet in its own layout, its files written byte by byte, against what they were made of."""

from __future__ import annotations

import gzip
import json
import math
import shutil
from pathlib import Path

import cv2
import numpy as np
import pickles
import pytest

from superflow.camera.projection import project
from superflow.clips.dataset import PretrainDataset
from superflow.datasets.check.log import check_log
from superflow.datasets.formats import pandaset_files
from superflow.datasets.index import LogIndex
from superflow.datasets.prepare import prepare
from superflow.errors import InputError

CAMERA_YAW = {"front_camera": 0.0, "left_camera": 1.2}
SCANS, POINTS = 3, 400
START_S = 1557539924.5
SIZE = (54, 96)
# x forward, y left, z up to x right, y forward, z up
_TURN = np.array([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def pose(yaw: float, x: float, y: float, z: float) -> tuple[dict, np.ndarray]:
    """The entry of a file, and (4, 4) by hand."""
    entry = {
        "position": {"x": x, "y": y, "z": z},
        "heading": {"w": math.cos(yaw / 2), "x": 0.0, "y": 0.0, "z": math.sin(yaw / 2)},
    }
    cos, sin = math.cos(yaw), math.sin(yaw)
    return entry, np.array([[cos, -sin, 0, x], [sin, cos, 0, y], [0, 0, 1, z], [0, 0, 0, 1]])


def car_pose(scan: float) -> tuple[dict, np.ndarray]:
    return pose(0.4 + 0.1 * scan, 100.0 + scan, -50.0, 1.5)


def from_the_file(rotation: list[float], place: list[float]) -> np.ndarray:
    """(4, 4) of a quaternion w, x, y, z and a place."""
    w, x, y, z = rotation
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    matrix[:3, 3] = place
    return matrix


def lidar_to_car() -> np.ndarray:
    """The Pandar64 in the car, x forward, y left, z up of both: turned by 1.82 degrees, looking up by 0.89."""
    yaw, pitch, roll = np.radians([1.8209, -0.8886, -0.0589])
    turns = np.eye(3)
    for axis, angle in ((2, yaw), (1, pitch), (0, roll)):
        one = np.eye(3)
        i, j = (axis + 1) % 3, (axis + 2) % 3
        one[[i, j], [i, j]], one[i, j], one[j, i] = np.cos(angle), -np.sin(angle), np.sin(angle)
        turns = turns @ one
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turns, (0.806, 0.0, 1.8575)
    return matrix


def lidar_to_world(scan: int) -> np.ndarray:
    """Of x forward, y left, z up."""
    return car_pose(scan)[1] @ _TURN @ lidar_to_car()


def camera_pose(channel: str, scan: int) -> tuple[dict, np.ndarray]:
    """Of a camera that looks along y of the LiDAR, turned to the left by its angle; x right, y down, z forward."""
    yaw = 0.45 + 0.1 * scan + CAMERA_YAW[channel]
    forward, right = np.array([-math.sin(yaw), math.cos(yaw), 0]), np.array([math.cos(yaw), math.sin(yaw), 0])
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([right, [0, 0, -1], forward], axis=1)
    matrix[:3, 3] = 100.3 + scan, -49.0, 1.7
    half = yaw / 2  # the turn about z, then that of -90 degrees about x
    c, s = math.cos(half), math.sin(half)
    root = math.sqrt(0.5)
    heading = {"w": c * root, "x": -c * root, "y": -s * root, "z": s * root}
    return {"position": dict(zip("xyz", matrix[:3, 3].tolist())), "heading": heading}, matrix


def own_points(scan: int) -> dict[str, np.ndarray]:
    """A scan in the frame of the Pandar64, x forward, y left."""
    rng = np.random.default_rng(scan)
    xyz = rng.uniform([-30, -30, -3.4], [40, 30, 2.1], (POINTS, 3))
    return {
        **dict(zip("xyz", xyz.T)),
        "i": rng.integers(0, 256, POINTS).astype(float),
        "t": START_S + 0.1 * scan + rng.uniform(0, 0.1, POINTS),
        "d": rng.integers(0, 2, POINTS),
        "class": rng.choice([0, 5, 7, 13, 30, 42], POINTS),
    }


def row_numbers(scan: int) -> np.ndarray:
    return np.random.default_rng(50 + scan).permutation(3 * POINTS)[:POINTS]


def packed(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data, 1))


def write(root: Path) -> Path:
    sequence = root / "001"
    for scan in range(SCANS):
        own = own_points(scan)
        matrix = lidar_to_world(scan)
        xyz = np.stack([own[a] for a in "xyz"], 1) @ matrix[:3, :3].T + matrix[:3, 3]
        table = {**dict(zip("xyz", xyz.T)), **{name: own[name] for name in "itd"}}
        rows = row_numbers(scan)
        packed(sequence / f"lidar/{scan:02d}.pkl.gz", pickles.frame(table, rows))
        if scan < 2:  # the second one in another order, some points are not in it
            order = np.arange(POINTS) if scan == 0 else np.random.default_rng(9).permutation(POINTS)[10:]
            labels = pickles.frame({"class": own["class"][order]}, rows[order])
            packed(sequence / f"annotations/semseg/{scan:02d}.pkl.gz", labels)
        for channel in CAMERA_YAW:
            image = np.random.default_rng([scan, len(channel)]).integers(0, 255, (*SIZE, 3)).astype(np.uint8)
            path = sequence / f"camera/{channel}/{scan:02d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(cv2.imencode(".jpg", image)[1].tobytes())
    times = [START_S + 0.1 * scan for scan in range(SCANS)]
    (sequence / "lidar/poses.json").write_text(json.dumps([car_pose(s)[0] for s in range(SCANS)]))
    (sequence / "lidar/timestamps.json").write_text(json.dumps(times))
    for channel in CAMERA_YAW:
        folder = sequence / "camera" / channel
        (folder / "poses.json").write_text(json.dumps([camera_pose(channel, s)[0] for s in range(SCANS)]))
        (folder / "timestamps.json").write_text(json.dumps([time + 0.02 for time in times]))
        (folder / "intrinsics.json").write_text(json.dumps({"fx": 60.0, "fy": 61.0, "cx": 47.5, "cy": 26.0}))
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("pandaset"))


@pytest.fixture(scope="module")
def index(root: Path, tmp_path_factory: pytest.TempPathFactory) -> LogIndex:
    return prepare("pandaset_raw", root, tmp_path_factory.mktemp("index"))


@pytest.mark.parametrize("scan", range(SCANS))
def test_points_come_out_of_the_world(index, scan):
    own = own_points(scan)
    frame = index.frame(scan, images=False)
    np.testing.assert_allclose(frame.cloud.xyz, np.stack([own[a] for a in "xyz"], 1), atol=4e-5)
    np.testing.assert_allclose(frame.cloud.intensity, own["i"] / 255, rtol=1e-6)
    np.testing.assert_array_equal(frame.cloud.extra["sensor"], own["d"])
    np.testing.assert_allclose(frame.cloud.extra["time_s"], own["t"] - START_S - 0.1 * scan, atol=1e-5)
    assert frame.time_us == round((START_S + 0.1 * scan) * 1e6)
    matrix = lidar_to_world(scan)
    world = np.stack([own[a] for a in "xyz"], 1) @ matrix[:3, :3].T + matrix[:3, 3]
    ours = frame.cloud.xyz.astype(float) @ frame.lidar_to_world[:3, :3].T + frame.lidar_to_world[:3, 3]
    np.testing.assert_allclose(ours, world, atol=3e-5)
    np.testing.assert_allclose(frame.lidar_to_ego, lidar_to_car(), atol=2e-6)
    np.testing.assert_allclose(frame.ego_to_world, car_pose(scan)[1] @ _TURN, atol=1e-9)


def test_the_pandar64_is_where_the_devkits_calibration_puts_it(index):
    """Facts of the devkit: of its sequence 002, whose car stands still, and its static_extrinsic_calibration.yaml."""
    car = from_the_file(
        [0.9228008413628755, 0.004203470346421771, 0.017748122036067578, -0.38484534839492135],
        [0.013855140786457543, 0.012919402895141957, 0.004219108240105163],
    )
    front = from_the_file(
        [0.6547094437137445, -0.6516833570858166, 0.2766808211777923, -0.26478683804483427],
        [0.6723918446362401, 0.5736361095074287, 1.8051214460018485],
    )
    lidar_to_front = from_the_file(  # of a LiDAR that looks back: x left, y backward
        [0.016213200031258722, 0.0030578899383849464, 0.7114721800418571, -0.7025205466606356],
        [0.0002585796504896516, -0.03907777167811011, -0.0440125762408362],
    )
    looks_back = np.array([[0.0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])  # from x forward
    mount = np.linalg.inv(car @ _TURN) @ front @ lidar_to_front @ looks_back
    found = index.frame(0, images=False).lidar_to_ego
    np.testing.assert_allclose(found[:3, :3], mount[:3, :3], atol=1e-3)
    np.testing.assert_allclose(found[:3, 3], mount[:3, 3], atol=0.02)


def test_labels_are_joined_by_the_numbers_of_the_rows(index):
    train = {0: 255, 5: 4, 7: 0, 13: 9, 30: 3, 42: 7}
    first = own_points(0)["class"].tolist()
    assert index.frame(0, images=False).labels.tolist() == [train[raw] for raw in first]
    second = own_points(1)["class"].copy()
    second[np.random.default_rng(9).permutation(POINTS)[:10]] = 0
    assert index.frame(1, images=False).labels.tolist() == [train[raw] for raw in second.tolist()]
    assert not index.has_labels(2)


def test_unpacked_tables_of_a_mirror_are_read_as_the_packed_ones(root, index, tmp_path):
    """Kaggle's mirror has NN.pkl (scaleapi/pandaset-devkit, issue 140)."""
    shutil.copytree(root, tmp_path / "log")
    for path in (tmp_path / "log").rglob("*.pkl.gz"):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    found = prepare("pandaset_raw", tmp_path / "log", tmp_path / "index")
    assert found.tokens(found.rows()) == index.tokens(index.rows())
    for row in (0, 1):
        one, other = found.frame(row, images=False), index.frame(row, images=False)
        np.testing.assert_array_equal(one.cloud.xyz, other.cloud.xyz)
        np.testing.assert_array_equal(one.labels, other.labels)
    assert not found.has_labels(2)


def test_scans_without_labels_are_told_of(root, tmp_path, caplog):
    shutil.copytree(root, tmp_path / "log")
    prepare("pandaset_raw", tmp_path / "log", tmp_path / "index")
    assert "1 of the 3 scans of 001 have no labels, the first is 001_02" in caplog.text
    shutil.rmtree(tmp_path / "log/001/annotations")
    warnings = prepare("pandaset_raw", tmp_path / "log", tmp_path / "index").warnings
    assert [warning.split(": ")[1] for warning in warnings] == [
        "has no labels of points; its scans go without"
    ]


def test_a_camera_whose_first_images_are_missing_is_mounted_as_the_whole_one(root, index, tmp_path):
    shutil.copytree(root, tmp_path / "log")
    (tmp_path / "log/001/camera/front_camera/00.jpg").unlink()
    found = prepare("pandaset_raw", tmp_path / "log", tmp_path / "index").frame(1).cameras[0]
    whole = index.frame(1).cameras[0]
    # the car goes on while the camera waits: it is a fifth of its way to the next scan
    mount = np.linalg.inv(car_pose(1.2)[1] @ _TURN) @ camera_pose("front_camera", 1)[1]
    np.testing.assert_allclose(found.camera_to_ego, mount, atol=1e-9)
    for camera in (found, whole):
        placed = camera.ego_to_world @ camera.camera_to_ego
        np.testing.assert_allclose(placed, camera_pose("front_camera", 1)[1], atol=1e-9)


def test_a_labelled_scan_is_unpacked_once_and_anew_when_it_changed(root, tmp_path, monkeypatch):
    shutil.copytree(root, tmp_path / "log")
    index = prepare("pandaset_raw", tmp_path / "log", tmp_path / "index")
    unpacked: list[str] = []
    read_table = pandaset_files.read_table
    monkeypatch.setattr(
        pandaset_files, "read_table", lambda path: unpacked.append(path.parent.name) or read_table(path)
    )
    before = index.frame(0, images=False)
    assert sorted(unpacked) == ["lidar", "semseg"]
    own = own_points(0)
    table = {axis: own[axis] + 9.0 for axis in "xyz"} | {name: own[name] for name in "itd"}
    packed(tmp_path / "log/001/lidar/00.pkl.gz", pickles.frame(table, row_numbers(0)[::-1].copy()))
    after = index.frame(0, images=False)
    assert after.labels.tolist() == before.labels[::-1].tolist()


def test_images_have_the_pose_of_their_own(index):
    frame = index.frame(1)
    assert [camera.channel for camera in frame.cameras] == ["front_camera", "left_camera"]
    own = own_points(1)
    matrix = lidar_to_world(1)
    world = np.stack([own[a] for a in "xyz"], 1) @ matrix[:3, :3].T + matrix[:3, 3]
    total = 0
    for camera in frame.cameras:
        _, to_world = camera_pose(camera.channel, 1)
        xyz = (world - to_world[:3, 3]) @ to_world[:3, :3]
        u, v = 60 * xyz[:, 0] / xyz[:, 2] + 47.5, 61 * xyz[:, 1] / xyz[:, 2] + 26
        seen = project(frame.points, frame.lidar_to_camera(camera), camera.lens)
        np.testing.assert_allclose(seen.pixels, np.stack([u, v], 1)[seen.rows], atol=0.02)
        total += len(seen)
        assert camera.size == SIZE
        assert camera.time_us == round((START_S + 0.12) * 1e6)
    assert total > 40


def test_it_is_pretrained_on_and_checked(index):
    dataset = PretrainDataset(
        index,
        region="world_cell",
        clouds={"max_points": 300},
        views={"size": (32, 64), "flip": 0.0},
        times={"offsets": [-1, 0, 1]},
    )
    assert len(dataset[1].images) == 6
    report = check_log(index, project=project, workers=1)
    assert report.counts["labelled_frames"] == 2
    assert not [p for p in report.problems if p.kind in ("points", "labels", "image", "missing file")]


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("lidar/poses.json", "[]", r"poses\.json: must be a list of 3 entries"),
        ("lidar/poses.json", '[{"position": 3}, 1, 2]', r"poses\.json: an entry is no pose"),
        ("lidar/poses.json", "[", r"poses\.json: is no valid JSON"),
        ("lidar/timestamps.json", '["a", 1, 2]', r"timestamps\.json: 'a' is no time in seconds"),
        (
            "camera/front_camera/intrinsics.json",
            '{"fx": 3}',
            r"intrinsics\.json: must hold fx, fy, cx and cy",
        ),
        (
            "camera/front_camera/intrinsics.json",
            '{"fx": 60, "fy": "wide", "cx": 1, "cy": 2}',
            r"intrinsics\.json: 'wide' is no fy in pixels",
        ),
        ("camera/front_camera/poses.json", None, r"poses\.json"),
    ],
)
def test_what_a_sequence_lacks_is_named(root, tmp_path, file, content, said):
    shutil.copytree(root, tmp_path / "log")
    path = tmp_path / "log/001" / file
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    with pytest.raises(InputError, match=said):
        prepare("pandaset_raw", tmp_path / "log", tmp_path / "index")


def test_labels_that_number_a_point_twice_are_refused(root, tmp_path):
    shutil.copytree(root, tmp_path / "log")
    index = prepare("pandaset_raw", tmp_path / "log", tmp_path / "index")
    path = tmp_path / "log/001/annotations/semseg/00.pkl.gz"
    packed(path, pickles.frame({"class": np.zeros(POINTS, np.int64)}, np.zeros(POINTS, np.int64)))
    with pytest.raises(InputError, match="numbers a point twice"):
        index.frame(0, images=False)
    packed(path, pickles.frame({"klass": np.zeros(POINTS, np.int64)}, range(POINTS)))
    with pytest.raises(InputError, match="has no column class of numbers, but klass"):
        index.frame(0, images=False)
