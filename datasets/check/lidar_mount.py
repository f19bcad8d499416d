"""Where the calibration puts the LiDAR on the vehicle."""

from __future__ import annotations

import numpy as np

from ..index import LogIndex
from .calibration import REACH_M
from .report import Problem, Report

_ORIGIN_M = (-3.0, 1.5)  # usual heights of the ground over the vehicle's origin
_LEVEL_DEG = 30.0


def judge_lidar_mount(index: LogIndex, ground_m: float | None, report: Report) -> None:
    """Add what is wrong with the calibration of the LiDAR, or worth a look.

    Args:
        ground_m: height of the ground in the lidar frame, or None where that is not known.
    """
    _, rows = np.unique(index.scene_of, return_index=True)
    mounts = [index.frame(row, points=False, cameras=()).lidar_to_ego for row in rows.tolist()]
    distance = max((float(np.linalg.norm(mount[:3, 3])) for mount in mounts), default=0.0)
    if distance > REACH_M:
        table = index.source("calibration")
        message = (
            f"{table}: the LiDAR is mounted {distance:,.0f} m from the vehicle's origin; translation must be in "
            "metres, from the sensor to the vehicle"
        )
        report.add([Problem("calibration", "LIDAR_TOP", message)], first=True)
        return
    tilt_deg = max(
        (float(np.degrees(np.arccos(np.clip(mount[2, 2], -1, 1)))) for mount in mounts), default=0.0
    )
    if tilt_deg > _LEVEL_DEG:
        report.notes.append(
            f"by calibration the LiDAR is tilted by {tilt_deg:.0f} degrees against the vehicle: rotation is w, x, y, z "
            "and takes the axes of the point files to x forward, y left, z up of the vehicle"
        )
    elif ground_m is not None and mounts:
        ground_m += float(np.median([mount[2, 3] for mount in mounts]))
        if not _ORIGIN_M[0] < ground_m < _ORIGIN_M[1]:
            report.notes.append(
                f"by calibration the vehicle's origin is {abs(ground_m):.1f} m {'below' if ground_m > 0 else 'above'} "
                "the ground: look at translation and rotation of the LiDAR (sensor to vehicle)"
            )
