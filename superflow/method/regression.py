"""Points that are to say what the frozen teacher says at their pixels, without negatives."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from .contrast import mean_of_rows
from .matches import TargetPairs
from .objective import Objective


class PointRegression(Objective):
    """Each point's feature against the frozen teacher's at its pixel (ScaLR).

    Args:
        kind: ``cosine``: mean 1 - cos; ``l2``: mean distance of the normalised vectors, not squared (ScaLR).
        even: every voxel counts once instead of every pair, so that near range, where voxels hold many points, does not
            outweigh what is far.
    """

    reads = (TargetPairs,)

    def __init__(self, *, kind: str = "cosine", even: bool = False, **options: Any) -> None:
        super().__init__(**options)
        if kind not in ("cosine", "l2"):
            raise InputError(f"point_regression: kind {kind!r} is unknown; use cosine or l2")
        self.kind, self.even = kind, even

    def forward(self, pairs: TargetPairs) -> Tensor:
        """Mean over pairs, or over voxels of the means over their pairs."""
        voxel, pixel = F.normalize(pairs.voxels, dim=1), F.normalize(pairs.pixel, dim=1)
        members = torch.bincount(pairs.voxel, minlength=len(voxel)) if self.even else None
        rows = len(pixel) if members is None else int((members > 0).sum())
        if self.kind == "cosine":
            # points of one voxel share their feature: the sum over them is one product with the sum of their targets
            targets = torch.zeros_like(voxel).index_add(0, pairs.voxel, pixel)
            if members is not None:
                targets = targets / members.clamp(min=1)[:, None]
            return mean_of_rows(rows - (voxel * targets).sum(), rows)
        distance = (voxel[pairs.voxel] - pixel).norm(dim=1)
        if members is not None:
            distance = distance / members[pairs.voxel]
        return mean_of_rows(distance.sum(), rows)
