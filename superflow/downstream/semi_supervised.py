"""What the scans without labels add to a few with labels: pseudo-labels with and without votes, and their rivals.

Every way starts from the same backbone and recipe. The second network, that of the pseudo-labels, takes as many steps
as the first, half of them on labelled scans; "labels alone, twice the steps" costs as much as both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from ..datasets.frame import IGNORE_LABEL
from ..errors import InputError
from ..geometry import voxel_keys
from ..lidar.encoder import LidarEncoder
from .features import EncoderFeatures, Scan, read_scan
from .finetuning import MeanTeacher, Recipe, fine_tune
from .heads import LinearProbe
from .places import LabelLookup, majority_by_key
from .pseudo_labels import nearest_in_time, pseudo_labels
from .vote_log import head_predictor
from .voting import VotingOptions

WINDOW = 2  # frames each way that vote
ALONE = VotingOptions(offsets=())

Model = tuple[EncoderFeatures, LinearProbe]


@dataclass
class FewLabels:
    """A backbone, a few labelled scans of a log, and further scans of it whose labels stay hidden.

    labelled: row of ``index`` to its scan. votes: whether labelled scans vote with their labels, which needs all of
    them. unlabelled: rows; evaluated: rows that neither vote nor get pseudo-labels. threshold: probability from which a
    class is a pseudo-label.
    """

    encoder: LidarEncoder
    index: Any
    labelled: Mapping[int, Scan]
    unlabelled: Sequence[int]
    evaluated: Sequence[int]
    recipe: Recipe
    seed: int
    votes: bool = True
    threshold: float = 0.9

    def __post_init__(self) -> None:
        if both := set(self.unlabelled) & (set(self.evaluated) | set(self.labelled)):
            token = self.index.tokens([min(both)])[0]
            raise InputError(f"frame {token} is taken as unlabelled and is also labelled or evaluated")
        if not self.unlabelled:
            raise InputError(
                "no scan is left without a label; choose a smaller budget or more training frames"
            )

    @cached_property
    def alone(self) -> Model:
        """Trained on the labels alone; it names the scans without any."""
        return self.tuned(list(self.labelled.values()), self.recipe)

    def tuned(self, scans: Sequence[Scan], recipe: Recipe, mean_teacher: MeanTeacher | None = None) -> Model:
        """The backbone fine-tuned on scans."""
        classes = len(self.index.card.classes)
        return fine_tune(self.encoder, scans, classes, recipe, seed=self.seed, mean_teacher=mean_teacher)

    def voted(self, options: VotingOptions) -> list[Scan]:
        """The unlabelled scans with the classes of the first model that are sure after the vote."""
        found = pseudo_labels(
            self.index,
            self.unlabelled,
            head_predictor(*self.alone),
            options,
            evaluation_rows=self.evaluated,
            labelled_rows=list(self.labelled) if self.votes else (),
            threshold=self.threshold,
        )
        return [replace(scan, labels=torch.from_numpy(labels).long()) for _, scan, labels in found]

    def carried(self) -> list[Scan]:
        """As `voted` without votes, but places that the scan's nearest labelled one saw have its labels."""
        return [
            replace(scan, labels=torch.from_numpy(_carried(self, row, scan)))
            for row, scan in zip(self.unlabelled, self.voted(ALONE))
        ]

    def second(self, pseudo: Sequence[Scan]) -> Model:
        """The backbone fine-tuned on labelled and pseudo-labelled scans, as often on one as on the other."""
        named = [scan for scan in pseudo if bool((scan.labels != IGNORE_LABEL).any())]
        scans = list(self.labelled.values())
        return self.tuned(scans * max(1, math.ceil(len(named) / len(scans))) + named, self.recipe)


def _carried(few: FewLabels, row: int, scan: Scan) -> np.ndarray:
    """(N,) int64 labels: by world voxel, of the labelled scan of its scene nearest in time, else the scan's own."""
    own, size_m = scan.labels.numpy(), ALONE.voxel_m
    other = nearest_in_time(few.index, row, few.labelled)
    if other is None:
        return own
    nearest = few.labelled[other]
    known = (nearest.labels != IGNORE_LABEL).numpy()
    keys, labels = voxel_keys(nearest.world[known], size_m), nearest.labels.numpy()[known].astype(np.uint8)
    there = LabelLookup(*majority_by_key(keys, labels), default=IGNORE_LABEL, size_m=size_m).predict(
        scan.world
    )
    return np.where(there != IGNORE_LABEL, there, own)


def _mean_teacher(few: FewLabels) -> Model:
    scans = [read_scan(few.index, row, labels=False) for row in few.unlabelled]
    taught = MeanTeacher(scans, threshold=few.threshold)
    longer = replace(few.recipe, steps=2 * few.recipe.steps)
    return few.tuned(list(few.labelled.values()), longer, taught)


def _longer(few: FewLabels) -> Model:
    return few.tuned(list(few.labelled.values()), replace(few.recipe, steps=2 * few.recipe.steps))


WAYS: dict[str, Callable[[FewLabels], Model]] = {
    "labels alone": lambda few: few.alone,
    "labels alone, twice the steps": _longer,
    "pseudo-labels, no votes": lambda few: few.second(few.voted(ALONE)),
    "pseudo-labels, votes of the past": lambda few: few.second(
        few.voted(VotingOptions.window(WINDOW, causal=True))
    ),
    "pseudo-labels, votes of both sides": lambda few: few.second(few.voted(VotingOptions.window(WINDOW))),
    "pseudo-labels, labels carried (after PLE)": lambda few: few.second(few.carried()),
    "mean teacher": _mean_teacher,
}
