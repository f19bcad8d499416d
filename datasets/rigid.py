"""Transforms that no sensor has and lenses that show nothing, refused in the index of any dataset."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..errors import InputError
from .formats.transforms import FAULTS, faults
from .store import Columns


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
