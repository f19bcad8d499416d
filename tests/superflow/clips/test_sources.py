"""A point that no voxel can hold is named with the scan that it came from, wherever clouds were joined before."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from superflow.clips.batch import Batch, collate
from superflow.clips.sources import Source, named, named_in
from superflow.errors import InputError, OutOfReachError
from superflow.geometry import voxel_keys
from superflow.lidar.voxelize import CubicGrid, CylinderGrid, voxelize

FAR = [(1e6, 0, 0), (0, -1e6, 0), (0, 0, 1e6), (float("nan"), 0, 0), (0, float("inf"), 0)]


def sample(number: int, scans: int = 2, points: int = 5) -> Batch:
    """A clip of a cloud of one scan, and of a dense one of several, 0.1 s apart."""
    ages = torch.arange(scans).repeat_interleave(points) * 0.1
    count = points + len(ages)
    own = (Source(f"{number}-own", f"{number}/own.bin"),)
    dense = tuple(Source(f"{number}-{i}", f"{number}/{i}.bin", i * 0.1) for i in range(scans))
    return Batch(
        points=torch.rand(count, 4),
        cloud=torch.tensor([0] * points + [1] * len(ages)),
        cloud_clip=torch.zeros(2, dtype=torch.int64),
        cloud_offset=torch.zeros(2, dtype=torch.int64),
        cloud_dense=torch.tensor([False, True]),
        age=torch.cat([torch.zeros(points), ages]),
        sources=(own, dense),
    )


@pytest.mark.parametrize("far", FAR)
@pytest.mark.parametrize("grid", [CubicGrid(0.1), CylinderGrid()])
@pytest.mark.parametrize(
    ("row", "token", "file"),
    [(2, "0-own", "0/own.bin"), (7, "0-0", "0/0.bin"), (38, "1-2", "1/2.bin"), (21, "1-own", "1/own.bin")],
)
def test_the_scan_of_a_joined_batch_is_found(row, token, file, grid, far):
    batch = collate([sample(0, scans=3), sample(1, scans=3)])
    batch.points[row, :3] = torch.tensor(far)
    with (
        pytest.raises(InputError, match=rf"^{file}: scan {token} has a point about .* m away, .* limits"),
        named_in(batch),
    ):
        voxelize(batch.points, batch.cloud, grid)


@pytest.mark.parametrize("far", FAR)
def test_the_scan_of_world_cells_is_found(far):
    points = np.zeros((4, 3), dtype=np.float32)
    points[3] = np.float32(far) * 100
    parts = Source("own", "own.bin"), Source("sweep", "sweep.bin", -0.05)
    age = np.array([0, 0, 0, -0.05], dtype=np.float32)
    with (
        pytest.raises(InputError, match=r"^sweep\.bin: scan sweep has a point"),
        named(points, *parts, age=age),
    ):
        voxel_keys(points, 0.2)


def test_without_sources_and_for_other_faults_the_error_is_the_first_one():
    points = torch.zeros(3, 4)
    points[1, 0] = 1e6
    cloud = torch.zeros(3, dtype=torch.int64)
    with pytest.raises(OutOfReachError, match="row 1"), named(points):
        voxelize(points, cloud, CubicGrid())
    with pytest.raises(InputError, match="of cloud 7 of 1") as found, named(points[:1], Source("a", "a.bin")):
        voxelize(points[:1], cloud[:1] + 7, CubicGrid(), num_clouds=1)
    assert not isinstance(found.value, OutOfReachError)
