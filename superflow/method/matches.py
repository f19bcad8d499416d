"""What a batch gives the objectives: features of points and pixels, matched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..errors import InputError
from .regions import RegionTable


@dataclass(frozen=True, slots=True)
class Matches:
    """The features of a batch, matched. Superpoints q, superpixels k; slot s = (time, dense or not).

    table: rows and slots (`regions.RegionTable`); None without region objectives.
    superpoints: (slots, rows, C); points: (slots, rows) how many members each has.
    superpixels: (times, rows, C); pixels: (times, rows).
    pair_voxel: (P,) int64 voxel of each pair's point; pair_pixel: (P, T) frozen teacher features at the pairs.
    voxels: (V, T) student features in the teacher's space; embedded: (V, C) in the shared embedding, where
    image_head takes teacher features (.., T) to (.., C). None where no objective reads them.
    teacher_rows: (rows, T) frozen teacher mean of each row over all times, for semantic tolerance.
    """

    table: RegionTable | None = None
    superpoints: Tensor | None = None
    points: Tensor | None = None
    superpixels: Tensor | None = None
    pixels: Tensor | None = None
    pair_voxel: Tensor | None = None
    pair_pixel: Tensor | None = None
    voxels: Tensor | None = None
    embedded: Tensor | None = None
    image_head: Callable[[Tensor], Tensor] | None = None
    teacher_rows: Tensor | None = None

    def slot(self, offset: int, *, dense: bool = False) -> int | None:
        """Row of the slot table, None when this batch has no such cloud."""
        return self.table.slots.index((offset, dense)) if (offset, dense) in self.table.slots else None

    def neighbours(self) -> list[int]:
        """Offsets other than 0 that the batch has, to compare regions over time.

        Raises:
            InputError: regions are those of single images, so that no region is seen at two times.
        """
        if self.table.scope == "image":
            raise InputError(
                'terms over time compare a region with itself at another time, but with region scope "image" no region '
                'is in two images; use regions whose ids mean the same over time with scope "clip", or leave '
                "temporal and cross_temporal out"
            )
        return [offset for offset in self.table.offsets if offset != 0]
