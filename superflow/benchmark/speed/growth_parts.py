"""What is measured at every size of the growth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from ...clips.batch import Batch
from ...datasets.card import load_card
from ...datasets.records import Place, ScanRow
from ...datasets.write import ListedLog, write_rows
from ...downstream.voting import Ballot, VotingOptions, vote
from ...lidar.sparse import Pyramid
from ...lidar.voxelize import CubicGrid, voxelize
from ...method.pooling import pool_points
from ...method.regions import region_table
from .clouds import made_street
from .network import made_network, network_step, prepare, usable_backends
from .options import Options
from .turns import Work

CLASSES, CHANNELS = 16, 64
_BLOCK_M = 200.0  # from a street to the next, which do not touch
_SCENE = 400  # scans


@dataclass(frozen=True, slots=True)
class Part:
    """What is done to so many of what; ``most`` is the largest size that is of use."""

    unit: str
    make: Callable[[int], Work]
    most: int = 10_000_000


def voxels(count: int) -> Work:
    """Points to voxels of 0.1 m."""
    points, cloud = _streets(count)
    return lambda: voxelize(points, cloud, CubicGrid(0.1))


def maps(count: int) -> Work:
    """The kernel maps of five levels, arranged."""
    made, backend = voxelize(*_streets(count), CubicGrid(0.1)), _backend()
    return lambda: prepare(Pyramid.from_voxels(made), 5, backend)


def votes(count: int) -> Work:
    """Two scans vote on a third, all new and of ``count`` points, of as many streets as it takes side by side."""
    draw = torch.Generator().manual_seed(0)
    points, street = _streets(count)
    side = int(np.ceil(np.sqrt(int(street[-1]) + 1)))
    points[:, 0] += _BLOCK_M * (street % side)
    points[:, 1] += _BLOCK_M * (street // side)
    scans = []
    for place in range(3):
        pose = np.eye(4)
        pose[0, 3] = 0.5 * place
        classes = torch.rand(count, CLASSES, generator=draw)
        scans.append(Ballot(points[:, :3].contiguous(), classes / classes.sum(1, keepdim=True), pose))

    def work() -> None:
        before, own, after = (replace(scan) for scan in scans)  # a copy has no voxels and sums yet
        vote(own, {-1: before, 1: after}, VotingOptions())

    return work


def regions(count: int) -> Work:
    """The table of the regions that ``count`` pairs name, one for twenty pairs, and the means over them."""
    draw = torch.Generator().manual_seed(0)
    points, _ = _streets(count)
    nothing = torch.zeros(1, dtype=torch.int64)
    batch = Batch(
        points=points,
        cloud=torch.zeros(count, dtype=torch.int64),
        cloud_clip=nothing,
        cloud_offset=nothing,
        cloud_dense=torch.zeros(1, dtype=torch.bool),
        images=torch.zeros(1, CHANNELS, 1, 1),
        image_clip=nothing,
        image_offset=nothing,
        pair_point=torch.arange(count),
        pair_image=torch.zeros(count, dtype=torch.int64),
        pair_pixel=torch.zeros(count, 2),
        pair_region=torch.randint(0, max(count // 20, 1), (count,), generator=draw),
        view_size=(1, 1),
    )
    features = torch.rand(count, CHANNELS, generator=draw)
    inverse = torch.arange(count)
    return lambda: pool_points(features, inverse, batch, region_table(batch))


def index(count: int) -> Work:
    """The index of ``count`` scans, from the reader's rows to the files."""
    folder = TemporaryDirectory(prefix="superflow_growth_")  # goes with the work
    root, out = Path(folder.name) / "log", Path(folder.name) / "index"
    root.mkdir()
    (root / "scans.bin").touch()

    def work() -> None:
        write_rows(root, out, ListedLog("semantickitti", load_card("semantickitti"), _scans(count)))
        assert folder

    return work


def step(count: int) -> Work:
    """A training step of MinkUNet-18 in our back end, with its maps."""
    net, made = made_network(Options(), count)
    features = torch.ones(count, net.in_channels)
    backend = _backend()
    return lambda: network_step(net, backend, made, features)


PARTS = {
    "voxels": Part("points", voxels),
    "kernel maps": Part("points", maps),
    "a vote of two scans": Part("points", votes),
    "regions": Part("pairs", regions),
    "index": Part("scans", index, most=1_000_000),
    "network step": Part("voxels", step, most=300_000),
}


def _backend() -> str:
    """Ours, found before the clock runs: looking imports spconv, which takes seconds."""
    return usable_backends()[0]


def _streets(count: int) -> tuple[Tensor, Tensor]:
    """(count, 4) points and (count,) the cloud of each: scans of one street, as many as it takes."""
    street = made_street(0)
    row = torch.arange(count)
    return street[row % len(street)], row // len(street)


def _scans(count: int) -> Iterator[ScanRow]:
    """Rows of a log of one file, ten scans a second along a straight street."""
    mount = np.eye(4)
    for number in range(count):
        pose = np.eye(4)
        pose[0, 3] = number % _SCENE
        yield ScanRow(
            scene=f"street {number // _SCENE:06d}",
            token=f"scan_{number:08d}",
            order=number,
            points=Place("scans.bin", key=str(number)),
            lidar_to_ego=mount,
            time_us=100_000 * number,
            ego_to_world=pose,
        )
