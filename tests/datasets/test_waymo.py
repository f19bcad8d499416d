"""Waymo 2 on parquet files of the published columns, against a twin that goes pixel by pixel."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest
import yaml
from pyarrow import parquet

from superflow.camera.projection import project
from superflow.clips.dataset import PretrainDataset
from superflow.datasets.card import load_card
from superflow.datasets.check.log import check_log
from superflow.datasets.formats.arrow_tables import read_parquet_table
from superflow.datasets.formats.waymo_parquet import COMPONENTS
from superflow.datasets.index import LogIndex
from superflow.datasets.prepare import prepare
from superflow.errors import InputError

SEGMENT = "10017090168044687777_6380_000_6400_000"
TIMES = (1_550_083_467_346_370, 1_550_083_467_446_351, 1_550_083_467_546_333)  # [microseconds]
LABELLED = TIMES[1]
SHAPES = {1: (8, 60), 2: (3, 5), 3: (3, 5), 4: (3, 5), 5: (3, 5)}
# height, width of the cameras
SIZES = {1: (128, 192), 2: (128, 192), 3: (128, 192), 4: (88, 192), 5: (88, 192)}


def rotation(roll: float, pitch: float, yaw: float) -> np.ndarray:
    """Rz(yaw) Ry(pitch) Rx(roll)."""
    c, s = math.cos, math.sin
    rx = np.array([[1, 0, 0], [0, c(roll), -s(roll)], [0, s(roll), c(roll)]])
    ry = np.array([[c(pitch), 0, s(pitch)], [0, 1, 0], [-s(pitch), 0, c(pitch)]])
    rz = np.array([[c(yaw), -s(yaw), 0], [s(yaw), c(yaw), 0], [0, 0, 1]])
    return rz @ ry @ rx


def pose(x: float, y: float, z: float, roll: float = 0, pitch: float = 0, yaw: float = 0) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation(roll, pitch, yaw), (x, y, z)
    return matrix


MOUNTS = {
    1: pose(1.43, 0, 2.18, yaw=2.58),
    2: pose(4.07, 0, 0.69, yaw=0.01),
    3: pose(3.2, 1.1, 0.98, yaw=1.6),
    4: pose(3.2, -1.1, 0.98, yaw=-1.6),
    5: pose(-1.2, 0, 0.47, yaw=3.1),
}
INCLINATIONS = {1: sorted(np.random.default_rng(0).uniform(-0.3, 0.04, 8).tolist())}
VEHICLE = {time: pose(900.0 + i, -40.0, 12.0, 0.01, -0.02, 0.7 + 0.1 * i) for i, time in enumerate(TIMES)}


def range_image(time: int, laser: int, echo: int) -> np.ndarray:
    """(H, W, 4); a third of the pixels have no return, which is -1."""
    rng = np.random.default_rng([time % 1000, laser, echo])
    image = rng.uniform(2, 70, (*SHAPES[laser], 4)).astype(np.float32)
    image[..., 1] = rng.uniform(0, 30, SHAPES[laser])
    image[rng.random(SHAPES[laser]) < (0.3 if echo == 1 else 0.9)] = -1
    return image


def pixel_poses(time: int) -> np.ndarray:
    """(H, W, 6) of the upper LiDAR: the vehicle moves while it turns."""
    image = np.zeros((*SHAPES[1], 6), np.float32)
    step = np.linspace(-0.05, 0.05, SHAPES[1][1])
    image[..., :3] = (0.01, -0.02, 0.7 + 0.1 * TIMES.index(time))
    image[..., 2] += step
    image[..., 3:] = (900.0 + TIMES.index(time), -40.0, 12.0)
    image[..., 3] += 10 * step
    return image


def labels(time: int, echo: int) -> np.ndarray:
    """(H, W, 2) instance, class."""
    rng = np.random.default_rng([time % 1000, echo])
    return np.stack([rng.integers(0, 90, SHAPES[1]), rng.integers(0, 23, SHAPES[1])], axis=-1).astype(
        np.int32
    )


def images(
    component: str, echo: int, arrays: list[np.ndarray | None], kind: pa.DataType
) -> dict[str, pa.Array]:
    part = f"[{component}].range_image_return{echo}"
    flat = [None if array is None else array.ravel() for array in arrays]
    return {
        f"{part}.values": pa.array(flat, pa.list_(kind)),
        f"{part}.shape": pa.array([None if a is None else a.shape for a in arrays], pa.list_(pa.int32(), 3)),
    }


def keys(rows: list[tuple[int, int]], name: str) -> dict[str, pa.Array]:
    return {
        "key.segment_context_name": pa.array([SEGMENT] * len(rows)),
        "key.frame_timestamp_micros": pa.array([time for time, _ in rows], pa.int64()),
        f"key.{name}_name": pa.array([number for _, number in rows], pa.int8()),
    }


def store(root: Path, component: str, columns: dict[str, pa.Array], rows: int = 4) -> None:
    path = root / "training" / component / f"{SEGMENT}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table(columns), path, row_group_size=rows)


def matrices(values: list[np.ndarray]) -> pa.Array:
    return pa.array([value.ravel() for value in values], pa.list_(pa.float64(), 16))


def write(root: Path, *, cameras: bool = True) -> Path:
    rows = [(time, laser) for time in reversed(TIMES) for laser in (3, 1, 2, 5, 4)]  # in no order
    returns = {echo: [range_image(time, laser, echo) for time, laser in rows] for echo in (1, 2)}
    echoes = images("LiDARComponent", 1, returns[1], pa.float32()) | images(
        "LiDARComponent", 2, returns[2], pa.float32()
    )
    store(root, "lidar", keys(rows, "laser") | echoes)
    lasers = [2, 1, 5, 3, 4]
    part = "[LiDARCalibrationComponent]."
    even = (-1.5, 0.6)
    store(
        root,
        "lidar_calibration",
        {
            "key.segment_context_name": pa.array([SEGMENT] * 5),
            "key.laser_name": pa.array(lasers, pa.int8()),
            f"{part}extrinsic.transform": matrices([MOUNTS[laser] for laser in lasers]),
            f"{part}beam_inclination.min": pa.array([even[0]] * 5),
            f"{part}beam_inclination.max": pa.array([even[1]] * 5),
            f"{part}beam_inclination.values": pa.array(
                [INCLINATIONS.get(i) for i in lasers], pa.list_(pa.float64())
            ),
        },
    )
    top = [(time, 1) for time in TIMES]
    poses = images("LiDARPoseComponent", 1, [pixel_poses(time) for time in TIMES], pa.float32())
    store(root, "lidar_pose", keys(top, "laser") | poses)
    store(
        root,
        "vehicle_pose",
        {
            "key.segment_context_name": pa.array([SEGMENT] * len(TIMES)),
            "key.frame_timestamp_micros": pa.array(TIMES, pa.int64()),
            "[VehiclePoseComponent].world_from_vehicle.transform": matrices(
                [VEHICLE[time] for time in TIMES]
            ),
        },
    )
    name = "LiDARSegmentationLabelComponent"
    classes = images(name, 1, [labels(LABELLED, 1)], pa.int32()) | images(
        name, 2, [labels(LABELLED, 2)], pa.int32()
    )
    store(root, "lidar_segmentation", keys([(LABELLED, 1)], "laser") | classes)
    if cameras:
        write_cameras(root)
    return root


LENS = {
    "f_u": 205.0,
    "f_v": 206.0,
    "c_u": 94.0,
    "c_v": 63.0,
    "k1": 0.04,
    "k2": -0.3,
    "p1": 0.001,
    "p2": -0.0005,
    "k3": 0.0,
}
CAMERA_YAW = {1: 0.0, 2: 0.8, 3: -0.8, 4: 1.6, 5: -1.6}


def write_cameras(root: Path) -> None:
    part = "[CameraCalibrationComponent]."
    mounts = [pose(1.5, 0, 2.1, yaw=CAMERA_YAW[i]) for i in SIZES]
    store(
        root,
        "camera_calibration",
        {
            "key.segment_context_name": pa.array([SEGMENT] * 5),
            "key.camera_name": pa.array(list(SIZES), pa.int8()),
            **{f"{part}intrinsic.{name}": pa.array([value] * 5) for name, value in LENS.items()},
            f"{part}extrinsic.transform": matrices(mounts),
            f"{part}width": pa.array([size[1] for size in SIZES.values()], pa.int32()),
            f"{part}height": pa.array([size[0] for size in SIZES.values()], pa.int32()),
        },
    )
    rows = [(time, camera) for time in TIMES for camera in (5, 1, 2, 3, 4)]
    pictures = [picture(time, camera) for time, camera in rows]
    store(
        root,
        "camera_image",
        keys(rows, "camera")
        | {
            "[CameraImageComponent].image": pa.array(pictures, pa.binary()),
            "[CameraImageComponent].pose.transform": matrices(
                [image_pose(time, camera) for time, camera in rows]
            ),
            "[CameraImageComponent].pose_timestamp": pa.array(
                [time * 1e-6 - 0.01 * camera for time, camera in rows]
            ),
        },
    )


def picture(time: int, camera: int) -> bytes:
    shade = np.full((*SIZES[camera], 3), (20 * camera, 60, 80 * TIMES.index(time)), np.uint8)
    return cv2.imencode(".jpg", shade)[1].tobytes()


def image_pose(time: int, camera: int) -> np.ndarray:
    return VEHICLE[time] @ pose(-0.1 * camera, 0, 0)


def by_hand(time: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N, 7) x, y, z, intensity, elongation, LiDAR, echo; (N,) class; (N,) instance: pixel by pixel."""
    points, classes, instances = [], [], []
    for echo in (1, 2):
        for laser, (height, width) in SHAPES.items():
            image, mount = range_image(time, laser, echo), MOUNTS[laser]
            for i in range(height):
                low, high = -1.5, 0.6
                upward = (
                    INCLINATIONS[laser][height - 1 - i]
                    if laser in INCLINATIONS
                    else low + (height - 1 - i + 0.5) / height * (high - low)
                )
                for j in range(width):
                    distance = float(image[i, j, 0])
                    if distance <= 0:
                        continue
                    azimuth = ((2 * (width - j - 0.5) / width) - 1) * math.pi - math.atan2(
                        mount[1, 0], mount[0, 0]
                    )
                    ray = [
                        math.cos(azimuth) * math.cos(upward),
                        math.sin(azimuth) * math.cos(upward),
                        math.sin(upward),
                    ]
                    point = mount @ np.append(distance * np.array(ray), 1)
                    if laser == 1:
                        roll, pitch, yaw, x, y, z = pixel_poses(time)[i, j].astype(float)
                        point = np.linalg.inv(VEHICLE[time]) @ pose(x, y, z, roll, pitch, yaw) @ point
                    points.append([*point[:3], image[i, j, 1], image[i, j, 2], laser - 1, echo])
                    classes.append(labels(time, echo)[i, j, 1] if laser == 1 else 0)
                    instances.append(labels(time, echo)[i, j, 0] if laser == 1 else 0)
    return np.array(points), np.array(classes), np.array(instances)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("waymo"))


@pytest.fixture(scope="module")
def index(root: Path, tmp_path_factory: pytest.TempPathFactory) -> LogIndex:
    return prepare("waymo", root, tmp_path_factory.mktemp("index"))


@pytest.mark.parametrize("row", [0, 1, 2])
def test_points_are_those_of_the_twin(index, row):
    want, _, _ = by_hand(TIMES[row])
    frame = index.frame(row, images=False)
    np.testing.assert_allclose(frame.cloud.xyz, want[:, :3], atol=2e-4)
    np.testing.assert_allclose(frame.cloud.intensity, np.tanh(want[:, 3]), atol=1e-6)
    for place, name in ((4, "elongation"), (5, "lidar"), (6, "echo")):
        np.testing.assert_allclose(frame.cloud.extra[name], want[:, place], rtol=1e-6)
    assert (frame.time_us, frame.scene) == (TIMES[row], SEGMENT)
    np.testing.assert_array_equal(frame.ego_to_world, VEHICLE[TIMES[row]])
    assert [lidar.name for lidar in frame.lidars] == ["TOP", "FRONT", "SIDE_LEFT", "SIDE_RIGHT", "REAR"]
    np.testing.assert_allclose(frame.origins[want[:, 5] == 4][0], MOUNTS[5][:3, 3], atol=1e-9)


def test_labels_are_of_the_upper_lidar_and_of_some_frames(index, shared_data):
    _, classes, instances = by_hand(LABELLED)
    facts = yaml.safe_load((shared_data / "label_maps/waymo.yaml").read_text())
    frame = index.frame(1, images=False)
    assert frame.labels.tolist() == [facts["raw_to_train"][i] for i in classes.tolist()]
    assert (frame.labels[frame.cloud.extra["lidar"] > 0] == 255).all()
    assert index.instances(1, len(classes)).tolist() == instances.tolist()
    assert [index.frame(row, images=False).labels is None for row in range(3)] == [True, False, True]
    assert [index.has_labels(row) for row in range(3)] == [False, True, False]
    assert list(index.card.classes) == facts["class_names"]
    assert load_card("waymo").label_map[0] == 255


def test_images_have_their_own_pose_time_and_distortion(index):
    frame = index.frame(2)
    assert [camera.channel for camera in frame.cameras] == [
        "FRONT",
        "FRONT_LEFT",
        "FRONT_RIGHT",
        "SIDE_LEFT",
        "SIDE_RIGHT",
    ]
    total = 0
    for number, camera in enumerate(frame.cameras, start=1):
        want = cv2.imdecode(np.frombuffer(picture(TIMES[2], number), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        np.testing.assert_array_equal(camera.image, want)
        assert camera.time_us == pytest.approx(TIMES[2] - 10_000 * number, abs=1)
        xyz = np.column_stack([frame.cloud.xyz.astype(float), np.ones(len(frame.cloud))])
        to_camera = np.linalg.inv(image_pose(TIMES[2], number) @ pose(1.5, 0, 2.1, yaw=CAMERA_YAW[number]))
        forward, left, up, _ = to_camera @ VEHICLE[TIMES[2]] @ xyz.T
        with np.errstate(divide="ignore", invalid="ignore"):
            x, y = -left / forward, -up / forward
        r2 = x * x + y * y
        radial = 1 + LENS["k1"] * r2 + LENS["k2"] * r2**2 + LENS["k3"] * r2**3
        u = (
            LENS["f_u"] * (x * radial + 2 * LENS["p1"] * x * y + LENS["p2"] * (r2 + 2 * x * x))
            + LENS["c_u"]
            - 0.5
        )
        v = (
            LENS["f_v"] * (y * radial + LENS["p1"] * (r2 + 2 * y * y) + 2 * LENS["p2"] * x * y)
            + LENS["c_v"]
            - 0.5
        )
        seen = project(frame.points, frame.lidar_to_camera(camera), camera.lens)
        np.testing.assert_allclose(seen.pixels, np.stack([u, v], 1)[seen.rows], atol=0.02)
        total += len(seen)
    assert total > 40


def test_splits_are_the_folders_and_clips_are_made_of_five_cameras(index):
    assert index.rows("train").tolist() == [0, 1, 2]
    dataset = PretrainDataset(
        index, region="world_cell", clouds={"max_points": 4000}, views={"size": (64, 96), "flip": 0.0}
    )
    assert len(dataset[1].images) == 9, "three of the five cameras at three times"


def test_the_check_reads_everything(index):
    report = check_log(index, project=project, workers=1)
    assert not [
        problem
        for problem in report.problems
        if problem.kind in ("points", "labels", "image", "missing file")
    ]
    assert report.counts["labelled_frames"] == 1


def test_without_images_and_labels_a_segment_has_none(tmp_path):
    root = write(tmp_path / "waymo", cameras=False)
    (root / f"training/lidar_segmentation/{SEGMENT}.parquet").unlink()
    frame = prepare("waymo", root, tmp_path / "index").frame(1)
    assert (frame.cameras, frame.labels) == ((), None)


def test_segments_may_lie_in_the_root_and_their_list_then_says_the_split(tmp_path):
    write(tmp_path / "waymo", cameras=False)
    index = prepare("waymo", tmp_path / "waymo/training", tmp_path / "index")
    assert index.rows("train").tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "component", ["lidar", "lidar_calibration", "lidar_pose", "vehicle_pose", "lidar_segmentation"]
)
@pytest.mark.parametrize("kind", ["gone", "cut", "empty", "columns", "rows"])
def test_whatever_a_file_lacks_is_named(tmp_path, component, kind):
    root = write(tmp_path / "waymo", cameras=False)
    index = prepare("waymo", root, tmp_path / "index")
    path = root / f"training/{component}/{SEGMENT}.parquet"
    table = parquet.read_table(path, partitioning=None)
    if kind == "gone":
        path.unlink()
    elif kind in ("cut", "empty"):
        path.write_bytes(path.read_bytes()[: len(path.read_bytes()) // 2 if kind == "cut" else 0])
    elif kind == "columns":
        parquet.write_table(
            table.select([name for name in table.column_names if name.startswith("key.")]), path
        )
    else:
        parquet.write_table(table.slice(0, 0), path)
    with pytest.raises(InputError) as told:
        index.frame(1, images=False)
    assert str(path) in str(told.value)
    assert "\n" not in str(told.value)


def test_files_of_a_frame_are_read_once_and_anew_where_they_changed(tmp_path, monkeypatch):
    root = write(tmp_path / "waymo", cameras=False)
    index = prepare("waymo", root, tmp_path / "index")
    read: list[str] = []

    def noted(path, kinds, at=None):
        read.append(path.parent.name)
        return read_parquet_table(path, kinds, at)

    monkeypatch.setattr("superflow.datasets.formats.waymo_parquet.read_parquet_table", noted)
    row = TIMES.index(LABELLED)
    before = index.frame(row).cloud.xyz
    assert sorted(read) == sorted(COMPONENTS), "points, classes and instances share what is read"
    assert index.frame(row).cloud.xyz.tolist() == before.tolist()
    assert len(read) == len(COMPONENTS)
    path = root / "training/vehicle_pose" / f"{SEGMENT}.parquet"
    moved = [np.linalg.inv(pose(3, 0, 0)) @ VEHICLE[time] for time in TIMES]
    name = "[VehiclePoseComponent].world_from_vehicle.transform"
    table = parquet.read_table(path, partitioning=None)
    parquet.write_table(table.set_column(table.column_names.index(name), name, matrices(moved)), path)
    assert index.frame(row).cloud.xyz.tolist() != before.tolist()


def test_images_of_another_shape_than_their_numbers_are_refused(tmp_path):
    root = write(tmp_path / "waymo", cameras=False)
    index = prepare("waymo", root, tmp_path / "index")
    path = root / f"training/lidar/{SEGMENT}.parquet"
    table = parquet.read_table(path, partitioning=None)
    name = "[LiDARComponent].range_image_return1.shape"
    huge = pa.array([[2**30, 2**30, 4]] * table.num_rows, pa.list_(pa.int32(), 3))
    parquet.write_table(table.set_column(table.column_names.index(name), name, huge), path)
    with pytest.raises(InputError, match=r"numbers are no image of \(1073741824, 1073741824, 4\)"):
        index.frame(0, images=False)


def test_an_image_that_is_not_there_is_named(tmp_path):
    root = write(tmp_path / "waymo")
    index = prepare("waymo", root, tmp_path / "index")
    path = root / f"training/camera_image/{SEGMENT}.parquet"
    parquet.write_table(parquet.read_table(path, partitioning=None).slice(5), path)
    with pytest.raises(InputError, match=rf"has 0 images of the camera 1 at {TIMES[0]}"):
        index.frame(0)


def test_frames_that_lack_a_lidar_are_told(tmp_path, caplog):
    """Their points are fewer, and nothing else says so."""
    path = write(tmp_path) / "training" / "lidar" / f"{SEGMENT}.parquet"
    rows = parquet.read_table(path).to_pylist()
    part = "[LiDARComponent].range_image_return1."
    for row in rows:
        if (row["key.frame_timestamp_micros"], row["key.laser_name"]) == (TIMES[2], 5):
            row[f"{part}values"] = row[f"{part}shape"] = None
    kept = [
        row for row in rows if (row["key.frame_timestamp_micros"], row["key.laser_name"]) != (TIMES[1], 2)
    ]
    parquet.write_table(pa.Table.from_pylist(kept, schema=parquet.read_schema(path)), path)
    index = prepare("waymo", tmp_path, tmp_path / "index")
    said = (
        f"{path}: 2 of 3 frames lack the points of a LiDAR, the first is {TIMES[1]} without FRONT; copy the file "
        "again, or take them as they are"
    )
    assert said in caplog.text
    notes = check_log(index, project=project, workers=1).notes
    assert said in notes
    for name, time in (("FRONT", TIMES[1]), ("REAR", TIMES[2])):
        assert f"1 scans hold no point of the LiDAR {name}, the first is {SEGMENT}_{time}" in "; ".join(notes)
