"""Bytes of an image file to pixels, the same for every reader."""

from __future__ import annotations

import logging
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

log = logging.getLogger(__name__)

_JPEG = b"\xff\xd8\xff"
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # marks of JPEG segments that say the size
# marks of those that may stand before it
_BEFORE = frozenset((0xC4, 0xCC, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)))
_TAIL = 65536  # bytes in which a JPEG has its end mark
_MOST_PIXELS = 1 << 27  # of one image: a camera of 134 megapixels; decoded it takes 800 MB at most


def decode_image(data: bytes, path: str | Path, *, half: bool = False) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB, pixels as stored (a rotation noted in EXIF is not applied: intrinsics know the stored ones).

    Of 16-bit images the upper 8 bits in use are taken: cameras of 10, 12 or 14 bits leave the highest ones empty, and
    their images would come out black.

    Args:
        data: content of the file ``path``.
        half: of a JPEG at half its height and width (rounded up): 4 x 4 pixels are made of the coefficients of 8 x 8,
            in three quarters of the time.

    Raises:
        InputError: it is cut off or no image.
    """
    import cv2

    if data.startswith(b"\xff\xd8") and data.rfind(b"\xff\xd9", max(0, len(data) - _TAIL)) < 0:
        # OpenCV would fill the rest with grey and say nothing
        raise InputError(f"{path}: the JPEG is cut off ({len(data)} bytes, no end marker); copy it again")
    _check_pixels(data, path)
    try:
        image = _decode(np.frombuffer(data, dtype=np.uint8), path, half) if data else None
    except cv2.error as error:
        raise InputError(f"{path}: cannot be decoded ({error.err}); copy it again") from error
    if image is None:
        raise InputError(f"{path}: is no image that OpenCV can decode ({len(data)} bytes); copy it again")
    return np.asarray(image, dtype=np.uint8)


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """(H, W) that the header of a JPEG says; None of other data, and of a header that cannot be followed.

    What is followed is what libjpeg follows, so that another size cannot be hidden from it: no filling between
    segments, no mark without a length.
    """
    place = 2
    while data.startswith(_JPEG) and place + 9 <= len(data) and data[place] == 0xFF:
        mark, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        if mark in _FRAMES:
            height, width = (int.from_bytes(data[at : at + 2], "big") for at in (place + 5, place + 7))
            return height, width
        if mark not in _BEFORE or length < 2:
            return None
        place += 2 + length
    return None


def _check_pixels(data: bytes, path: str | Path) -> None:
    """A file of some kilobytes may say that it has a thousand million pixels, all of which OpenCV would make."""
    height, width = jpeg_size(data) or _size_by_pillow(data, path)
    if width * height > _MOST_PIXELS:
        raise _too_many(path, f"{width} x {height}")


def _size_by_pillow(data: bytes, path: str | Path) -> tuple[int, int]:
    """(H, W) that the header says; (0, 0) where there is none. Of a JPEG it takes ten times as long as `jpeg_size`."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(BytesIO(data))  # reads the head alone
            return image.height, image.width
    except Image.DecompressionBombError as error:
        raise _too_many(path, str(error)) from error
    except Exception:
        return 0, 0


def _too_many(path: str | Path, what: str) -> InputError:
    return InputError(
        f"{path}: claims more pixels than any camera has ({what}); copy it again, or leave it out"
    )


def _decode(data: NDArray[np.uint8], path: str | Path, half: bool) -> NDArray[np.uint8] | None:
    """(H, W, 3) RGB of a file's bytes, or None."""
    import cv2

    rgb = getattr(cv2, "IMREAD_COLOR_RGB", None)  # since OpenCV 4.11
    stored = cv2.IMREAD_IGNORE_ORIENTATION
    if data[:3].tobytes() != _JPEG:  # which always has 8 bits
        deep: Any = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | stored)
        if deep is None or deep.dtype == np.uint8:
            return None if deep is None else deep[..., ::-1].copy()
        if deep.dtype == np.uint16:
            return _upper_bits(deep[..., ::-1], path)
    # the bit of one half; beside a bit of colour, no grey
    stored |= cv2.IMREAD_REDUCED_GRAYSCALE_2 if half else 0
    image: Any = cv2.imdecode(data, (cv2.IMREAD_COLOR if rgb is None else rgb) | stored)
    return image[..., ::-1].copy() if image is not None and rgb is None else image


def _upper_bits(image: NDArray[np.uint16], path: str | Path) -> NDArray[np.uint8]:
    """The upper 8 of the 8, 10, 12, 14 or 16 bits that the image uses."""
    bits = max(8, (int(image.max()).bit_length() + 1) // 2 * 2)
    if 8 < bits < 16:
        _say_bits(bits, str(path))
    return (image >> np.uint16(bits - 8)).astype(np.uint8)


_said: set[int] = set()


def _say_bits(bits: int, path: str) -> None:
    """Say it once a process and number of bits."""
    if bits not in _said:
        _said.add(bits)
        log.warning(
            "%s: a 16-bit image whose values use %d bits; such images are read as %d bits", path, bits, bits
        )
