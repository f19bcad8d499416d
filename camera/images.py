"""Image files to arrays."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..datasets.frame import Camera
from ..errors import InputError, MissingFileError


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of an image file, as stored (an orientation tag is ignored: intrinsics refer to the file).

    Raises:
        MissingFileError, InputError: no such file; not an image, or cut off.
    """
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except FileNotFoundError:
        raise MissingFileError(
            f"{path}: this image does not exist; copy it there or prepare the log again without it"
        ) from None
    if data[:2].tobytes() == b"\xff\xd8" and b"\xff\xd9" not in data[-65536:].tobytes():
        # OpenCV would fill the rest with grey and say nothing
        raise InputError(f"{path}: the JPEG is cut off ({len(data)} bytes, no end marker); copy it again")
    image = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION) if len(data) else None
    if image is None:
        raise InputError(f"{path}: cannot be read as an image ({len(data)} bytes); copy the file again")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def camera_image(camera: Camera) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of a camera: the one it carries, or else its file.

    Raises:
        InputError: as ``read_image``; the file has another size than the camera says.
    """
    image = read_image(camera.path) if camera.image is None else camera.image
    if image.shape[:2] != tuple(camera.size):
        raise InputError(
            f"{camera.path}: the image is {image.shape[0]} x {image.shape[1]} (height x width) but the log says "
            f"{camera.size[0]} x {camera.size[1]}; "
            "prepare the log again, with --rescale-intrinsics if images were resized"
        )
    return image
