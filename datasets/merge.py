"""Several scans in one cloud, in the frame of the centre."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..geometry import compose, invert
from .cloud import Cloud
from .frame import Clip, Frame
from .moving import seen_through

_AGE = "seconds to the centre"  # no column of a file


def merge_sweeps(
    clip: Clip, *, max_age_s: float | None = None, drop_moving: bool = False
) -> NDArray[np.float32]:
    """The centre's points followed by those of its sweeps, all in the centre's LiDAR frame.

    Static things fall together; moving ones leave a trail, so keep the ages short or drop what the centre sees through.

    Args:
        clip: read with ``sweeps`` or ``sweeps_after`` > 0; without sweeps the result is the centre's own points.
        max_age_s: leave out sweeps further from the centre in time than this [s], before and after.
        drop_moving: leave out the points of sweeps that are gone at the centre's time, see ``moving.seen_through``;
            best with the whole scan as the centre's points.

    Returns:
        (N, C + 1) float32: the scan's columns, then the age of the point [s; 0 for the centre's own points, > 0 for
        earlier sweeps, < 0 for later ones]. The first ``len(clip.center.cloud)`` rows are the centre's, in their
        order.

    Raises:
        InputError: a scan has no time, or no pose.
    """
    center = clip.center
    parts = [_with_age(center.cloud, 0.0)]
    for sweep in clip.sweeps:
        age_s = _age_s(center, sweep)
        if max_age_s is not None and abs(age_s) > max_age_s:
            continue
        cloud = sweep.cloud.moved(sweep_to_center(center, sweep))
        if drop_moving:
            cloud = cloud.at(~_seen_through(cloud.xyz, center))
        parts.append(_with_age(cloud, age_s))
    return np.concatenate(parts)


def _seen_through(points: NDArray[np.float32], center: Frame) -> NDArray[np.bool_]:
    """(N,) bool: the rays of one of the centre's LiDARs pass where the point is."""
    if not center.lidars:
        return seen_through(points, center.points)
    gone = np.zeros(len(points), np.bool_)
    for rows, lidar_to_cloud in center.by_lidar:
        origin = lidar_to_cloud[:3, 3]
        gone |= seen_through(points[:, :3] - origin, center.cloud.xyz[rows] - origin)
    return gone


def sweep_to_center(center: Frame, sweep: Frame) -> NDArray[np.float64]:
    """(4, 4) from the LiDAR frame of ``sweep`` at its time to that of ``center`` at its time, through the world."""
    return compose(invert(center.lidar_to_world), sweep.lidar_to_world)


def _age_s(center: Frame, sweep: Frame) -> float:
    """Seconds from ``sweep`` to ``center``."""
    if center.time_us is None or sweep.time_us is None:
        raise InputError(
            f"the scans {center.token} and {sweep.token} of {center.scene} cannot be merged, since one of them has no "
            "time; leave out sweeps, or prepare the log with its times"
        )
    return (center.time_us - sweep.time_us) * 1e-6


def _with_age(cloud: Cloud, age_s: float) -> NDArray[np.float32]:
    age = np.full(len(cloud), age_s, dtype=np.float32)
    return replace(cloud, extra={**cloud.extra, _AGE: age}).table
