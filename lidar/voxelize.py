"""Points to voxels: cubic and cylindrical grids with a fixed origin, on the device of the points.

``floor`` is the one convention: the voxel with index i covers ``[i * size, (i + 1) * size)`` on every axis, for
negative coordinates too. Nothing depends on the extent of a cloud, so that a point lies in the same voxel, and
in the same voxel of every coarser grid, whatever else the cloud holds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from ..errors import InputError, OutOfReachError

Reduce = Literal["mean", "first"]

# Voxels per unbounded axis, half of them below zero. Three axes, the clouds of a batch and the padding share one
# int64 key: 3 x 17 bits + 11 bits. At 5 cm this reaches 3.2 km from the sensor. Multiples of 16 (and more) keep
# the cells of the coarser grids at the same place.
AXIS_CELLS = 2**17
MAX_CLOUDS = 2**11


def bin_index(values: Tensor, size: float) -> Tensor:
    """Index of the bin of width ``size`` that holds each value, still as float. Metres are rounded nowhere else."""
    # a tensor on the device: CUDA divides by a Python number as a product with its reciprocal, which rounds otherwise
    # than the CPU does and moves points on a border to another voxel
    return torch.floor(values / values.new_tensor(size))


def with_digits(values: Tensor) -> Tensor:
    """``values`` in float32, or as they are where they are of that or finer.

    In bfloat16 the number of a cell is rounded to a multiple of 8 from the 1024th on; an edge in whole metres is 0.
    """
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


class Grid(Protocol):
    """How points become cells. Axis 1 may wrap: its last cell is then the neighbour of its first."""

    @property
    def low(self) -> tuple[int, int, int]:
        """Smallest index of each axis."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of cells of each axis."""

    @property
    def wraps(self) -> bool:
        """True when axis 1 is a full turn."""

    def index(self, xyz: Tensor) -> Tensor:
        """(N, 3) float cell indices of ``xyz`` (N, 3) [m]."""

    def centers(self, index: Tensor) -> Tensor:
        """(V, 3) float32 x, y, z [m] of the middle of the cells ``index`` (V, 3)."""

    def config(self) -> dict[str, Any]:
        """Plain dict from which ``make_grid`` builds this grid again."""


@dataclass(frozen=True, slots=True)
class CubicGrid:
    """Boxes with sides ``size_m`` [m], one number or one for each of x, y, z."""

    size_m: float | tuple[float, float, float] = 0.1

    def __post_init__(self) -> None:
        sizes = (self.size_m,) * 3 if isinstance(self.size_m, (int, float)) else tuple(self.size_m)
        if len(sizes) != 3 or not all(math.isfinite(size) and size > 0 for size in sizes):
            raise InputError(f"size_m is {self.size_m!r}; give one positive number of metres, or three")
        object.__setattr__(self, "size_m", tuple(float(size) for size in sizes))

    @property
    def _sides(self) -> tuple[float, float, float]:
        return self.size_m  # type: ignore[return-value]  # three numbers since __post_init__

    @property
    def low(self) -> tuple[int, int, int]:
        return (-AXIS_CELLS // 2,) * 3

    @property
    def shape(self) -> tuple[int, int, int]:
        return (AXIS_CELLS,) * 3

    @property
    def wraps(self) -> bool:
        return False

    def index(self, xyz: Tensor) -> Tensor:
        return torch.stack([bin_index(column, size) for column, size in zip(xyz.unbind(1), self._sides)], 1)

    def centers(self, index: Tensor) -> Tensor:
        return (index.float() + 0.5) * torch.tensor(self._sides, device=index.device)

    def config(self) -> dict[str, Any]:
        return {"type": "cubic", "size_m": list(self._sides)}


@dataclass(frozen=True, slots=True)
class CylinderGrid:
    """Ring sectors: distance from the z axis [m], azimuth [deg], height [m].

    ``phi_deg`` must divide 360; the azimuth then wraps, and the sector next to the last is the first, in the
    kernel maps too. Coarser grids halve the number of sectors, rounding up: with 360 sectors the last sector at
    stride 16 is narrower than the others. A count divisible by 32 (``phi_deg = 0.9375`` gives 384) makes half
    turns exact at all five strides.
    """

    rho_m: float = 0.1
    phi_deg: float = 1.0
    z_m: float = 0.1

    def __post_init__(self) -> None:
        for name in ("rho_m", "phi_deg", "z_m"):
            value = float(getattr(self, name))
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} is {value}; give a positive number")
            object.__setattr__(self, name, value)
        if abs(self.sectors * self.phi_deg - 360) > 1e-6:
            raise InputError(f"phi_deg is {self.phi_deg}; give a divisor of 360, so that the turn closes")

    @property
    def sectors(self) -> int:
        """Number of sectors of the full turn."""
        return max(round(360 / self.phi_deg), 1)

    @property
    def low(self) -> tuple[int, int, int]:
        return (0, 0, -AXIS_CELLS // 2)

    @property
    def shape(self) -> tuple[int, int, int]:
        return (AXIS_CELLS, self.sectors, AXIS_CELLS)

    @property
    def wraps(self) -> bool:
        return True

    def index(self, xyz: Tensor) -> Tensor:
        x, y, z = xyz.unbind(1)
        # The two sides of the seam, -180 and +180 degrees, are the same sector: in float64 they are exactly half a turn
        # (divided by a tensor, see bin_index), and half a turn times a whole number is exact. Over the width of a
        # sector, which is rounded, it would not be.
        turn = torch.atan2(y.double(), x.double())
        turn = turn / turn.new_tensor(2 * math.pi)
        sector = torch.floor(turn * self.sectors).remainder(self.sectors)
        return torch.stack(
            [bin_index(torch.hypot(x, y), self.rho_m), sector.to(xyz.dtype), bin_index(z, self.z_m)], 1
        )

    def centers(self, index: Tensor) -> Tensor:
        rho, sector, height = (index.double() + 0.5).unbind(1)
        phi = sector * (2 * math.pi / self.sectors)
        rho = rho * self.rho_m
        return torch.stack([rho * phi.cos(), rho * phi.sin(), height * self.z_m], 1).float()

    def config(self) -> dict[str, Any]:
        return {"type": "cylinder", "rho_m": self.rho_m, "phi_deg": self.phi_deg, "z_m": self.z_m}


GRIDS = {"cubic": CubicGrid, "cylinder": CylinderGrid}


def make_grid(grid: Grid | Mapping[str, Any]) -> Grid:
    """The grid itself, or the one that ``{"type": "cubic" | "cylinder", ...sizes}`` describes.

    Raises:
        InputError: the type or a size is unknown.
    """
    if not isinstance(grid, Mapping):
        return grid
    options = dict(grid)
    kind = options.pop("type", None)
    if kind not in GRIDS:
        raise InputError(f"grid type {kind!r} is unknown; choose one of {', '.join(GRIDS)}")
    try:
        return GRIDS[kind](**options)
    except TypeError as error:
        raise InputError(f"grid {dict(grid)!r} does not fit a {kind} grid ({error})") from error


def pack_keys(cells: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """(V,) int64 keys of ``cells`` (V, 4) cloud, x, y, z >= 0, ordered as the rows are (z fastest).

    Every axis has one empty cell on both sides: the key of a neighbour is the key plus a constant, and a
    neighbour outside the grid has a key that no cell has.
    """
    _, y_cells, z_cells = shape
    cloud, x, y, z = cells.long().unbind(1)
    return ((cloud * (shape[0] + 2) + x + 1) * (y_cells + 2) + y + 1) * (z_cells + 2) + z + 1


@dataclass(frozen=True, slots=True)
class Voxels:
    """The occupied voxels of a batch of clouds, and which point lies in which.

    Attributes:
        coords: (V, 4) int32 cloud, then the index on each axis (x, y, z; or rho, phi, z), sorted.
        keys: (V,) int64 of ``pack_keys``, ascending.
        inverse: (N,) int64 row of the voxel that a point lies in.
        order: (N,) int64 rows of the points, voxel by voxel, in input order within a voxel.
        starts: (V + 1,) int64; the points of voxel v are ``order[starts[v]:starts[v + 1]]``.
        grid: the grid of the indices. num_clouds: clouds in the batch, empty ones included.
    """

    coords: Tensor
    keys: Tensor
    inverse: Tensor
    order: Tensor
    starts: Tensor
    grid: Grid
    num_clouds: int

    def __len__(self) -> int:
        return len(self.coords)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of cells of each axis of the grid."""
        return self.grid.shape

    def reduce(self, values: Tensor, how: Reduce = "mean") -> Tensor:
        """(V, C) from the values (N, C) of the points: their mean, or that of the first point in input order."""
        if how not in ("mean", "first"):
            raise InputError(f'reduce is {how!r}; choose "mean" or "first"')
        if len(self) == 0:
            return values.new_zeros(0, values.shape[1])
        if how == "first":
            return values.index_select(0, self.order.index_select(0, self.starts[:-1]))
        # a gather-sum, not a scatter: the order of the sum is fixed on every device
        return torch.nn.functional.embedding_bag(
            self.order, values, self.starts, mode="mean", include_last_offset=True
        )

    def at_points(self, values: Tensor) -> Tensor:
        """(N, C) values of the voxel of each point, from ``values`` (V, C); gradients are summed in fixed order."""
        return _AtPoints.apply(values, self)


class _AtPoints(torch.autograd.Function):
    """Gather forward, and backward the sum over the points of a voxel as a gather-sum instead of a scatter."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, voxels: Voxels) -> Tensor:
        ctx.voxels = voxels
        return values.index_select(0, voxels.inverse)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        voxels = ctx.voxels
        if len(voxels) == 0:
            return grad.new_zeros(0, grad.shape[1]), None
        summed = torch.nn.functional.embedding_bag(
            voxels.order, grad.contiguous(), voxels.starts, mode="sum", include_last_offset=True
        )
        return summed, None


def voxelize(xyz: Tensor, cloud: Tensor, grid: Grid, *, num_clouds: int | None = None) -> Voxels:
    """The voxels that hold points.

    Args:
        xyz: (N, 3+) coordinates [m] of any type of number; further columns are ignored. N may be 0.
        cloud: (N,) int64 cloud of each point, in any order.
        num_clouds: clouds of the batch, those without points included; by default the largest ``cloud`` + 1.

    Raises:
        OutOfReachError: a coordinate is not finite or outside the grid.
        InputError: a cloud index is out of range.
    """
    if xyz.ndim != 2 or xyz.shape[1] < 3 or cloud.shape != xyz.shape[:1]:
        raise InputError(
            f"points {tuple(xyz.shape)} and cloud {tuple(cloud.shape)} do not fit; give (N, 3+) and (N,)"
        )
    if num_clouds is None:
        num_clouds = int(cloud.max()) + 1 if len(cloud) else 0
    index = grid.index(with_digits(xyz[:, :3]))
    low = torch.tensor(grid.low, device=xyz.device)
    high = low + torch.tensor(grid.shape, device=xyz.device)
    inside = (index >= low) & (index < high)  # false for NaN
    known = (cloud >= 0) & (cloud < min(num_clouds, MAX_CLOUDS))
    if not bool(inside.all() & known.all()):
        _explain(xyz, cloud, inside.all(1), known, num_clouds)
    cells = torch.cat([cloud[:, None], index.long() - low], 1)
    keys, order = pack_keys(cells, grid.shape).sort(stable=True)
    first = torch.ones_like(keys, dtype=torch.bool)
    torch.ne(keys[1:], keys[:-1], out=first[1:])
    inverse = torch.empty_like(order)
    inverse[order] = first.cumsum(0) - 1
    starts = first.nonzero().squeeze(1)
    coords = cells.index_select(0, order.index_select(0, starts))
    coords[:, 1:] += low
    return Voxels(
        coords=coords.int(),
        keys=keys.index_select(0, starts),
        inverse=inverse,
        order=order,
        starts=torch.cat([starts, starts.new_tensor([len(keys)])]),
        grid=grid,
        num_clouds=num_clouds,
    )


def _explain(xyz: Tensor, cloud: Tensor, inside: Tensor, known: Tensor, num_clouds: int) -> None:
    bad = ~(inside & known)
    row = int(bad.nonzero()[0])
    place = [round(value, 3) for value in xyz[row, :3].tolist()]
    kind = InputError if bool(inside.all()) else OutOfReachError
    raise kind(
        f"{int(bad.sum())} of {len(xyz)} points cannot be voxelised, the first is row {row} at {place} of "
        f"cloud {int(cloud[row])} of {num_clouds}; remove points that are not finite or kilometres away, and give "
        f"clouds 0 to {min(num_clouds, MAX_CLOUDS) - 1}"
    )
