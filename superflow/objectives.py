"""What is asked of the features: each objective is a function of the matched features, one scalar.

SuperFlow, SuperFlow++, SLidR, PPKT, ST-SLidR and ScaLR are lists of these with weights (configs/pretrain).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .distributed import gather_rows, world_size, world_sum
from .negatives import NegativeQueue
from .regions import RegionTable

SAME_ID = ("negative", "ignored", "positive")


@dataclass(frozen=True, slots=True)
class Matches:
    """The features of a batch, matched. Superpoints q, superpixels k; slot s = (time, dense or not).

    table: rows and slots (`regions.RegionTable`); None without region objectives.
    superpoints: (slots, rows, C); points: (slots, rows) how many members each has.
    superpixels: (times, rows, C); pixels: (times, rows).
    voxels: (V, T) student features in the teacher's space; pair_voxel: (P,) int64 row of each pair's point there;
    pair_pixel: (P, T) frozen teacher features at the pairs. None without point objectives.
    pair_q, pair_k: (P, C) student and teacher features at the pairs, in the shared embedding; None unless asked for.
    teacher_rows: (rows, T) frozen teacher mean of each row at time 0, for semantic tolerance.
    """

    table: RegionTable | None = None
    superpoints: Tensor | None = None
    points: Tensor | None = None
    superpixels: Tensor | None = None
    pixels: Tensor | None = None
    voxels: Tensor | None = None
    pair_voxel: Tensor | None = None
    pair_pixel: Tensor | None = None
    pair_q: Tensor | None = None
    pair_k: Tensor | None = None
    teacher_rows: Tensor | None = None

    def slot(self, offset: int, *, dense: bool = False) -> int | None:
        """Row of the slot table, None when this batch has no such cloud."""
        return self.table.slots.index((offset, dense)) if (offset, dense) in self.table.slots else None

    def neighbours(self) -> list[int]:
        """Offsets other than 0 that the batch has."""
        return [offset for offset in self.table.offsets if offset != 0]


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
    logits = anchors.float() @ columns.T / temperature
    alike = None
    if ids is not None:
        all_ids = gather_rows(ids)[0] if gather else ids
        alike = ids[:, None] == all_ids[None, :]
    drop = None if positives else alike
    if tolerated is not None:
        drop = torch.zeros_like(logits, dtype=torch.bool) if drop is None else drop.clone()
        drop[:, start : start + len(anchors)] |= tolerated
    wanted = alike if positives else None
    if drop is not None:
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
    return _mean_of_rows(loss + 0.0 * columns.sum(), len(anchors), gather=gather)


def _mean_of_rows(total: Tensor, rows: int, *, gather: bool = True) -> Tensor:
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
            ``negative``. In a config: the number of rows it keeps.
    """
    rows = _drawn(torch.nonzero(filled)[:, 0], max_rows)
    tolerated = None
    if tolerance is not None:
        teacher = F.normalize(matches.teacher_rows[rows], dim=1)
        tolerated = teacher @ teacher.T > tolerance
    if same_id not in SAME_ID:
        raise ValueError(f"same_id {same_id!r} is unknown; use one of {', '.join(SAME_ID)}")
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


def _drawn(rows: Tensor, limit: int | None) -> Tensor:
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
    return anchors.float() @ columns.T, drop


def _mean(terms: list[Tensor], like: Tensor) -> Tensor:
    """Mean of the terms; 0 with a graph where the batch has none, so that every rank steps."""
    return torch.stack(terms).mean() if terms else like.sum() * 0.0


def spatial(matches: Matches, **options) -> Tensor:
    """Superpoints against superpixels at every time: published L_sc, 1/T sum_t InfoNCE(q_t, k_t).

    Options: those of `contrast`.
    """
    terms = []
    for time, offset in enumerate(matches.table.offsets):
        slot = matches.slot(offset)
        filled = (matches.points[slot] > 0) & (matches.pixels[time] > 0)
        terms.append(
            contrast(matches, matches.superpoints[slot], matches.superpixels[time], filled, **options)
        )
    return _mean(terms, matches.superpoints)


def temporal(matches: Matches, *, stop_neighbour: bool = False, **options) -> Tensor:
    """Superpoints at time 0 against those of the neighbours: published L_tc, mean over t' of InfoNCE(q_0, q_t')."""
    terms = []
    center = matches.slot(0)
    for offset in matches.neighbours():
        slot = matches.slot(offset)
        neighbour = matches.superpoints[slot].detach() if stop_neighbour else matches.superpoints[slot]
        filled = (matches.points[center] > 0) & (matches.points[slot] > 0)
        terms.append(contrast(matches, matches.superpoints[center], neighbour, filled, **options))
    return _mean(terms, matches.superpoints)


def cross_temporal(matches: Matches, **options) -> Tensor:
    """Superpoints at time 0 against superpixels of the neighbours: the cross-sensor term of SuperFlow++."""
    terms = []
    center = matches.slot(0)
    for offset in matches.neighbours():
        time = matches.table.offsets.index(offset)
        filled = (matches.points[center] > 0) & (matches.pixels[time] > 0)
        terms.append(
            contrast(matches, matches.superpoints[center], matches.superpixels[time], filled, **options)
        )
    return _mean(terms, matches.superpoints)


def dense_to_sparse(matches: Matches, *, kind: str = "info_nce", stop: str = "none", **options) -> Tensor:
    """The sparse cloud's superpoints against those of the dense cloud (D2S).

    Args:
        kind: ``info_nce`` (published code), ``cosine`` (published text: mean 1 - cos), ``l2``.
        stop: side without gradient: ``none`` (published code), ``dense``, ``sparse``.
    """
    if kind not in ("info_nce", "cosine", "l2") or stop not in ("none", "dense", "sparse"):
        raise ValueError(f"dense_to_sparse: kind {kind!r} or stop {stop!r} is unknown")
    sparse_slot, dense_slot = matches.slot(0), matches.slot(0, dense=True)
    if dense_slot is None:
        return matches.superpoints.sum() * 0.0
    sparse, dense = matches.superpoints[sparse_slot], matches.superpoints[dense_slot]
    filled = (matches.points[sparse_slot] > 0) & (matches.points[dense_slot] > 0)
    dense = dense.detach() if stop == "dense" else dense
    sparse = sparse.detach() if stop == "sparse" else sparse
    if kind == "info_nce":
        return contrast(matches, sparse, dense, filled, **options)
    sparse, dense = F.normalize(sparse[filled], dim=1), F.normalize(dense[filled], dim=1)
    distance = 1 - (sparse * dense).sum(1) if kind == "cosine" else (sparse - dense).square().sum(1)
    return _mean_of_rows(distance.sum(), len(distance))


def point_regression(matches: Matches, *, kind: str = "cosine") -> Tensor:
    """Each point's feature against the frozen teacher's at its pixel (ScaLR).

    Args:
        kind: ``cosine``: mean 1 - cos; ``l2``: mean distance of the normalised vectors, not squared (ScaLR).
    """
    voxel, pixel = F.normalize(matches.voxels, dim=1), F.normalize(matches.pair_pixel, dim=1)
    if kind == "cosine":
        # points of one voxel share their feature: the sum over them is one product with the sum of their targets
        targets = torch.zeros_like(voxel).index_add(0, matches.pair_voxel, pixel)
        return _mean_of_rows(len(pixel) - (voxel * targets).sum(), len(pixel))
    if kind == "l2":
        return _mean_of_rows((voxel[matches.pair_voxel] - pixel).norm(dim=1).sum(), len(pixel))
    raise ValueError(f"point_regression: kind {kind!r} is unknown; use cosine or l2")


def point_contrast(
    matches: Matches, *, temperature: float | Tensor = 0.07, gather: bool = True, max_pairs: int = 4096
) -> Tensor:
    """Points against pixels, pair by pair, without regions (PPKT; Liu et al. 2021, as SLidR reimplements it).

    Args:
        temperature, gather: see `info_nce`.
        max_pairs: random pairs of the batch that are contrasted, all where there are fewer (published: 4096).
    """
    rows = _drawn(torch.arange(len(matches.pair_q), device=matches.pair_q.device), max_pairs)
    q, k = F.normalize(matches.pair_q[rows], dim=1), F.normalize(matches.pair_k[rows], dim=1)
    return info_nce(q, k, temperature=temperature, gather=gather)


# name in configs -> (function, what it reads: region tables, pairs in the teacher's space, or embedded pairs)
OBJECTIVES: dict[str, tuple[Callable[..., Tensor], str]] = {
    "spatial": (spatial, "regions"),
    "temporal": (temporal, "regions"),
    "cross_temporal": (cross_temporal, "regions"),
    "dense_to_sparse": (dense_to_sparse, "regions"),
    "point_regression": (point_regression, "pairs"),
    "point_contrast": (point_contrast, "embedded pairs"),
}
