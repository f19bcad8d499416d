"""What a benchmark compares: a YAML plan of arms, and the frames that they are trained and measured on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import InputError
from ..plan_file import entries, find_plan, read_plan, refer, refuse_same_files
from ..preparation import DEFAULT_TEACHER
from ..results import slug

TRAINED = ("pretrained", "supervised")
KINDS = ("raw", "random", *TRAINED)


@dataclass(frozen=True, slots=True)
class Arm:
    """One row of the table.

    kind: ``raw`` coordinates straight into the probe, a ``random`` encoder, one ``pretrained`` without labels, or
    one trained ``supervised`` from scratch. config: of the training; of a random encoder, where its student is
    described. options: dotted config keys laid over it.
    """

    name: str
    kind: str
    config: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(
                f"arm {self.name!r}: kind {self.kind!r} is unknown; use one of {', '.join(KINDS)}"
            )
        if self.kind != "raw" and self.config is None:
            raise InputError(f"arm {self.name!r}: a {self.kind} arm needs a config")

    @property
    def slug(self) -> str:
        """The name as a folder."""
        return slug(self.name)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is compared, on which frames.

    train, held_out, evaluate: frames as `LogIndex.rows` takes them. ``held_out`` is the part of ``train`` that
    chooses the probe's options; None takes the last quarter. Nothing is chosen on ``evaluate``.
    new_places_m: edge of the world voxels that tell new places from seen ones; None where the frames of training and
    evaluation share no world. vote_frames: voting window, in key frames each way.
    options: dotted config keys laid over the configs of all arms of a kind: ``pretrained``, ``supervised``.
    superpixels: provider to its options, for the preparation. teacher: whose cached features are the targets.
    allow_leakage: arms may begin with weights that have seen the drives that they are judged on.
    """

    arms: tuple[Arm, ...] = entries(Arm)
    train: Any = "train"
    held_out: Any = None
    evaluate: Any = "val"
    new_places_m: float | None = None
    vote_frames: int = 2
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    superpixels: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    teacher: str = DEFAULT_TEACHER
    allow_leakage: bool = False

    def arm(self, name: str) -> Arm:
        """The arm of this name."""
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise InputError(f"{name!r} is no arm of the plan; it has {', '.join(arm.name for arm in self.arms)}")


def load_plan(path: str | Path) -> Plan:
    """The plan in a YAML file, or the shipped one of that name.

    Raises:
        InputError: no such file, an unknown key, or an arm that cannot run.
    """
    from ...camera.superpixels import PROVIDERS

    plan = read_plan(find_plan(Path(path)), Plan)
    refuse_same_files((arm.name for arm in plan.arms), f"{path}: arms")
    refer(plan.options, dict.fromkeys(TRAINED), f"{path}: options of a kind of arms")
    refer(plan.superpixels, PROVIDERS, f"{path}: superpixels")
    return plan
