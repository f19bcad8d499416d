"""Transforms that no sensor has and lenses that show nothing: by them points are put anywhere, and nobody sees it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .store import Columns

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


def check_geometry(root: Path, sources: Mapping[str, str], tables: Mapping[str, Columns]) -> None:
    """Look at every transform and every lens of an index; poses may be unknown.

    Args:
        sources: file below ``root`` of ``poses`` and of the ``calibration``.

    Raises:
        InputError: a transform is not rigid, or intrinsics have no image.
    """
    frames, cameras, lidars = (tables[name] for name in ("frames", "cameras", "lidars"))
    scan = frames["token"]
    for source, what, column, tokens in (
        ("calibration", "the place of the LiDAR of the scan", frames["lidar_to_ego"], scan),
        ("calibration", "the place of a LiDAR of the scan", lidars["lidar_to_ego"], scan[lidars["frame"]]),
        ("calibration", "the place of the camera of the image", cameras["camera_to_ego"], cameras["token"]),
        ("poses", "the pose of the scan", frames["ego_to_world"], scan),
        ("poses", "the pose of the image", cameras["ego_to_world"], cameras["token"]),
    ):
        found = faults(column)
        if source == "poses":
            found[np.isnan(column).all(1)] = 0
        for i in np.flatnonzero(found)[:1].tolist():
            raise InputError(
                f"{root / sources.get(source, '')}: {what} {tokens[i].decode()} {FAULTS[found[i]]}, so it is no rigid "
                "transform; mend it"
            )
    numbers = cameras["intrinsics"]
    shows = np.isfinite(numbers).all(1) & (numbers[:, [0, 4, 8]] > 0).all(1) & (numbers[:, 6:8] == 0).all(1)
    for i in np.flatnonzero(~shows)[:1].tolist():
        raise InputError(
            f"{root / sources.get('calibration', '')}: the intrinsics of the image {cameras['token'][i].decode()} are "
            f"{numbers[i].tolist()}, by which no point falls on it; mend them"
        )
