"""Poses out of the scans themselves, for logs that know none: KISS-ICP, each scene with a world of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, require
from ..geometry import Transform, compose, invert
from ..progress import Progress, silent
from .card import DatasetCard
from .cloud import TIME
from .file_cloud import read_file, to_cloud
from .records import Boxes, CameraRow, ScanRow
from .trajectory import LONGEST_GAP_US, Trajectory
from .write import ListedLog

ESTIMATORS = ("kiss-icp",)
_FARTHEST_M = 100.0  # what is further away than this does not enter; its own default


def with_estimated_poses(
    root: Path, listed: ListedLog, estimator: str, *, progress: Progress = silent
) -> ListedLog:
    """The log with poses out of its scans, in place of those that it may have.

    The world of a scene is the ego frame of its first scan; boxes go with their scan.

    Raises:
        InputError: there is no such estimator.
    """
    if estimator not in ESTIMATORS:
        raise InputError(
            f"--poses {estimator}: there is no such estimator; choose one of {', '.join(ESTIMATORS)}"
        )
    require("kiss_icp", "odometry")
    estimated = f"estimated by {estimator} {version(estimator)}"
    return replace(listed, scans=_scans(root, listed, progress), poses=estimated)


def _scans(root: Path, listed: ListedLog, progress: Progress) -> Iterator[ScanRow]:
    for scene, scans in groupby(listed.scans, key=lambda scan: scan.scene):
        rows = sorted(scans, key=lambda scan: scan.order)
        poses = []
        odometry = _Odometry(listed.card)
        for done, row in enumerate(rows):
            progress(f"estimating poses of {scene}", done, len(rows))
            poses.append(odometry.pose(root, row))
        progress(f"estimating poses of {scene}", len(rows), len(rows))
        yield from _with_poses(rows, poses)


@dataclass(frozen=True, slots=True)
class _Estimate:
    """Where the LiDAR was at the end of a scan, in the frame of the first: when that was, None without times."""

    time_us: int | None
    lidar_to_world: Transform


class _Odometry:
    """KISS-ICP over the scans of one scene."""

    def __init__(self, card: DatasetCard) -> None:
        config = require("kiss_icp.config.parser", "odometry").load_config(None)
        config.data.max_range = _FARTHEST_M
        config.data.deskew = bool(card.time) and not card.compensated
        config.mapping.voxel_size = _FARTHEST_M / 100
        config.registration.max_num_threads = 1  # the sum of many threads depends on their order
        self._kiss = require("kiss_icp.kiss_icp", "odometry").KissICP(config)
        self._card, self._deskew = card, config.data.deskew

    def pose(self, root: Path, row: ScanRow) -> _Estimate:
        """The pose after one more scan."""
        cloud = to_cloud(self._card, read_file(self._card, root, row.points), row.time_us)
        time_us = row.time_us
        share: NDArray[np.float64] = np.empty(0)
        if self._deskew and len(cloud):
            seconds = np.nan_to_num(cloud.extra[TIME].astype(np.float64))
            share = (seconds - seconds.min()) / max(float(np.ptp(seconds)), 1e-9)
            time_us = None if time_us is None else time_us + round(float(seconds.max()) * 1e6)
        if len(cloud):
            self._kiss.register_frame(cloud.xyz.astype(np.float64), share)
        return _Estimate(time_us, self._kiss.last_pose.copy())


def _with_poses(rows: list[ScanRow], found: list[_Estimate]) -> Iterator[ScanRow]:
    """Scans and images with the poses at their own times."""
    ego_to_world = [
        compose(row.lidar_to_ego, estimate.lidar_to_world, invert(row.lidar_to_ego))
        for row, estimate in zip(rows, found)
    ]
    times = [estimate.time_us for estimate in found]
    way = None
    if len(set(times)) > 1 and None not in times:
        way = Trajectory.of(np.array(times, np.int64), np.array(ego_to_world))
    for row, end_us, pose in zip(rows, times, ego_to_world):

        def at(time_us: int | None, of_scan: Transform = pose) -> Transform:
            if way is None or time_us is None:
                return of_scan
            return way.around(np.array([time_us]), max_gap_us=LONGEST_GAP_US)[0]

        of_row = pose if row.time_us == end_us else at(row.time_us)
        yield replace(
            row,
            ego_to_world=of_row,
            cameras=tuple(_seen_from(camera, at(camera.time_us)) for camera in row.cameras),
            boxes=_boxes(row, of_row),
        )


def _boxes(row: ScanRow, ego_to_world: Transform) -> Boxes | None:
    """The boxes of a scan where they are seen from it, in the world of the new pose; None where nobody knows that."""
    if row.boxes is None or row.ego_to_world is None:
        return None
    return row.boxes.moved(compose(ego_to_world, invert(row.ego_to_world)))


def _seen_from(camera: CameraRow, pose: Any) -> CameraRow:
    return replace(camera, ego_to_world=pose)
