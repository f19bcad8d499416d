"""What rows show, by which those that are no negatives are found; and rows of earlier steps as further negatives."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .distributed import gather_rows


@dataclass(frozen=True, slots=True)
class Content:
    """What rows show, beside the features that are contrasted: it goes with them to other ranks and into the queue.

    names: (S,) int64 region of each row, the same in every clip, step and process (`regions.RegionTable.names`).
    teacher: (S, T) float32 unit features of the frozen teacher there; T is 0 where nothing compares them.
    """

    names: Tensor
    teacher: Tensor

    def of_all_ranks(self) -> Content:
        """The content of all ranks' rows, in the order of `gather_rows`."""
        names, width = gather_rows(self.names)[0], self.teacher.shape[1]
        teacher = gather_rows(self.teacher)[0] if width else self.teacher.new_zeros(len(names), 0)
        return Content(names, teacher)

    def same_region(self, other: Content) -> Tensor:
        """(S, len(other)) bool, the region is the same one."""
        return self.names[:, None] == other.names[None, :]

    def alike(self, other: Content, tolerance: float) -> Tensor:
        """(S, len(other)) bool, the cosine of the teacher's features is above ``tolerance``."""
        return self.teacher @ other.teacher.T > tolerance


class NegativeQueue(nn.Module):
    """The last targets that a term was contrasted against (the queue of MoCo; He et al., CVPR 2020, section 3.2).

    A ring of ``size`` rows in buffers, so that a resumed run has them too. Rows of all ranks enter it, which keeps the
    ranks' queues equal. Rows that come in during a step are held back until `commit`: the same place at another time
    of the same step would be a negative of itself.

    Args:
        size: rows kept.
        channels: C of a row.
        teacher_channels: T of its `Content`; 0 where nothing compares what the teacher sees.
    """

    rows: Tensor
    ids: Tensor
    teacher: Tensor
    filled: Tensor
    position: Tensor

    def __init__(self, size: int, channels: int, teacher_channels: int = 0) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"queue is {size}; give the number of rows to keep, at least 1")
        self.register_buffer("rows", torch.zeros(size, channels))
        self.register_buffer("ids", torch.zeros(size, dtype=torch.int64))
        teacher = torch.zeros(size, teacher_channels)
        self.register_buffer("teacher", teacher, persistent=teacher_channels > 0)
        self.register_buffer("filled", torch.zeros(size, dtype=torch.bool))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))
        self._coming: list[tuple[Tensor, Content]] = []

    def columns(self) -> tuple[Tensor, Content, Tensor]:
        """Rows (size, C), what they show, and which of them hold something (size,) bool.

        Copies: the gradient of the step still needs them after `commit` has written new ones.
        """
        return self.rows.clone(), Content(self.ids.clone(), self.teacher.clone()), self.filled.clone()

    def push(self, rows: Tensor, content: Content) -> None:
        """Hand in this rank's targets (S, C) and what they show; all ranks call this equally often."""
        if self.training:
            self._coming.append((gather_rows(rows.detach())[0], content.of_all_ranks()))

    @torch.no_grad()
    def commit(self) -> None:
        """Write what came in over the oldest rows."""
        if not self._coming:
            return
        size = len(self.rows)
        rows, names, teacher = (
            torch.cat(parts)[-size:]
            for parts in zip(*((rows, shown.names, shown.teacher) for rows, shown in self._coming))
        )
        self._coming = []
        place = (self.position + torch.arange(len(rows), device=rows.device)) % len(self.rows)
        self.rows[place] = rows.to(self.rows.dtype)
        self.ids[place], self.teacher[place] = names, teacher
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
