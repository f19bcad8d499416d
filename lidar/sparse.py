"""Which voxel is a neighbour of which: kernel maps, built once a batch and shared by every layer and every pass.

Rows are sorted by a packed key with z fastest. The three neighbours dz = -1, 0, +1 of a voxel in another column
are therefore consecutive rows: one binary search a column finds all three, and of the 27 offsets only half are
searched, the others are their mirror images.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..errors import InputError
from .voxelize import Voxels, pack_keys

Shape = tuple[int, int, int]
T = TypeVar("T")

# (dx, dy) of the columns after the voxel's own, in key order; with the voxel's upper neighbour they are the
# offsets 14 to 26 of the 3 x 3 x 3 kernel, in order
_COLUMNS = ((0, 1), (1, -1), (1, 0), (1, 1))


@dataclass(slots=True, eq=False, weakref_slot=True)
class KernelMap:
    """Pairs (input row, output row) of a convolution, offset by offset.

    The offset of a 3 x 3 x 3 kernel is ``9 * (dx + 1) + 3 * (dy + 1) + (dz + 1)`` with input = output + d; of a
    2 x 2 x 2 kernel it is ``4 * (x % 2) + 2 * (y % 2) + z % 2`` of the finer voxel.

    Attributes:
        rows_in, rows_out: (P,) int32, by offset, then by output row.
        counts: pairs of each offset, K numbers on the host: layers need no further wait for the device.
        firsts: (K,) int64 row of the list at which each offset begins, on the device.
        num_in, num_out: rows of the input and of the output.
        center: the offset that pairs every row with itself, for which nothing is listed; None without one.
    """

    rows_in: Tensor
    rows_out: Tensor
    counts: list[int]
    firsts: Tensor
    num_in: int
    num_out: int
    center: int | None = None
    _transposed: KernelMap | None = None  # kept by this one
    _back: weakref.ref[KernelMap] | None = None  # to the one that keeps this as its transposed
    _arranged: dict[str, Any] = field(default_factory=dict)

    @property
    def mirrored(self) -> bool:
        """True if the transposed map is this one, with the offsets in reverse order."""
        return self.center is not None

    @property
    def transposed(self) -> KernelMap:
        """The map from outputs to inputs, which gradients take. Its offsets are the same, or mirrored."""
        if self.mirrored:
            return self
        if self._back is not None and (kept_by := self._back()) is not None:
            return kept_by
        if self._transposed is None:
            self._transposed = replace(
                self,
                rows_in=self.rows_out,
                rows_out=self.rows_in,
                num_in=self.num_out,
                num_out=self.num_in,
                _back=weakref.ref(self),
                _arranged={},
            )
        return self._transposed

    def arranged(self, name: str, build: Callable[[KernelMap], T]) -> T:
        """What the back end ``name`` makes of this map; built at the first use, then kept with the map."""
        if name not in self._arranged:
            self._arranged[name] = build(self)
        return self._arranged[name]

    def is_arranged(self, name: str) -> bool:
        """Whether `arranged` has something of that name already."""
        return name in self._arranged


@dataclass(frozen=True, slots=True)
class Level:
    """The occupied cells of one stride.

    cells: (V, 4) int32 cloud, x, y, z, all >= 0; keys: (V,) int64, ascending; shape: cells of each axis;
    wraps: the last cell of axis 1 is the neighbour of its first.
    """

    cells: Tensor
    keys: Tensor
    shape: Shape
    wraps: bool

    def __len__(self) -> int:
        return len(self.keys)


class Pyramid:
    """Levels of stride 1, 2, 4, ... of a batch and the kernel maps in and between them, each built once."""

    def __init__(self, base: Level, num_clouds: int) -> None:
        self.num_clouds = num_clouds
        self._levels = [base]
        self._subm: dict[int, KernelMap] = {}
        self._down: dict[int, KernelMap] = {}

    @classmethod
    def from_voxels(cls, voxels: Voxels) -> Pyramid:
        """The pyramid over voxels of ``voxelize``, whose rows are in order by construction."""
        low = torch.tensor([0, *voxels.grid.low], dtype=torch.int32, device=voxels.coords.device)
        base = Level(voxels.coords - low, voxels.keys, voxels.shape, voxels.grid.wraps)
        return cls(base, voxels.num_clouds)

    @classmethod
    def from_cells(cls, cells: Tensor, shape: Shape, *, num_clouds: int, wraps: bool = False) -> Pyramid:
        """The pyramid over ``cells`` (V, 4) cloud, x, y, z in a grid of ``shape``.

        Raises:
            InputError: the rows are not sorted, occur twice, or lie outside of the grid.
        """
        if num_clouds * math.prod(size + 2 for size in shape) >= 2**63:
            raise InputError(
                f"{num_clouds} clouds of {shape} cells do not fit into 64-bit keys; shrink the grid"
            )
        limit = torch.tensor([num_clouds, *shape], device=cells.device)
        if not bool(((cells >= 0) & (cells < limit)).all()):
            raise InputError(f"cells lie outside of {num_clouds} clouds of {shape}; drop them before")
        keys = pack_keys(cells, shape)
        if not bool((keys[1:] > keys[:-1]).all()):
            raise InputError(
                "cells must be unique and sorted by cloud, x, y, z; voxelize() returns such rows"
            )
        return cls(Level(cells.int(), keys, shape, wraps), num_clouds)

    def level(self, index: int) -> Level:
        """The cells at stride 2 ** index."""
        while len(self._levels) <= index:
            self.down(len(self._levels) - 1)
        return self._levels[index]

    def subm(self, index: int) -> KernelMap:
        """The 3 x 3 x 3 map of a level onto itself."""
        if index not in self._subm:
            self._subm[index] = _neighbours(self.level(index))
        return self._subm[index]

    def down(self, index: int) -> KernelMap:
        """The 2 x 2 x 2 map from a level to the next coarser one; its ``transposed`` leads back."""
        if index not in self._down:
            coarser, self._down[index] = _halve(self.level(index))
            self._levels.append(coarser)
        return self._down[index]

    def build(self, levels: int) -> Pyramid:
        """All maps of ``levels`` levels now, so that layers find them ready."""
        for index in range(levels):
            self.subm(index)
            if index + 1 < levels:
                self.down(index)
        return self

    def maps(self, levels: int) -> list[KernelMap]:
        """All maps of ``levels`` levels that layers take, forward or backward."""
        self.build(levels)
        between = [self.down(index) for index in range(levels - 1)]
        return [self.subm(index) for index in range(levels)] + between + [one.transposed for one in between]


@dataclass(frozen=True, slots=True)
class SparseTensor:
    """Features (V, C) of the cells at one level of a pyramid."""

    features: Tensor
    pyramid: Pyramid
    level: int = 0

    def replace(self, features: Tensor) -> SparseTensor:
        """The same cells with other features."""
        return SparseTensor(features, self.pyramid, self.level)


def _neighbours(level: Level) -> KernelMap:
    """The 27-offset map of a level onto itself by one search a column."""
    rows, keys = len(level), level.keys
    if rows == 0:
        empty = keys.int()
        return KernelMap(empty, empty, [0] * 27, keys.new_zeros(27), 0, 0, center=13)
    stride_y = level.shape[2] + 2
    stride_x = stride_y * (level.shape[1] + 2)
    # a last key that nothing equals: positions may run one and two rows past the end
    ended = torch.cat([keys, keys.new_full((3,), torch.iinfo(torch.int64).max)])
    hits = torch.empty(13, rows, dtype=torch.bool, device=keys.device)
    found = torch.empty(13, rows, dtype=torch.int32, device=keys.device)
    found[0] = torch.arange(1, rows + 1, device=keys.device)
    torch.eq(ended[1 : rows + 1], keys + 1, out=hits[0])
    for column, (dx, dy) in enumerate(_COLUMNS):
        wanted = keys + (dx * stride_x + dy * stride_y - 1)
        if level.wraps and dy:
            edge, turn = (level.shape[1] - 1, -level.shape[1]) if dy > 0 else (0, level.shape[1])
            wanted += (level.cells[:, 2] == edge) * (turn * stride_y)
        position = torch.searchsorted(keys, wanted, out_int32=True)
        for row in range(1 + 3 * column, 4 + 3 * column):
            found[row] = position
            torch.eq(ended.index_select(0, position), wanted, out=hits[row])
            position += hits[row]
            wanted += 1
    offset, rows_out = hits.nonzero().unbind(1)
    half = torch.bincount(offset, minlength=13)
    whole = torch.cat([half.flip(0), half.new_zeros(1), half])
    counts = half.tolist()
    rows_in = found.view(-1).index_select(0, offset * rows + rows_out)
    rows_out = rows_out.int()
    mirror_in, mirror_out = _mirror(rows_out, rows_in, counts, sort=level.wraps)
    return KernelMap(
        torch.cat([mirror_in, rows_in]),
        torch.cat([mirror_out, rows_out]),
        counts[::-1] + [0] + counts,
        whole.cumsum(0) - whole,
        rows,
        rows,
        center=13,
    )


def _mirror(rows_out: Tensor, rows_in: Tensor, counts: list[int], *, sort: bool) -> tuple[Tensor, Tensor]:
    """Input and output rows of the offsets 0 to 12: those of 26 to 14 with their roles exchanged."""
    inputs = list(reversed(rows_out.split(counts)))
    outputs = list(reversed(rows_in.split(counts)))
    if sort:  # across the seam a later row has an earlier neighbour
        for k, rows in enumerate(outputs):
            outputs[k], order = rows.sort()
            inputs[k] = inputs[k].index_select(0, order)
    return torch.cat(inputs), torch.cat(outputs)


def _halve(level: Level) -> tuple[Level, KernelMap]:
    """The cells at twice the stride, and the map of 2 x 2 x 2 cells to one."""
    cells = level.cells.clone()
    cells[:, 1:] >>= 1
    shape: Shape = tuple((size + 1) // 2 for size in level.shape)  # type: ignore[assignment]
    keys, parent = torch.unique(pack_keys(cells, shape), return_inverse=True)
    coarse = cells.new_empty(len(keys), 4)
    coarse[parent] = cells  # all children of a cell write the same row
    odd = level.cells[:, 1:] & 1
    offset = odd[:, 0] * 4 + odd[:, 1] * 2 + odd[:, 2]
    children = offset.argsort(stable=True)  # within an offset children and parents are in the same order
    counts = torch.bincount(offset, minlength=8)
    kernel_map = KernelMap(
        children.int(),
        parent.index_select(0, children).int(),
        counts.tolist(),
        counts.cumsum(0) - counts,
        len(level),
        len(keys),
    )
    return replace(level, cells=coarse, keys=keys, shape=shape), kernel_map
