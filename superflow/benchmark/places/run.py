"""Runs a benchmark of places: every backbone is made once, then measured on every log; each figure is a row at once.

OUT/prepared/LOG, OUT/drives/LOG      indices, features, superpixels; made drives
OUT/runs/..., OUT/backbones/...       training, and what came of it
OUT/places.csv, OUT/recipes.csv       figures; trials of recipes on held-out places
OUT/lists/LOG-BUDGET-HASH.txt         tokens of the scans that a figure's labels are of
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ...downstream.evaluation import NEW_PLACES
from ...errors import InputError
from ...progress import cpu_seconds
from ...protocol import commit, device_name
from ..plan_file import refuse_absent
from ..results import slug
from ..rows import TRIAL_KEY, Row, RowFile
from ..units import prepare_pieces
from .backbones import PlannedBackbone
from .logs import check_logs, prepare_log, prepare_sources, prepared_folder
from .measures import MEASURES, Figure, Task
from .plan import AVERAGED, FIXED_SOURCES, Log, PlacesPlan, logs_at

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlacesUnit(PlannedBackbone):
    """A backbone with all its figures: what one process does, one after the other."""

    plan_name: str
    evaluations: tuple[str, ...]
    measures: tuple[str, ...]

    def name(self) -> str:
        return f"{self.arm} on {self.source}, seed {self.seed}"

    def run(self) -> list[str]:
        """Make the backbone and take all its measures; what failed, in words."""
        self.make()
        _drop_replaced(self)
        failed = []
        for evaluation, measure, budget in self.plan.tasks(self.arm):
            if evaluation not in self.evaluations or measure not in self.measures:
                continue
            try:
                _measure(self, evaluation, measure, budget)
            except Exception as error:  # the other figures do not depend on this one
                failed.append(f"{self.name()}, {measure} on {evaluation}, {budget}: {error}")
                log.exception("failed: %s", failed[-1])
        return failed

    def command(self, evaluation: str, measure: str) -> str:
        """What makes this row again; names in capitals stand for folders."""
        words = ["superflow", "benchmark", self.plan_name, "--out", "OUT", "--seeds", str(self.seed)]
        words += [] if self.source in FIXED_SOURCES else ["--sources", self.source]
        words += ["--arms", self.arm, "--evaluations", evaluation, "--measures", measure]
        for log in self.plan.logs_of([self.source], [evaluation]):
            words += [] if self.plan.logs[log].drive is not None else ["--root", f"{log}={log.upper()}"]
        words += ["--teacher", self.plan.asked_teacher] if self.plan.asked_teacher is not None else []
        words += ["--allow-leakage"] if self.plan.allow_leakage else []
        return shlex.join(words)


def places_rows(out: Path) -> RowFile:
    """The figures of a benchmark's folder."""
    return RowFile(out / "places.csv")


def places_trials(out: Path) -> RowFile:
    """The trials of recipes."""
    return RowFile(out / "recipes.csv", TRIAL_KEY)


def with_places(plan: PlacesPlan, places: Mapping[str, str]) -> PlacesPlan:
    """The plan with places for some of its logs.

    Raises:
        InputError: the plan has no such log.
    """
    if unknown := [name for name in places if name not in plan.logs]:
        raise InputError(f"--root {unknown[0]}=...: the plan has no such log; it has {', '.join(plan.logs)}")
    return replace(plan, logs=logs_at(plan.logs, places))


def with_teacher(plan: PlacesPlan, name: str | None) -> PlacesPlan:
    """The plan with another teacher, which the commands of its rows then name; None leaves its own."""
    return plan if name is None else replace(plan, teacher=name, asked_teacher=name)


def with_budgets(plan: PlacesPlan, names: Sequence[str] | None) -> PlacesPlan:
    """The plan with these budgets alone, where a measure has several; None leaves all.

    Raises:
        InputError: no measure has one of them.
    """
    if names is None:
        return plan
    known = list(dict.fromkeys(budget for measure in plan.measures.values() for budget in measure.budgets))
    refuse_absent(names, known, "--budgets: the plan")
    return replace(plan, only_budgets=tuple(names))


def prepare_places(
    plan: PlacesPlan,
    sources: Sequence[str],
    evaluations: Sequence[str],
    out: Path,
    *,
    jobs: int,
    arms: Sequence[str] | None = None,
    ray: str | None = None,
    measures: Sequence[str] | None = None,
) -> None:
    """Index the logs that are asked for, and make what the arms' pretraining reads; refuses before the work.

    Args:
        measures: those that are to be taken, all when None.
        jobs: processes, one log after the other. ray: address of a cluster instead, see `shards.run_shards`: each log
            is then a piece of work, and after them each source.

    Raises:
        InputError: an arm cannot be made, a log cannot be read, frames of an evaluation have no labels or are named
            twice, or a budget is larger than they are.
    """
    for source, arm in plan.backbones():
        if (arms is None or arm in arms) and source in (*FIXED_SOURCES, *sources):
            PlannedBackbone(plan, source, arm, 0, out).check()
    logs = {name: plan.logs[name] for name in plan.logs_of(sources, evaluations)}
    check_logs(logs.values())
    if ray is None:
        for log in logs.values():
            prepare_log(log, out, jobs=jobs)
    else:
        by_drive: dict[str, list[Log]] = {}  # logs of one made drive, which is made once
        for name, log in logs.items():
            by_drive.setdefault(log.drive_name or name, []).append(log)
        _all_prepared(partial(_prepare_logs, out), by_drive, jobs=jobs, ray=ray)
    for name in evaluations:
        index, rows = evaluation_rows(plan, name, out)
        for measure, budget in plan.budgets_of(name, arms):
            if measures is None or measure in measures:
                _check_budget(plan, name, measure, budget, index, rows["train"])
    if ray is None:
        prepare_sources(plan, sources, out, jobs=jobs, arms=arms)
        return
    # a mix takes the directions of its first part, and two mixes may share a log
    alone = {name: name for name in sources if not plan.sources[name].mix}
    _all_prepared(partial(_prepare_source, plan, out, arms), alone, jobs=jobs, ray=ray)
    for name in sources:
        if name not in alone:
            _all_prepared(partial(_prepare_source, plan, out, arms), {name: name}, jobs=jobs, ray=ray)


def _check_budget(
    plan: PlacesPlan, evaluation: str, measure: str, budget: str, index: Any, train: Sequence[int]
) -> None:
    try:
        plan.measures[measure].budgets[budget].rows(index, train, seed=0)
    except InputError as error:
        raise InputError(f"evaluation {evaluation!r}: {measure}, {budget!r}: {error}") from error


def _all_prepared(work: Any, pieces: Mapping[str, Any], *, jobs: int, ray: str) -> None:
    _, failed = prepare_pieces(work, pieces, jobs=jobs, ray=ray)
    if failed:
        raise InputError(f"{len(failed)} of {len(pieces)} preparations failed, the first one {failed[0]}")


def _prepare_logs(out: Path, logs: Sequence[Log]) -> None:
    for log in logs:
        prepare_log(log, out, jobs=1)


def _prepare_source(plan: PlacesPlan, out: Path, arms: Sequence[str] | None, name: str) -> None:
    prepare_sources(plan, [name], out, jobs=1, arms=arms)


def evaluation_rows(plan: PlacesPlan, name: str, out: Path) -> tuple[Any, dict[str, Any]]:
    """Index of an evaluation's log, and its labelled rows: train, held_out, evaluate; and folds, a list of them.

    Raises:
        InputError: some have no labelled point, or one is learned from and judged on.
    """
    from ...datasets.corruptions.corrupted_index import in_variant
    from ...datasets.index import LogIndex
    from ...downstream.labelled import labelled_rows, require_apart, require_labelled_points
    from ...downstream.probe import split_held_out

    evaluation = plan.evaluations[name]
    index = LogIndex.open(prepared_folder(plan.logs[evaluation.log], out))

    def labelled(part: str, frames: Any) -> list[int]:
        rows = labelled_rows(index, frames)
        require_labelled_points(index, rows, part)
        return rows

    rows: dict[str, Any] = {part: labelled(part, getattr(evaluation, part)) for part in ("train", "evaluate")}
    if evaluation.held_out is None:
        rows["held_out"] = split_held_out(rows["train"])[1]
    else:
        rows["held_out"] = labelled("held_out", evaluation.held_out)
    rows["folds"] = [labelled("a fold", fold) for fold in evaluation.folds] or [rows["held_out"]]
    choosing = {"held_out": rows["held_out"]}
    choosing |= {f"fold {number}": fold for number, fold in enumerate(rows["folds"], 1)}
    require_apart(index, rows["train"], rows["evaluate"], choosing, f"evaluation {name!r}")
    return in_variant(index, evaluation.variant, rows["evaluate"]), rows


def _measure(unit: PlacesUnit, evaluation: str, measure: str, budget: str) -> None:
    plan = unit.plan
    index, rows = evaluation_rows(plan, evaluation, unit.out)
    judged, chosen = plan.evaluations[evaluation], plan.measures[measure]
    task = Task(unit.path, index, judged, chosen, budget, unit.seed, **rows, allow_leakage=plan.allow_leakage)
    leakage = "; ".join(task.leakage())  # refuses before the work, also what was measured when it was allowed
    figures = places_rows(unit.out)
    where = {"source": unit.source, "arm": unit.arm, "seed": unit.seed, "evaluation log": evaluation}
    hashes = {"split hash": task.split_hash(), "settings hash": task.settings_hash()}
    made = {**where, "measure": MEASURES[measure].first, "budget": budget}
    if figures.find(**{**made, **hashes}):
        return
    common = {
        **where,
        "budget": budget,
        **hashes,
        "label set": label_set(index.card),
        "variant": index.variant,
        "leakage": leakage,
        **_about(unit, evaluation, measure),
    }
    searched = {**made, "budget": task.searched_budget, **hashes, "settings hash": task.search_hash()}
    searched.pop("seed")  # the recipe that one seed found serves all
    trials = places_trials(unit.out)
    tried = _of_backbone(unit, trials.find(**searched))
    known = {row["recipe"]: float(row["mIoU"] or 0.0) for row in tried}
    notes = _Notes(trials, {**common, **searched})
    found = MEASURES[measure].run(replace(task, trials=known, note_trial=notes))
    common |= {"CPU seconds of the measure": notes.seconds(), "token list": write_list(task, unit.out)}
    _drop_of_other_settings(figures, {key: str(common[key]) for key in (*where, "budget")}, hashes, measure)
    figures.add(_row(common, figure) for figure in found)
    log.info(
        "%s, %s on %s, %s: %.1f", unit.name(), measure, evaluation, budget, found[0].scores["miou"] or 0.0
    )


def _drop_of_other_settings(
    figures: RowFile, own: Mapping[str, str], hashes: Mapping[str, str], measure: str
) -> None:
    """Take out what the measure gave of the same by other settings or scans, which may have been further figures."""
    logs = (own["evaluation log"], own["evaluation log"] + NEW_PLACES)
    figures.drop(
        lambda row: (
            MEASURES[measure].makes(row["measure"])
            and row["evaluation log"] in logs
            and {**row, "evaluation log": logs[0]}.items() >= own.items()
            and not row.items() >= hashes.items()
        )
    )


def _drop_replaced(unit: PlacesUnit) -> None:
    """Take out figures and trials of another backbone of this name and seed: it was deleted and made anew."""
    own, made_by = {"source": unit.source, "arm": unit.arm, "seed": str(unit.seed)}, _made_by(unit)
    for file in (places_rows(unit.out), places_trials(unit.out)):
        count = file.drop(lambda row: all(row[k] == v for k, v in own.items()) and not _is_of(row, made_by))
        if count:
            log.warning("%s: %d rows were of another %s, and are taken out", file.path, count, unit.name())


def _of_backbone(unit: PlacesUnit, rows: Sequence[Row]) -> list[Row]:
    """Trials of any seed that were made on its backbone as it is now, not on one of its name that was replaced.

    A backbone that is not here says nothing against its rows: they may be a table of another machine.
    """
    made_by: dict[str, dict[str, str]] = {}
    for seed in {row["seed"] for row in rows}:
        other = replace(unit, seed=int(seed))
        if other.path.is_file():
            made_by[seed] = _made_by(other)
    return [row for row in rows if row["seed"] not in made_by or _is_of(row, made_by[row["seed"]])]


def _is_of(row: Row, made_by: Mapping[str, str]) -> bool:
    # the hash, not the file's name
    config, now = (each["config"].rpartition(" ")[2] for each in (row, made_by))
    # tables of before do not say the latter
    return config == now and row["weights"] in ("", made_by["weights"])


def _row(common: Mapping[str, Any], figure: Figure) -> dict[str, Any]:
    """The row of a figure; ``common``: what all figures of its task share."""
    return {
        **common,
        "variant": figure.variant or common["variant"],
        "evaluation log": common["evaluation log"] + figure.log_suffix,
        "measure": figure.measure,
        "labelled points": figure.labelled,
        "recipe": figure.recipe,
        **_scores(figure.scores, figure.best),
    }


class _Notes:
    """Writes a row of each trial of a recipe, with the time of this process since the one before."""

    def __init__(self, trials: RowFile, common: Mapping[str, Any]) -> None:
        self._trials, self._common, self._since = trials, common, cpu_seconds()

    def __call__(self, recipe: str, scores: Mapping[str, Any]) -> None:
        row = {**self._common, "labelled points": None, "recipe": recipe, "token list": None}
        self._trials.add([{**row, "CPU seconds of the measure": self.seconds(), **_scores(scores)}])
        self._since = cpu_seconds()

    def seconds(self) -> float:
        return cpu_seconds() - self._since


def write_list(task: Task, out: Path) -> str:
    """Write the tokens of the scans that a task may learn from to a file below ``out``; its name there."""
    from ...downstream.fractions import percent_rows, write_tokens

    budget = task.measure.budgets[task.budget]
    rows = budget.rows(task.index, task.train, seed=task.seed)
    where = f"{slug(task.evaluation.name)}-{slug(task.budget)}-{task.list_hash(rows)}.txt"
    rule = f"spread over the scenes, seed {task.seed}" if budget.scans else "all"
    if budget.percent is not None:
        rule = f"{budget.percent:g} %, {percent_rows(task.index, task.train, budget.percent)[1]}"
    note = f"{task.budget}: of the {len(task.train)} labelled training scans of {task.evaluation.name} {rule}; index "
    write_tokens(out / "lists" / where, task.index.tokens(rows), note=note + task.index.hash)
    return f"lists/{where}"


def _about(unit: PlacesUnit, evaluation: str, measure: str) -> dict[str, Any]:
    return {
        "CPU seconds of pretraining": unit.card()["training"].get("cpu_seconds"),
        "commit": commit(),
        "device": device_name(),
        **_made_by(unit),
        "command": unit.command(evaluation, measure),
    }


def _made_by(unit: PlannedBackbone) -> dict[str, str]:
    """What tells a backbone from another one of its name, as its rows have it."""
    arm, weights = unit.entry, str(unit.card()["weights_sha256"])[:16]
    if arm.kind == AVERAGED or arm.weights is not None:
        made_of = arm.start if arm.weights is None else Path(arm.weights).name
        return {"config": f"{made_of} {weights}", "weights": weights}
    return {"config": f"{arm.config} {unit.config_hash(unit.config())}", "weights": weights}


def label_set(card: Any) -> str:
    """Of which classes a row's figures are, and of which card; made data have the mark."""
    chosen = f" {card.label_set}" if card.label_set else ""
    made = "" if card.real else ", made data"
    return f"{card.name}{chosen}, {len(card.classes)} classes, {card.hash[:8]}{made}"


def _scores(scores: Mapping[str, Any], best: float | None = None) -> dict[str, Any]:
    classes = "; ".join(f"{name} {iou:.1f}" for name, iou in scores["iou"].items() if iou is not None)
    return {
        "mIoU": scores["miou"],
        "best mIoU": scores["miou"] if best is None else best,
        "IoU of classes": classes,
        "accuracy": scores["accuracy"],
        "frequent-classes mIoU": scores["frequent_miou"],
    }
