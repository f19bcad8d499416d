"""What is asked of the features: each objective is a small module that owns what it learns and remembers.

SuperFlow, SuperFlow++, SLidR, PPKT, ST-SLidR and ScaLR are lists of these with weights (configs/pretrain).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from .contrast import drawn, info_nce, mean_of_rows
from .distillation import GlobalRegression, Prototypes, StageRegression
from .labels import Segmentation
from .matches import EmbeddedPairs, Members, Superpixels, Superpoints
from .objective import Contrast, Objective, RegionContrast
from .regression import PointRegression
from .tolerance import TolerantSpatial

DISTANCES = ("info_nce", "cosine", "l2")
SIDES = ("none", "dense", "sparse")


class Spatial(RegionContrast):
    """Superpoints against superpixels at every time: published L_sc, 1/T sum_t InfoNCE(q_t, k_t)."""

    reads = (Superpoints, Superpixels)

    def forward(self, q: Superpoints, k: Superpixels) -> Tensor:
        """Mean over the times of the batch."""
        return self.mean(q, ((q.of(offset), k.of(offset)) for offset in q.table.offsets))


class Temporal(RegionContrast):
    """Superpoints at time 0 against those of the neighbours: published L_tc, mean over t' of InfoNCE(q_0, q_t').

    Args:
        stop_neighbour: the neighbours get no gradient.
    """

    reads = (Superpoints,)

    def __init__(self, *, stop_neighbour: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.stop_neighbour = stop_neighbour

    def forward(self, q: Superpoints) -> Tensor:
        """Mean over the neighbours of the batch."""
        neighbours = (q.of(offset) for offset in q.table.neighbours())
        if self.stop_neighbour:
            neighbours = ((features.detach(), there) for features, there in neighbours)
        return self.mean(q, ((q.of(0), neighbour) for neighbour in neighbours))


class CrossTemporal(RegionContrast):
    """Superpoints at time 0 against superpixels of the neighbours: the cross-sensor term of SuperFlow++."""

    reads = (Superpoints, Superpixels)

    def forward(self, q: Superpoints, k: Superpixels) -> Tensor:
        """Mean over the neighbours of the batch."""
        return self.mean(q, ((q.of(0), k.of(offset)) for offset in q.table.neighbours()), k=k)


class DenseToSparse(RegionContrast):
    """The sparse cloud's superpoints against those of the dense cloud (D2S).

    Args:
        kind: ``info_nce`` (published code), ``cosine`` (published text: mean 1 - cos), ``l2``.
        stop: side without gradient: ``none`` (published code), ``dense``, ``sparse``.
    """

    reads = (Superpoints,)

    def __init__(self, *, kind: str = "info_nce", stop: str = "none", **options: Any) -> None:
        for key, value, known in (("kind", kind, DISTANCES), ("stop", stop, SIDES)):
            if value not in known:
                raise InputError(
                    f"dense_to_sparse: {key} {value!r} is unknown; use one of {', '.join(known)}"
                )
        of_contrasts = options.keys() - {"weight", "sizes"}
        if kind != "info_nce" and of_contrasts:
            raise InputError(
                f"dense_to_sparse: kind {kind!r} is no contrast and has no {min(of_contrasts)!r}; leave that out"
            )
        super().__init__(**options)
        self.kind, self.stop = kind, stop

    def forward(self, q: Superpoints) -> Tensor:
        """0 with a graph where the batch has no dense cloud."""
        if not q.has_dense():
            return self.nothing(q)
        (sparse, in_sparse), (dense, in_dense) = q.of(0), q.of(0, dense=True)
        dense = dense.detach() if self.stop == "dense" else dense
        sparse = sparse.detach() if self.stop == "sparse" else sparse
        if self.kind == "info_nce":
            return self.mean(q, [((sparse, in_sparse), (dense, in_dense))])
        filled = in_sparse & in_dense
        sparse, dense = F.normalize(sparse[filled], dim=1), F.normalize(dense[filled], dim=1)
        distance = 1 - (sparse * dense).sum(1) if self.kind == "cosine" else (sparse - dense).square().sum(1)
        return mean_of_rows(distance.sum(), len(distance))


class PointContrast(Contrast):
    """Points against pixels, pair by pair, without regions (PPKT; Liu et al. 2021, as SLidR reimplements it).

    Args:
        max_pairs: random pairs of the process's batch that are contrasted, all where there are fewer (published: 4096).
        even: one random pair of each voxel stands for it, so that near range, where voxels hold many points, does not
            fill the draw.
    """

    reads = (EmbeddedPairs,)

    def __init__(self, *, max_pairs: int = 4096, even: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.max_pairs, self.even = max_pairs, even

    def forward(self, pairs: EmbeddedPairs) -> Tensor:
        """Mean over the pairs that are drawn."""
        every = torch.arange(len(pairs.voxel), device=pairs.voxel.device)
        chosen = drawn(_one_each(pairs.voxel) if self.even else every, self.max_pairs)
        q = F.normalize(pairs.voxels[pairs.voxel[chosen]], dim=1)
        k = F.normalize(pairs.image_head(pairs.pixel[chosen]), dim=1)
        return info_nce(q, k, temperature=self.temperature(), gather=self.gather, counts=self.counts)


class PointToRegion(Contrast):
    """A random point of each region against the superpoints of all regions at time 0 (after Seal's regularisation).

    Of Seal (Liu et al., NeurIPS 2023) the training code is not public; there segments of the cloud come from removing
    the ground and clustering, here they are the regions of the batch.

    Args:
        stop_region: the superpoints get no gradient.
    """

    reads = (Members,)

    def __init__(self, *, stop_region: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.stop_region = stop_region

    def forward(self, members: Members) -> Tensor:
        """Mean over the regions that have points."""
        filled = members.superpoints.of(0)[1][members.region]
        some = torch.nonzero(filled)[:, 0]
        chosen = some[_one_each(members.region[some])]
        points = F.normalize(members.voxels[members.voxel[chosen]], dim=1)
        means = members.superpoints.of(0)[0][members.region[chosen]]
        means = F.normalize(means.detach() if self.stop_region else means, dim=1)
        return info_nce(points, means, temperature=self.temperature(), gather=self.gather, counts=self.counts)


def _one_each(group: Tensor) -> Tensor:
    """A random member of each group, ascending; ``group`` (P,) int64."""
    order = torch.randperm(len(group)).to(group.device)
    by_group = group[order].sort(stable=True)
    first = torch.ones_like(by_group.values, dtype=torch.bool)
    first[1:] = by_group.values[1:] != by_group.values[:-1]
    return order[by_group.indices[first]].sort().values


OBJECTIVES: dict[str, type[Objective]] = {
    "spatial": Spatial,
    "temporal": Temporal,
    "cross_temporal": CrossTemporal,
    "dense_to_sparse": DenseToSparse,
    "point_regression": PointRegression,
    "point_contrast": PointContrast,
    "segmentation": Segmentation,
    "tolerant_spatial": TolerantSpatial,
    "point_to_region": PointToRegion,
    "stage_regression": StageRegression,
    "global_regression": GlobalRegression,
    "prototypes": Prototypes,
}
