"""The images of a log, from whatever file they lie in; one that cannot be right is one clear error."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...files.images import decode_image, jpeg_size
from .read import of_the_log
from .readers import IMAGE_FILE, IMAGE_READERS

_ORIENTATION = 0x0112  # of EXIF; 1 is as stored


def stored_image(path: str | Path, *, format: str = IMAGE_FILE, key: str = "") -> bytes:
    """The bytes of an image, as they are stored: a whole JPEG or PNG.

    Raises:
        InputError: the file or that part of it is missing.
    """
    return IMAGE_READERS[format](Path(path), key)


def file_state(path: str | Path) -> tuple[int, int]:
    """Size [byte] and time of the last change [ns] of a file of images.

    Raises:
        InputError: it is missing.
    """
    with of_the_log(path):
        state = os.stat(path)
    return state.st_size, state.st_mtime_ns


def decode(
    data: bytes,
    place: str,
    size: tuple[int, int] | None = None,
    *,
    at_least: tuple[int, int] | None = None,
) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of ``data``, which lie at ``place``, as `files.images.decode_image` gives them.

    Args:
        size: (H, W) that the intrinsics belong to; None accepts any.
        at_least: height, width that are enough: a JPEG whose halves are whole numbers not below them is decoded at half
            its size, as `files.images.decode_image` does. None always gives the whole image.

    Raises:
        InputError: they are cut off, no image, or of another size.
    """
    if size is not None and at_least is not None and _halves(size, at_least) and jpeg_size(data) == size:
        return decode_image(data, place, half=True)
    image = decode_image(data, place)
    if size is not None and image.shape[:2] != tuple(size):
        raise InputError(
            f"{place}: the image is {image.shape[1]} x {image.shape[0]} pixels but its intrinsics are for "
            f"{size[1]} x {size[0]}; prepare again with --rescale-intrinsics if the images were resized"
        )
    return image


def _halves(size: tuple[int, int], at_least: tuple[int, int]) -> bool:
    return all(whole % 2 == 0 and whole >= 2 * enough for whole, enough in zip(size, at_least))


def image_size(path: str | Path, *, format: str = IMAGE_FILE, key: str = "") -> tuple[int, int]:
    """(H, W) of the stored pixels, from the header alone.

    Raises:
        InputError: the file is missing or no image.
    """
    with _opened(path, format, key) as image:
        return image.height, image.width


def is_shown_turned(path: str | Path, *, format: str = IMAGE_FILE, key: str = "") -> bool:
    """Whether viewers turn or mirror the stored pixels, as EXIF tells them to.

    Raises:
        InputError: the file is missing or no image.
    """
    with _opened(path, format, key) as image:
        return image.getexif().get(_ORIENTATION, 1) not in (0, 1)


@contextmanager
def _opened(path: str | Path, format: str, key: str) -> Iterator[Any]:
    """An image of which Pillow has read the header alone."""
    from PIL import Image, UnidentifiedImageError

    whole = None if (format, key) == (IMAGE_FILE, "") else BytesIO(stored_image(path, format=format, key=key))
    with of_the_log(path), whole or open(path, "rb") as file:
        try:
            yield Image.open(file)
        except (UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
            raise InputError(
                f"{named(path, key)}: is no image whose header can be read ({error}); copy it again"
            ) from error


def named(path: str | Path, key: str) -> str:
    """A file, or a part of one, in messages."""
    return f"{path}: {key}" if key else str(path)
