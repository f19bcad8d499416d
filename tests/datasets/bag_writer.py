"""A small drive as a bag: written by rosbags (ROS 1 and 2) or by mcap (ROS 1 in an MCAP), every number known.

A LiDAR on a car that turns, a fisheye camera of JPEGs and a camera of raw pixels, tf from the car to each, a odometry.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mcap.writer import Writer as McapWriter
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from scipy.spatial.transform import Rotation

START_NS = 1_700_000_000_000_000_000
COUNT, ROWS, WIDTH = 4, 4, 30
SIZE = (36, 64)
TOP_TO_BASE = np.array([[1.0, 0, 0, 0.5], [0, 1, 0, 0], [0, 0, 1, 1.8], [0, 0, 0, 1]])
CAMERA_TO_BASE = np.array([[0.0, 0, 1, 1.5], [-1, 0, 0, 0.2], [0, -1, 0, 1.4], [0, 0, 0, 1]])
FISHEYE = (0.1, 0.01, 0.001, 0.0)
KINDS = ("ros2_mcap", "ros2_db3", "ros1_bag", "ros1_mcap")


def pose_at(seconds: float) -> np.ndarray:
    """Car to world, by hand."""
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("z", 0.5 * seconds).as_matrix()
    pose[:3, 3] = [7 * seconds, -seconds, 0]
    return pose


def points_of(i: int) -> dict[str, np.ndarray]:
    """The fields of scan ``i``; the first two points are none."""
    rng = np.random.default_rng(i)
    count = ROWS * WIDTH
    xyz = rng.uniform(-20, 20, (count, 3)).astype("f4")
    xyz[0], xyz[1] = 0, np.nan
    return {
        **dict(zip("xyz", xyz.T)),
        "reflectivity": rng.integers(0, 200, count).astype("u2"),
        "ring": np.repeat(np.arange(ROWS), WIDTH).astype("u1"),
        "t": np.linspace(0, 9e7, count).astype("u4"),
    }


def picture(i: int) -> np.ndarray:
    """(H, W, 3) BGR."""
    return np.kron(np.random.default_rng(90 + i).integers(0, 256, (9, 16, 3)), np.ones((4, 4, 1))).astype(
        "u1"
    )


class Messages:
    """Messages of either ROS, made from the same numbers."""

    def __init__(self, ros1: bool) -> None:
        self.ros1 = ros1
        self.store = get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_HUMBLE)
        if ros1:
            self.store.register(
                get_types_from_msg("geometry_msgs/TransformStamped[] transforms", "tf2_msgs/msg/TFMessage")
            )

    def __call__(self, kind: str, /, **fields: Any) -> Any:
        return self.store.types[kind.replace("/", "/msg/")](**fields)

    def header(self, time_ns: int, frame: str) -> Any:
        stamp = self("builtin_interfaces/Time", sec=time_ns // 10**9, nanosec=time_ns % 10**9)
        return self("std_msgs/Header", stamp=stamp, frame_id=frame, **({"seq": 0} if self.ros1 else {}))

    def cloud(self, i: int, time_ns: int, *, organised: bool, big: bool, gap: int, tail: int) -> Any:
        """Fields in odd places, rows with bytes behind them."""
        order = ">" if big else "<"
        offsets, step = {}, gap
        fields = points_of(i)
        for name, values in fields.items():
            offsets[name] = step
            step += values.dtype.itemsize + gap
        row = np.dtype(
            {
                "names": list(fields),
                "formats": [v.dtype.newbyteorder(order) for v in fields.values()],
                "offsets": list(offsets.values()),
                "itemsize": step,
            }
        )
        table = np.zeros(ROWS * WIDTH, row)
        for name, values in fields.items():
            table[name] = values
        height, width = (ROWS, WIDTH) if organised else (1, ROWS * WIDTH)
        rows = table.tobytes()
        data = b"".join(
            rows[k * width * step : (k + 1) * width * step] + b"\xab" * tail for k in range(height)
        )
        codes = {"f4": 7, "u1": 2, "u2": 4, "u4": 6}
        return self(
            "sensor_msgs/PointCloud2",
            header=self.header(time_ns, "top"),
            height=height,
            width=width,
            fields=[
                self(
                    "sensor_msgs/PointField",
                    name=n,
                    offset=o,
                    datatype=codes[fields[n].dtype.str[1:]],
                    count=1,
                )
                for n, o in offsets.items()
            ],
            is_bigendian=big,
            point_step=step,
            row_step=width * step + tail,
            data=np.frombuffer(data, np.uint8),
            is_dense=True,
        )

    def info(self, time_ns: int, model: str, bend: tuple[float, ...]) -> Any:
        roi = self(
            "sensor_msgs/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
        )
        numbers = {
            "d": np.array(bend, float),
            "k": np.array([40, 0, 32, 0, 41, 18, 0, 0, 1.0]),
            "r": np.eye(3).reshape(-1),
            "p": np.zeros(12),
        }
        if self.ros1:
            numbers = {name.upper(): values for name, values in numbers.items()}
        return self(
            "sensor_msgs/CameraInfo",
            header=self.header(time_ns, "camera"),
            height=SIZE[0],
            width=SIZE[1],
            distortion_model=model,
            binning_x=0,
            binning_y=0,
            roi=roi,
            **numbers,
        )

    def jpeg(self, i: int, time_ns: int) -> Any:
        data = np.frombuffer(cv2.imencode(".png", picture(i))[1].tobytes(), np.uint8)
        return self(
            "sensor_msgs/CompressedImage", header=self.header(time_ns, "camera"), format="png", data=data
        )

    def raw_image(self, i: int, time_ns: int) -> Any:
        """RGB with three bytes behind each row."""
        rows = np.pad(picture(i)[..., ::-1].reshape(SIZE[0], -1), ((0, 0), (0, 3)), constant_values=7)
        return self(
            "sensor_msgs/Image",
            header=self.header(time_ns, "camera"),
            height=SIZE[0],
            width=SIZE[1],
            encoding="rgb8",
            is_bigendian=0,
            step=3 * SIZE[1] + 3,
            data=np.ascontiguousarray(rows).reshape(-1),
        )

    def transform(self, time_ns: int, parent: str, child: str, matrix: np.ndarray) -> Any:
        turn = dict(zip("xyzw", Rotation.from_matrix(matrix[:3, :3]).as_quat().tolist()))
        place = dict(zip("xyz", matrix[:3, 3].tolist()))
        return self(
            "geometry_msgs/TransformStamped",
            header=self.header(time_ns, parent),
            child_frame_id=child,
            transform=self(
                "geometry_msgs/Transform",
                translation=self("geometry_msgs/Vector3", **place),
                rotation=self("geometry_msgs/Quaternion", **turn),
            ),
        )

    def transforms(self, *found: Any) -> Any:
        return self("tf2_msgs/TFMessage", transforms=list(found))

    def odometry(self, time_ns: int, matrix: np.ndarray) -> Any:
        turn = dict(zip("xyzw", Rotation.from_matrix(matrix[:3, :3]).as_quat().tolist()))
        zero = self("geometry_msgs/Vector3", x=0.0, y=0.0, z=0.0)
        pose = self(
            "geometry_msgs/Pose",
            position=self("geometry_msgs/Point", **dict(zip("xyz", matrix[:3, 3].tolist()))),
            orientation=self("geometry_msgs/Quaternion", **turn),
        )
        return self(
            "nav_msgs/Odometry",
            header=self.header(time_ns, "odom"),
            child_frame_id="base",
            pose=self("geometry_msgs/PoseWithCovariance", pose=pose, covariance=np.zeros(36)),
            twist=self(
                "geometry_msgs/TwistWithCovariance",
                twist=self("geometry_msgs/Twist", linear=zero, angular=zero),
                covariance=np.zeros(36),
            ),
        )


def messages(
    ros1: bool, *, odometry: bool = True, count: int = COUNT, **cloud: Any
) -> tuple[Messages, list[tuple[str, str, int, Any]]]:
    """Topic, type, time of recording and message of a drive."""
    make = Messages(ros1)
    layout = {"organised": True, "big": False, "gap": 3, "tail": 5} | cloud
    before = START_NS - 300_000_000
    static = make.transforms(
        make.transform(before, "base", "top", TOP_TO_BASE),
        make.transform(before, "base", "camera", CAMERA_TO_BASE),
    )
    found: list[tuple[str, str, int, Any]] = [
        ("/tf_static", "tf2_msgs/TFMessage", before, static),
        ("/eye/camera_info", "sensor_msgs/CameraInfo", before, make.info(before, "equidistant", FISHEYE)),
        ("/raw/camera_info", "sensor_msgs/CameraInfo", before, make.info(before, "plumb_bob", (0.0,) * 5)),
    ]
    for k in range(-5, 5 * count):
        time_ns, pose = START_NS + k * 20_000_000, pose_at(0.02 * k)
        if odometry:
            found.append(("/odom", "nav_msgs/Odometry", time_ns, make.odometry(time_ns, pose)))
        else:
            moving = make.transforms(make.transform(time_ns, "map", "base", pose))
            found.append(("/tf", "tf2_msgs/TFMessage", time_ns, moving))
    for i in range(count):
        time_ns = START_NS + i * 100_000_000
        late = time_ns + 30_000_000  # of recording: what is behind the stamp
        found.append(("/top/points", "sensor_msgs/PointCloud2", late, make.cloud(i, time_ns, **layout)))
        shot = time_ns + 10_000_000
        found.append(("/eye/image/compressed", "sensor_msgs/CompressedImage", shot, make.jpeg(i, shot)))
        found.append(("/raw/image_raw", "sensor_msgs/Image", shot, make.raw_image(i, shot)))
    return make, sorted(found, key=lambda row: row[2])


def write_bag(path: Path, kind: str, **options: Any) -> Path:
    """A bag of one of ``KINDS``; returns its file, or its folder for those of ROS 2."""
    make, rows = messages(kind.startswith("ros1"), **options)
    types = {topic: name.replace("/", "/msg/") for topic, name, _, _ in rows}
    if kind == "ros1_mcap":
        return _write_mcap(path.with_suffix(".mcap"), make, rows)
    if kind == "ros1_bag":
        path = path.with_suffix(".bag")
        writer: Any = Writer1(path)
        writer.set_compression(Writer1.CompressionFormat.LZ4)
        serialize = make.store.serialize_ros1
    else:
        plugin = StoragePlugin.MCAP if kind == "ros2_mcap" else StoragePlugin.SQLITE3
        writer, serialize = Writer2(path, version=9, storage_plugin=plugin), make.store.serialize_cdr
    with writer:
        connections = {t: writer.add_connection(t, name, typestore=make.store) for t, name in types.items()}
        for topic, _, time_ns, message in rows:
            writer.write(connections[topic], time_ns, serialize(message, types[topic]))
    return path


def _write_mcap(path: Path, make: Messages, rows: list[tuple[str, str, int, Any]]) -> Path:
    with open(path, "wb") as file:
        writer = McapWriter(file, chunk_size=20_000)
        writer.start(profile="ros1", library="test")
        channels: dict[str, int] = {}
        for topic, name, time_ns, message in rows:
            if topic not in channels:
                text = make.store.generate_msgdef(name.replace("/", "/msg/"))[0].encode()
                schema = writer.register_schema(name, "ros1msg", text)
                channels[topic] = writer.register_channel(topic, "ros1", schema)
            data = bytes(make.store.serialize_ros1(message, name.replace("/", "/msg/")))
            writer.add_message(channels[topic], time_ns, data, time_ns)
        writer.finish()
    return path
