"""Whether the numbers of a file are a rigid transform: by any other, points are put anywhere, and nobody sees it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError

FAULTS = (
    "",
    "holds numbers that are not finite",
    "is mirrored: its axes are left-handed",
    "is not only turned",
)
_SLACK = 0.03  # of the products of a rotation's rows: files may have few decimals, and transforms are joined
_ROWS = 1 << 16  # looked at together


def faults(rows: NDArray[np.float64]) -> NDArray[np.int8]:
    """(N,) what is wrong with transforms, as the place in ``FAULTS``; 0 for rigid ones.

    Args:
        rows: (N, 12) their upper three rows, row by row.
    """
    found = np.empty(len(rows), np.int8)
    for start in range(0, len(rows), _ROWS):
        x, y, z = np.moveaxis(rows[start : start + _ROWS].reshape(-1, 3, 4)[:, :, :3], 1, 0)
        with np.errstate(all="ignore"):
            products = np.stack([(a * b).sum(1) for a, b in ((x, x), (y, y), (z, z), (x, y), (x, z), (y, z))])
            turned = (np.abs(products - np.array([[1], [1], [1], [0], [0], [0]])) <= _SLACK).all(0)
            mirrored = (np.cross(x, y) * z).sum(1) < 0
        finite = np.isfinite(rows[start : start + _ROWS]).all(1)
        found[start : start + _ROWS] = np.where(finite, np.where(turned, 2 * mirrored, 3), 1)
    return found


def check_rigid(path: Path, what: str, upper: NDArray[np.float64]) -> None:
    """Refuse a transform (3, 4) or (4, 4) that ``path`` holds under the name ``what``.

    Raises:
        InputError: it is not rigid.
    """
    if fault := int(faults(np.asarray(upper, np.float64)[:3].reshape(1, 12))[0]):
        raise InputError(f"{path}: {what} {FAULTS[fault]}, so it is no rigid transform; copy it again")
