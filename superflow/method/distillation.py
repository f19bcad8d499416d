"""Moves of 2025 and 2026 that a frozen image teacher can make; what is known from notes is named "after" its work."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from .contrast import drawn, mean_of_rows, products
from .distributed import world_sum
from .matches import CloudsInImages, StudentPairs, TargetPairs
from .objective import Objective
from .regression import PointRegression


def make_head(channels: int, hidden: int, out: int) -> nn.Sequential:
    """A head of two layers."""
    return nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, out))


class StageRegression(Objective):
    """Points against the last stages of the teacher, each through a head of its own (after HilDA, ECCV 2026).

    HilDA takes the last two layers of a transformer; of a convolutional network these are its last two scales
    (`camera.teacher.Teacher.scale_channels`), which cached features keep with ``--components 0``.

    Args:
        stages: how many, from the last one back.
        hidden: width of the heads.
        kind, even: as in `regression.PointRegression`.
    """

    reads = (StudentPairs,)

    def __init__(
        self, *, stages: int = 2, hidden: int = 128, kind: str = "cosine", even: bool = False, **options: Any
    ) -> None:
        super().__init__(**options)
        if not 1 <= stages <= len(self.sizes.scales):
            raise InputError(
                f"stage_regression: stages is {stages}, and the teacher's features have {len(self.sizes.scales)}; set "
                "fewer, or take a teacher of several scales and prepare its features with --components 0"
            )
        self.widths = self.sizes.scales[-stages:]
        self.heads = nn.ModuleList(make_head(self.sizes.student, hidden, width) for width in self.widths)
        self.regression = PointRegression(sizes=self.sizes, kind=kind, even=even)

    def forward(self, pairs: StudentPairs) -> Tensor:
        """Mean over the stages."""
        targets = pairs.pixel[:, -sum(self.widths) :].split(self.widths, dim=1)
        terms = [
            self.regression(TargetPairs(head(pairs.voxels), pairs.voxel, target))
            for head, target in zip(self.heads, targets)
        ]
        return torch.stack(terms).mean()


class GlobalRegression(Objective):
    """The maximum over a cloud against the mean over its images: needs no calibration (after HilDA, ECCV 2026).

    HilDA's target is a transformer's CLS token; maps have none, and the mean over a map stands for it. The clouds are
    the sparse ones, the images those of the same time.

    Args:
        hidden: width of the head.
    """

    reads = (CloudsInImages,)

    def __init__(self, *, hidden: int = 128, **options: Any) -> None:
        super().__init__(**options)
        self.head = make_head(self.sizes.student, hidden, self.sizes.teacher)

    def forward(self, clouds: CloudsInImages) -> Tensor:
        """Mean of 1 - cosine over the clouds that have points and images."""
        count, channels = len(clouds.image), clouds.voxels.shape[1]
        place = clouds.cloud[:, None].expand(-1, channels)
        largest = clouds.voxels.new_zeros(count, channels)
        largest = largest.scatter_reduce(0, place, clouds.voxels, "amax", include_self=False)
        filled = torch.bincount(clouds.cloud, minlength=count) > 0
        both = torch.nonzero(filled & clouds.has_image)[:, 0]
        cosine = F.cosine_similarity(self.head(largest[both]), clouds.image[both], dim=1)
        return mean_of_rows((1 - cosine).sum(), len(both))


class Prototypes(Objective):
    """Soft maps of likeness to prototypes, of points that a camera sees, against the teacher's (after DOS, AAAI 2026).

    In DOS the teacher is a moving average of the student; here it is the image teacher, and a point is observable where
    it has a pixel. The teacher's maps are balanced (Sinkhorn) so that the masses of the prototypes, in order, fall by
    Zipf's law. Prototypes learn through the student's side.

    Args:
        prototypes: their number.
        temperature, target_temperature: of the student's softmax, and of the teacher's map.
        zipf: exponent; 0 asks for equal masses.
        rounds: of balancing; 0 leaves the teacher's map as it is.
        max_pairs: random pairs of the process's batch, all where there are fewer.
        hidden: width of the head.
    """

    reads = (StudentPairs,)

    def __init__(
        self,
        *,
        prototypes: int = 256,
        temperature: float = 0.1,
        target_temperature: float = 0.05,
        zipf: float = 1.0,
        rounds: int = 3,
        max_pairs: int = 4096,
        hidden: int = 128,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.temperature, self.target_temperature = temperature, target_temperature
        self.zipf, self.rounds, self.max_pairs = zipf, rounds, max_pairs
        self.head = make_head(self.sizes.student, hidden, self.sizes.teacher)
        self.prototypes = nn.Parameter(torch.randn(prototypes, self.sizes.teacher))

    def forward(self, pairs: StudentPairs) -> Tensor:
        """Mean cross-entropy over the pairs that are drawn."""
        every = torch.arange(len(pairs.voxel), device=pairs.voxel.device)
        chosen = drawn(every, self.max_pairs)
        prototypes = F.normalize(self.prototypes, dim=1)
        points = F.normalize(self.head(pairs.voxels[pairs.voxel[chosen]]), dim=1)
        with torch.no_grad():
            likeness = products(F.normalize(pairs.pixel[chosen], dim=1), prototypes)
            wanted = balanced(likeness / self.target_temperature, zipf=self.zipf, rounds=self.rounds)
        found = (products(points, prototypes) / self.temperature).log_softmax(dim=1)
        return mean_of_rows(-(wanted * found).sum(), len(chosen))


def balanced(logits: Tensor, *, zipf: float, rounds: int) -> Tensor:
    """(S, K) softmax of ``logits`` whose columns, over all ranks, are brought to masses that fall by Zipf's law.

    The column that is the r-th largest before gets a mass like r^-zipf. Rows sum to 1.
    """
    shares = logits.softmax(dim=1)
    order = world_sum(shares.sum(0)).argsort(descending=True, stable=True)
    ranks = torch.arange(1, logits.shape[1] + 1, device=logits.device, dtype=shares.dtype)
    mass = torch.zeros_like(ranks).scatter(0, order, ranks.pow(-zipf))
    for _ in range(rounds):
        shares = shares * (mass / world_sum(shares.sum(0)).clamp(min=1e-12))
        shares = shares / shares.sum(1, keepdim=True).clamp(min=1e-12)
    return shares
