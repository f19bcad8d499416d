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
        if not 0 < self.compactness < np.inf or self.iterations < 1 or self.shrink < 1:
            raise ValueError("compactness must be above 0 and finite, iterations and shrink at least 1")
        if self.implementation not in ("own", "skimage"):
            raise ValueError(f"implementation must be 'own' or 'skimage', not {self.implementation!r}")

    def __call__(self, image: NDArray[np.uint8], token: str = "") -> NDArray[np.uint16]:
        """(H, W) uint16 ids 0, 1, ... of ``image`` (H, W, 3) uint8 RGB; every pixel has one."""
        return resize_ids(self.compact(image, token), image.shape[:2])

    def compact(self, image: NDArray[np.uint8], token: str = "") -> NDArray[np.uint16]:
        """(h, w) uint16 ids of the image made ``shrink`` times smaller."""
        return as_ids(self.regions(image), "slic")

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
    planes = np.ascontiguousarray(lab.transpose(2, 0, 1))
    labels = _assign(planes, rows, columns, np.float32((compactness / step) ** 2), iterations)
    joined = merge_small(labels, max(int(step * step / 4), 1))
    return connected_components(joined)[0]


def _shrunk(image: NDArray[np.uint8], times: int) -> NDArray[np.uint8]:
    if times == 1:
        return image
    height, width = (max(round(side / times), 1) for side in image.shape[:2])
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


@compiled()
def _spread(
    centres: NDArray[np.float32], r: int, rows: int, starts: list[int], around: NDArray[np.float32]
) -> None:
    """Write (9, 5, W): L, a, b, y and squared distance in x of each of the nine centres around a pixel of cells ``r``.

    So that a pass over a whole row needs no look at cells. A centre that is not there is infinitely far away.
    """
    columns = len(starts) - 1
    for n in range(9):
        nr = r + n // 3 - 1
        for c in range(columns):
            nc = c + n % 3 - 1
            there = 0 <= nr < rows and 0 <= nc < columns
            k = nr * columns + nc if there else 0
            part = around[n, :, starts[c] : starts[c + 1]]
            for i in range(4):
                part[i] = centres[k, i] if there else np.inf
            for i in range(part.shape[1]):
                dx = np.float32(starts[c] + i) - centres[k, 4]
                part[4, i] = dx * dx


@compiled()
def _keep_nearer(
    step: np.int32,
    centre: NDArray[np.float32],
    y: int,
    lightness: NDArray[np.float32],
    green_red: NDArray[np.float32],
    blue_yellow: NDArray[np.float32],
    position_weight: np.float32,
    nearest: NDArray[np.float32],
    steps: NDArray[np.int32],
) -> None:
    """Give ``step`` to those pixels of row ``y`` whose ``centre`` (5, W) is nearer than those before it.

    Args:
        lightness, green_red, blue_yellow: (W,) of the row.
        nearest: (W,) squared distance to the nearest centre so far.
        steps: (W,) to its label from that of the pixel's own cell.
    """
    light, green, blue, down, square = centre[0], centre[1], centre[2], centre[3], centre[4]
    row = np.float32(y)
    for x in range(len(nearest)):
        dl, da, db = lightness[x] - light[x], green_red[x] - green[x], blue_yellow[x] - blue[x]
        dy = row - down[x]
        distance = dl * dl + da * da + db * db + position_weight * (dy * dy + square[x])
        closer = distance < nearest[x]
        nearest[x] = distance if closer else nearest[x]
        steps[x] = step if closer else steps[x]


@compiled()
def _add_row(
    labels: NDArray[np.int32],
    lightness: NDArray[np.float32],
    green_red: NDArray[np.float32],
    blue_yellow: NDArray[np.float32],
    y: int,
    sums: NDArray[np.float64],
) -> None:
    """Add L, a, b, y, x and 1 of each pixel of row ``y`` to the sums of its label, pixel by pixel.

    Neighbours mostly have one label: its sums stay in registers until another one comes.
    """
    x, width = 0, len(labels)
    while x < width:
        k = int(labels[x])
        light, green, blue, down = sums[k, 0], sums[k, 1], sums[k, 2], sums[k, 3]
        across, count = sums[k, 4], sums[k, 5]
        while x < width and labels[x] == k:
            light += lightness[x]
            green += green_red[x]
            blue += blue_yellow[x]
            down += y
            across += x
            count += 1
            x += 1
        sums[k, 0], sums[k, 1], sums[k, 2], sums[k, 3] = light, green, blue, down
        sums[k, 4], sums[k, 5] = across, count


@compiled()
def _assign(
    lab: NDArray[np.float32], rows: int, columns: int, position_weight: np.float32, iterations: int
) -> NDArray[np.int32]:
    """Rounds of nearest centre and mean; centre (r, c) starts in the middle of cell (r, c) of a regular grid.

    A pixel compares the centres of its own grid cell and the eight around it, wherever they have moved to: one of the
    nine after the other, for a whole row of pixels at once. ``lab`` is (3, H, W) for the same reason.
    """
    height, width = lab.shape[1:]
    centres = np.empty((rows * columns, 5), np.float32)  # L, a, b, y, x
    for r in range(rows):
        for c in range(columns):
            y, x = int((r + 0.5) * height / rows), int((c + 0.5) * width / columns)
            for k in range(3):
                centres[r * columns + c, k] = lab[k, y, x]
            centres[r * columns + c, 3] = y
            centres[r * columns + c, 4] = x
    # the first pixel whose x * columns // width is c, for each column of cells
    starts = [-(-c * width // columns) for c in range(columns + 1)]
    cell = np.empty(width, np.int32)
    for c in range(columns):
        cell[starts[c] : starts[c + 1]] = c
    labels = np.zeros((height, width), np.int32)
    nearest, steps = np.empty(width, np.float32), np.empty(width, np.int32)
    around = np.empty((9, 5, width), np.float32)
    sums = np.empty((rows * columns, 6), np.float64)
    for _ in range(iterations):
        sums[:] = 0
        spread = -1
        for y in range(height):
            r = y * rows // height
            if r != spread:
                _spread(centres, r, rows, starts, around)
                spread = r
            nearest[:] = np.inf
            steps[:] = (
                0  # also where no distance is a number: a label that is none would be written to anywhere
            )
            for n in range(9):
                step = np.int32((n // 3 - 1) * columns + n % 3 - 1)
                _keep_nearer(
                    step, around[n], y, lab[0, y], lab[1, y], lab[2, y], position_weight, nearest, steps
                )
            for x in range(width):
                labels[y, x] = r * columns + cell[x] + steps[x]
            _add_row(labels[y], lab[0, y], lab[1, y], lab[2, y], y, sums)
        for k in range(rows * columns):
            if sums[k, 5] > 0:
                for i in range(5):
                    centres[k, i] = sums[k, i] / sums[k, 5]
    return labels
