"""What a benchmark of places compares: backbones of several pretraining sources, each measured on several logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ..datasets.card_file import read_yaml
from ..datasets.corrupted_index import CLEAN
from ..datasets.corruptions.models import Variant
from ..downstream.budgets import Budget
from ..errors import InputError, suggest
from .plan import KINDS
from .preparation import DEFAULT_TEACHER

NO_SOURCE = "nothing"  # the source of a backbone that was not trained
GIVEN = "elsewhere"  # of one that was trained before the benchmark
PLACES_KINDS = (*(kind for kind in KINDS if kind != "raw"), "given")


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


@dataclass(frozen=True, slots=True)
class Source:
    """What backbones are pretrained on: frames of a log, or a mix of other sources.

    superpixels: provider to its options, for the preparation. options: dotted config keys laid over the configs of
    all arms of a kind. mix: other source to its weight, instead of ``log``.
    """

    name: str
    log: str = ""
    frames: Any = "train"
    superpixels: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    mix: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PlacesArm:
    """One way of making a backbone.

    kind, config, options: as in `plan.Arm`, without raw coordinates; or ``given``, a backbone that is there already.
    weights: that backbone, as ``superflow.load`` takes it; of a random arm the one whose encoder it shares, instead of
    a config. sources: those that it is trained on, all when None. start: arm whose backbone of the same source and
    seed it begins with. by_source: further options. features: ``teacher`` and ``components`` (0: all channels) of the
    images that it reads, where they are others than 64 of the plan's teacher.
    """

    name: str
    kind: str
    config: str = ""
    weights: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    sources: Sequence[str] | None = None
    start: str | None = None
    by_source: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    features: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fixed_source(self) -> str | None:
        """The source of a backbone that the benchmark does not train; None for all that it does."""
        return {"random": NO_SOURCE, "given": GIVEN}.get(self.kind)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A log on which backbones are measured, with disjoint places.

    train: frames of labels; held_out: the part of them whose places choose options of probes, None for the last
    quarter; folds: parts of them that take turns at choosing recipes of fine-tuning, together as one figure,
    ``held_out`` alone where there are none;
    evaluate: frames of the figures, on which nothing is chosen. new_places_m: as in `plan.Plan`, where they share a
    world.
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
    budgets: Mapping[str, Budget] = field(default_factory=lambda: {"all": Budget()})
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    search: str = "grid"
    recipe_of: Mapping[str, str] = field(default_factory=dict)
    arms: Sequence[str] | None = None
    evaluations: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class PlacesPlan:
    """All of it; each part by its name.

    seeds: of the plan, where the command names none. only_budgets: those that are asked for, None for all; a measure
    with one budget is always taken.
    """

    logs: Mapping[str, Log]
    sources: Mapping[str, Source]
    arms: Mapping[str, PlacesArm]
    evaluations: Mapping[str, Evaluation]
    measures: Mapping[str, MeasurePlan]
    seeds: Sequence[int] = (0,)
    teacher: str = DEFAULT_TEACHER
    only_budgets: Sequence[str] | None = None

    def logs_of(self, sources: Sequence[str], evaluations: Sequence[str]) -> list[str]:
        """Names of the logs that these are about, each once."""
        known = [self.sources[name] for name in sources if name not in (NO_SOURCE, GIVEN)]
        parts = [self.sources[part] for source in known for part in source.mix] + known
        logs = [part.log for part in parts if part.log]
        return list(dict.fromkeys([*logs, *(self.evaluations[name].log for name in evaluations)]))

    def backbones(self) -> list[tuple[str, str]]:
        """(source, arm) of every backbone of a seed, in the plan's order."""
        pairs = []
        for source in (NO_SOURCE, GIVEN, *self.sources):
            for arm in self.arms.values():
                if source in (NO_SOURCE, GIVEN) or arm.fixed_source is not None:
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


_PARTS = {
    "logs": Log,
    "sources": Source,
    "arms": PlacesArm,
    "evaluations": Evaluation,
    "measures": MeasurePlan,
}


def is_places_plan(path: Path) -> bool:
    """Whether a plan names pretraining sources and so is one of places."""
    return "sources" in read_yaml(path)


def load_places_plan(path: Path) -> PlacesPlan:
    """The plan in a YAML file.

    An entry that is the name of another plan beside it stands for that plan's entry of the same name, and its log;
    an arm comes without sources that are there alone.

    Raises:
        InputError: an unknown key, or a name that stands for nothing.
    """
    content = _with_entries_of_others(read_yaml(path), path)
    known = [f.name for f in fields(PlacesPlan) if f.name != "only_budgets"]
    refuse_unknown(content, known, f"{path}")
    parts: dict[str, Any] = {part: read_part(path, part, content.pop(part, None)) for part in _PARTS}
    plan = PlacesPlan(**parts, **content)
    check_plan(plan, path)
    return plan


def _with_entries_of_others(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    parts = {part: content.get(part) for part in _PARTS}
    full: dict[str, Any] = {part: dict(own) for part, own in parts.items() if isinstance(own, dict)}
    for part, entries in list(full.items()):
        for name, entry in list(entries.items()):
            if not isinstance(entry, str):
                continue
            other = read_yaml(path.parent / entry)
            found = (other.get(part) or {}).get(name)
            if not isinstance(found, dict):
                raise InputError(
                    f"{path}: {part}: {name!r} is to be that of {entry}, which has none of its own"
                )
            entries[name] = found if part != "arms" else _on_sources(found, content.get("sources") or {})
            log = (other.get("logs") or {}).get(found.get("log"))
            if log is not None:
                full.setdefault("logs", {}).setdefault(found["log"], log)
    return {**content, **full}


def _on_sources(arm: Mapping[str, Any], sources: Mapping[str, Any]) -> dict[str, Any]:
    """An arm of another plan, without sources that are there alone."""
    own = dict(arm)
    if own.get("sources") is not None:
        own["sources"] = [name for name in own["sources"] if name in sources]
    if "by_source" in own:
        own["by_source"] = {name: options for name, options in own["by_source"].items() if name in sources}
    return own


def read_part(path: Path, part: str, entries: Any) -> dict[str, Any]:
    """The entries of one part of a plan, such as ``measures``, by their names.

    Raises:
        InputError: there are none, or a key is unknown or lacking.
    """
    if not isinstance(entries, dict) or not entries:
        raise InputError(f"{path}: a benchmark of places needs a mapping with the key {part}")
    return {
        str(name): read_entry(_PARTS[part], str(name), entry, part, path) for name, entry in entries.items()
    }


def read_entry(kind: type, name: str, entry: Any, part: str, path: Path) -> Any:
    """An entry of a part of a plan, as an object of its kind.

    Raises:
        InputError: it is no mapping, has an unknown key or lacks one.
    """
    where = f"{path}: {part}: {name!r}"
    if not isinstance(entry, dict):
        raise InputError(f"{where} is {entry!r}; give a mapping")
    names = [f.name for f in fields(kind) if f.name != "name"]
    refuse_unknown(entry, names, where)
    if kind is MeasurePlan and "budgets" in entry:
        budgets = {}
        for budget, limits in entry["budgets"].items():
            refuse_unknown(limits, [f.name for f in fields(Budget)], f"{where}, budget {budget!r}")
            budgets[str(budget)] = Budget(**limits)
        entry = {**entry, "budgets": budgets}
    try:
        return kind(name=name, **entry)
    except TypeError as error:
        lacking = str(error).rpartition(": ")[2]
        raise InputError(f"{where} lacks {lacking}; its keys are {', '.join(names)}") from error


def refuse_unknown(entry: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    """Raise an InputError for the first key of ``entry`` that is not known."""
    if unknown := sorted(set(entry) - set(known)):
        raise InputError(f"{where}: {unknown[0]!r} is unknown; the keys are {', '.join(known)}")


def check_plan(plan: PlacesPlan, path: Path) -> None:
    """Refuse a plan whose names stand for nothing.

    Raises:
        InputError: the first that does, with the file ``path`` of the plan.
    """
    from .measures import MEASURES
    from .recipe_search import SEARCHES

    def refer(name: Any, to: Mapping[str, Any], where: str) -> None:
        if name not in to:
            raise InputError(f"{path}: {where}: there is no {name!r}{suggest(str(name), to)}")

    for log in plan.logs.values():
        if log.drive is not None and log.root is not None:
            raise InputError(f"{path}: logs: {log.name!r} has both a root and a drive; leave one out")
    for source in plan.sources.values():
        if bool(source.log) == bool(source.mix):
            raise InputError(f"{path}: sources: {source.name!r} needs either a log or a mix of other sources")
        for part in source.mix:
            refer(part, plan.sources, f"sources: {source.name!r}")
            if plan.sources[part].mix:
                raise InputError(
                    f"{path}: sources: {source.name!r} mixes {part!r}, which is a mix; name its parts"
                )
        if source.log:
            refer(source.log, plan.logs, f"sources: {source.name!r}")
    for arm in plan.arms.values():
        refuse_unknown(arm.features, ("teacher", "components"), f"{path}: arms: {arm.name!r}: features")
        if arm.kind not in PLACES_KINDS:
            raise InputError(
                f"{path}: arms: {arm.name!r}: kind {arm.kind!r} is unknown; use {' or '.join(PLACES_KINDS)}"
            )
        has_config, has_weights = bool(arm.config), bool(arm.weights)
        fits = {"given": has_weights > has_config, "random": has_weights != has_config}
        if not fits.get(arm.kind, has_config > has_weights):
            needs = "weights" if arm.kind == "given" else "config"
            raise InputError(
                f"{path}: arms: {arm.name!r} lacks {needs!r} or has one too many; a given backbone has weights "
                "alone, a random one weights or a config, all others a config alone"
            )
        for name in (*(arm.sources or ()), *arm.by_source):
            refer(name, plan.sources, f"arms: {arm.name!r}")
        if arm.start is not None:
            refer(arm.start, plan.arms, f"arms: {arm.name!r}: start")
            if arm.kind != "supervised":
                raise InputError(
                    f"{path}: arms: {arm.name!r}: only a supervised arm starts from another's backbone"
                )
    for evaluation in plan.evaluations.values():
        refer(evaluation.log, plan.logs, f"evaluations: {evaluation.name!r}")
        if evaluation.variant != CLEAN:
            Variant.parse(evaluation.variant)
    for measure in plan.measures.values():
        where = f"measures: {measure.name!r}"
        refer(measure.name, MEASURES, where)
        refer(measure.search, SEARCHES, f"{where}: search")
        for arm_name in measure.arms or ():
            refer(arm_name, plan.arms, where)
        for name in measure.evaluations or ():
            refer(name, plan.evaluations, where)
        for budget, other in measure.recipe_of.items():
            refer(budget, measure.budgets, where)
            refer(other, measure.budgets, where)
            if other in measure.recipe_of:
                raise InputError(
                    f"{path}: {where}: {budget!r} takes the recipe of {other!r}, which has none of its own"
                )
