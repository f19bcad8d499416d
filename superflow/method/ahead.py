"""What of a step no weight decides, so that it can be made while the step before it computes.

The same functions with the same arguments as within the step: the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..lidar.encoder import EncoderInput
from .pooling import Weighted
from .regions import RegionTable


@dataclass(frozen=True, slots=True)
class Ahead:
    """Of one batch. ``None`` is what its step makes itself.

    clouds: voxels of all clouds, their inputs and maps. table: the regions. members: what superpoints are means of.
    pixels: superpixels as the means and counts of the teacher's features.
    """

    clouds: EncoderInput
    table: RegionTable | None = None
    members: Weighted | None = None
    pixels: tuple[Tensor, Tensor] | None = None
