"""ST-SLidR's contrast of regions: negatives weigh by what the teacher sees of them, rows by how rare it is."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from .contrast import drawn, mean_of_rows, products, top_1
from .distributed import gather_rows
from .matches import Superpixels, Superpoints
from .objective import Contrast, Side

ALIKE = 0.5  # of the teacher's cosine, from which on a column counts for how common a row is


class TolerantSpatial(Contrast):
    """`Spatial` whose logits of negatives are multiplied by 1 - A, A the teacher's cosine of two regions, at least 0.

    As in the published code (Mahmoud et al., CVPR 2023). A factor of 0 makes a logit 0, which is no mask: `Spatial`
    with ``tolerance`` drops the column instead.

    Args:
        quantile: of each row, so large a share of columns, the most alike (but none that are not alike at all), has the
            factor 0 and the others 1 (published: 0.01); None: 1 - A itself.
        balance: a row weighs 1 - v, with v the sum of its A from 0.5 up, brought to 0..1 over all rows: rows that look
            like many others teach less.
        max_rows: random regions kept a time, of each process.
    """

    reads = (Superpoints, Superpixels)

    def __init__(
        self,
        *,
        quantile: float | None = 0.01,
        balance: bool = True,
        max_rows: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if quantile is not None and not 0 <= quantile < 1:
            raise InputError(
                f"tolerant_spatial: quantile is {quantile}; give a share from 0 to 1, or None for 1 - A itself"
            )
        self.quantile, self.balance, self.max_rows = quantile, balance, max_rows

    @property
    def compares_teacher(self) -> bool:
        return True

    def forward(self, q: Superpoints, k: Superpixels) -> Tensor:
        """Mean over the times of the batch."""
        terms = [self._compare(q, q.of(offset), k.of(offset)) for offset in q.table.offsets]
        return torch.stack(terms).mean()

    def _compare(self, q: Superpoints, points: Side, pixels: Side) -> Tensor:
        regions = drawn(torch.nonzero(points[1] & pixels[1])[:, 0], self.max_rows)
        anchors = points[0][regions]
        teacher = F.normalize(q.teacher[regions], dim=1)
        columns, start = self._of_all_ranks(pixels[0][regions].float())
        alike = products(teacher, self._of_all_ranks(teacher)[0]).clamp(0, 1)
        own = torch.arange(len(regions), device=anchors.device) + start
        logits = self._factor(alike, own) * products(anchors, columns) / self.temperature()
        self.counts.append(top_1(logits.detach(), own, None))
        weights = self._row_weights(alike)
        total = (F.cross_entropy(logits, own, reduction="none") * weights).sum() if len(own) else logits.sum()
        return mean_of_rows(total + 0.0 * columns.sum(), weights.sum(), gather=self.gather)

    def _of_all_ranks(self, rows: Tensor) -> tuple[Tensor, int]:
        return gather_rows(rows) if self.gather else (rows, 0)

    def _factor(self, alike: Tensor, own: Tensor) -> Tensor:
        """(S, columns) of the logits; 1 for the row's own column."""
        factor = (1 - alike).scatter(1, own[:, None], 1.0)
        if self.quantile is None or not factor.numel():
            return factor
        most_alike = factor.topk(math.ceil(self.quantile * factor.shape[1]), dim=1, largest=False)
        return torch.ones_like(factor).scatter(
            1, most_alike.indices, (most_alike.values == 1).to(factor.dtype)
        )

    def _row_weights(self, alike: Tensor) -> Tensor:
        """(S,) of the rows; all 1 where all are equally common."""
        if not self.balance:
            return alike.new_ones(len(alike))
        common = torch.where(alike >= ALIKE, alike, 0.0).sum(1)
        every = self._of_all_ranks(common)[0]
        if not len(every) or every.max() == every.min():
            return torch.ones_like(common)
        return 1 - (common - every.min()) / (every.max() - every.min())
