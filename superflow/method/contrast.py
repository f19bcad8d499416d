"""Contrast: rows against columns, with all that may count as a negative and all that may not."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .distributed import gather_rows, world_size, world_sum


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
    counts: list[Tensor] | None = None,
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
        counts: is given what `top_1` counts in the direction from anchors to targets.

    Returns:
        Scalar float32; 0 with a graph when no rank has a row.
    """
    if anchors.shape != targets.shape:
        raise ValueError(
            f"anchors {tuple(anchors.shape)} and targets {tuple(targets.shape)} must match row by row"
        )
    one = _one_direction(anchors, targets, temperature, dropped, positives, gather, more, counts)
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
    counts: list[Tensor] | None = None,
) -> Tensor:
    columns, start = gather_rows(targets.float()) if gather else (targets.float(), 0)
    own = torch.arange(len(anchors), device=anchors.device) + start
    logits = products(anchors, columns) / temperature
    wanted = None
    if positives is not None:
        wanted = positives.scatter(1, own[:, None], True)
    if dropped is not None:
        stay = torch.zeros_like(dropped).scatter(1, own[:, None], True) if wanted is None else wanted
        logits = logits.masked_fill(dropped & ~stay, -torch.inf)
    if more is not None:
        # masked after the division: the slope of -inf / temperature would be nan
        logits = torch.cat([logits, (more[0] / temperature).masked_fill(more[1], -torch.inf)], dim=1)
    if counts is not None:
        all_count = dropped is None and more is None
        counts.append(top_1(logits.detach(), own, wanted, all_count=all_count))
    if len(own) == 0:
        loss = logits.sum()
    elif wanted is None:
        loss = F.cross_entropy(logits, own, reduction="sum")
    else:
        log_share = logits.log_softmax(dim=1)[:, : len(columns)]
        loss = -(log_share.masked_fill(~wanted, 0.0).sum(dim=1) / wanted.sum(dim=1)).sum()
    return mean_of_rows(loss + 0.0 * columns.sum(), len(anchors), gather=gather)


def top_1(logits: Tensor, own: Tensor, positives: Tensor | None, *, all_count: bool = False) -> Tensor:
    """(3,) int64: rows, the columns that count for them, and rows of which a positive column has the largest logit.

    Args:
        logits: (S, columns), -inf where a column does not count; own: (S,) each row's column.
        positives: (S, first columns) bool, or None where only the own ones are.
        all_count: no column is masked, so that none needs to be looked for.
    """
    if not len(own):
        return torch.zeros(3, dtype=torch.int64, device=logits.device)
    best = logits.argmax(dim=1)
    right = best == own
    if positives is not None:  # further columns are negatives of earlier steps
        within = best.clamp(max=positives.shape[1] - 1)
        right = positives.gather(1, within[:, None])[:, 0] & (best == within)
    columns = own.new_full((), logits.numel()) if all_count else (logits > -torch.inf).sum()
    return torch.stack([torch.ones_like(own).sum(), columns, right.sum()])


def mean_of_rows(total: Tensor, rows: int | Tensor, *, gather: bool = True) -> Tensor:
    """``total`` over the rows of all ranks, scaled so that the mean of the ranks' gradients is the joint one.

    ``rows``: their number, or () the sum of their weights; where that is 0, the mean is 0.
    """
    count = torch.as_tensor(rows, dtype=total.dtype, device=total.device)
    count = count if not gather else world_sum(count)
    ranks = world_size() if gather else 1
    return total * ranks / torch.where(count > 0, count, 1.0)


def drawn(rows: Tensor, limit: int | None) -> Tensor:
    """At most ``limit`` random ones of ``rows`` (R,), in their order."""
    if limit is None or len(rows) <= limit:
        return rows
    return rows[torch.randperm(len(rows))[:limit].sort().values.to(rows.device)]


def products(a: Tensor, b: Tensor) -> Tensor:
    """(S, T) float32, also under autocast: half logits over a small temperature are off in the first decimal."""
    with torch.autocast(a.device.type, enabled=False):
        return a.float() @ b.float().T
