"""Image files to arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..datasets.frame import Camera
from ..errors import InputError, MissingFileError
from ..files.access import reading
from ..files.images import decode_image


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of an image file, as stored (an orientation tag is ignored: intrinsics refer to the file).

    Raises:
        MissingFileError, InputError: no such file; not an image, or cut off.
    """
    try:
        with reading(path):
            data = Path(path).read_bytes()
    except MissingFileError:
        raise MissingFileError(
            f"{path}: this image does not exist; copy it there or prepare the log again without it"
        ) from None
    return decode_image(data, path)


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
