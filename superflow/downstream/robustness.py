"""How much of a model's score is left on corrupted scans: mCE and mRR, as Robo3D (Kong et al. 2023) defines them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..datasets.corruptions.models import CORRUPTIONS
from ..errors import InputError

# mIoU [%] of MinkUNet-18 trained on clean scans, the mean over three levels, in the order of CORRUPTIONS
_BASELINES = {
    "nuscenes": (53.64, 73.91, 40.35, 73.39, 68.54, 26.58, 63.83, 50.95),
    "semantickitti": (55.87, 53.99, 53.28, 32.92, 56.32, 58.34, 54.43, 46.05),
    "waymo": (66.99, 60.99, 57.75, 68.92, 64.15, 65.37, 63.36, 56.44),
}
_SAME_SCANS = {"nuscenes_c": "nuscenes"}


@dataclass(frozen=True, slots=True)
class Robustness:
    """Figures of one model [%].

    errors: corruption -> its error relative to the baseline's; empty where the dataset has no published baseline.
    resilience: corruption -> what is left of the clean mIoU.
    """

    errors: Mapping[str, float]
    resilience: Mapping[str, float]

    @property
    def mce(self) -> float | None:
        """Mean corruption error: 100 is the baseline, less is better."""
        return sum(self.errors.values()) / len(self.errors) if self.errors else None

    @property
    def mrr(self) -> float:
        """Mean resilience rate: 100 is no loss."""
        return sum(self.resilience.values()) / len(self.resilience)


def robustness(clean: float, corrupted: Mapping[str, Sequence[float]], dataset: str) -> Robustness:
    """The figures of a model.

    Args:
        clean: its mIoU [%]. corrupted: corruption -> its mIoU at every level, or their mean alone. dataset: name of the
            card, for the baseline.

    Raises:
        InputError: there is no such corruption, or nothing to compare with.
    """
    if clean <= 0 or not corrupted or not all(corrupted.values()):
        raise InputError("robustness needs a clean mIoU above 0 and a mIoU of every corruption that is named")
    if unknown := sorted(set(corrupted) - set(CORRUPTIONS)):
        raise InputError(f"{unknown[0]!r} is no corruption; they are {', '.join(CORRUPTIONS)}")
    means = {name: sum(values) / len(values) for name, values in corrupted.items()}
    baseline = dict(zip(CORRUPTIONS, _BASELINES.get(_SAME_SCANS.get(dataset, dataset), ())))
    return Robustness(
        errors={name: 100 * (100 - means[name]) / (100 - baseline[name]) for name in means if baseline},
        resilience={name: 100 * mean / clean for name, mean in means.items()},
    )
