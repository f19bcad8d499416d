"""Clouds to measure on: made streets without end, or the scans of a prepared log."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...datasets.index import LogIndex
from ...lidar.voxelize import CubicGrid, Voxels, voxelize

# what stands on each side of the street: how many, half length, half width, bottom, top, nearest, farthest [m]
_THINGS = (
    (12, 2.2, 0.9, -1.7, -0.2, 3.0, 7.0),  # cars
    (10, 0.1, 0.1, -1.8, 4.0, 7.0, 9.0),  # poles
    (8, 0.25, 0.25, -1.8, 0.0, 6.0, 9.0),  # people
    (6, 1.5, 1.5, 1.0, 4.0, 7.0, 9.0),  # crowns
)


def made_street(seed: int, *, beams: int = 32, azimuths: int = 1090) -> Tensor:
    """(N, 4) float32 points of a spinning LiDAR in a street of boxes, with 2 cm of noise and 3 % drop-out."""
    rng = np.random.default_rng(seed)
    low, high = [], []
    for side in (-1, 1):
        x = -80.0
        while x < 80:  # facades with gaps between them
            length, near = rng.uniform(8, 20), rng.uniform(9, 14)
            low.append([x, near if side > 0 else -near - 10, -1.8])
            high.append([x + length, near + 10 if side > 0 else -near, rng.uniform(3, 15)])
            x += length + rng.uniform(0, 5)
        for count, dx, dy, bottom, top, near, far in _THINGS:
            for x, y in zip(rng.uniform(-60, 60, count), side * rng.uniform(near, far, count)):
                low.append([x - dx, y - dy, bottom])
                high.append([x + dx, y + dy, top])
    elevation = np.repeat(np.radians(np.linspace(-30, 10, beams)), azimuths)
    azimuth = np.tile(np.linspace(-np.pi, np.pi, azimuths, endpoint=False), beams)
    flat = np.cos(elevation)
    ray = np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], axis=1)
    inverse = 1 / np.where(np.abs(ray) < 1e-9, 1e-9, ray)
    distance = np.where(ray[:, 2] < -1e-9, -1.8 * inverse[:, 2], np.inf)  # the ground
    for corner, opposite in zip(np.array(low), np.array(high)):
        sides = np.sort([corner * inverse, opposite * inverse], axis=0)
        enter, leave = sides[0].max(1), sides[1].min(1)
        distance = np.where((enter > 0) & (enter < leave) & (enter < distance), enter, distance)
    seen = (distance < 80) & (rng.random(len(ray)) > 0.03)
    distance = distance[seen] + rng.normal(0, 0.02, int(seen.sum()))
    points = np.column_stack([ray[seen] * distance[:, None], rng.random(len(distance))])
    return torch.from_numpy(points.astype(np.float32))


def exactly(count: int, clouds: Iterable[Tensor], size_m: float) -> Voxels:
    """A batch of ``count`` voxels: whole clouds, the last one cut. Not for pooling: the points are not cut."""
    points: list[Tensor] = []
    voxels: Voxels | None = None
    for cloud in clouds:
        points.append(cloud[:, :3])
        sizes = torch.tensor([len(part) for part in points])
        which = torch.repeat_interleave(torch.arange(len(points)), sizes)
        voxels = voxelize(torch.cat(points), which, CubicGrid(size_m))
        if len(voxels) >= count:
            break
    assert voxels is not None
    return replace(voxels, coords=voxels.coords[:count], keys=voxels.keys[:count])


def clouds(data: Path | None) -> Iterator[Tensor]:
    """Clouds without end: of a prepared log, over and over, or made streets."""
    if data is None:
        yield from (made_street(seed) for seed in itertools.count())
        return
    index = LogIndex.open(data)
    for row in itertools.cycle(index.rows().tolist()):
        yield torch.from_numpy(index.frame(row, cameras=(), labels=False).points)
