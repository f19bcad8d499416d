"""What a training step of a network costs on this machine: made clouds, clocks, ceilings, and one step a back end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..lidar.conv import BACKENDS, load_backend, use_backend
from ..lidar.minkunet import MinkUNet
from ..lidar.sparse import Pyramid, SparseTensor
from ..lidar.voxelize import CubicGrid, Voxels, voxelize

Seconds = dict[str, float]  # by clock: thread, process, wall

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


def timed(work: Callable[[], Any]) -> Seconds:
    """Seconds of one call by every clock. The thread's own survives a busy machine best."""
    before = time.thread_time(), time.process_time(), time.perf_counter()
    work()
    after = time.thread_time(), time.process_time(), time.perf_counter()
    return dict(zip(("thread", "process", "wall"), (b - a for a, b in zip(before, after))))


def ceilings(clock: str) -> dict[str, float]:
    """Float32 matrix product [GFLOP/s] and copy [GB/s, read and written] at this moment by ``clock``."""
    side, length = 1024, 1 << 24
    a, b = torch.ones(side, side), torch.ones(length)
    target = torch.empty_like(b)
    target.copy_(b)
    return {
        "sgemm_gflops": 2e-9 * side**3 / timed(lambda: a @ a)[clock],
        "copy_gbytes": 8e-9 * length / timed(lambda: target.copy_(b))[clock],
    }


def peak_memory_mb() -> float:
    """Peak resident memory of this process [MB]. Not ``ru_maxrss``, which a child inherits from its parent."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise InputError("/proc/self/status has no VmHWM; memory is measured on Linux only")


def usable_backends() -> list[str]:
    """Names of the back ends that run on the CPU of this machine, the plain one first."""
    return [name for name in BACKENDS if load_backend(name).problem(torch.device("cpu")) is None]


def network_step(net: MinkUNet, backend: str, voxels: Voxels, features: Tensor) -> dict[str, Seconds]:
    """Seconds of the maps, the forward and the backward pass of one step.

    spconv makes its index pairs by its own code, as for its users, and multiplies along ours, which are the same
    pairs in a better order; putting ours into its layout is not counted.
    """
    pyramid = Pyramid.from_voxels(voxels)
    held: dict[str, Tensor] = {}

    def maps() -> None:
        if backend == "spconv":
            spconv_index(pyramid, net.levels)
        else:
            prepare(pyramid, net.levels, backend)

    def forward() -> None:
        held["output"] = net(SparseTensor(features, pyramid)).features

    def backward() -> None:
        held["output"].backward(torch.full_like(held["output"], 1 / len(features)))

    net.zero_grad(set_to_none=True)
    with use_backend(backend):
        seconds = {"maps": timed(maps)}
        prepare(pyramid, net.levels, backend)
        return seconds | {"forward": timed(forward), "backward": timed(backward)}


def prepare(pyramid: Pyramid, levels: int, backend: str) -> None:
    """Build and arrange all maps that a network over ``levels`` levels takes, forward and backward."""
    load_backend(backend).prepare_all(pyramid.maps(levels))


def spconv_index(pyramid: Pyramid, levels: int) -> None:
    """All index pairs by spconv's own code, on a grid rounded up so that it drops no cell."""
    from spconv.core import ConvAlgo
    from spconv.pytorch import ops

    cells = pyramid.level(0).cells.clone()
    cells[:, 1:] -= cells[:, 1:].amin(0) // 16 * 16
    shape = [int(size) // 16 * 16 + 16 for size in cells[:, 1:].amax(0)]
    same = [3] * 3, [1] * 3, [1] * 3, [1] * 3, [0] * 3  # kernel, stride, padding, dilation, output padding
    half = [2] * 3, [2] * 3, [0] * 3, [1] * 3, [0] * 3
    for level in range(levels):
        ops.get_indice_pairs(cells, pyramid.num_clouds, shape, ConvAlgo.Native, *same, subm=True)
        if level + 1 < levels:
            cells = ops.get_indice_pairs(cells, pyramid.num_clouds, shape, ConvAlgo.Native, *half)[0]
            shape = [size // 2 for size in shape]
