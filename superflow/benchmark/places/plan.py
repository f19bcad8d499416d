"""What a benchmark of places compares: backbones of several pretraining sources, each measured on several logs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ...datasets.corruptions.corrupted_index import CLEAN
from ...downstream.budgets import Budget
from ..one_log.plan import KINDS
from ..plan_file import entries
from ..preparation import DEFAULT_TEACHER

NO_SOURCE = "nothing"  # the source of a backbone that was not trained
GIVEN = "elsewhere"  # of one that was trained before the benchmark
FIXED_SOURCES = (NO_SOURCE, GIVEN)  # of backbones that the plan does not train
FIXED_KINDS = {"random": NO_SOURCE, "given": GIVEN}  # kind of an arm that trains nothing -> its source
AVERAGED = (
    "averaged"  # kind of an arm that is the mean of another one and of the backbone that one began with
)
PLACES_KINDS = (*(kind for kind in KINDS if kind != "raw"), "given", AVERAGED)


@dataclass(frozen=True, slots=True)
class Log:
    """A log that is pretrained or measured on.

    root: its folder, or one that an earlier preparation filled. dataset, label_set, version, card: as `superflow
    prepare` takes them. drive: instead of ``root``, the settings of a drive that is made: ``scenes``, ``val_scenes``
    and those of `street.drive.DriveSettings`. drive_name: of its folder, which logs of equal settings may share; that
    of the log when empty.
    """

    name: str
    root: str | None = None
    dataset: str = "nuscenes"
    label_set: str = ""
    version: str | None = None
    card: str | None = None
    drive: Mapping[str, Any] | None = None
    drive_name: str = ""


def logs_at(logs: Mapping[str, Log], places: Mapping[str, str]) -> dict[str, Log]:
    """The logs, each that ``places`` names in the folder given there, also where the plan has it made."""
    moved = {
        name: replace(log, root=places[name], drive=None) for name, log in logs.items() if name in places
    }
    return {**logs, **moved}


@dataclass(frozen=True, slots=True)
class Source:
    """What backbones are pretrained on: frames of a log, or a mix of other sources.

    images: False: its clips are clouds alone, for a log without cameras as a part of a mix. superpixels: provider to
    its options, for the preparation. options: dotted config keys laid over the configs of all arms of a kind. mix:
    other source to its weight, instead of ``log``.
    """

    name: str
    log: str = ""
    frames: Any = "train"
    images: bool = True
    superpixels: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    mix: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PlacesArm:
    """One way of making a backbone.

    kind, config, options: as in `one_log.plan.Arm`, without raw coordinates; or ``given``, a backbone that is there
    already, or ``averaged``, the mean of two.
    weights: that backbone, as ``superflow.load`` takes it; of a random arm the one whose encoder it shares, instead of
    a config. sources: those that it is trained on, all when None. start: arm whose backbone it begins with: that of
    the same source and seed, or a given one; of an averaged arm, the one that is averaged with its own start, see
    `hub.averaging`. share: of that start in the mean. by_source: further options. features: ``teacher`` and
    ``components`` (0: all channels) of the images that it reads, where they are others than 64 of the plan's teacher.
    """

    name: str
    kind: str
    config: str = ""
    weights: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    sources: Sequence[str] | None = None
    start: str | None = None
    share: float = 0.5
    by_source: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    features: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fixed_source(self) -> str | None:
        """The source of a backbone that the benchmark does not train; None for all that it does."""
        return FIXED_KINDS.get(self.kind)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A log on which backbones are measured, with disjoint places.

    train: frames of labels; held_out: the part of them whose places choose options of probes, None for the last
    quarter; folds: parts of them that take turns at choosing recipes of fine-tuning, together as one figure,
    ``held_out`` alone where there are none;
    evaluate: frames of the figures, on which nothing is chosen. new_places_m: as in `one_log.plan.Plan`, where they
    share a world.
    variant: ``clean``, or how the scans of ``evaluate`` are corrupted, as ``fog/heavy``; what is learned from is clean.
    """

    name: str
    log: str
    train: Any
    evaluate: Any
    held_out: Any = None
    folds: Sequence[Any] = ()
    new_places_m: float | None = None
    variant: str = CLEAN


@dataclass(frozen=True, slots=True)
class MeasurePlan:
    """How a measure of the table `measures.MEASURES` is taken.

    options: of it: those of `downstream.probe.ProbeOptions`, or fields of a `downstream.finetuning.Recipe`.
    budgets: name to what may be labelled. grid: recipe fields to the values that are tried on the held-out places;
    search: all combinations, or field by field, see `recipe_search.SEARCHES`.
    recipe_of: budget to the one whose chosen recipe it takes, instead of a search of its own. arms, evaluations:
    those that it is taken of, all when None.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    budgets: Mapping[str, Budget] = entries(Budget, default_factory=lambda: {"all": Budget()})
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    search: str = "grid"
    recipe_of: Mapping[str, str] = field(default_factory=dict)
    arms: Sequence[str] | None = None
    evaluations: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class PlacesPlan:
    """All of it; each part by its name.

    seeds: of the plan, where the command names none. only_budgets: those that are asked for, None for all; a measure
    with one budget is always taken. asked_teacher: the one that a call names instead of the plan's own. allow_leakage:
    backbones may have seen the drives that they are judged on.
    """

    logs: Mapping[str, Log] = entries(Log)
    arms: Mapping[str, PlacesArm] = entries(PlacesArm)
    evaluations: Mapping[str, Evaluation] = entries(Evaluation)
    measures: Mapping[str, MeasurePlan] = entries(MeasurePlan)
    # none where all backbones are given
    sources: Mapping[str, Source] = entries(Source, default_factory=dict)
    seeds: Sequence[int] = (0,)
    teacher: str = DEFAULT_TEACHER
    only_budgets: Sequence[str] | None = None
    asked_teacher: str | None = None
    allow_leakage: bool = False

    def starts(self, arm: str) -> list[str]:
        """Names of the arms that an arm starts from, one before the other, each once."""
        names: list[str] = []
        while (start := self.arms[arm].start) in self.arms and start not in names:
            assert start is not None
            names.append(start)
            arm = start
        return names

    def logs_of(self, sources: Sequence[str], evaluations: Sequence[str]) -> list[str]:
        """Names of the logs that these are about, each once."""
        known = [self.sources[name] for name in sources if name not in FIXED_SOURCES]
        parts = [self.sources[part] for source in known for part in source.mix] + known
        logs = [part.log for part in parts if part.log]
        return list(dict.fromkeys([*logs, *(self.evaluations[name].log for name in evaluations)]))

    def backbones(self) -> list[tuple[str, str]]:
        """(source, arm) of every backbone of a seed, in the plan's order."""
        pairs = []
        for source in (*FIXED_SOURCES, *self.sources):
            for arm in self.arms.values():
                if source in FIXED_SOURCES or arm.fixed_source is not None:
                    if source == arm.fixed_source:
                        pairs.append((source, arm.name))
                elif arm.sources is None or source in arm.sources:
                    pairs.append((source, arm.name))
        return pairs

    def tasks(self, arm: str) -> list[tuple[str, str, str]]:
        """(evaluation, measure, budget) of every figure of a backbone."""
        return [
            (evaluation, measure.name, budget)
            for evaluation in self.evaluations
            for measure in self.measures.values()
            if measure.evaluations is None or evaluation in measure.evaluations
            if measure.arms is None or arm in measure.arms
            # searched first, then those that take what was chosen
            for budget in sorted(measure.budgets, key=lambda name: name in measure.recipe_of)
            if self.only_budgets is None or len(measure.budgets) == 1 or budget in self.only_budgets
        ]

    def budgets_of(self, evaluation: str, arms: Iterable[str] | None = None) -> list[tuple[str, str]]:
        """(measure, budget) of the figures on a log, each once; of these arms, of all when None."""
        names = self.arms if arms is None else arms
        tasks = [task for arm in names for task in self.tasks(arm)]
        return list(dict.fromkeys((measure, budget) for on, measure, budget in tasks if on == evaluation))
