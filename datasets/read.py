"""Bytes and images of a log's files; a file that cannot be right is one clear error. Points: see ``formats``."""

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
    with of_the_log(path):
        return Path(path).read_bytes()


@contextmanager
def of_the_log(path: str | Path) -> Iterator[None]:
    """``reading`` with words for a file that the log's tables name."""
    try:
        with reading(path):
            yield
    except MissingFileError:
        raise MissingFileError(
            f"{path}: this file is named in the log's tables but is not there; complete the download, "
            "or give the folder that holds it as the log's root"
        ) from None


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

    with of_the_log(path), open(path, "rb") as file:
        try:
            image = Image.open(file)  # reads the header alone
            return image.height, image.width
        except (UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
            raise InputError(
                f"{path}: is no image whose header can be read ({error}); copy it again"
            ) from error
