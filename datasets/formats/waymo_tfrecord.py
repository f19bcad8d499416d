"""Waymo Open Dataset, version 1: one frame out of a ``segment-*.tfrecord`` file, as `waymo_points` wants it.

A record is a message ``Frame``; numbers of fields are those of the dataset's published dataset.proto. The key of a
frame is TIME@OFFSET, its time [microseconds] and where its record begins [bytes]; of an image it is TIME@OFFSET/CAMERA.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError, MissingFileError
from ...geometry import Transform
from .protobuf_message import Message, WireError
from .tfrecord import read_record
from .waymo_points import LABEL_CHANNELS, POSE_CHANNELS, RANGE_CHANNELS, TOP, Beams, matrix

SUFFIX = ".tfrecord"
_LARGEST_IMAGE = 1 << 26  # bytes unpacked; the largest of the dataset has 4 million

# numbers of the fields of each message
_CONTEXT, _TIME, _POSE, _IMAGES, _LASERS = 1, 2, 3, 4, 5  # Frame
_SEGMENT, _LENSES, _BEAMS = 1, 2, 3  # Context
_NAME = 1  # CameraCalibration, LaserCalibration, CameraImage, Laser: which of them
_INTRINSIC, _CAMERA_MOUNT, _WIDTH, _HEIGHT = 2, 3, 4, 5  # CameraCalibration
_INCLINATIONS, _LOWEST, _HIGHEST, _LASER_MOUNT = 2, 3, 4, 5  # LaserCalibration
_JPEG, _IMAGE_POSE, _IMAGE_TIME = 2, 3, 5  # CameraImage
_ECHOES = {1: 2, 2: 3}  # Laser: the range image of each echo
_RANGES, _PIXEL_POSES, _LABELS = 2, 4, 6  # RangeImage
_VALUES, _SHAPE, _SIDES = 1, 2, 1  # MatrixFloat, MatrixInt32; MatrixShape
_NUMBERS = 1  # Transform


class TfrecordFrame:
    """A `WaymoFrame`, and what else a record says of it."""

    def __init__(self, path: Path, offset: int, data: bytes) -> None:
        self.path = self.labels_path = path
        self._offset = offset
        with self._decoding():
            self._frame = Message(data)
            self.time_us = self._frame.integer(_TIME)
        if self.time_us <= 0 or not self._lasers:
            lack = "no time" if self.time_us <= 0 else "no LiDAR"
            raise InputError(f"{path}: the record at byte {offset} is a frame with {lack}; copy it again")

    @classmethod
    def at(cls, path: Path, key: str) -> TfrecordFrame:
        """The frame of a key."""
        time, _, offset = key.partition("@")
        if not (time.isdecimal() and offset.isdecimal()):
            raise InputError(f"{path}: {key!r} is no frame of it; prepare the log again")
        frame = cls(path, int(offset), read_record(path, int(offset)))
        if frame.time_us != int(time):
            raise InputError(
                f"{path}: the frame at byte {offset} is of {frame.time_us}, not of {time}; prepare the log again"
            )
        return frame

    @property
    def key(self) -> str:
        """Of this frame."""
        return f"{self.time_us}@{self._offset}"

    # ---- what `waymo_points` asks for ---------------------------------------------------------------------------

    def beams(self, laser: int) -> Beams:
        """Of a LiDAR that has range images."""
        if laser not in self.all_beams:
            raise InputError(
                f"{self.path}: the frame {self.time_us} has no calibration of the LiDAR {laser}; copy it again"
            )
        return self.all_beams[laser]

    def range_images(self) -> dict[tuple[int, int], NDArray[Any]]:
        """(LiDAR, echo) -> (H, W, 4) float32."""
        found = self._images(_RANGES, RANGE_CHANNELS)
        if not found:
            raise InputError(f"{self.path}: the frame {self.time_us} has no range images; copy it again")
        return found

    def label_images(self) -> dict[tuple[int, int], NDArray[Any]]:
        """(LiDAR, echo) -> (H, W, 2) int32."""
        found = self._images(_LABELS, LABEL_CHANNELS)
        if not found:
            raise InputError(f"{self.path}: the frame {self.time_us} has no labels; prepare the log again")
        return found

    def vehicle_pose(self) -> Transform:
        """(4, 4) vehicle to world of the frame."""
        with self._decoding():
            return self._transform(self._frame.message(_POSE))

    def pixel_poses(self, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """(H, W, 6) of the upper LiDAR."""
        image = self._images(_PIXEL_POSES, POSE_CHANNELS).get((TOP, 1))
        if image is None or image.shape[:2] != shape:
            raise InputError(
                f"{self.path}: the frame {self.time_us} has no poses for an image of {shape}; copy it again"
            )
        return image.astype(np.float64)

    # ---- what an index asks for ---------------------------------------------------------------------------------

    @cached_property
    def segment(self) -> str:
        """Name of the drive, that of version 2."""
        with self._decoding():
            name = self._context.text(_SEGMENT)
            if not name:
                raise WireError("its segment has no name")
            return name

    @cached_property
    def has_labels(self) -> bool:
        """Whether a range image has labels."""
        with self._decoding():
            return any(len(image.data(_LABELS)) for _, image in self._returns())

    @cached_property
    def lidars(self) -> set[int]:
        """Those that have a range image."""
        with self._decoding():
            return {
                laser for (laser, echo), image in self._returns() if echo == 1 and len(image.data(_RANGES))
            }

    @cached_property
    def all_beams(self) -> dict[int, Beams]:
        """LiDAR -> how it sees."""
        found = {}
        with self._decoding():
            for laser, row in self._named(self._context.messages(_BEAMS)).items():
                listed = row.numbers(_INCLINATIONS, "<f8")
                ends = np.array([row.double(_LOWEST), row.double(_HIGHEST)])
                inclinations = listed if len(listed) else ends
                if not np.isfinite(inclinations).all():
                    raise WireError(f"inclinations of the LiDAR {laser} are not finite")
                mount = self._transform(row.message(_LASER_MOUNT))
                found[laser] = Beams(mount, inclinations, not len(listed))
        return found

    def cameras(self) -> Iterator[tuple[int, list[float], Transform, tuple[int, int]]]:
        """Of each camera: number, f_u to k3, camera to vehicle, height and width."""
        with self._decoding():
            for camera, row in self._named(self._context.messages(_LENSES)).items():
                intrinsic = row.numbers(_INTRINSIC, "<f8").tolist()
                mount = self._transform(row.message(_CAMERA_MOUNT))
                yield camera, intrinsic, mount, (row.integer(_HEIGHT), row.integer(_WIDTH))

    def images(self) -> Iterator[tuple[int, Transform, float]]:
        """Of each image: camera, vehicle to world when it was taken, and that time [s]."""
        with self._decoding():
            for camera, row in self._pictures.items():
                yield camera, self._transform(row.message(_IMAGE_POSE)), row.double(_IMAGE_TIME)

    def image(self, camera: int) -> bytes:
        """The JPEG of a camera."""
        with self._decoding():
            row = self._pictures.get(camera)
            if row is None or not len(row.data(_JPEG)):
                raise MissingFileError(
                    f"{self.path}: the frame {self.time_us} has no image of the camera {camera}; copy it again, or "
                    "prepare the log again"
                )
            return bytes(row.data(_JPEG))

    # ---- inside -------------------------------------------------------------------------------------------------

    @contextmanager
    def _decoding(self) -> Iterator[None]:
        try:
            yield
        except WireError as error:
            raise InputError(
                f"{self.path}: the record at byte {self._offset} is no frame of Waymo's ({error}); copy it again"
            ) from error

    @cached_property
    def _context(self) -> Message:
        return self._frame.message(_CONTEXT)

    @cached_property
    def _lasers(self) -> dict[int, Message]:
        with self._decoding():
            return self._named(self._frame.messages(_LASERS))

    @cached_property
    def _pictures(self) -> dict[int, Message]:
        return self._named(self._frame.messages(_IMAGES))

    @staticmethod
    def _named(messages: list[Message]) -> dict[int, Message]:
        """By the number of the sensor."""
        found: dict[int, Message] = {}
        for message in messages:
            number = message.integer(_NAME)
            if number in found:
                raise WireError(f"the sensor {number} occurs twice")
            found[number] = message
        return found

    def _transform(self, message: Message) -> Transform:
        return matrix(self.path, message.numbers(_NUMBERS, "<f8"))

    def _returns(self) -> Iterator[tuple[tuple[int, int], Message]]:
        for laser, message in self._lasers.items():
            for echo, number in _ECHOES.items():
                if number in message:
                    yield (laser, echo), message.message(number)

    def _images(self, number: int, channels: int) -> dict[tuple[int, int], NDArray[Any]]:
        with self._decoding():
            return {
                key: _image(packed, number == _LABELS, channels)
                for key, message in self._returns()
                if len(packed := message.data(number))
            }


def _image(packed: memoryview, is_integer: bool, channels: int) -> NDArray[Any]:
    """(H, W, ``channels``) of a packed matrix."""
    matrix = Message(_unpacked(packed))
    values: NDArray[Any] = matrix.integers(_VALUES) if is_integer else matrix.numbers(_VALUES, "<f4")
    shape = matrix.message(_SHAPE).integers(_SIDES).tolist()
    is_image = len(shape) == 3 and min(shape) >= 0 and shape[2] == channels
    if not is_image or math.prod(shape) != len(values):
        raise WireError(f"{len(values)} numbers are no image of {tuple(shape)[:4]} with {channels} channels")
    return values.reshape(shape)


def _unpacked(packed: memoryview) -> bytes:
    """What zlib packed; never more of it than an image can have."""
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(packed, _LARGEST_IMAGE)
    except zlib.error as error:
        raise WireError(f"an image cannot be unpacked: {error}") from error
    if not unpacker.eof:
        is_more = len(data) == _LARGEST_IMAGE
        raise WireError(f"an image is {f'larger than {_LARGEST_IMAGE} bytes' if is_more else 'cut off'}")
    return data
