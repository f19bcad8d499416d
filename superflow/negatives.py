"""Rows of earlier steps as further negatives."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .distributed import gather_rows


class NegativeQueue(nn.Module):
    """The last targets that a term was contrasted against (the queue of MoCo; He et al., CVPR 2020, section 3.2).

    A ring of ``size`` rows in buffers, so that a resumed run has them too. Rows of all ranks enter it, which keeps the
    ranks' queues equal. Rows that come in during a step are held back until `commit`: the same place at another time
    of the same step would be a negative of itself.

    Args:
        size: rows kept.
        channels: C of a row.
    """

    rows: Tensor
    ids: Tensor
    filled: Tensor
    position: Tensor

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"queue is {size}; give the number of rows to keep, at least 1")
        self.register_buffer("rows", torch.zeros(size, channels))
        self.register_buffer("ids", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("filled", torch.zeros(size, dtype=torch.bool))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))
        self._coming: list[tuple[Tensor, Tensor]] = []

    def columns(self) -> tuple[Tensor, Tensor, Tensor]:
        """Rows (size, C), their region ids (size,), and which of them hold something (size,) bool.

        Copies: the gradient of the step still needs them after `commit` has written new ones.
        """
        return self.rows.clone(), self.ids.clone(), self.filled.clone()

    def push(self, rows: Tensor, ids: Tensor) -> None:
        """Hand in this rank's targets (S, C) and their region ids (S,); all ranks call this equally often."""
        if self.training:
            self._coming.append((gather_rows(rows.detach())[0], gather_rows(ids)[0]))

    @torch.no_grad()
    def commit(self) -> None:
        """Write what came in over the oldest rows."""
        if not self._coming:
            return
        rows, ids = (torch.cat(parts)[-len(self.rows) :] for parts in zip(*self._coming))
        self._coming = []
        place = (self.position + torch.arange(len(rows), device=rows.device)) % len(self.rows)
        self.rows[place] = rows.to(self.rows.dtype)
        self.ids[place] = ids
        self.filled[place] = True
        self.position.copy_((self.position + len(rows)) % len(self.rows))


class LearnedTemperature(nn.Module):
    """A softmax temperature that is trained, as log(1 / temperature) (CLIP; Radford et al., 2021, section 2.5).

    Args:
        start: temperature to begin with.
        least: it never falls below this, which keeps logits finite (CLIP: 0.01).
    """

    def __init__(self, start: float, least: float = 0.01) -> None:
        super().__init__()
        if not start >= least > 0:
            raise ValueError(f"temperature {start} must be {least} or more to be learned from there")
        self.log_inverse = nn.Parameter(torch.tensor([1.0 / start]).log())
        self.limit = float(torch.tensor(1.0 / least).log())

    def forward(self) -> Tensor:
        """The temperature, (1,)."""
        with torch.no_grad():  # the parameter itself: a clamp in the graph has no slope to come back by
            self.log_inverse.clamp_(max=self.limit)
        return (-self.log_inverse).exp()
