"""Arrays out of files by the name of their format; a file that cannot be right is one clear error.

A new format is one function here and one line in ``READERS``; cards and readers of datasets name it.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError, MissingFileError, first_line
from .arrow import read_argoverse2, read_feather, read_parquet
from .bag_messages import read_ros, read_ros_image
from .las import read_las
from .npz import read_npz
from .open_files import open_files
from .pandaset_files import read_pandaset, read_pandaset_labels
from .pcd import read_pcd
from .pickled_table import read_pickled_table
from .ply import read_ply
from .read import DAMAGED_HEAD, of_the_log, read_bytes, zip_member
from .waymo_files import read_waymo, read_waymo_image, read_waymo_labels

UNKNOWN_ID = 65535  # raw ids from here on are one: no label set can name them
# what a file may hold in place of a point: coordinates that are no numbers, or all 0
NO_RETURNS = ("nan", "zero")

_SIGNS = {  # what files of other formats begin with
    **{b"# .PCD": "a PCD file with a header", b"VERSION": "a PCD file with a header", b"ply": "a PLY file"},
    **{
        b"\x93NUMPY": "a NumPy file",
        b"LASF": "a LAS file",
        b"PAR1": "a parquet file",
        b"ARROW1": "a feather file",
    },
    **{
        b"PK\x03\x04": "a zip archive",
        b"\x1f\x8b\x08": "packed by gzip",
        b"\x28\xb5\x2f\xfd": "packed by zstd",
    },
}

_Array = NDArray[Any]
Columns = Mapping[str, _Array]  # (N,) by name


class FilePoints(NamedTuple):
    """What a file says of its points.

    columns: (N,) by name, as in the file. row: (N,) int64 rows of the file that are points, None where all are.
    rows: how many the file has.
    """

    columns: Columns
    row: NDArray[np.int64] | None
    rows: int


def _bare(path: Path, key: str, names: Sequence[str], dtype: str) -> Columns:
    """Little-endian numbers of a file that holds nothing else."""
    if key:
        raise InputError(
            f"{path}: a file of bare numbers has no part {key!r}; give its rows a format that has parts"
        )
    data = read_bytes(path)
    item = np.dtype(dtype)
    kind = next((kind for sign, kind in _SIGNS.items() if data.startswith(sign)), "")
    if kind and item.kind == "f":  # in labels it may be chance; no coordinate of a scan is such a number
        raise InputError(
            f"{path}: is {kind} and no file of bare {item.name} rows; convert it, or give it its own format"
        )
    width = item.itemsize * len(names)
    if len(data) % width:
        rows = "labels" if len(names) == 1 else f"points of {len(names)}"
        raise InputError(
            f"{path}: {len(data)} bytes are not whole {rows} {item.name} ({width} bytes); "
            "the file is cut off (copy it again) or has other columns than its card says (docs/own_data.md)"
        )
    return dict(zip(names, np.frombuffer(data, dtype=item).reshape(-1, len(names)).T))


def _npy(path: Path, key: str, names: Sequence[str], *, first: bool = False) -> Columns:
    """The array of a NumPy file, or the entry ``key`` along its first axis; of the file, only that is read.

    Args:
        first: there may be more columns than names, which are passed over.
    """
    if not key:  # a file a scan: nothing is gained by keeping it open
        array = np.array(_open_npy(path))
    else:
        stack = open_files.get(path, _open_npy)
        if not key.isdecimal() or int(key) >= len(stack):
            raise InputError(
                f"{path}: holds {len(stack)} entries, and {key!r} is none of them; prepare the log again"
            )
        array = np.array(stack[int(key)])
    if len(names) == 1:
        array = array.reshape(-1, 1)
    if first and array.ndim == 2:
        array = array[:, : len(names)]
    if array.ndim != 2 or array.shape[1] != len(names):
        raise InputError(
            f"{path}: holds an array of shape {array.shape} where its card says {len(names)} columns; mend the card"
        )
    return dict(zip(names, array.T))


def _open_npy(path: Path) -> _Array:
    with of_the_log(path):
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except DAMAGED_HEAD as error:
            raise InputError(
                f"{path}: is no NumPy file of plain numbers ({first_line(error)[:150]}); copy it again"
            ) from error


# format -> the named columns of (path, key, names); files without names have theirs in the order of the card
READERS: dict[str, Callable[[Path, str, Sequence[str]], Columns]] = {
    "f4": partial(_bare, dtype="<f4"),
    "f8": partial(_bare, dtype="<f8"),
    "u1": partial(_bare, dtype="u1"),
    "u2": partial(_bare, dtype="<u2"),
    "u4": partial(_bare, dtype="<u4"),
    "i4": partial(_bare, dtype="<i4"),
    "npy": _npy,
    "npy_first": partial(_npy, first=True),
    "npz": read_npz,
    "pcd": read_pcd,
    "ply": read_ply,
    "las": read_las,
    "ros": read_ros,
    "feather": read_feather,
    "parquet": read_parquet,
    "argoverse2": read_argoverse2,
    "pickled_table": read_pickled_table,
    "pandaset": read_pandaset,
    "pandaset_labels": read_pandaset_labels,
    "waymo": read_waymo,
    "waymo_labels": read_waymo_labels,
    "waymo_instances": partial(read_waymo_labels, channel=0),
}


NAMELESS = ("f4", "f8", "npy", "npy_first")  # formats of tables whose columns have no names

_LARGEST_IMAGE = 1 << 28  # bytes of one image in an archive: more is no image of a camera, but a bomb


def _image_file(path: Path, key: str) -> bytes:
    """A JPEG or PNG of its own."""
    if key:
        raise InputError(
            f"{path}: an image file has no part {key!r}; give the card's images a format that has parts"
        )
    return read_bytes(path)


def _zip_member(path: Path, key: str) -> bytes:
    """A JPEG or PNG in a zip archive."""
    try:
        with of_the_log(path):
            archive = open_files.get(path, zipfile.ZipFile)
            if key in archive.NameToInfo and archive.getinfo(key).file_size <= _LARGEST_IMAGE:
                return zip_member(archive, key)
    except (
        zipfile.BadZipFile,  # no archive, or a member whose checksum is wrong
        zlib.error,  # damaged data
        EOFError,  # cut off
        NotImplementedError,  # a compression that Python has not
        RuntimeError,  # encrypted: zipfile has no error of its own for it
    ) as error:
        raise InputError(
            f"{path}: {key!r} cannot be read from this archive ({error}); copy it again"
        ) from error
    if key in archive.NameToInfo:
        size = archive.getinfo(key).file_size
        raise InputError(f"{path}: {key} has {size} bytes, more than any image; leave it out")
    raise MissingFileError(f"{path}: holds no {key!r}; complete the download, or prepare the log again")


IMAGE_FILE = "file"
IMAGE_READERS: dict[
    str, Callable[[Path, str], bytes]
] = {  # format -> the bytes of a JPEG or PNG of (path, key)
    IMAGE_FILE: _image_file,
    "zip": _zip_member,
    "ros": read_ros_image,
    "waymo": read_waymo_image,
}


def read_points(
    path: Path,
    names: Sequence[str],
    *,
    format: str = "f4",
    key: str = "",
    stored: Mapping[str, str] | None = None,
    no_return: Collection[str] = (),
    range_m: tuple[float, float] | None = None,
) -> FilePoints:
    """The points of a file, in its axes; there may be none.

    Args:
        names: of the columns that are read; x, y and z are among them.
        stored: what the file calls those of them that it calls otherwise.
        no_return: which of ``NO_RETURNS`` are rows of the file but no points.
        range_m: nearest and farthest distance from the origin of the file's axes at which a row is a point.

    Raises:
        InputError: the file is missing, cut off, of another format, or a point holds NaN or infinity.
    """
    own = [(stored or {}).get(name, name) for name in names]
    columns = READERS[format](path, key, own)
    columns = {name: columns[other] for name, other in zip(names, own)}
    for name, values in columns.items():
        if values.dtype.kind not in "fiu":
            raise InputError(
                f"{path}: holds {values.dtype} in {name} where points are numbers; export the scan again"
            )
    rows = len(columns["x"])
    kept = _returns([columns[axis] for axis in ("x", "y", "z")], no_return, range_m)
    row = None if kept is None or kept.all() else np.flatnonzero(kept)
    if row is not None:
        columns = {name: values[row] for name, values in columns.items()}
    finite = np.ones(len(columns["x"]), np.bool_)
    for values in columns.values():
        finite &= np.isfinite(values)
    broken = int((~finite).sum())
    if broken:
        raise InputError(
            f"{path}: {broken} of {rows} points hold NaN or infinity; "
            "remove these rows (and their labels) or export the scan again"
        )
    return FilePoints(columns, row, rows)


def _returns(
    xyz: list[_Array], no_return: Collection[str], range_m: tuple[float, float] | None
) -> NDArray[np.bool_] | None:
    """(N,) true for the rows that are points; None where nothing is left out."""
    if not no_return and range_m is None:
        return None
    kept = np.ones(len(xyz[0]), np.bool_)
    if "nan" in no_return:
        kept &= np.isfinite(xyz[0]) & np.isfinite(xyz[1]) & np.isfinite(xyz[2])
    if "zero" in no_return:
        kept &= (xyz[0] != 0) | (xyz[1] != 0) | (xyz[2] != 0)
    if range_m is not None:
        square = sum(axis.astype(np.float64) ** 2 for axis in xyz)
        # what is no number is neither near nor far: without "nan" it is an error
        kept &= ~(np.isfinite(square) & ((square < range_m[0] ** 2) | (square > range_m[1] ** 2)))
    return kept


def read_labels(
    path: Path,
    points: int | None,
    *,
    format: str = "u1",
    key: str = "",
    column: str = "label",
    columns: Sequence[str] = (),
    mask: int = 0xFFFFFFFF,
    shift: int = 0,
) -> NDArray[np.uint32]:
    """(N,) uint32 raw ids from a file of one whole number a point: ``(number & mask) >> shift``.

    Args:
        points: number of rows of the scan's file; None takes any.
        column: what a file of named columns calls them.
        columns: all columns of a table without names, of which ``column`` is one; none where labels are all it holds.

    Raises:
        InputError: the file is missing, holds no whole numbers, or another number of them than ``points``.
    """
    values = READERS[format](path, key, columns or (column,))[column]
    if values.dtype.kind == "f":
        values = _whole(path, values)
    if values.dtype.kind not in "iu":
        raise InputError(
            f"{path}: holds {values.dtype} where labels are whole numbers; name another column under labels, or write "
            "the labels as whole numbers"
        )
    if points is not None and len(values) != points:
        raise InputError(
            f"{path}: {len(values)} labels for a scan of {points} points; one of the two files is cut off or belongs "
            "to another version of the log, copy both again"
        )
    # of 64 bits only the lower half would be kept, which names another class; negative ones are the unknown id
    if values.dtype.itemsize > 4 and len(values) and (values.max() > 0xFFFFFFFF or values.min() < -(1 << 31)):
        beyond = values.max() if values.max() > 0xFFFFFFFF else values.min()
        raise InputError(
            f"{path}: holds the label {beyond}, and labels have 32 bits; write class ids of 0 to {UNKNOWN_ID - 1}, or "
            "class and instance as two files"
        )
    return (values.astype(np.uint32) & np.uint32(mask)) >> np.uint32(shift)


def _whole(path: Path, values: _Array) -> _Array:
    """Labels of a column of floats, as tables of one type and some editors of clouds have them; NaN is the unknown id.

    Raises:
        InputError: one is not whole, or so large that numbers of its type leave out some.
    """
    known = np.nan_to_num(values.astype(np.float64), nan=-1.0, posinf=0.5, neginf=0.5)
    wrong = (known != np.rint(known)) | (np.abs(known) > 1 / np.finfo(values.dtype).eps)
    if wrong.any():
        raise InputError(
            f"{path}: holds {values.dtype} where labels are whole numbers, and {values[wrong.argmax()]:g} is "
            "none, or too large for its type; name another column under labels, or write the labels as whole numbers"
        )
    return known.astype(np.int64)


def look_up(table: NDArray[np.uint8], raw: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """``table`` (65536,) at the ``raw`` ids (N,); those beyond it, as negative numbers are, count as the last."""
    return table[np.minimum(raw, UNKNOWN_ID)]
