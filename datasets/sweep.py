"""Scans that a moving LiDAR took point by point, brought to one instant: that of the scan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..geometry import Transform, compose, invert
from .cloud import TIME, Cloud
from .trajectory import LONGEST_GAP_US, Trajectory

_STEP_US = 100  # points of so many microseconds are moved together: 3 mm at 30 m/s
_LONGEST_US = 1_000_000  # no LiDAR takes longer for a scan: such times are of another unit


def at_one_instant(
    cloud: Cloud, time_us: int, trajectory: Trajectory, lidar_to_ego: Transform, *, name: str
) -> Cloud:
    """The cloud as a LiDAR would have seen it that stood still at the time of the scan.

    Where the vehicle was at the time of each point lies between the poses beside it, or beyond the last one, and
    where poses are missing, by the motion beside it. Points whose time is not finite stay where they are.

    Args:
        cloud: with ``time_s``, in the frame of ``lidar_to_ego``.
        trajectory: ego to world, two poses or more.
        name: of the scan, for messages.

    Raises:
        InputError: the times reach further than a scan takes.
    """
    offset_us = cloud.extra[TIME].astype(np.float64) * 1e6
    known = np.isfinite(offset_us)
    steps = np.zeros(len(cloud), np.int64)
    if (np.abs(offset_us[known]) > _LONGEST_US).any():
        furthest_s = np.abs(offset_us[known]).max() * 1e-6
        raise InputError(
            f"{name}: the times of its points reach {furthest_s:.3g} s from that of the scan, longer than one takes; "
            "mend unit_s or since of points.time, or prepare with --no-sweep-compensation"
        )
    steps[known] = np.rint(offset_us[known] / _STEP_US).astype(np.int64)
    used, of_point = np.unique(steps, return_inverse=True)
    instants_us = time_us + _STEP_US * np.append(used, 0)
    lidar_to_world = compose(trajectory.around(instants_us, max_gap_us=LONGEST_GAP_US), lidar_to_ego)
    moved = compose(invert(lidar_to_world[-1]), lidar_to_world[:-1])
    moved[used == 0] = np.eye(4)
    return replace(cloud, xyz=_each_by_its_own(moved, of_point.reshape(-1), cloud.xyz))


def _each_by_its_own(
    transforms: NDArray[np.float64], of_point: NDArray[np.int64], xyz: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(N, 3) points, each through one of the (K, 4, 4) transforms."""
    upper = transforms[of_point, :3]
    found = np.einsum("nij,nj->ni", upper[:, :, :3], xyz.astype(np.float64)) + upper[:, :, 3]
    return found.astype(np.float32)
