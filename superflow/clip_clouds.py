"""The clouds of a clip: a scan at each time, and at its centre a dense one of several sweeps, with their pairs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .datasets.frame import Camera, Clip, Frame
from .datasets.index import LogIndex
from .datasets.merge import merge_sweeps
from .lidar.viewpoint import draw_spot, thin_as_from
from .limits import Count, Limits, draw_count
from .pairing import FramePairs, pair


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

    def cameras(self, channels: Sequence[str]) -> list[Camera]:
        """The frame's cameras of these names, in their order."""
        return [self.frame.cameras[place] for place in _places(self.frame, channels)]


class ClipClouds:
    """Reads, pairs, crops and thins the clouds of a clip.

    Args:
        index: a prepared log.
        sweeps, sweeps_after: scans before and after the centre that are merged into a dense cloud; both 0 for none.
        max_sweep_age_s: leave out scans further away in time than this.
        drop_moving: leave out points of sweeps where the centre's scan looks through, see `datasets.moving`.
        occlusion, occlusion_cell_px: leave out points that the image does not show, see `pairing.pair`.
        limits: region of points kept.
        max_points, sweep_points: random points kept of each cloud, and of each sweep: a number, or a pair between
            which it is drawn anew for each (`limits.draw_count`).
        viewpoint_m: each time's scan is thinned, and gets an origin, as if its scanner had stood at a random spot up to
            so many metres away, see `lidar.viewpoint`; needs ``max_points``. 0 leaves it where it was.
        raw_intensity: see `LogIndex.frame`.
        keep_frames: prepared frames kept in memory; for small logs, about 4 MB each.

    Raises:
        ValueError: ``viewpoint_m`` without ``max_points``.
    """

    def __init__(
        self,
        index: LogIndex,
        *,
        sweeps: int,
        sweeps_after: int,
        max_sweep_age_s: float | None,
        drop_moving: bool,
        occlusion: bool,
        occlusion_cell_px: int,
        limits: Limits | None,
        max_points: Count,
        sweep_points: Count,
        viewpoint_m: float,
        raw_intensity: bool,
        keep_frames: int,
    ) -> None:
        if viewpoint_m and max_points is None:
            raise ValueError("viewpoint_m thins clouds; say to how many points with max_points")
        self.index = index
        self.sweeps, self.sweeps_after = sweeps, sweeps_after
        self.merging: dict[str, Any] = {"max_age_s": max_sweep_age_s, "drop_moving": drop_moving}
        self.hiding: dict[str, Any] = {"occlusion": occlusion, "cell_px": occlusion_cell_px}
        self.limits = limits
        self.max_points, self.sweep_points = max_points, sweep_points
        self.viewpoint_m = viewpoint_m
        self.raw_intensity = raw_intensity
        self.keep_frames = keep_frames
        self._kept: OrderedDict[int, tuple[Frame, FramePairs]] = OrderedDict()

    def channels(self, row: int) -> list[str]:
        """Names of the cameras that saw a frame."""
        return [camera.channel for camera in self._frame(row)[0].cameras]

    def draw(
        self, rows: dict[int, int], channels: Sequence[str], generator: np.random.Generator
    ) -> list[ClipCloud]:
        """The clouds of a clip, by time, the dense one last; ``rows`` by offset, the centre's is 0.

        Pairs number the cameras as `ClipCloud.cameras` of ``channels`` has them.
        """
        clouds = [self._sparse(row, offset, channels, generator) for offset, row in sorted(rows.items())]
        if self.sweeps or self.sweeps_after:
            clouds.append(self._dense(rows[0], channels, generator))
        return clouds

    def _frame(self, row: int) -> tuple[Frame, FramePairs]:
        """A frame with the points of the chosen range, and the pairs of all its cameras."""
        if row in self._kept:
            self._kept.move_to_end(row)
            return self._kept[row]
        frame = self.index.frame(row, images=False, labels=False, raw_intensity=self.raw_intensity)
        # occlusion is judged with the whole cloud: a point left out still hides what is behind it
        pairs = pair(frame, frame.points, frame.cameras, **self.hiding)
        kept = self._in_limits(frame.points)
        prepared = (replace(frame, points=frame.points[kept]), pairs.of(kept, range(len(frame.cameras))))
        if self.keep_frames:
            self._kept[row] = prepared
            if len(self._kept) > self.keep_frames:
                self._kept.popitem(last=False)
        return prepared

    def _in_limits(self, points: NDArray[np.float32]) -> NDArray[np.int64]:
        """Rows of the points that the student sees."""
        if self.limits is None:
            return np.arange(len(points))
        return np.flatnonzero(self.limits.mask(torch.from_numpy(points)).numpy())

    def _sparse(
        self, row: int, offset: int, channels: Sequence[str], generator: np.random.Generator
    ) -> ClipCloud:
        frame, pairs = self._frame(row)
        spot = np.zeros(2, dtype=np.float32)
        if self.viewpoint_m:
            chosen, spot = self._seen_from_elsewhere(frame.points, generator)
        else:
            chosen = _subset(len(frame.points), self.max_points, generator)
        pairs = pairs.of(chosen, _places(frame, channels))
        age = np.zeros(len(chosen), dtype=np.float32)
        return ClipCloud(frame.points[chosen], pairs, frame, offset, dense=False, age=age, spot=spot)

    def _seen_from_elsewhere(
        self, points: NDArray[np.float32], generator: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Rows of the points that stay, and the spot (x, y) from which the scan is seen."""
        draw = torch.Generator().manual_seed(int(generator.integers(2**62)))
        spot = draw_spot(self.viewpoint_m, draw)
        count = draw_count(len(points), self.max_points, generator.random)
        return thin_as_from(torch.from_numpy(points), spot, count, draw).numpy(), spot.numpy()

    def _dense(self, row: int, channels: Sequence[str], generator: np.random.Generator) -> ClipCloud:
        """The frame's cloud and the sweeps around it, in its LiDAR frame, seen by its cameras."""
        frame = self._frame(row)[0]
        kept = _subset(len(frame.points), self.max_points, generator)
        sweeps = []
        for other in self.index.sweeps(row, self.sweeps, after=self.sweeps_after):
            sweep = self.index.frame(other, cameras=(), labels=False, raw_intensity=self.raw_intensity)
            points = sweep.points[self._in_limits(sweep.points)]
            sweeps.append(replace(sweep, points=points[_subset(len(points), self.sweep_points, generator)]))
        whole = frame
        if self.merging["drop_moving"]:  # points left out or thinned away still close a view
            whole = self.index.frame(row, cameras=(), labels=False, raw_intensity=self.raw_intensity)
        around = merge_sweeps(Clip({0: whole}, tuple(sweeps)), **self.merging)[len(whole.points) :]
        points = np.concatenate([frame.points[kept], around[:, :-1]])
        age = np.concatenate([np.zeros(len(kept), dtype=np.float32), around[:, -1]])
        cameras = [frame.cameras[place] for place in _places(frame, channels)]
        pairs, origin = pair(frame, points, cameras, **self.hiding), np.zeros(2, dtype=np.float32)
        return ClipCloud(points, pairs, frame, 0, dense=True, age=age, spot=origin)


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
