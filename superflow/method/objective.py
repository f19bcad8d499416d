"""What objectives have in common: a weight, a temperature, a queue, and rows that are contrasted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from .contrast import drawn, info_nce, products
from .matches import Superpixels, Superpoints
from .negatives import Content, LearnedTemperature, NegativeQueue

SAME_ID = ("negative", "ignored", "positive")

Side = tuple[Tensor, Tensor]  # features (regions, C), and which regions have any


@dataclass(frozen=True, slots=True)
class Sizes:
    """Channels of the student's features, of the teacher's, of the shared embedding; and classes of the labels.

    ``scales``: the teacher's channels by scale, in their order; a single one where they are mixed.
    """

    student: int
    teacher: int
    shared: int
    classes: int = 0
    scales: tuple[int, ...] = ()


class Objective(nn.Module):
    """A scalar of the matched features of a batch; ``forward`` takes what ``reads`` names, types of `matches`.

    Args:
        weight: of its value in the loss.
        sizes: of what it may build; `Pretrainer` says them.
    """

    reads: ClassVar[tuple[type, ...]]

    def __init__(self, *, sizes: Sizes, weight: float = 1.0) -> None:
        super().__init__()
        self.sizes = sizes
        self.weight = float(weight)
        self.counts: list[Tensor] = []  # of the contrasts of a step, see `contrast.top_1`

    @property
    def compares_teacher(self) -> bool:
        """Whether it reads ``Superpoints.teacher``."""
        return False

    def state_report(self) -> dict[str, Tensor]:
        """Scalars for the log, of what it owns."""
        return {}

    def end_step(self) -> None:
        """Called once all objectives have seen the batch, and their counts were read."""
        self.counts.clear()


class Contrast(Objective):
    """An objective that is an `info_nce`, with the temperature that it owns.

    Args:
        temperature, gather: see `info_nce`.
        learn_temperature: train the temperature from its given value on.
    """

    def __init__(
        self,
        *,
        temperature: float = 0.07,
        learn_temperature: bool = False,
        gather: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.gather, self.fixed_temperature = gather, temperature
        self.learned_temperature = LearnedTemperature(temperature) if learn_temperature else None

    def temperature(self) -> float | Tensor:
        """The one in use, (1,) where it is learned."""
        return self.fixed_temperature if self.learned_temperature is None else self.learned_temperature()

    def state_report(self) -> dict[str, Tensor]:
        """The learned temperature."""
        learned = self.learned_temperature
        return {} if learned is None else {"temperature": learned().detach()}


class RegionContrast(Contrast):
    """A contrast between regions: the mean over comparisons of `info_nce` over the regions that both sides have.

    Args:
        symmetric: see `info_nce`.
        same_id: what other rows of the same region are, such as the same class or the same place in another clip:
            each other's ``negative`` (published), ``ignored``, or further ``positive`` ones (SupCon).
        tolerance: nor are rows negatives whose teacher features have a larger cosine (after ST-SLidR).
        max_rows: random regions kept a comparison, of each process; the cost grows with their square.
        queue: how many targets of earlier steps are further negatives, but for those that are alike after
            ``tolerance``, and those of the same region where ``same_id`` is not ``negative``.
    """

    def __init__(
        self,
        *,
        symmetric: bool = False,
        same_id: str = "negative",
        tolerance: float | None = None,
        max_rows: int | None = None,
        queue: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if same_id not in SAME_ID:
            raise InputError(f"same_id {same_id!r} is unknown; use one of {', '.join(SAME_ID)}")
        if queue is not None and not self.gather:
            raise InputError("queue holds the rows of all ranks, so it needs gather=True")
        self.symmetric, self.same_id, self.tolerance = symmetric, same_id, tolerance
        self.max_rows = max_rows
        compared = 0 if tolerance is None else self.sizes.teacher
        self.queue = None if queue is None else NegativeQueue(queue, self.sizes.shared, compared)

    @property
    def compares_teacher(self) -> bool:
        """Where rows may be alike."""
        return self.tolerance is not None

    def end_step(self) -> None:
        """The queue takes in what waits."""
        super().end_step()
        if self.queue is not None:
            self.queue.commit()

    def mean(
        self, q: Superpoints, comparisons: Iterable[tuple[Side, Side]], *, k: Superpixels | None = None
    ) -> Tensor:
        """Mean over comparisons of anchors with targets; `nothing` where there is none.

        Args:
            k: where the targets are superpixels.
        """
        terms = [self._compare(q, *sides) for sides in comparisons]
        return torch.stack(terms).mean() if terms else self.nothing(q, k)

    def nothing(self, q: Superpoints, k: Superpixels | None = None) -> Tensor:
        """0, with a gradient of zeros for all that the objective trains, as where there is something to compare."""
        trained = q.features.sum() + torch.as_tensor(self.temperature()).sum()
        return 0.0 * (trained if k is None else trained + k.features.sum())

    def _compare(self, q: Superpoints, anchors: Side, targets: Side) -> Tensor:
        regions = drawn(torch.nonzero(anchors[1] & targets[1])[:, 0], self.max_rows)
        a, b = anchors[0][regions], targets[0][regions]
        teacher = q.teacher[regions] if self.compares_teacher else q.teacher[regions, :0]
        own = Content(q.table.names[regions], F.normalize(teacher, dim=1))
        dropped = positives = more = None
        # with scope "batch" a region has one row; its rows on other ranks are parts of that, and no negatives of it
        within = "ignored" if self.same_id == "negative" and q.table.scope == "batch" else self.same_id
        if within != "negative" or self.compares_teacher:
            columns = own.of_all_ranks() if self.gather else own
            dropped = None if self._all_differ(columns) else self._no_negatives(own, columns, within)
            positives = own.same_region(columns) if self.same_id == "positive" else None
        if self.queue is not None:
            earlier, shown, filled = self.queue.columns()
            more = products(a, earlier), ~filled | self._no_negatives(own, shown, self.same_id)
            self.queue.push(b, own)
        return info_nce(
            a,
            b,
            temperature=self.temperature(),
            dropped=dropped,
            positives=positives,
            symmetric=self.symmetric,
            gather=self.gather,
            more=more,
            counts=self.counts,
        )

    def _all_differ(self, columns: Content) -> bool:
        """Whether no two rows are known to show the same: then masks, which on a CPU take half as long as the rest, go.

        Not looked at on a GPU, where it would be a wait and masks cost next to nothing.
        """
        names = columns.names
        return not self.compares_teacher and not names.is_cuda and len(torch.unique(names)) == len(names)

    def _no_negatives(self, own: Content, columns: Content, same_id: str) -> Tensor:
        """(S, columns) bool: what shows the same, and so would push away what it should be like."""
        found = torch.zeros(len(own.names), len(columns.names), dtype=torch.bool, device=own.names.device)
        if same_id != "negative":
            found |= own.same_region(columns)
        if self.tolerance is not None:
            found |= own.alike(columns, self.tolerance)
        return found
