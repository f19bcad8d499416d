"""What the teacher sees of an image: a resized or cropped view, or features that were computed before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..camera.cache import FeatureCache
from ..camera.crops import ImageView, flip_view, random_crop_view, resize_ids, resize_image
from ..camera.images import camera_image
from ..camera.superpixels import read_superpixels
from ..compiled import compiled
from ..datasets.frame import Camera
from .pairing import FramePairs, resized_pixels

_NO_PIXELS = (np.zeros((0, 2), np.float32), np.zeros(0, np.bool_))  # of a view that no crop is drawn of


@dataclass(frozen=True, slots=True)
class TeacherView:
    """What the teacher sees of one camera at one time."""

    offset: int
    place: int  # in the list of the cameras that have an image at this time, by which pairs number them
    token: str  # of the image
    image: Tensor  # (3, H, W) uint8 RGB, or (C, h, w) float16 cached features
    ids: NDArray[np.uint16] | None  # (H, W) superpixels of the view
    to_view: NDArray[np.float64]  # (3, 3) takes pixels of the stored image to pixels of the view
    number: int = 0  # of the camera among those of the clip, the same at all times

    def pairs(
        self, pairs: FramePairs, size: tuple[int, int]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Rows of this camera's pairs that lie in the view, and their (M, 2) pixels; ``size`` is height, width."""
        return _in_view(pairs.camera, self.place, pairs.pixel, self.to_view, *size)


@compiled()
def _in_view(camera, place, pixel, to_view, height, width):
    """Rows and new pixels of one camera's pairs that lie in a view."""
    rows, pixels, count = np.empty(len(camera), np.int64), np.empty((len(camera), 2), np.float32), 0
    m = to_view
    for n in range(len(camera)):
        if camera[n] == place:
            u = np.float32(m[0, 0] * pixel[n, 0] + m[0, 1] * pixel[n, 1] + m[0, 2])
            v = np.float32(m[1, 0] * pixel[n, 0] + m[1, 1] * pixel[n, 1] + m[1, 2])
            rows[count], pixels[count, 0], pixels[count, 1] = n, u, v
            count += -0.5 <= u < width - 0.5 and -0.5 <= v < height - 0.5
    return rows[:count], pixels[:count]


class TeacherViews:
    """Makes views; image, superpixels and the way of pixels into the view always belong together.

    Args:
        size: height, width of a view; the teacher's input unless features are cached.
        crop: options of `camera.crops.random_crop_view`, or None to resize the whole image (published).
        flip: probability to mirror an image.
        antialias: as of `camera.crops.resize_image`.
        half: images that are resized whole are decoded at half their size where the view is no larger than that (see
            `Camera.read`): less work, and pixels that differ by a third of a grey level on average.
            docs/performance.md has what it does to a teacher's features. Feature caches are made of whole images.
        features: folder of cached teacher features; images are then neither read nor cropped nor mirrored.
        superpixels: folder of superpixel maps, None for views without.

    Attributes:
        features: the opened cache, None where images are read.

    Raises:
        ValueError: a crop of images that are not read.
    """

    def __init__(
        self,
        size: tuple[int, int] = (224, 448),
        *,
        crop: Mapping[str, Any] | None = None,
        flip: float = 0.5,
        antialias: bool = True,
        half: bool = True,
        features: str | Path | None = None,
        superpixels: Path | None = None,
    ) -> None:
        if crop is not None and features is not None:
            raise ValueError(
                "crop needs images, and with cached features none is read; leave out one of the two"
            )
        self.size = (size[0], size[1])
        self._crop, self._flip, self._antialias = crop, flip, antialias
        self._enough = self.size if half and crop is None and antialias else None
        self.features = None if features is None else FeatureCache.open(features)
        self._superpixels = superpixels

    def view(
        self, camera: Camera, offset: int, place: int, pairs: FramePairs, generator: np.random.Generator
    ) -> TeacherView:
        """The view of one image.

        Args:
            offset, place: time and camera that it will be known by.
            pairs: of the image's time; a random crop has to hold those with this camera.
            generator: draws the crop and the flip.
        """
        ids = None
        if self._superpixels is not None:
            ids = read_superpixels(self._superpixels, camera.token, camera.size)
        if self.features is not None:
            image = torch.from_numpy(np.array(self.features.read(camera.token)))
            ids = None if ids is None else resize_ids(ids, self.size)
            return TeacherView(
                offset, place, camera.token, image, ids, resized_pixels(camera.size, self.size)
            )
        stored = camera_image(camera, self._enough)
        if self._crop is None:
            resized = resize_image(stored, self.size, antialias=self._antialias)
            ids = None if ids is None else resize_ids(ids, self.size)
            view = ImageView(resized, ids, resized_pixels(camera.size, self.size), *_NO_PIXELS)
        else:
            pixels = pairs.pixel[pairs.camera == place]
            view = ImageView(stored, ids, np.eye(3), pixels, np.ones(len(pixels), dtype=bool))
            view = random_crop_view(view, self.size, generator, antialias=self._antialias, **self._crop)
        if generator.random() < self._flip:
            view = flip_view(view)
        image = torch.from_numpy(view.image).permute(2, 0, 1)
        # the view began with unit intrinsics, so they are now what happened to its pixels
        return TeacherView(offset, place, camera.token, image, view.superpixels, view.intrinsics)
