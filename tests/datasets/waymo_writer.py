"""Waymo 1 written byte by byte: TFRecord framing, protocol buffers, and the messages of the published dataset.proto.

Nothing is shared with the reader. The content is that of test_waymo.py, so that both versions say the same.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from test_waymo import (
    CAMERA_YAW,
    INCLINATIONS,
    LABELLED,
    LENS,
    MOUNTS,
    SEGMENT,
    SHAPES,
    SIZES,
    TIMES,
    VEHICLE,
    image_pose,
    labels,
    picture,
    pixel_poses,
    pose,
    range_image,
)

NAME = f"segment-{SEGMENT}_with_camera_labels.tfrecord"


def crc32c(data: bytes) -> int:
    """Bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> bytes:
    crc = crc32c(data)
    turned = (crc >> 15) | (crc << 17) & 0xFFFFFFFF
    return struct.pack("<I", (turned + 0xA282EAD8) % 2**32)


def framed(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


def varint(value: int) -> bytes:
    value %= 2**64
    found = []
    while value > 127:
        found.append(128 | value % 128)
        value //= 128
    return bytes([*found, value])


def whole(number: int, value: int) -> bytes:
    return varint(8 * number) + varint(value)


def double(number: int, value: float) -> bytes:
    return varint(8 * number + 1) + struct.pack("<d", value)


def block(number: int, data: bytes) -> bytes:
    return varint(8 * number + 2) + varint(len(data)) + data


def doubles(number: int, values: Iterable[float]) -> bytes:
    """One field each, as proto2 writes what is not said to be packed."""
    return b"".join(double(number, float(value)) for value in values)


def transform(number: int, matrix: np.ndarray) -> bytes:
    return block(number, doubles(1, matrix.ravel()))


def matrix(array: np.ndarray) -> bytes:
    """MatrixFloat or MatrixInt32."""
    if array.dtype == np.float32:
        data = array.astype("<f4").tobytes()
    else:
        data = b"".join(varint(value) for value in array.ravel().tolist())
    return block(1, data) + block(2, b"".join(whole(1, side) for side in array.shape))


def packed(number: int, array: np.ndarray) -> bytes:
    return block(number, zlib.compress(matrix(array)))


def context() -> bytes:
    found = block(1, SEGMENT.encode())
    lens = doubles(2, [LENS[name] for name in ("f_u", "f_v", "c_u", "c_v", "k1", "k2", "p1", "p2", "k3")])
    for camera, (height, width) in SIZES.items():
        mount = transform(3, pose(1.5, 0, 2.1, yaw=CAMERA_YAW[camera]))
        found += block(2, whole(1, camera) + lens + mount + whole(4, width) + whole(5, height) + whole(6, 2))
    for laser in (2, 1, 5, 3, 4):
        angles = doubles(2, INCLINATIONS.get(laser, [])) + double(3, -1.5) + double(4, 0.6)
        found += block(3, whole(1, laser) + angles + transform(5, MOUNTS[laser]))
    return found + block(4, block(2, b"Day") + block(3, b"location_phx"))


def laser_of(time: int, laser: int) -> bytes:
    found = whole(1, laser)
    for echo in (1, 2):
        image = packed(2, range_image(time, laser, echo))
        image += packed(3, np.full((*SHAPES[laser], 6), -1, np.int32))  # projections, which nobody reads
        if laser == 1 and echo == 1:
            image += packed(4, pixel_poses(time))
        if laser == 1 and time == LABELLED:
            image += packed(6, labels(time, echo))
        found += block(1 + echo, image)
    return found


def image_of(time: int, camera: int) -> bytes:
    velocity = block(4, varint(8 + 5) + struct.pack("<f", 3.5) + double(6, 0.1))
    shot = transform(3, image_pose(time, camera)) + velocity + double(5, time * 1e-6 - 0.01 * camera)
    return whole(1, camera) + block(2, picture(time, camera)) + shot + double(6, 0.005)


def frame(time: int, *, cameras: bool = True) -> bytes:
    """The message Frame."""
    found = block(1, context()) + whole(2, time) + transform(3, VEHICLE[time])
    for camera in (5, 1, 2, 3, 4) if cameras else ():
        found += block(4, image_of(time, camera))
    for laser in (3, 1, 2, 5, 4):
        found += block(5, laser_of(time, laser))
    return found + block(6, block(4, b"a box")) + block(10, b"\x08\x01")


def write(root: Path, *, cameras: bool = True, times: Iterable[int] = TIMES) -> Path:
    """The segment in the tree of the download; the path of its file."""
    path = root / "training" / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(framed(frame(time, cameras=cameras)) for time in times))
    return path
