"""SLIC superpixels (Achanta et al. 2012): k-means in colour and position, each pixel looking at nine centres.

Computed at half size, where it is four times faster and no worse against labels, and enlarged by nearest pixel.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ...compiled import compiled
from ..crops import resize_ids
from .ids import as_ids, connected_components, merge_small
from .provider import Provider


@dataclass(frozen=True)
class Slic(Provider):
    """Provider of compact regions of even colour; ids count from 0 in every image anew.

    Attributes:
        segments: how many to aim for; connectivity gives some more or fewer.
        compactness: weight of position against Lab colour; larger is squarer.
        iterations: rounds of assignment and update.
        shrink: compute on an image this many times smaller.
        implementation: ``own`` (compiled by numba) or ``skimage`` (about twenty times slower).
    """

    segments: int = 150
    compactness: float = 10.0
    iterations: int = 5
    shrink: int = 2
    implementation: str = "own"

    def __post_init__(self) -> None:
        if not 1 <= self.segments <= 20000:
            raise ValueError(f"segments must be in 1..20000, not {self.segments}")
        if self.compactness <= 0 or self.iterations < 1 or self.shrink < 1:
            raise ValueError("compactness must be above 0, iterations and shrink at least 1")
        if self.implementation not in ("own", "skimage"):
            raise ValueError(f"implementation must be 'own' or 'skimage', not {self.implementation!r}")

    def __call__(self, image: NDArray[np.uint8], token: str = "") -> NDArray[np.uint16]:
        """(H, W) uint16 ids 0, 1, ... of ``image`` (H, W, 3) uint8 RGB; every pixel has one."""
        return as_ids(resize_ids(self.regions(image), image.shape[:2]), "slic")

    def regions(self, image: NDArray[np.uint8]) -> NDArray[np.int64]:
        """(h, w) int64 ids of the image made ``shrink`` times smaller."""
        small = _shrunk(image, self.shrink)
        if self.implementation == "skimage":
            return self._skimage(small)
        return slic(small, segments=self.segments, compactness=self.compactness, iterations=self.iterations)

    def _skimage(self, image: NDArray[np.uint8]) -> NDArray[np.int64]:
        from skimage.segmentation import slic as skimage_slic

        return skimage_slic(
            image,
            n_segments=self.segments,
            compactness=self.compactness,
            max_num_iter=self.iterations,
            start_label=0,
            channel_axis=2,
        )

    def options(self) -> dict[str, Any]:
        """All options with their values."""
        return asdict(self)


def slic(
    image: NDArray[np.uint8], *, segments: int = 150, compactness: float = 10.0, iterations: int = 5
) -> NDArray[np.int64]:
    """(H, W) int64 ids 0, 1, ... of connected regions of ``image`` (H, W, 3) uint8 RGB, in raster order.

    The distance of a pixel to a centre is |Lab difference|^2 + (compactness / step)^2 |position difference|^2
    with the centres' initial distance ``step``; regions under a quarter of step^2 join a neighbour.
    """
    height, width = image.shape[:2]
    step = max((height * width / segments) ** 0.5, 1.0)
    rows, columns = max(round(height / step), 1), max(round(width / step), 1)
    lab = np.asarray(cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), dtype=np.float32)
    labels = _assign(lab, rows, columns, (compactness / step) ** 2, iterations)
    joined = merge_small(labels, max(int(step * step / 4), 1))
    return connected_components(joined)[0]


def _shrunk(image: NDArray[np.uint8], times: int) -> NDArray[np.uint8]:
    if times == 1:
        return image
    height, width = (max(round(side / times), 1) for side in image.shape[:2])
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


@compiled(fastmath=True)
def _assign(
    lab: NDArray[np.float32], rows: int, columns: int, position_weight: float, iterations: int
) -> NDArray[np.int64]:
    """Rounds of nearest centre and mean; centre (r, c) starts in the middle of cell (r, c) of a regular grid.

    A pixel compares the centres of its own grid cell and the eight around it, wherever they have moved to.
    """
    height, width = lab.shape[:2]
    centres = np.empty((rows * columns, 5), np.float32)  # L, a, b, y, x
    for r in range(rows):
        for c in range(columns):
            y, x = int((r + 0.5) * height / rows), int((c + 0.5) * width / columns)
            for k in range(3):
                centres[r * columns + c, k] = lab[y, x, k]
            centres[r * columns + c, 3] = y
            centres[r * columns + c, 4] = x
    labels = np.zeros((height, width), np.int64)
    sums = np.empty((rows * columns, 6), np.float64)
    for _ in range(iterations):
        sums[:] = 0
        for y in range(height):
            r = y * rows // height
            for x in range(width):
                c = x * columns // width
                best, nearest = -1, np.float32(0)
                for nr in range(max(r - 1, 0), min(r + 2, rows)):
                    for nc in range(max(c - 1, 0), min(c + 2, columns)):
                        k = nr * columns + nc
                        dl = lab[y, x, 0] - centres[k, 0]
                        da = lab[y, x, 1] - centres[k, 1]
                        db = lab[y, x, 2] - centres[k, 2]
                        dy = np.float32(y) - centres[k, 3]
                        dx = np.float32(x) - centres[k, 4]
                        d = dl * dl + da * da + db * db + np.float32(position_weight) * (dy * dy + dx * dx)
                        if best < 0 or d < nearest:
                            nearest = d
                            best = k
                labels[y, x] = best
                for k in range(3):
                    sums[best, k] += lab[y, x, k]
                sums[best, 3] += y
                sums[best, 4] += x
                sums[best, 5] += 1
        for k in range(rows * columns):
            if sums[k, 5] > 0:
                for i in range(5):
                    centres[k, i] = sums[k, i] / sums[k, 5]
    return labels
