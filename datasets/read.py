"""Point, label and image files into arrays; a file that cannot be right is one clear error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, MissingFileError
from ..files.access import reading
from ..files.images import decode_image


def read_bytes(path: str | Path) -> bytes:
    """Content of the file.

    Raises:
        MissingFileError: there is no such file.
        InputError: it cannot be read.
    """
    with _of_the_log(path):
        return Path(path).read_bytes()


@contextmanager
def _of_the_log(path: str | Path) -> Iterator[None]:
    """``reading`` with words for a file that the log's tables name."""
    try:
        with reading(path):
            yield
    except MissingFileError:
        raise MissingFileError(
            f"{path}: this file is named in the log's tables but is not there; complete the download, "
            "or give the folder that holds it as the log's root"
        ) from None


def read_points(path: str | Path, columns: int) -> NDArray[np.float32]:
    """(N, columns) float32 rows of a headerless little-endian point file, in the file's axes; N may be 0.

    Raises:
        InputError: the file is missing, cut off, of another format, or holds NaN or infinity.
    """
    data = read_bytes(path)
    if data.startswith((b"# .PCD", b"VERSION")):
        raise InputError(
            f"{path}: is a PCD file with a header; the schema's .pcd.bin holds bare float32 rows, convert it"
        )
    if len(data) % (4 * columns):
        raise InputError(
            f"{path}: {len(data)} bytes are not whole points of {columns} float32 ({4 * columns} bytes); "
            "the file is cut off (copy it again) or has other columns than its card says (docs/own_data.md)"
        )
    points = np.frombuffer(data, dtype="<f4").reshape(-1, columns).astype(np.float32)
    broken = int((~np.isfinite(points)).any(axis=1).sum())
    if broken:
        raise InputError(
            f"{path}: {broken} of {len(points)} points hold NaN or infinity; "
            "remove these rows (and their labels) or export the scan again"
        )
    return points


def read_labels(path: str | Path, points: int) -> NDArray[np.uint8]:
    """(N,) uint8 raw ids from a file of one unsigned byte a point; a card's ``label_map`` gives the train ids.

    Args:
        points: number of points of the scan.

    Raises:
        InputError: the file is missing or has another number of labels than ``points``.
    """
    raw = np.frombuffer(read_bytes(path), dtype=np.uint8)
    if len(raw) != points:
        raise InputError(
            f"{path}: {len(raw)} labels for a scan of {points} points; one of the two files is cut off or belongs "
            "to another version of the log, copy both again"
        )
    return raw


def read_image(path: str | Path, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB, pixels as stored (a rotation noted in EXIF is not applied: intrinsics know the stored ones).

    Args:
        size: (H, W) that the intrinsics belong to; None accepts any.

    Raises:
        InputError: the file is missing, cut off, no image, or of another size.
    """
    image = decode_image(read_bytes(path), path)
    if size is not None and image.shape[:2] != tuple(size):
        raise InputError(
            f"{path}: the image is {image.shape[1]} x {image.shape[0]} pixels but its intrinsics are for "
            f"{size[1]} x {size[0]}; prepare again with --rescale-intrinsics if the images were resized"
        )
    return image


def image_size(path: str | Path) -> tuple[int, int]:
    """(H, W) of the stored pixels, from the header alone.

    Raises:
        InputError: the file is missing or no image.
    """
    from PIL import Image, UnidentifiedImageError

    with _of_the_log(path), open(path, "rb") as file:
        try:
            image = Image.open(file)  # reads the header alone
            return image.height, image.width
        except (UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
            raise InputError(
                f"{path}: is no image whose header can be read ({error}); copy it again"
            ) from error
