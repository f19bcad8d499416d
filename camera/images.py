"""The image of a camera, as the teacher and the superpixels need it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..datasets.frame import Camera
from ..errors import InputError


def camera_image(camera: Camera, at_least: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of a camera: the one it carries, or else the one that it reads.

    Args:
        at_least: as of `Camera.read`, which may give an image of half the size.

    Raises:
        InputError: as `Camera.read`; the image that it carries has another size than the camera says.
    """
    if camera.image is None:
        return camera.read(at_least)
    if camera.image.shape[:2] != tuple(camera.size):
        raise InputError(
            f"{camera.path}: the image is {camera.image.shape[0]} x {camera.image.shape[1]} (height x width) but the "
            f"log says {camera.size[0]} x {camera.size[1]}; prepare the log again, with --rescale-intrinsics if images "
            "were resized"
        )
    return camera.image
