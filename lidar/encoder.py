"""From points to point features: inputs, voxels, backbone, and back to the points."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from .conv import prepare
from .minkunet import MinkUNet
from .sparse import Pyramid, SparseTensor
from .voxelize import Grid, Reduce, Voxels, make_grid, voxelize, with_digits

# What a point may tell the network, from points (N, 4+) x, y, z [m], intensity [0, 1], NaN where the sensor gives none:
# that counts as 0, and ``has_intensity`` tells it from a dark surface. The lower half is brought to a scale of about
# one and says nothing of where in the scene a point lies except its height and distance.
INPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "x": lambda points: points[:, 0],
    "y": lambda points: points[:, 1],
    "z": lambda points: points[:, 2],
    "raw_intensity": lambda points: _or_zero(points[:, 3]),
    "intensity": lambda points: _or_zero(points[:, 3]) * 4,
    "has_intensity": lambda points: (~points[:, 3].isnan()).to(points.dtype),
    "height": lambda points: points[:, 2] / 3,
    "range": lambda points: torch.hypot(points[:, 0], points[:, 1]) / 30 - 1,
    "one": lambda points: torch.ones_like(points[:, 0]),
}
INTENSITY = frozenset(("raw_intensity", "intensity", "has_intensity"))  # inputs that read the fourth column
AGE = "age"  # seconds since a point's scan, which only merged clouds have; 0 in a single scan
PUBLISHED = ("x", "y", "z", "raw_intensity")


@dataclass(frozen=True, slots=True)
class VoxelFeatures:
    """What the encoder makes of a batch of clouds.

    features: (V, C), one row a voxel. voxels: which point lies where.
    """

    features: Tensor
    voxels: Voxels

    @property
    def inverse(self) -> Tensor:
        """(N,) int64 row of ``features`` for each point."""
        return self.voxels.inverse

    @property
    def coords(self) -> Tensor:
        """(V, 4) int32 cloud and cell of each row."""
        return self.voxels.coords

    def at_points(self) -> Tensor:
        """(N, C) features of the voxel of each point, in the order of the points."""
        return self.voxels.at_points(self.features)


@dataclass(frozen=True, slots=True)
class EncoderInput:
    """What the encoder makes of a batch of clouds before its first layer, by no weight.

    values: (V, inputs) of each voxel, in the type of the weights. voxels: which point lies where. pyramid: the maps.
    """

    values: Tensor
    voxels: Voxels
    pyramid: Pyramid


class LidarEncoder(nn.Module):
    """The student: a grid, the inputs of a voxel and a backbone.

    Args:
        grid: a grid, or its description, e.g. ``{"type": "cubic", "size_m": 0.1}``.
        backbone: options of ``MinkUNet`` (``in_channels`` follows from ``inputs``).
        inputs: "published" (x, y, z in metres and intensity as it is), or names of ``INPUTS``; "age" is the time
            channel of merged clouds; "column:4" is the fifth column of the points as it is.
        reduce: inputs of a voxel are the "mean" over its points, or those of its "first" point.

    Attributes:
        out_channels: C of the features.
        raw_intensity: whether it was trained on intensity 0..255, set where it is read from a file. It takes points as
            they are; who has them in [0, 1] looks here.
    """

    raw_intensity = False

    def __init__(
        self,
        grid: Grid | Mapping[str, Any],
        backbone: Mapping[str, Any],
        inputs: str | Sequence[str] = "published",
        reduce: Reduce = "mean",
    ) -> None:
        super().__init__()
        self.grid = make_grid(grid)
        self.inputs = (
            PUBLISHED if inputs == "published" else (inputs,) if isinstance(inputs, str) else tuple(inputs)
        )
        for name in self.inputs:
            if name != AGE:
                _input(name)
        if reduce not in ("mean", "first"):
            raise InputError(f'reduce is {reduce!r}; choose "mean" or "first"')
        self.reduce = reduce
        self._options = dict(backbone)
        if (given := self._options.pop("in_channels", len(self.inputs))) != len(self.inputs):
            raise InputError(
                f"backbone in_channels is {given}, but there are {len(self.inputs)} inputs; leave it out"
            )
        try:
            self.backbone = MinkUNet(**self._options, in_channels=len(self.inputs))
        except TypeError as error:
            raise InputError(f"backbone {dict(backbone)!r} does not fit MinkUNet ({error})") from error

    @property
    def out_channels(self) -> int:
        return self.backbone.out_channels

    @property
    def columns(self) -> tuple[int, ...]:
        """Columns of the points that are read, ascending: x, y, z for the voxels, and what the inputs ask for."""
        intensity = {3} if INTENSITY & set(self.inputs) else set()
        further = {int(name[7:]) for name in self.inputs if name.startswith("column:")}
        return tuple(sorted({0, 1, 2} | intensity | further))

    @property
    def needs_intensity(self) -> bool:
        """Whether every point has to have one: it is read, and nothing says of a point that it has none."""
        return bool(INTENSITY & set(self.inputs)) and "has_intensity" not in self.inputs

    def config(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts with which ``LidarEncoder(**config)`` is the same network."""
        return {
            "grid": self.grid.config(),
            "backbone": dict(self._options),
            "inputs": list(self.inputs),
            "reduce": self.reduce,
        }

    def forward(
        self, points: Tensor, cloud: Tensor, num_clouds: int, age: Tensor | None = None
    ) -> VoxelFeatures:
        """Features of the voxels of all clouds of a batch, in one pass; arguments and errors as of `begin`."""
        return self.finish(self.begin(points, cloud, num_clouds, age))

    def begin(
        self, points: Tensor, cloud: Tensor, num_clouds: int, age: Tensor | None = None
    ) -> EncoderInput:
        """What no weight decides of a pass, so that it can be made before the weights are known.

        Args:
            points: (N, 4+) x, y, z [m, LiDAR frame], intensity [0, 1] or NaN for none, ... N may be 0. Taken as
                float32, which float64 alone is not.
            cloud: (N,) int64 cloud of each point; a cloud may have none.
            age: (N,) float32 seconds from each point's scan to the cloud's time, read by the input "age"; None is 0,
                as in a single scan.

        Raises:
            InputError: the points have too few columns, are not finite, or lie outside of the grid.
        """
        if points.ndim != 2 or points.shape[1] < 4:
            raise InputError(f"points are {tuple(points.shape)}; give (N, 4+): x, y, z, intensity")
        if missing := [
            name for name in self.inputs if name.startswith("column:") and int(name[7:]) >= points.shape[1]
        ]:
            raise InputError(f"points have {points.shape[1]} columns, input {missing[0]} asks for more")
        points = with_digits(points)
        voxels = voxelize(points, cloud, self.grid, num_clouds=num_clouds)
        age = points.new_zeros(len(points)) if age is None else age
        values = torch.stack([age if name == AGE else _input(name)(points) for name in self.inputs], 1)
        if not bool((finite := values.isfinite().all(0)).all()):
            named = self.inputs[int((~finite).nonzero()[0])]
            raise InputError(
                f"points: input {named} is not finite for some of them; remove these points first"
            )
        dtype = next(self.backbone.parameters()).dtype
        pyramid = prepare(Pyramid.from_voxels(voxels), self.backbone.levels, dtype)
        with torch.autocast("cpu", enabled=False):
            return EncoderInput(voxels.reduce(values, self.reduce).to(dtype), voxels, pyramid)

    def finish(self, begun: EncoderInput) -> VoxelFeatures:
        """The rest of the pass."""
        # a CPU multiplies bfloat16 many times slower than float32, so autocast stops here
        with torch.autocast("cpu", enabled=False):
            output = self.backbone(SparseTensor(begun.values, begun.pyramid))
        return VoxelFeatures(output.features, begun.voxels)

    def point_features(self, points: Tensor, cloud: Tensor, num_clouds: int) -> Tensor:
        """(N, C) features, one row a point in the order of ``points``; arguments as ``forward``."""
        return self(points, cloud, num_clouds).at_points()


def _or_zero(values: Tensor) -> Tensor:
    return torch.where(values.isnan(), 0.0, values)


def _input(name: str) -> Callable[[Tensor], Tensor]:
    """(N,) values of the input ``name`` from points; looked up by name, so that an encoder can be pickled."""
    if name.startswith("column:") and name[7:].isdecimal():
        column = int(name[7:])
        return lambda points: points[:, column]
    if name not in INPUTS:
        raise InputError(
            f'input {name!r} is unknown; choose from {", ".join(INPUTS)}, {AGE}, "column:N" or "published"'
        )
    return INPUTS[name]
