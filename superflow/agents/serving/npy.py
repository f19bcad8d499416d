"""Points that a stranger sent: an npy of numbers, whose header is checked before anything of its size is made."""

from __future__ import annotations

import base64
import binascii
import io
import math
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from ...datasets.formats.read import DAMAGED_HEAD
from .refusal import Refusal

MOST_POINTS = 400_000
COLUMNS = range(4, 9)  # x, y, z, intensity and what a log may have beside them
MOST_BYTES = 128 + 1024 + MOST_POINTS * 8 * COLUMNS[-1]
FARTHEST_M = 10_000.0
_DTYPES = ("float16", "float32", "float64")
_HEADER_BYTES = 1024  # numpy writes 128 for an array like ours
_URL_HEADS = ("data:application/x-npy;base64,", "data:application/octet-stream;base64,")


def points_of(data: bytes) -> NDArray[np.float32]:
    """(N, C) float32 x, y, z [m], intensity [0, 1], and more columns, of the bytes of an npy file.

    Raises:
        Refusal: status 400 (413 for too many points), where it is no such array, whole and finite. Nothing is
            unpickled, and no memory taken for what the header promises: it is compared with the bytes that are there.
    """
    shape, fortran, dtype, start = _header(data)
    if dtype.hasobject or dtype.newbyteorder("=").name not in _DTYPES:
        raise _bad(f"the npy holds {dtype}; send float32")
    if len(shape) != 2 or shape[1] not in COLUMNS:
        raise _bad(f"the npy is of shape {shape}; send (N, 4): x, y, z in metres and intensity from 0 to 1")
    if not 1 <= shape[0] <= MOST_POINTS:
        raise Refusal(
            413 if shape[0] > MOST_POINTS else 400,
            "bad_points",
            f"the npy says that it has {shape[0]} points; send 1 to {MOST_POINTS}",
        )
    expected, found = shape[0] * shape[1] * dtype.itemsize, len(data) - start
    if found != expected:
        raise _bad(f"the npy has {found} bytes of points and its header says {expected}; send the whole file")
    values = np.frombuffer(data, dtype, offset=start).reshape(shape, order="F" if fortran else "C")
    with np.errstate(over="ignore"):
        points = np.ascontiguousarray(values, dtype=np.float32)
    if not np.isfinite(points).all():
        raise _bad("some of the points are NaN or infinite; leave them out")
    if np.abs(points[:, :3]).max() > FARTHEST_M:
        raise _bad(f"some of the points are farther than {FARTHEST_M:g} m away; send metres")
    return points


def bytes_of_url(url: Any) -> bytes:
    """The bytes in a data URL of an npy; addresses and paths are refused, whatever they point to."""
    if not isinstance(url, str) or not url.startswith(_URL_HEADS):
        raise _bad(
            f'a lidar_url holds the points themselves, as "{_URL_HEADS[0]}..."; no address or path is read'
        )
    text = url[url.index(",") + 1 :]
    if len(text) > 4 * (MOST_BYTES // 3 + 1):
        raise Refusal(
            413, "too_large", f"a scan is larger than {MOST_BYTES} bytes; send fewer points, as float32"
        )
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _bad(f"the data of a lidar_url is no base64 ({error}); encode the npy file again") from error


def frame_of(value: Any) -> NDArray[np.float64] | None:
    """(4, 4) from the points' frame to the vehicle's, of a JSON list; None for None."""
    if value is None:
        return None
    try:
        frame = np.array(value)
    except (TypeError, ValueError, OverflowError):
        frame = np.zeros(0)
    if (
        frame.shape != (4, 4)
        or frame.dtype.kind not in "if"  # numpy makes numbers of texts, too
        or not np.isfinite(frame).all()
        or np.abs(frame).max() > FARTHEST_M
        or frame[3].tolist() != [0, 0, 0, 1]
        or not np.allclose(frame[:3, :3] @ frame[:3, :3].T, np.eye(3), atol=1e-3)
        or np.linalg.det(frame[:3, :3]) < 0  # a mirror would swap left and right
    ):
        raise _bad(
            "lidar_to_ego is no rigid transform; send 4 rows of 4 numbers, a rotation and metres, or leave it out"
        )
    return frame.astype(np.float64)


def _header(data: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, whether columns come first, dtype, and where the values begin."""
    file = io.BytesIO(data)
    try:
        version = npy_format.read_magic(file)
        read = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}[version]
        shape, fortran, dtype = read(file, max_header_size=_HEADER_BYTES)
    except (*DAMAGED_HEAD, KeyError, RecursionError) as error:
        raise _bad("the points are no npy file of version 1 or 2; write them with numpy.save") from error
    if (
        any(not isinstance(n, int) or isinstance(n, bool) or n < 0 for n in shape)
        or not math.prod(shape) < 1 << 62
    ):
        raise _bad("the header of the npy holds an impossible shape; write it with numpy.save")
    return shape, bool(fortran), dtype, file.tell()


def _bad(sentence: str) -> Refusal:
    return Refusal(400, "bad_points", sentence)
