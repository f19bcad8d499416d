"""What is asked of the features: each objective is a function of the matched features, one scalar.

SuperFlow, SuperFlow++, SLidR, PPKT, ST-SLidR and ScaLR are lists of these with weights (configs/pretrain).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from .contrast import contrast, drawn, info_nce, mean_of_rows
from .matches import Matches

DISTANCES = ("info_nce", "cosine", "l2")
SIDES = ("none", "dense", "sparse")


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
    for key, value, known in (("kind", kind, DISTANCES), ("stop", stop, SIDES)):
        if value not in known:
            raise InputError(f"dense_to_sparse: {key} {value!r} is unknown; use one of {', '.join(known)}")
    if kind != "info_nce" and options:
        raise InputError(
            f"dense_to_sparse: kind {kind!r} is no contrast and has no {min(options)!r}; leave that out"
        )
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
    return mean_of_rows(distance.sum(), len(distance))


def point_regression(matches: Matches, *, kind: str = "cosine", even: bool = False) -> Tensor:
    """Each point's feature against the frozen teacher's at its pixel (ScaLR).

    Args:
        kind: ``cosine``: mean 1 - cos; ``l2``: mean distance of the normalised vectors, not squared (ScaLR).
        even: every voxel counts once instead of every pair, so that near range, where voxels hold many points, does not
            outweigh what is far.
    """
    voxel, pixel = F.normalize(matches.voxels, dim=1), F.normalize(matches.pair_pixel, dim=1)
    members = torch.bincount(matches.pair_voxel, minlength=len(voxel)) if even else None
    rows = len(pixel) if members is None else int((members > 0).sum())
    if kind == "cosine":
        # points of one voxel share their feature: the sum over them is one product with the sum of their targets
        targets = torch.zeros_like(voxel).index_add(0, matches.pair_voxel, pixel)
        if members is not None:
            targets = targets / members.clamp(min=1)[:, None]
        return mean_of_rows(rows - (voxel * targets).sum(), rows)
    if kind == "l2":
        distance = (voxel[matches.pair_voxel] - pixel).norm(dim=1)
        if members is not None:
            distance = distance / members[matches.pair_voxel]
        return mean_of_rows(distance.sum(), rows)
    raise InputError(f"point_regression: kind {kind!r} is unknown; use cosine or l2")


def point_contrast(
    matches: Matches,
    *,
    temperature: float | Tensor = 0.07,
    gather: bool = True,
    max_pairs: int = 4096,
    even: bool = False,
) -> Tensor:
    """Points against pixels, pair by pair, without regions (PPKT; Liu et al. 2021, as SLidR reimplements it).

    Args:
        temperature, gather: see `info_nce`.
        max_pairs: random pairs of the process's batch that are contrasted, all where there are fewer (published: 4096).
        even: one random pair of each voxel stands for it, so that near range, where voxels hold many points, does not
            fill the draw.
    """
    rows = torch.arange(len(matches.pair_voxel), device=matches.pair_voxel.device)
    rows = drawn(_one_each(matches.pair_voxel) if even else rows, max_pairs)
    q = F.normalize(matches.embedded[matches.pair_voxel[rows]], dim=1)
    k = F.normalize(matches.image_head(matches.pair_pixel[rows]), dim=1)
    return info_nce(q, k, temperature=temperature, gather=gather)


def _one_each(group: Tensor) -> Tensor:
    """A random member of each group, ascending; ``group`` (P,) int64."""
    order = torch.randperm(len(group)).to(group.device)
    by_group = group[order].sort(stable=True)
    first = torch.ones_like(by_group.values, dtype=torch.bool)
    first[1:] = by_group.values[1:] != by_group.values[:-1]
    return order[by_group.indices[first]].sort().values


# name in configs -> (function, what it reads of the matches)
OBJECTIVES: dict[str, tuple[Callable[..., Tensor], frozenset[str]]] = {
    "spatial": (spatial, frozenset({"superpoints", "superpixels"})),
    "temporal": (temporal, frozenset({"superpoints"})),
    "cross_temporal": (cross_temporal, frozenset({"superpoints", "superpixels"})),
    "dense_to_sparse": (dense_to_sparse, frozenset({"superpoints"})),
    "point_regression": (point_regression, frozenset({"pairs"})),
    "point_contrast": (point_contrast, frozenset({"embedded pairs"})),
}
