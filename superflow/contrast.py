"""Contrast: rows against rows, with all that may count as a negative and all that may not."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .distributed import gather_rows, world_size, world_sum
from .matches import Matches
from .negatives import NegativeQueue

SAME_ID = ("negative", "ignored", "positive")


def info_nce(
    anchors: Tensor,
    targets: Tensor,
    *,
    temperature: float | Tensor = 0.07,
    ids: Tensor | None = None,
    positives: bool = False,
    tolerated: Tensor | None = None,
    symmetric: bool = False,
    gather: bool = True,
    more: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Mean of -log softmax of the matching row (van den Oord 2018; SLidR eq. 2).

    Args:
        anchors, targets: (S, C), row i of one belongs to row i of the other; any scale, not normalised here.
        temperature: softmax temperature.
        ids: (S,) int64; columns of equal id elsewhere are no negatives (they are dropped, not set to logit 0).
        positives: with ``ids``, those columns are positives instead: the loss of a row is its mean over all of them
            (supervised contrast, Khosla 2020, eq. 2).
        tolerated: (S, S) bool, further columns that are no negatives; the diagonal is ignored.
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
    one = _one_direction(anchors, targets, temperature, ids, positives, tolerated, gather, more)
    if not symmetric:
        return one
    other = None if tolerated is None else tolerated.T
    return (one + _one_direction(targets, anchors, temperature, ids, positives, other, gather)) / 2


def _one_direction(
    anchors: Tensor,
    targets: Tensor,
    temperature: float | Tensor,
    ids: Tensor | None,
    positives: bool,
    tolerated: Tensor | None,
    gather: bool,
    more: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    columns, start = gather_rows(targets.float()) if gather else (targets.float(), 0)
    own = torch.arange(len(anchors), device=anchors.device) + start
    logits = _products(anchors, columns) / temperature
    alike = None
    if ids is not None:
        all_ids = gather_rows(ids)[0] if gather else ids
        alike = ids[:, None] == all_ids[None, :]
    drop = None if positives else alike
    if tolerated is not None:
        drop = torch.zeros_like(logits, dtype=torch.bool) if drop is None else drop.clone()
        drop[:, start : start + len(anchors)] |= tolerated
    wanted = alike if positives else None
    if drop is not None and len(own):
        keep = F.one_hot(own, len(columns)).bool() if wanted is None else wanted
        logits = logits.masked_fill(drop & ~keep, -torch.inf)
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
        same_id: what rows of equal region id are, such as the same class in another clip: each other's ``negative``
            (published), ``ignored``, or further ``positive`` ones (SupCon).
        tolerance: nor are rows whose teacher features have a larger cosine (after ST-SLidR).
        max_rows: random rows kept a term; the cost grows with their square.
        queue: targets of earlier steps as further negatives, but for those of equal id where ``same_id`` is not
            ``negative``, which needs ids that mean the same in every step, such as classes. In a config: the number
            of rows it keeps.
    """
    rows = drawn(torch.nonzero(filled)[:, 0], max_rows)
    tolerated = None
    if tolerance is not None:
        teacher = F.normalize(matches.teacher_rows[rows], dim=1)
        tolerated = teacher @ teacher.T > tolerance
    if same_id not in SAME_ID:
        raise ValueError(f"same_id {same_id!r} is unknown; use one of {', '.join(SAME_ID)}")
    if same_id != "negative" and matches.table.meaning != "batch":
        raise ValueError(
            f"same_id {same_id!r} compares ids of different images and clips, but here they mean the same within one "
            f'{matches.table.meaning} only; leave it at "negative", or take regions such as classes or clusters'
        )
    ids = None if same_id == "negative" else matches.table.ids[rows]
    anchors, targets = q[rows], k[rows]
    more = None
    if queue is not None:
        if not gather:
            raise ValueError("queue holds the rows of all ranks, so it needs gather=True")
        more = _queued_products(anchors, ids, queue)
        queue.push(targets, matches.table.ids[rows])
    return info_nce(
        anchors,
        targets,
        temperature=temperature,
        ids=ids,
        positives=same_id == "positive",
        tolerated=tolerated,
        symmetric=symmetric,
        gather=gather,
        more=more,
    )


def drawn(rows: Tensor, limit: int | None) -> Tensor:
    """At most ``limit`` random ones of ``rows`` (R,), in their order."""
    if limit is None or len(rows) <= limit:
        return rows
    return rows[torch.randperm(len(rows))[:limit].sort().values.to(rows.device)]


def _queued_products(anchors: Tensor, ids: Tensor | None, queue: NegativeQueue) -> tuple[Tensor, Tensor]:
    """Products (S, size) of ``anchors`` (S, C) with the rows of the queue, and where there is none that may count."""
    columns, their_ids, filled = queue.columns()
    drop = ~filled.expand(len(anchors), -1)
    if ids is not None:
        drop = drop | (ids[:, None] == their_ids[None, :])
    return _products(anchors, columns), drop


def _products(a: Tensor, b: Tensor) -> Tensor:
    """(S, T) float32, also under autocast: half logits over a small temperature are off in the first decimal."""
    with torch.autocast(a.device.type, enabled=False):
        return a.float() @ b.float().T
