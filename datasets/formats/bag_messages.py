"""Points and images out of messages of ROS bags, as `formats` wants them: the key is TOPIC@NANOSECONDS#NUMBER."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError, first_line
from ...files.images import decode_image
from .bags import Bag
from .open_files import open_files
from .read import check_rows, choose

_KINDS = ("", "i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8")  # by the datatype of a PointField
_KEY = re.compile(r"(/?[^@#]+)@(-?[0-9]{1,19})#([0-9]{1,9})")
_MOSAICS = {  # colours of the first pixels of a Bayer mosaic, as ROS names them -> OpenCV's conversion to BGR
    **{"bayer_rggb": "COLOR_BayerBG2BGR", "bayer_bggr": "COLOR_BayerRG2BGR"},
    **{"bayer_gbrg": "COLOR_BayerGR2BGR", "bayer_grbg": "COLOR_BayerGB2BGR"},
}
_ENCODINGS = {  # of a sensor_msgs/Image -> channels, bytes of each, OpenCV's conversion to grey or BGR
    **{"mono8": (1, 1, ""), "8UC1": (1, 1, ""), "mono16": (1, 2, ""), "16UC1": (1, 2, "")},
    **{"rgb8": (3, 1, "COLOR_RGB2BGR"), "bgr8": (3, 1, ""), "8UC3": (3, 1, "")},
    **{"rgba8": (4, 1, "COLOR_RGBA2BGR"), "bgra8": (4, 1, "COLOR_BGRA2BGR")},
    **{f"{mosaic}{8 * size}": (1, size, to_bgr) for mosaic, to_bgr in _MOSAICS.items() for size in (1, 2)},
    **{"yuv422": (2, 1, "COLOR_YUV2BGR_UYVY"), "uyvy": (2, 1, "COLOR_YUV2BGR_UYVY")},
    **{"yuv422_yuy2": (2, 1, "COLOR_YUV2BGR_YUY2"), "yuyv": (2, 1, "COLOR_YUV2BGR_YUY2")},
}


def message_key(topic: str, time_ns: int, number: int) -> str:
    """The part of a bag that a message is."""
    return f"{topic}@{time_ns}#{number}"


def read_ros(path: Path, key: str, names: Sequence[str]) -> Mapping[str, NDArray[Any]]:
    """The named fields of a PointCloud2."""
    return cloud_columns(path, _message(path, key), names)


def read_ros_image(path: Path, key: str) -> bytes:
    """A JPEG or PNG: the data of a CompressedImage, or an Image that is written as a PNG without loss."""
    message, place = _message(path, key), f"{path}: {key}"
    if hasattr(message, "format"):
        return _in_colour(place, str(message.format), bytes(message.data))
    return _as_png(place, message)


def _in_colour(place: str, format: str, data: bytes) -> bytes:
    """The image of a CompressedImage; a mosaic, which image_transport may compress as if it were grey, in colour."""
    to_bgr = _MOSAICS.get(format.split(";")[0].strip().rstrip("0123456789"))
    if to_bgr is None:
        return data
    image = decode_image(data, place)
    if (image != image[..., :1]).any():  # it was brought to colours before it was compressed
        return data
    return _png(place, image[..., 0], to_bgr)


def _message(path: Path, key: str) -> Any:
    found = _KEY.fullmatch(key)
    if found is None:
        raise InputError(f"{path}: {key!r} names no message of a bag; prepare the log again")
    bag = open_files.get(path, Bag)
    return bag.message(found[1], int(found[2]), int(found[3]))


def cloud_fields(path: Path, message: Any) -> dict[str, np.dtype[Any]]:
    """Name of each field of a PointCloud2 that holds one number a point -> its type, in the order of the bytes.

    Raises:
        InputError: the message contradicts itself.
    """
    return {name: dtype for name, (dtype, _) in _layout(path, message).items()}


def cloud_columns(path: Path, message: Any, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The named fields of a PointCloud2, of any order, gaps between them, byte order, and organised or not.

    Raises:
        InputError: it has none of a name, or holds other than it says.
    """
    layout = _layout(path, message)
    choose(path, names, layout)
    height, width, step = int(message.height), int(message.width), int(message.point_step)
    check_rows(path, height * width)
    row_step = int(message.row_step) if height > 1 else max(int(message.row_step), width * step)
    data = np.asarray(message.data, np.uint8)
    if width and height and (row_step < width * step or len(data) < (height - 1) * row_step + width * step):
        raise InputError(
            f"{path}: a cloud of {height} rows of {width} points of {step} bytes has {len(data)} bytes, rows of "
            f"{row_step}; record it again"
        )
    rows = (
        np.lib.stride_tricks.as_strided(data, (height, width, step), (row_step, step, 1), writeable=False)
        if width and height
        else np.empty((0, 0, step), np.uint8)
    )
    found = {}
    for name in names:
        dtype, offset = layout[name]
        column = np.ascontiguousarray(rows[..., offset : offset + dtype.itemsize]).reshape(-1)
        found[name] = column.view(dtype).astype(dtype.newbyteorder("="))
    return found


def _layout(path: Path, message: Any) -> dict[str, tuple[np.dtype[Any], int]]:
    """Name -> type and first byte."""
    order = ">" if message.is_bigendian else "<"
    found: dict[str, tuple[np.dtype[Any], int]] = {}
    for field in message.fields:
        if int(field.count) > 1 or not field.name:  # padding, or several numbers a point
            continue
        kind = _KINDS[field.datatype] if 0 < field.datatype < len(_KINDS) else ""
        dtype = np.dtype(order + kind) if kind else None
        if dtype is None or field.name in found or field.offset + dtype.itemsize > message.point_step:
            raise InputError(
                f"{path}: the field {str(field.name)[:40]!r} of a cloud is of the type {field.datatype} at byte "
                f"{field.offset} of {message.point_step}, or there twice; record it again"
            )
        found[field.name] = (dtype, int(field.offset))
    return found


def _as_png(place: str, message: Any) -> bytes:
    encoding = str(message.encoding)
    if encoding not in _ENCODINGS:
        raise InputError(
            f"{place}: images of the encoding {encoding[:40]!r} are not read; record one of {', '.join(_ENCODINGS)}"
        )
    channels, size, conversion = _ENCODINGS[encoding]
    height, width, step = int(message.height), int(message.width), int(message.step)
    data = np.asarray(message.data, np.uint8)
    if (
        not (0 < height < 1 << 16 and 0 < width < 1 << 16)
        or step < width * channels * size
        or len(data) < height * step
    ):
        raise InputError(
            f"{place}: an image of {height} x {width} pixels {encoding} has {len(data)} bytes, rows of {step}; "
            "record it again"
        )
    rows = data[: height * step].reshape(height, step)[:, : width * channels * size]
    dtype = np.dtype(f"{'>' if message.is_bigendian else '<'}u{size}")
    pixels = np.ascontiguousarray(rows).view(dtype).astype(dtype.newbyteorder("="))
    pixels = pixels.reshape((height, width, channels) if channels > 1 else (height, width))
    return _png(place, pixels, conversion)


def _png(place: str, pixels: NDArray[Any], conversion: str) -> bytes:
    import cv2

    try:
        pixels = cv2.cvtColor(pixels, getattr(cv2, conversion)) if conversion else pixels
        return cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
    except cv2.error as error:  # an odd width of pixels that share their colour
        raise InputError(f"{place}: cannot be written as PNG ({first_line(error)[:100]})") from error
