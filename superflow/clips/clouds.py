"""The clouds of a clip: a scan at each time, and at its centre a dense one of several sweeps, with their pairs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ..camera.occlusion import ScanSurface, scan_surface
from ..datasets.frame import IGNORE_LABEL, Camera, Clip, Frame
from ..datasets.index import LogIndex
from ..datasets.merge import merge_sweeps
from ..lidar.limits import Count, Limits, draw_count
from ..lidar.viewpoint import check_viewpoint, thin_as_from_elsewhere
from .pairing import FramePairs, concatenate, join, pair
from .within import rows_within

_Number = TypeVar("_Number", np.float32, np.uint8)


@dataclass(frozen=True, slots=True)
class ClipCloud:
    """One cloud of a clip before augmentation, in the LiDAR frame of its scan."""

    points: NDArray[np.float32]
    pairs: FramePairs
    frame: Frame
    offset: int
    dense: bool
    age: NDArray[np.float32]  # (N,) seconds before the frame
    spot: NDArray[np.float32]  # (2,) x, y that become the origin
    labels: NDArray[np.uint8]  # (N,) train ids, 255 where there is none or none was read

    def cameras(self, channels: Sequence[str]) -> list[Camera]:
        """The frame's cameras of these names, in their order."""
        return [self.frame.cameras[place] for place in _places(self.frame, channels)]


@dataclass(frozen=True, eq=False)
class _Scan:
    """A frame with the points within the limits, and what was found with all of them."""

    frame: Frame
    surface: ScanSurface | None  # None where nothing is hidden
    table: NDArray[np.float32]  # (N, 4+) of the points
    labels: NDArray[np.uint8]  # (N,) as in `ClipCloud`
    _pairs: dict[int, FramePairs] = field(default_factory=dict)  # of the points, by place of the camera

    def pairs(self, places: Sequence[int]) -> FramePairs:
        """With the cameras at these places of the frame, which the pairs name by them; each is looked at once."""
        for place in places:
            if place not in self._pairs:
                of_camera = pair(
                    self.frame, self.frame.cloud.xyz, [self.frame.cameras[place]], surface=self.surface
                )
                self._pairs[place] = replace(of_camera, camera=np.full_like(of_camera.camera, place))
        return concatenate([self._pairs[place] for place in sorted(places)])


class ClipClouds:
    """Reads, pairs, crops and thins the clouds of a clip.

    Args:
        index: a prepared log.
        sweeps, sweeps_after: scans before and after the centre that are merged into a dense cloud; both 0 for none.
        max_sweep_age_s: leave out scans further away in time than this.
        drop_moving: leave out points of sweeps where the centre's scan looks through, see `datasets.moving`.
        occlusion: leave out points that the image does not show, see `pairing.pair`; sweeps are judged by what the
            whole scan of the frame hides.
        limits: region of points kept.
        max_points, sweep_points: random points kept of each cloud, and of each sweep: a number, or a pair between
            which it is drawn anew for each (`lidar.limits.draw_count`).
        viewpoint_m: each time's scan is thinned, and gets an origin, as if its scanner had stood at a random spot up to
            so many metres away, see `lidar.viewpoint`; needs ``max_points``. 0 leaves it where it was.
        labels: read the classes of the points where the log has them; sweeps of a dense cloud have none.
        raw_intensity: see `LogIndex.frame`.
        keep_frames: prepared frames kept in memory; for small logs, about 7 MB each.

    Raises:
        InputError: ``viewpoint_m`` without ``max_points``.
    """

    def __init__(
        self,
        index: LogIndex,
        *,
        sweeps: int = 2,
        sweeps_after: int = 0,
        max_sweep_age_s: float | None = None,
        drop_moving: bool = False,
        occlusion: bool = True,
        limits: Limits | None = None,
        max_points: Count = None,
        sweep_points: Count = None,
        viewpoint_m: float = 0.0,
        labels: bool = False,
        raw_intensity: bool = False,
        keep_frames: int = 0,
    ) -> None:
        check_viewpoint(viewpoint_m, max_points)
        if sweeps or sweeps_after:
            index.require("a dense cloud of several scans", "set sweeps=0", times=True, poses=True)
        self.index = index
        self.sweeps, self.sweeps_after = sweeps, sweeps_after
        self.merging: dict[str, Any] = {"max_age_s": max_sweep_age_s, "drop_moving": drop_moving}
        self.occlusion = occlusion
        self.limits = limits
        self.max_points, self.sweep_points = max_points, sweep_points
        self.viewpoint_m = viewpoint_m
        self.labels = labels
        self.raw_intensity = raw_intensity
        self.keep_frames = keep_frames
        self._kept: OrderedDict[int, _Scan] = OrderedDict()

    def channels(self, row: int) -> list[str]:
        """Names of the cameras that saw a frame."""
        return self.index.camera_channels(row)

    def draw(
        self, rows: dict[int, int], channels: Sequence[str], generator: np.random.Generator
    ) -> list[ClipCloud]:
        """The clouds of a clip, by time, the dense one last; ``rows`` by offset, the centre's is 0.

        Pairs number the cameras as `ClipCloud.cameras` of ``channels`` has them.
        """
        scans = {row: self._scan(row, bool(channels)) for row in {rows[0], *rows.values()}}
        clouds = [
            self._sparse(scans[row], offset, channels, generator) for offset, row in sorted(rows.items())
        ]
        if self.sweeps or self.sweeps_after:
            clouds.append(self._dense(rows[0], scans[rows[0]], channels, generator))
        return clouds

    def _scan(self, row: int, seen: bool) -> _Scan:
        """A frame, with its surface where a camera of it is ``seen``: in all clips of a dataset, or in none."""
        if row in self._kept:
            self._kept.move_to_end(row)
            return self._kept[row]
        frame = self.index.frame(row, images=False, labels=self.labels, raw_intensity=self.raw_intensity)
        # with the whole cloud: a point left out still hides what is behind it
        cloud = frame.cloud
        surface = scan_surface(cloud.xyz, frame.by_lidar) if self.occlusion and seen else None
        kept = self._in_limits(cloud.xyz)
        labels = _no_labels(len(cloud)) if frame.labels is None else frame.labels
        cloud = cloud if len(kept) == len(cloud) else cloud.at(kept)
        labels = _rows_of(labels, kept)
        scan = _Scan(replace(frame, cloud=cloud, labels=None), surface, cloud.table, labels)
        self._kept[row] = scan
        if len(self._kept) > self.keep_frames:
            self._kept.popitem(last=False)
        return scan

    def _in_limits(self, xyz: NDArray[np.float32]) -> NDArray[np.int64]:
        """Rows of the points that the student sees."""
        return np.arange(len(xyz)) if self.limits is None else rows_within(self.limits, xyz)

    def _sparse(
        self, scan: _Scan, offset: int, channels: Sequence[str], generator: np.random.Generator
    ) -> ClipCloud:
        frame = scan.frame
        spot = np.zeros(2, dtype=np.float32)
        if self.viewpoint_m:
            chosen, spot = self._seen_from_elsewhere(frame, generator)
        else:
            chosen = _subset(len(frame.cloud), self.max_points, generator)
        places = _places(frame, channels)
        pairs = scan.pairs(places).of(chosen, places)
        age = np.zeros(len(chosen), dtype=np.float32)
        points, labels = _rows_of(scan.table, chosen), _rows_of(scan.labels, chosen)
        return ClipCloud(points, pairs, frame, offset, dense=False, age=age, spot=spot, labels=labels)

    def _seen_from_elsewhere(
        self, frame: Frame, generator: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Rows of the points that stay, and the spot (x, y) from which the scan is seen."""
        draw = torch.Generator().manual_seed(int(generator.integers(2**62)))
        count = draw_count(len(frame.cloud), self.max_points, generator.random)
        points, origins = torch.from_numpy(frame.points), frame.origins
        began = None if origins is None else torch.from_numpy(origins)
        rows, spot = thin_as_from_elsewhere(points, self.viewpoint_m, count, draw, origins=began)
        return rows.numpy(), spot.numpy()

    def _dense(
        self, row: int, scan: _Scan, channels: Sequence[str], generator: np.random.Generator
    ) -> ClipCloud:
        """The frame's cloud and the sweeps around it, in its LiDAR frame, seen by its cameras."""
        frame = scan.frame
        kept = _subset(len(frame.cloud), self.max_points, generator)
        sweeps = []
        for other in self.index.sweeps(row, self.sweeps, after=self.sweeps_after):
            sweep = self.index.frame(other, cameras=(), labels=False, raw_intensity=self.raw_intensity)
            inside = self._in_limits(sweep.cloud.xyz)
            inside = inside[_subset(len(inside), self.sweep_points, generator)]
            if len(inside) < len(sweep.cloud):
                sweep = replace(sweep, cloud=sweep.cloud.at(inside))
            sweeps.append(sweep)
        whole = replace(frame, cloud=frame.cloud.at(np.arange(0)))  # its own points need no merging
        if self.merging["drop_moving"]:  # points left out or thinned away still close a view
            whole = self.index.frame(row, cameras=(), labels=False, raw_intensity=self.raw_intensity)
        around = merge_sweeps(Clip({0: whole}, tuple(sweeps)), **self.merging)[len(whole.cloud) :]
        places = _places(frame, channels)
        cameras = [frame.cameras[place] for place in places]
        pairs = join(
            scan.pairs(places).of(kept, places),
            pair(frame, around, cameras, surface=scan.surface),
            first=len(kept),
        )
        points = np.concatenate([_rows_of(scan.table, kept), around[:, :-1]])
        age = np.concatenate([np.zeros(len(kept), dtype=np.float32), around[:, -1]])
        spot = np.zeros(2, dtype=np.float32)
        labels = np.concatenate([_rows_of(scan.labels, kept), _no_labels(len(around))])
        return ClipCloud(points, pairs, frame, 0, dense=True, age=age, spot=spot, labels=labels)


def _no_labels(count: int) -> NDArray[np.uint8]:
    return np.full(count, IGNORE_LABEL, dtype=np.uint8)


def _rows_of(table: NDArray[_Number], rows: NDArray[np.int64]) -> NDArray[_Number]:
    """These rows, which are ascending; where they are all, nothing is chosen."""
    return table if len(rows) == len(table) else np.take(table, rows, axis=0)


def _subset(count: int, limit: Count, generator: np.random.Generator) -> NDArray[np.int64]:
    """Ascending random rows, as many of ``count`` as ``limit`` says."""
    kept = draw_count(count, limit, generator.random)
    if kept == count:
        return np.arange(count)
    return np.sort(generator.choice(count, kept, replace=False))


def _places(frame: Frame, channels: Sequence[str]) -> list[int]:
    """Where the named cameras stand in the frame; a camera that misses an image at this time is left out."""
    found = {camera.channel: place for place, camera in enumerate(frame.cameras)}
    return [found[channel] for channel in channels if channel in found]
