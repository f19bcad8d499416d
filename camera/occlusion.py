"""What a scan hides from a camera: its returns as pieces of surface, drawn into the depth that the camera sees.

A LiDAR sits elsewhere than a camera and sees over and past things that hide what lies behind them; such a point would
be paired with the pixel of the thing before it. Returns lie too far apart to stand before one another on the image, so
each is taken for the surface around it, half-way to the next returns above, below and beside. How far that is comes
from the scan, so one rule serves every sensor, camera and size of image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..compiled import compiled
from ..datasets.records import PINHOLE, Lens
from ..geometry import checked_transform, invert, point_rows, transform_points
from .beams import scan_columns
from .lens import bend
from .projection import MIN_DEPTH_M, Projection

_JOINED_RATIO = 1.5  # of the ranges of two neighbours on one surface; beams meet the far road this far apart
_JOINED_GAP = 2.5  # of the usual gap between beams: as far as where one return is missing
_ONE_BEAM = 0.3  # of that gap: no further apart, returns are of the same beam
_CELLS = 1.5  # of the depth map in the gap between columns; in larger ones the far road hides itself
_SMALLEST_CELL_PX = 0.25  # so that no camera, however wide, makes a map of many times its image
_SLACK_RATIO, _SLACK_M = 0.1, 0.2  # a point this little behind a surface lies on it


@dataclass(frozen=True, eq=False)
class DepthMap:
    """How far away the nearest piece of a surface is in each cell of an image, from `ScanSurface.seen_by`."""

    depth: NDArray[np.float32]  # (rows, columns) z in the camera frame [m], infinite where there is no piece
    cell_px: NDArray[np.float64]  # (2,) width and height of a cell [pixel]

    def hides(self, projection: Projection) -> NDArray[np.bool_]:
        """(P,) true where the surface lies clearly before the point; of this camera's points, of any scan."""
        hidden = np.empty(len(projection), np.bool_)
        _look_up(projection.pixels, projection.depth, self.depth, self.cell_px, hidden)
        return hidden


@dataclass(frozen=True, eq=False)
class ScanSurface:
    """A scan (N returns) as upright pieces of surface, from `scan_surface`."""

    points: NDArray[np.float32]  # (N, 3) the returns [m, lidar frame]
    ends: NDArray[np.float32]  # (N, 2, 3) where the piece ends, below and above its return
    sides: NDArray[np.float64]  # (N, 3) from the return to the left side of its piece
    column_gap: float  # between columns [rad]
    _seen: dict[tuple[object, ...], DepthMap] = field(default_factory=dict, init=False, repr=False)

    def hides(
        self,
        projection: Projection,
        lidar_to_camera: ArrayLike,
        lens: Lens,
    ) -> NDArray[np.bool_]:
        """(P,) true where the surface lies clearly before the point, seen from the camera.

        Args:
            projection: points on the image, of this scan or of any other in its LiDAR frame.
            lidar_to_camera, lens: as for `camera.projection.project`.
        """
        if not len(projection):
            return np.zeros(0, dtype=np.bool_)
        return self.seen_by(lidar_to_camera, lens).hides(projection)

    def seen_by(self, lidar_to_camera: ArrayLike, lens: Lens) -> DepthMap:
        """The surface as the camera sees it; drawn once, then remembered: a scan and its sweeps ask for the same.

        Args:
            lidar_to_camera, lens: as for `camera.projection.project`.
        """
        to_camera = checked_transform(lidar_to_camera)
        intrinsics = np.asarray(lens.intrinsics, dtype=np.float64)
        camera = (to_camera.tobytes(), intrinsics.tobytes(), tuple(lens.size), lens.model, lens.distortion)
        if camera not in self._seen:
            self._seen[camera] = self._drawn(to_camera, intrinsics, lens)
        return self._seen[camera]

    def _drawn(self, to_camera: NDArray[np.float64], intrinsics: NDArray[np.float64], lens: Lens) -> DepthMap:
        cell_px = np.maximum(intrinsics[[0, 1], [0, 1]] * (self.column_gap / _CELLS), _SMALLEST_CELL_PX)
        to_cells = np.diag([1 / cell_px[0], 1 / cell_px[1], 1.0])
        to_cells[:2, 2] = 0.5 / cell_px  # pixel i begins at i - 0.5
        depth = np.full(
            np.ceil(np.array(lens.size) / cell_px[::-1]).astype(np.int64), np.inf, dtype=np.float32
        )
        if lens.model == PINHOLE:
            _draw(self.points, self.ends, self.sides, to_cells @ intrinsics @ to_camera[:3], depth)
        else:
            points, ends, sides = self._bent(to_camera, lens)
            _draw(points, ends, sides, to_cells @ intrinsics @ np.eye(4)[:3], depth)
        return DepthMap(depth, cell_px)

    def _bent(
        self, to_camera: NDArray[np.float64], lens: Lens
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Points, ends and sides of the pieces as a pinhole camera would have to see them, in its frame.

        What the lens does not show is at depth 0, where nothing is drawn.
        """

        def seen(points: NDArray[np.floating]) -> NDArray[np.float64]:
            bent = bend(transform_points(to_camera, points.astype(np.float64)), lens)
            return np.where(np.isnan(bent[:, :1]), 0.0, bent)

        points = seen(self.points)
        ends = seen(self.ends.reshape(-1, 3)).reshape(-1, 2, 3)
        beside = seen(self.points + self.sides)
        return points, ends, np.where(beside[:, 2:] == 0, 0.0, beside - points)


def scan_surface(
    points: NDArray, by_lidar: Sequence[tuple[NDArray[np.int64], ArrayLike]] = ()
) -> ScanSurface:
    """What a scan saw as a surface.

    A piece runs towards the next return of its column where that is at about the same range; where it is not, or
    where there is none, the edge of the thing lies anywhere between the two, and the piece goes on upright at its own
    range for half the gap.

    Args:
        points: (N, 3+) x, y, z [m, lidar frame], the whole scan: what is left out hides nothing.
        by_lidar: of a scan that several LiDARs made, the rows of each, and (4, 4) from its frame to that of the points;
            without, the rays of all points began at the origin. See ``Frame.by_lidar``.
    """
    points = point_rows(points)
    if not by_lidar:
        return _surface(points)
    parts = []
    for rows, lidar_to_cloud in by_lidar:
        to_cloud = np.asarray(lidar_to_cloud, dtype=np.float64)
        own = _surface(transform_points(invert(to_cloud), points[rows, :3].astype(np.float64)))
        ends = transform_points(to_cloud, own.ends.reshape(-1, 3)).reshape(-1, 2, 3)
        sides = own.sides @ to_cloud[:3, :3].T
        parts.append(ScanSurface(transform_points(to_cloud, own.points), ends, sides, own.column_gap))
    return ScanSurface(
        np.concatenate([part.points for part in parts]),
        np.concatenate([part.ends for part in parts]),
        np.concatenate([part.sides for part in parts]),
        min(part.column_gap for part in parts),  # cells of the finest: pieces are drawn whole in any
    )


def _surface(points: NDArray) -> ScanSurface:
    """The surface of a scan whose rays began at the origin, z being the axis that the LiDAR turns about."""
    scan = scan_columns(points)
    ends = np.empty((len(scan.points), 2, 3), dtype=np.float32)
    _find_ends(scan.points, scan.elevation, scan.range_m, scan.column, scan.beam_gap, ends)
    returns, sides = scan.points.astype(np.float32), np.zeros((len(ends), 3))
    np.multiply(returns[:, 1], -0.5 * scan.column_gap, out=sides[:, 0])
    np.multiply(returns[:, 0], 0.5 * scan.column_gap, out=sides[:, 1])
    return ScanSurface(returns, ends, sides, scan.column_gap)


@compiled()
def _look_up(pixels, point_depth, depth, cell_px, hidden):
    """Write which points lie clearly behind what a depth map has in their cells."""
    rows, columns = depth.shape
    half, ratio, slack = np.float32(0.5), np.float32(1 + _SLACK_RATIO), np.float32(_SLACK_M)
    for n in range(len(pixels)):
        column = min(int((pixels[n, 0] + half) / cell_px[0]), columns - 1)
        row = min(int((pixels[n, 1] + half) / cell_px[1]), rows - 1)
        hidden[n] = point_depth[n] > depth[row, column] * ratio + slack


@compiled()
def _find_ends(points, elevation, range_m, column, beam_gap, ends):
    """Write the two ends of each piece."""
    count = len(points)
    flats = np.empty(count)
    for n in range(count):
        flats[n] = math.hypot(points[n, 0], points[n, 1])
    for n in range(count):
        flat, height = flats[n], points[n, 2]
        for side in range(2):
            step = 1 if side else -1
            other = n + step
            # two columns of the scan can share one of ours: their returns of one beam are no neighbours
            while (
                0 <= other < count
                and column[other] == column[n]
                and abs(elevation[other] - elevation[n]) < _ONE_BEAM * beam_gap[n]
            ):
                other += step
            usual = beam_gap[n]
            gap = usual
            joined = False
            if 0 <= other < count and column[other] == column[n]:
                usual = beam_gap[min(n, other)]
                gap = abs(elevation[other] - elevation[n])
                ratio = range_m[other] / range_m[n]
                joined = gap < _JOINED_GAP * usual and 1 / _JOINED_RATIO < ratio < _JOINED_RATIO
            if joined:
                out = 0.5 * (flat + flats[other])
                up = 0.5 * (height + points[other, 2])
            else:
                turn = 0.5 * step * min(gap, usual)
                out = flat * math.cos(turn) - height * math.sin(turn)
                up = flat * math.sin(turn) + height * math.cos(turn)
            # upright: neighbours can be from two columns of the scan, and slanted pieces would leave slits
            ends[n, side, 0] = points[n, 0] * out / flat
            ends[n, side, 1] = points[n, 1] * out / flat
            ends[n, side, 2] = up


@compiled(error_model="numpy")
def _draw(points, ends, sides, to_map, depth):
    """Write the nearest depth of the pieces into the cells of a map that they cover."""
    rows, columns = depth.shape
    m = to_map
    for n in range(len(points)):
        x, y, z = points[n, 0], points[n, 1], points[n, 2]
        w0 = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]
        if w0 < MIN_DEPTH_M:
            continue
        u0 = (m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]) / w0
        v0 = (m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]) / w0
        if not (-columns < u0 < 2 * columns and -rows < v0 < 2 * rows):
            continue  # no piece is as long as the image
        # from the return to the side of its piece, times depth
        x, y, z = sides[n, 0], sides[n, 1], sides[n, 2]
        turned = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z
        side_u = m[0, 0] * x + m[0, 1] * y + m[0, 2] * z - turned * u0
        side_v = m[1, 0] * x + m[1, 1] * y + m[1, 2] * z - turned * v0
        reach_u, reach_v = abs(side_u) / MIN_DEPTH_M, abs(side_v) / MIN_DEPTH_M
        for side in range(2):
            x, y, z = ends[n, side, 0], ends[n, side, 1], ends[n, side, 2]
            w1 = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]
            if w1 < MIN_DEPTH_M:
                continue
            u1 = (m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]) / w1
            v1 = (m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]) / w1
            if max(u0, u1) + reach_u < 0 or min(u0, u1) - reach_u > columns:
                continue
            if max(v0, v1) + reach_v < 0 or min(v0, v1) - reach_v > rows:
                continue
            _draw_half(u0, v0, 1 / w0, u1, v1, 1 / w1, side_u, side_v, depth)


@compiled(error_model="numpy")
def _draw_half(u0, v0, near0, u1, v1, near1, side_u, side_v, depth):
    """Draw a piece from its return to one of its ends; ``near`` is 1 / depth, which runs evenly over the image."""
    rows, columns = depth.shape
    longest = max(abs(u1 - u0), abs(v1 - v0))
    widest = 2 * max(abs(side_u), abs(side_v)) * max(near0, near1)
    if not (longest < rows + columns and widest < rows + columns):
        return  # what covers the whole image is no return, but a number gone wrong
    along = max(math.ceil(longest), 1)
    for i in range(along):
        share = (i + 0.5) / along
        near = near0 + share * (near1 - near0)
        far, du, dv = np.float32(1 / near), side_u * near, side_v * near
        across = math.ceil(2 * max(abs(du), abs(dv)))
        u, v = u0 + share * (u1 - u0), v0 + share * (v1 - v0)
        if across == 2:  # two of three times; without a loop whose end no processor guesses
            _put(u - 0.5 * du, v - 0.5 * dv, far, depth)
            _put(u + 0.5 * du, v + 0.5 * dv, far, depth)
        elif across == 3:
            _put(u + (1 / 3 - 1) * du, v + (1 / 3 - 1) * dv, far, depth)
            _put(u, v, far, depth)
            _put(u + (5 / 3 - 1) * du, v + (5 / 3 - 1) * dv, far, depth)
        else:
            for j in range(across):
                shift = (2 * j + 1) / across - 1
                _put(u + shift * du, v + shift * dv, far, depth)


@compiled()
def _put(u, v, far, depth):
    """Write a depth into the cell that holds a position, if there is one."""
    rows, columns = depth.shape
    if 0 <= u < columns and 0 <= v < rows:
        row, column = np.uint64(int(v)), np.uint64(int(u))
        # written whether it is nearer or not: no processor guesses which
        depth[row, column] = min(far, depth[row, column])
