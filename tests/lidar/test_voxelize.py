"""Voxels: one rounding, one origin, a closed turn, and sums that do not depend on the order of points."""

from __future__ import annotations

import math

import pytest
import torch

from superflow.errors import InputError
from superflow.lidar.voxelize import CubicGrid, CylinderGrid, bin_index, make_grid, voxelize

GRIDS = [CubicGrid(0.5), CubicGrid((0.5, 0.3, 0.2)), CylinderGrid(0.5, 2.0, 0.3)]


def random_points(count: int, seed: int = 0, spread: float = 4.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 4, generator=generator) * torch.tensor([spread, spread, 1.0, 0.3])


def slow_index(grid, point) -> tuple[int, int, int]:
    x, y, z = (float(value) for value in point[:3])
    if isinstance(grid, CubicGrid):
        return tuple(math.floor(value / size) for value, size in zip((x, y, z), grid.size_m))
    sector = math.floor(math.degrees(math.atan2(y, x)) / grid.phi_deg) % round(360 / grid.phi_deg)
    return math.floor(math.hypot(x, y) / grid.rho_m), sector, math.floor(z / grid.z_m)


@pytest.mark.parametrize("grid", GRIDS, ids=repr)
def test_voxels_are_those_of_a_dictionary_of_cells(grid):
    points, cloud = (
        random_points(600),
        torch.randint(0, 3, (600,), generator=torch.Generator().manual_seed(1)),
    )
    members: dict[tuple[int, ...], list[int]] = {}
    for row, point in enumerate(points):
        members.setdefault((int(cloud[row]), *slow_index(grid, point)), []).append(row)
    voxels = voxelize(points, cloud, grid, num_clouds=3)
    assert [tuple(row) for row in voxels.coords.tolist()] == sorted(members)
    assert voxels.coords.dtype == torch.int32
    for row, cell in enumerate(sorted(members)):
        assert (voxels.inverse == row).nonzero().squeeze(1).tolist() == members[cell]
        torch.testing.assert_close(
            voxels.reduce(points)[row], points[members[cell]].mean(0), rtol=1e-5, atol=1e-6
        )
        assert voxels.reduce(points, "first")[row].equal(points[members[cell][0]])
    assert bool((voxels.keys[1:] > voxels.keys[:-1]).all())


def test_mistake_17_floor_is_the_only_rounding():
    values = torch.tensor([-1.0, -0.75, -0.5, -0.25, -0.0, 0.0, 0.25, 0.5, 0.75, 1.25])
    assert bin_index(values, 0.5).tolist() == [-2, -2, -1, -1, 0, 0, 0, 1, 1, 2]
    points = torch.stack([values, values * 0 + 0.1, values], 1)
    voxels = voxelize(points, torch.zeros(10, dtype=torch.long), CubicGrid(0.5))
    assert voxels.coords[voxels.inverse, 1].tolist() == [-2, -2, -1, -1, 0, 0, 0, 1, 1, 2]


def test_mistake_14_the_turn_is_closed():
    grid = CylinderGrid(0.1, 1.0, 0.1)
    points = random_points(3000, seed=3)
    edge = torch.tensor(
        [[-5.0, 0.0, 0.0, 0.5], [-5.0, -0.0, 0.0, 0.5], [-5.0, 1e-9, 0.0, 0.5], [-5.0, -1e-9, 0, 1]]
    )
    points = torch.cat([points, edge])
    turned = points * torch.tensor([-1.0, -1.0, 1.0, 1.0])  # half a turn about z, exact in floating point
    cloud = torch.zeros(len(points), dtype=torch.long)
    a, b = voxelize(points, cloud, grid), voxelize(turned, cloud, grid)
    assert len(a) == len(b)
    assert a.coords[:, 2].min() >= 0
    assert a.coords[:, 2].max() <= 359  # 360 sectors, not 361
    moved = a.coords.clone()
    moved[:, 2] = (moved[:, 2] + 180) % 360
    order = torch.tensor(sorted(range(len(moved)), key=lambda row: moved[row].tolist()))
    assert moved[order].equal(b.coords)
    # features that do not change in a turn agree up to that permutation
    assert a.reduce(points[:, 2:])[order].allclose(b.reduce(turned[:, 2:]), rtol=0, atol=1e-6)
    # both sides of the seam share the sector at -180 = +180 degrees up to rounding of the angle itself
    assert a.inverse[-4] == a.inverse[-3]


def test_mistake_14_the_turn_is_closed_for_every_number_of_sectors():
    """The directions whose angle is exact in floating point, -180 degrees among them, for 1 to 3600 sectors."""
    eighths = {(1.0, 0.0): 0, (1.0, 1.0): 1, (0.0, 1.0): 2, (-1.0, 0.0): 4}
    eighths |= {(-1.0, -0.0): -4, (0.0, -1.0): -2, (1.0, -1.0): -1, (1.0, -0.0): 0}
    xyz = torch.tensor([(7.3 * x, 7.3 * y, 0.0) for x, y in eighths])
    wrong = {}
    for sectors in range(1, 3601):
        got = CylinderGrid(0.1, 360 / sectors, 0.1).index(xyz)[:, 1].tolist()
        want = [eighth * sectors // 8 % sectors for eighth in eighths.values()]
        if got != want:
            wrong[sectors] = (got, want)
    assert not wrong


def test_mistake_42_the_origin_does_not_depend_on_the_cloud():
    points, zeros = random_points(500), torch.zeros(500, dtype=torch.long)
    outlier = torch.tensor([[-900.03, -700.07, -30.01, 0.0]])
    for grid in GRIDS:
        alone = voxelize(points, zeros, grid)
        more = voxelize(torch.cat([points, outlier]), torch.zeros(501, dtype=torch.long), grid)
        kept = more.inverse[:500].unique()
        assert more.coords[kept].equal(alone.coords)
        assert more.reduce(torch.cat([points, outlier]))[kept].equal(alone.reduce(points))


def test_mistake_36_the_policy_changes_what_a_voxel_tells():
    key = torch.tensor([[0.1, 0.1, 0.1, 0.0], [2.1, 0.1, 0.1, 0.5]])
    sweep = torch.tensor([[0.3, 0.1, 0.1, 1.0]])  # falls into the voxel of the first key point
    sparse = voxelize(key, torch.zeros(2, dtype=torch.long), CubicGrid(1.0))
    dense_points = torch.cat([key, sweep])
    dense = voxelize(dense_points, torch.zeros(3, dtype=torch.long), CubicGrid(1.0))
    assert dense.reduce(dense_points, "first").equal(sparse.reduce(key, "first"))
    assert not dense.reduce(dense_points, "mean").equal(sparse.reduce(key, "mean"))


def test_mistake_40_nothing_leaves_the_device(monkeypatch):
    def refuse(*_args, **_options):
        raise AssertionError("voxelisation must stay on the device of the points")

    for name in ("numpy", "__array__", "cpu", "cuda", "tolist"):
        monkeypatch.setattr(torch.Tensor, name, refuse)
    points = random_points(50)
    voxels = voxelize(points, torch.zeros(50, dtype=torch.long), CylinderGrid(), num_clouds=1)
    voxels.at_points(voxels.reduce(points))


@pytest.mark.parametrize("grid", GRIDS, ids=repr)
@pytest.mark.parametrize("count", [0, 1])
def test_hardly_any_points(grid, count):
    points = random_points(count)
    voxels = voxelize(points, torch.full((count,), 2), grid, num_clouds=4)
    assert (len(voxels), voxels.num_clouds) == (count, 4)
    assert voxels.starts.tolist() == list(range(count + 1))
    assert voxels.reduce(points).shape == voxels.reduce(points, "first").shape == (count, 4)
    features = torch.ones(count, 3, requires_grad=True)
    voxels.at_points(features).sum().backward()
    assert features.grad.shape == (count, 3)


def test_clouds_do_not_share_voxels_and_may_be_empty():
    points = random_points(40).repeat(2, 1)
    cloud = torch.tensor([3, 1]).repeat_interleave(40)
    voxels = voxelize(points, cloud, CubicGrid(0.5), num_clouds=5)
    of_three, of_one = (voxels.coords[voxels.coords[:, 0] == k, 1:] for k in (3, 1))
    assert of_three.equal(of_one)
    assert len(of_three) + len(of_one) == len(voxels)


def test_keys_far_beyond_32_bits_stay_apart():
    far = 3276.0  # nearly the edge of the grid at 5 cm
    corners = torch.tensor([[x, y, z] for x in (-far, far) for y in (-far, far) for z in (-far, 0.0, far)])
    points, cloud = corners.repeat(3, 1), torch.tensor([0, 7, 2000]).repeat_interleave(12)
    voxels = voxelize(points, cloud, CubicGrid(0.05))
    assert len(voxels) == 36
    assert int(voxels.keys.max() - voxels.keys.min()) > 2**60
    assert voxels.keys.min() >= 0
    assert voxels.coords[:, 1:].float().mul(0.05).sub(points[voxels.order]).abs().max() < 0.06


def test_gradients_of_points_are_summed_over_their_voxel():
    points = random_points(200)
    voxels = voxelize(points, torch.zeros(200, dtype=torch.long), CubicGrid(2.0))
    features = torch.randn(len(voxels), 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ours, twin = features.clone().requires_grad_(), features.clone().requires_grad_()
    weights = torch.randn(200, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (voxels.at_points(ours) * weights).sum().backward()
    (twin[voxels.inverse] * weights).sum().backward()
    torch.testing.assert_close(ours.grad, twin.grad)


@pytest.mark.parametrize("grid", GRIDS, ids=repr)
def test_centers_lie_in_their_cells(grid):
    voxels = voxelize(random_points(300), torch.zeros(300, dtype=torch.long), grid)
    assert voxelize(grid.centers(voxels.coords[:, 1:]), voxels.coords[:, 0].long(), grid).coords.equal(
        voxels.coords
    )


@pytest.mark.parametrize("grid", GRIDS, ids=repr)
def test_a_grid_is_rebuilt_from_its_description(grid):
    assert make_grid(grid.config()) == grid
    assert make_grid(grid) is grid


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"type": "hexagonal"}, "'hexagonal' is unknown; choose one of cubic, cylinder"),
        ({"size_m": 0.1}, "None is unknown"),
        ({"type": "cubic", "size": 0.1}, "does not fit a cubic grid .*size"),
        ({"type": "cubic", "size_m": 0}, "size_m is 0"),
        ({"type": "cubic", "size_m": (0.1, 0.1)}, "or three"),
        ({"type": "cylinder", "phi_deg": 7.0}, "divisor of 360"),
        ({"type": "cylinder", "z_m": -1.0}, "z_m is -1"),
    ],
)
def test_a_wrong_grid_is_explained(grid, message):
    with pytest.raises(InputError, match=message):
        make_grid(grid)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e5])
def test_points_outside_of_the_grid_are_named(bad):
    points = random_points(10)
    points[4, 1] = bad
    with pytest.raises(
        InputError, match=r"1 of 10 points cannot be voxelised, the first is row 4 at .* of cloud 0"
    ):
        voxelize(points, torch.zeros(10, dtype=torch.long), CubicGrid(0.1))


def test_wrong_clouds_and_shapes_are_named():
    points, zeros = random_points(10), torch.zeros(10, dtype=torch.long)
    with pytest.raises(InputError, match="give clouds 0 to 0"):
        voxelize(points, zeros + 1, CubicGrid(), num_clouds=1)
    with pytest.raises(InputError, match=r"points \(10, 4\) and cloud \(9,\)"):
        voxelize(points, zeros[:9], CubicGrid())
    with pytest.raises(InputError, match='choose "mean" or "first"'):
        voxelize(points, zeros, CubicGrid()).reduce(points, "max")
