"""Contrast: rows against rows, with all that may count as a negative and all that may not."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from .distributed import gather_rows, world_size, world_sum
from .matches import Matches
from .negatives import Content, NegativeQueue

SAME_ID = ("negative", "ignored", "positive")


def info_nce(
    anchors: Tensor,
    targets: Tensor,
    *,
    temperature: float | Tensor = 0.07,
    dropped: Tensor | None = None,
    positives: Tensor | None = None,
    symmetric: bool = False,
    gather: bool = True,
    more: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Mean of -log softmax of the matching row (van den Oord 2018; SLidR eq. 2).

    Args:
        anchors, targets: (S, C), row i of one belongs to row i of the other; any scale, not normalised here.
        temperature: softmax temperature.
        dropped: (S, columns) bool, columns that are no negatives of a row: they are gone, not set to logit 0. Columns
            are the rows of all ranks, or with ``gather=False`` the own ones; a row's own column always stays. Being
            alike is mutual, so that this holds in both directions.
        positives: (S, columns) bool, columns that are positives like the row's own: the loss of a row is its mean
            over all of them (supervised contrast, Khosla 2020, eq. 2). They stay, too.
        symmetric: mean of both directions.
        gather: columns from all ranks; the mean runs over the rows of all ranks, so that the averaged gradient of R
            ranks is that of one rank with the joint batch.
        more: products (S, Q) of the anchors with further negatives, and (S, Q) bool, those that do not count; in the
            direction from anchors to targets only.

    Returns:
        Scalar float32; 0 with a graph when no rank has a row.
    """
    if anchors.shape != targets.shape:
        raise ValueError(
            f"anchors {tuple(anchors.shape)} and targets {tuple(targets.shape)} must match row by row"
        )
    one = _one_direction(anchors, targets, temperature, dropped, positives, gather, more)
    if not symmetric:
        return one
    return (one + _one_direction(targets, anchors, temperature, dropped, positives, gather)) / 2


def _one_direction(
    anchors: Tensor,
    targets: Tensor,
    temperature: float | Tensor,
    dropped: Tensor | None,
    positives: Tensor | None,
    gather: bool,
    more: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    columns, start = gather_rows(targets.float()) if gather else (targets.float(), 0)
    own = torch.arange(len(anchors), device=anchors.device) + start
    logits = _products(anchors, columns) / temperature
    wanted = None
    if positives is not None:
        wanted = positives.scatter(1, own[:, None], True)
    if dropped is not None:
        stay = torch.zeros_like(dropped).scatter(1, own[:, None], True) if wanted is None else wanted
        logits = logits.masked_fill(dropped & ~stay, -torch.inf)
    if more is not None:
        # masked after the division: the slope of -inf / temperature would be nan
        logits = torch.cat([logits, (more[0] / temperature).masked_fill(more[1], -torch.inf)], dim=1)
    if len(own) == 0:
        loss = logits.sum()
    elif wanted is None:
        loss = F.cross_entropy(logits, own, reduction="sum")
    else:
        log_share = logits.log_softmax(dim=1)[:, : len(columns)]
        loss = -(log_share.masked_fill(~wanted, 0.0).sum(dim=1) / wanted.sum(dim=1)).sum()
    return mean_of_rows(loss + 0.0 * columns.sum(), len(anchors), gather=gather)


def mean_of_rows(total: Tensor, rows: int, *, gather: bool = True) -> Tensor:
    """``total`` over the rows of all ranks, scaled so that the mean of the ranks' gradients is the joint one."""
    count = total.new_tensor(float(rows))
    if not gather:
        return total / count.clamp(min=1)
    return total * world_size() / world_sum(count).clamp(min=1)


def contrast(
    matches: Matches,
    q: Tensor,
    k: Tensor,
    filled: Tensor,
    *,
    temperature: float | Tensor = 0.07,
    symmetric: bool = False,
    gather: bool = True,
    same_id: str = "negative",
    tolerance: float | None = None,
    max_rows: int | None = None,
    queue: NegativeQueue | None = None,
) -> Tensor:
    """`info_nce` over the filled rows of a region table; its options are those of every region objective.

    Args:
        q, k: (rows, C) anchors and targets; filled: (rows,) bool, both sides have members.
        temperature, symmetric, gather: see `info_nce`.
        same_id: what other rows of the same region are, such as the same class or the same place in another clip:
            each other's ``negative`` (published), ``ignored``, or further ``positive`` ones (SupCon).
        tolerance: nor are rows negatives whose teacher features have a larger cosine (after ST-SLidR).
        max_rows: random rows kept a term, of each process; the cost grows with their square.
        queue: targets of earlier steps as further negatives, but for those that are alike after ``tolerance``, and
            those of the same region where ``same_id`` is not ``negative``. In a config: the number of rows it keeps.
    """
    if same_id not in SAME_ID:
        raise InputError(f"same_id {same_id!r} is unknown; use one of {', '.join(SAME_ID)}")
    if queue is not None and not gather:
        raise InputError("queue holds the rows of all ranks, so it needs gather=True")
    rows = drawn(torch.nonzero(filled)[:, 0], max_rows)
    anchors, targets = q[rows], k[rows]
    own = Content(matches.table.names[rows], _teacher(matches, rows, tolerance))
    dropped = positives = more = None
    # with scope "batch" a region has one row; its rows on other ranks are parts of that, and no negatives of it
    within = "ignored" if same_id == "negative" and matches.table.scope == "batch" else same_id
    if within != "negative" or tolerance is not None:
        columns = own.of_all_ranks() if gather else own
        dropped = _no_negatives(own, columns, within, tolerance)
        positives = own.same_region(columns) if same_id == "positive" else None
    if queue is not None:
        earlier, shown, filled = queue.columns()
        more = _products(anchors, earlier), ~filled | _no_negatives(own, shown, same_id, tolerance)
        queue.push(targets, own)
    return info_nce(
        anchors,
        targets,
        temperature=temperature,
        dropped=dropped,
        positives=positives,
        symmetric=symmetric,
        gather=gather,
        more=more,
    )


def _teacher(matches: Matches, rows: Tensor, tolerance: float | None) -> Tensor:
    """(S, T) unit teacher features of rows, (S, 0) where nothing compares them."""
    if tolerance is None:
        return torch.zeros(len(rows), 0, device=rows.device)
    return F.normalize(matches.teacher_rows[rows], dim=1)


def _no_negatives(own: Content, columns: Content, same_id: str, tolerance: float | None) -> Tensor:
    """(S, columns) bool: what shows the same, and so would push away what it should be like."""
    found = torch.zeros(len(own.names), len(columns.names), dtype=torch.bool, device=own.names.device)
    if same_id != "negative":
        found |= own.same_region(columns)
    if tolerance is not None:
        found |= own.alike(columns, tolerance)
    return found


def drawn(rows: Tensor, limit: int | None) -> Tensor:
    """At most ``limit`` random ones of ``rows`` (R,), in their order."""
    if limit is None or len(rows) <= limit:
        return rows
    return rows[torch.randperm(len(rows))[:limit].sort().values.to(rows.device)]


def _products(a: Tensor, b: Tensor) -> Tensor:
    """(S, T) float32, also under autocast: half logits over a small temperature are off in the first decimal."""
    with torch.autocast(a.device.type, enabled=False):
        return a.float() @ b.float().T
