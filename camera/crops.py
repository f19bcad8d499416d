"""Resize, crop and mirror an image together with all that refers to its pixels.

Positions follow ``projection.py``: (0, 0) is the centre of the first pixel. Enlarging an image k times
therefore moves position u to (u + 0.5) k - 0.5, and the intrinsics alike; projecting with the new intrinsics
gives the new pixels. Nothing is changed in place; an image without a single pair is as good as any.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError


@dataclass(frozen=True, slots=True)
class ImageView:
    """An image, or a part of one, with its regions, intrinsics and pairs.

    Raises:
        ValueError: shapes that do not belong together.
    """

    image: NDArray[np.uint8]  # (H, W, 3) RGB
    superpixels: NDArray[np.uint16] | None  # (H, W) ids
    intrinsics: NDArray[np.float64]  # (3, 3) [pixel of this view]
    pixels: NDArray[np.float32]  # (P, 2) u, v [pixel of this view]; all pairs, also those outside
    kept: NDArray[np.bool_]  # (P,) the pixel lies in this view

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise ValueError(f"image must be (H, W, 3) uint8, not {self.image.shape} {self.image.dtype}")
        if self.superpixels is not None and self.superpixels.shape != self.image.shape[:2]:
            raise ValueError(
                f"superpixels {self.superpixels.shape} do not fit the image {self.image.shape[:2]}"
            )
        if len(self.pixels) != len(self.kept):
            raise ValueError(f"{len(self.pixels)} pixels but {len(self.kept)} kept flags; one of each a pair")

    @property
    def size(self) -> tuple[int, int]:
        """Height, width [pixel]."""
        return self.image.shape[0], self.image.shape[1]


def resize_image(
    image: NDArray[np.uint8], size: tuple[int, int], *, antialias: bool = True
) -> NDArray[np.uint8]:
    """(H', W', 3) uint8, bilinear, in any order of memory; ``size`` is the new height, width.

    Args:
        antialias: weigh all pixels that a smaller pixel covers, as PIL does. False reads four pixels whatever
            the scale, which aliases; features of a teacher differ, so the choice is always explicit here.
    """
    if image.shape[:2] == tuple(size):
        return image.copy()
    import torch  # here, so that workers which only cut regions start without it

    planes = torch.from_numpy(np.require(image, requirements=("C", "W"))).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(
        planes, size=tuple(size), mode="bilinear", align_corners=False, antialias=antialias
    )
    return resized[0].permute(1, 2, 0).numpy()  # in planes, as networks want it


def resize_ids(ids: NDArray, size: tuple[int, int]) -> NDArray:
    """(H', W') of the same dtype: each new pixel takes the id under its centre."""
    rows, columns = (
        np.minimum(((np.arange(new) + 0.5) * old / new).astype(np.int64), old - 1)
        for new, old in zip(size, ids.shape)
    )
    return ids.take(columns, axis=1).take(rows, axis=0)  # whole rows are copied once their pixels are chosen


def resize_view(view: ImageView, size: tuple[int, int], *, antialias: bool = True) -> ImageView:
    """The whole view at height, width ``size``; image bilinear, ids by nearest pixel, pairs all stay."""
    scale = np.array([size[1] / view.size[1], size[0] / view.size[0]])  # u, v
    to_resized = np.diag([scale[0], scale[1], 1.0])
    to_resized[:2, 2] = 0.5 * scale - 0.5
    return ImageView(
        image=resize_image(view.image, size, antialias=antialias),
        superpixels=None if view.superpixels is None else resize_ids(view.superpixels, size),
        intrinsics=to_resized @ view.intrinsics,
        pixels=((view.pixels + 0.5) * scale - 0.5).astype(np.float32),
        kept=view.kept.copy(),
    )


def crop_view(view: ImageView, box: tuple[int, int, int, int]) -> ImageView:
    """The part ``box`` = top, left, height, width [whole pixels]; pairs whose pixel lies outside lose ``kept``.

    Raises:
        ValueError: the box is empty or reaches out of the view.
    """
    top, left, height, width = box
    if (
        min(top, left) < 0
        or min(height, width) < 1
        or top + height > view.size[0]
        or left + width > view.size[1]
    ):
        raise ValueError(f"crop {box} (top, left, height, width) does not lie in a view of size {view.size}")
    to_crop = np.eye(3)
    to_crop[:2, 2] = -left, -top
    ids = view.superpixels
    return ImageView(
        image=view.image[top : top + height, left : left + width].copy(),
        superpixels=None if ids is None else ids[top : top + height, left : left + width].copy(),
        intrinsics=to_crop @ view.intrinsics,
        pixels=(view.pixels - (left, top)).astype(np.float32),
        kept=view.kept & _inside(view.pixels, box),
    )


def _inside(pixels: NDArray, box: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    """(P,) whether the pixel that holds each position lies in the box."""
    top, left, height, width = box
    low = np.array([left, top]) - 0.5
    return np.all((pixels >= low) & (pixels < low + (width, height)), axis=1)


def draw_crop(
    size: tuple[int, int],
    generator: np.random.Generator,
    *,
    area: tuple[float, float] = (0.3, 1.0),
    ratio: tuple[float, float] = (14 / 9, 17 / 9),
) -> tuple[int, int, int, int]:
    """Top, left, height, width of a random box inside ``size``.

    The box covers a share of the image uniform in ``area``, with width / height log-uniform in ``ratio``; a
    side that would reach over the image is cut to it.

    Raises:
        InputError: one of the two is no range of numbers above 0.
    """
    if not all(0 < low <= high for low, high in (area, ratio)):
        raise InputError(f"crop: area {area} and ratio {ratio} do not fit; give ranges of numbers above 0")
    share = generator.uniform(*area)
    aspect = np.exp(generator.uniform(*np.log(ratio)))
    pixels = share * size[0] * size[1]
    height = int(np.clip(round(np.sqrt(pixels / aspect)), 1, size[0]))
    width = int(np.clip(round(np.sqrt(pixels * aspect)), 1, size[1]))
    top = int(generator.integers(size[0] - height + 1))
    left = int(generator.integers(size[1] - width + 1))
    return top, left, height, width


def random_crop_view(
    view: ImageView,
    size: tuple[int, int],
    generator: np.random.Generator,
    *,
    area: tuple[float, float] = (0.3, 1.0),
    ratio: tuple[float, float] = (14 / 9, 17 / 9),
    min_pairs: int = 1024,
    min_share: float = 0.75,
    tries: int = 10,
    antialias: bool = True,
) -> ImageView:
    """A random part of the view at height, width ``size``, drawn again while too few pairs fall into it.

    A draw is taken if it keeps at least ``min_pairs`` pairs or ``min_share`` of them. After ``tries`` draws
    the one that kept most is taken, so the call always ends, with no pairs at the first draw.
    """
    box, most = (0, 0, *view.size), -1
    total = int(view.kept.sum())
    for _ in range(tries):
        candidate = draw_crop(view.size, generator, area=area, ratio=ratio)
        count = int((view.kept & _inside(view.pixels, candidate)).sum())
        if count > most:
            box, most = candidate, count
        if count >= min(min_pairs, min_share * total):
            break
    return resize_view(crop_view(view, box), size, antialias=antialias)


def flip_view(view: ImageView) -> ImageView:
    """The view mirrored left to right. Its intrinsics have a negative focal length: the scene is not mirrored."""
    to_mirror = np.array([[-1.0, 0.0, view.size[1] - 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    pixels = view.pixels.copy()
    pixels[:, 0] = view.size[1] - 1 - pixels[:, 0]
    return replace(
        view,
        image=_mirrored(view.image),
        superpixels=None if view.superpixels is None else np.ascontiguousarray(view.superpixels[:, ::-1]),
        intrinsics=to_mirror @ view.intrinsics,
        pixels=pixels,
        kept=view.kept.copy(),
    )


def _mirrored(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy with its columns from right to left, in the same order of memory."""
    planes = image.transpose(2, 0, 1)
    if not planes.flags.c_contiguous:
        return np.flip(image, 1).copy(order="K")
    import cv2  # a seventh of the time that NumPy takes

    rows = cv2.flip(planes.reshape(-1, image.shape[1]), 1)
    return np.asarray(rows, dtype=np.uint8).reshape(planes.shape).transpose(1, 2, 0)
