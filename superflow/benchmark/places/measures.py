"""Measures of a benchmark of places: what is asked of an exported backbone on a log. One entry in one table each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from ...datasets.corruptions.corrupted_index import CLEAN
from ...datasets.selection import without
from ...downstream.budgets import Budget
from ...errors import InputError
from ...option_values import Range
from ..plan_file import check_value, read_entry, refer
from ..results import json_hash
from .plan import Evaluation, MeasurePlan
from .recipe_search import SEARCHES, grid_recipes

log = logging.getLogger(__name__)
DIGITS = 12  # of the hashes in a row
# of the recipe of a decoder probe
_DECODER = {"keep": "encoder", "frozen": "encoder", "batch_norm": "estimated"}
# of a measure's own options: shares of the steps, the last of which is judged anyway; scans
_RANGES = {"checks": Range(0, 0.999999, above=True), "unlabelled": Range(1, whole=True)}


@dataclass(frozen=True)
class Task:
    """One backbone, one log, one measure, one budget.

    train, held_out, evaluate: labelled rows of ``index``. held_out are some of train; folds: parts of train that take
    turns in a search. trials: of searches before, recipe -> mIoU on the folds, and how a new one is noted.
    allow_leakage: the backbone may have seen the drives that it is judged on.
    """

    backbone: Path
    index: Any
    evaluation: Evaluation
    measure: MeasurePlan
    budget: str
    seed: int
    train: Sequence[int]
    held_out: Sequence[int]
    evaluate: Sequence[int]
    folds: Sequence[Sequence[int]]
    trials: Mapping[str, float] = field(default_factory=dict)
    note_trial: Callable[[str, Mapping[str, Any]], None] = lambda recipe, scores: None
    allow_leakage: bool = False

    def leakage(self) -> list[str]:
        """The drives that are judged on and that the backbone has seen.

        Raises:
            InputError: there are some, and they are not allowed.
        """
        from ...hub.encoder_file import read_encoder_file
        from ...hub.leakage import check_encoder

        file = read_encoder_file(self.backbone)
        return check_encoder(
            file, self.index, train=self.train, evaluate=self.evaluate, allowed=self.allow_leakage
        )

    def split_hash(self) -> str:
        """Of the tokens that are learned from, chosen by and judged on."""
        parts = [sorted(self.index.tokens(rows)) for rows in (self.train, self.held_out, self.evaluate)]
        if [list(fold) for fold in self.folds] != [list(self.held_out)]:
            parts += [sorted(self.index.tokens(rows)) for rows in self.folds]
        return json_hash([self.index.hash, parts], DIGITS)

    def settings_hash(self) -> str:
        """Of what the plan says of the measure at this budget."""
        plan = self.measure
        grid: list[Any] | None = [plan.grid, self.search_hash()] if plan.grid else None
        if grid and plan.search != "grid":  # rows of a whole grid keep their hash
            grid += [plan.search, list(plan.grid)]
        budget: Any = plan.budgets[self.budget].record()
        if self.index.card.fractions and "percent" in budget:
            budget = [budget, self.index.card.fractions]  # another rule than before there were any
        parts = [plan.name, plan.options, budget, grid, self.evaluation.new_places_m]
        variant = self.evaluation.variant
        said = parts if variant == CLEAN else [*parts, variant]  # rows of clean scans keep their hash
        return json_hash(said, DIGITS)

    def list_hash(self, rows: Sequence[int]) -> str:
        """Of the tokens of some rows."""
        return json_hash(sorted(self.index.tokens(rows)), DIGITS)

    @property
    def searched_budget(self) -> str:
        """The budget at which this one's recipe is searched."""
        return self.measure.recipe_of.get(self.budget, self.budget)

    def search_hash(self) -> str:
        """Of what a trial depends on beside its recipe and the split."""
        return json_hash([self.measure.name, self.measure.budgets[self.searched_budget].record()], DIGITS)


@dataclass(frozen=True)
class Figure:
    """One row of the result.

    log_suffix: ", new places" or nothing. scores: ``ConfusionMatrix.summary``. labelled: points with a label that was
    learned from. best: highest mIoU of the checks on the way and of the end; None without checks.
    variant: of the scans judged, that of the evaluation when None.
    """

    measure: str
    recipe: str
    scores: Mapping[str, Any]
    log_suffix: str = ""
    labelled: int | None = None
    best: float | None = None
    variant: str | None = None


@dataclass(frozen=True)
class Measure:
    """An entry of the table.

    run: the figures of a task; the first has the name ``first``. read: what the options of a plan mean; raises
    InputError where they mean nothing. tunes: it learns from a budget, with a recipe that a grid may choose; others
    learn from all training frames. fixed: fields of the recipe that no plan changes. columns: names of its figures that
    may be columns of a table.
    """

    first: str
    run: Callable[[Task], list[Figure]]
    read: Callable[[Mapping[str, Any]], Any]
    tunes: bool = False
    fixed: Mapping[str, Any] = field(default_factory=dict)
    columns: tuple[str, ...] = ()

    def makes(self, figure: str) -> bool:
        """Whether a figure of this name is one of its own, under any options."""
        return figure in self.columns or figure.partition(": ")[0] == self.first.partition(": ")[0]


def check_measure(plan: MeasurePlan, where: str) -> None:
    """Refuse what a measure could not do, before backbones are trained for it.

    Raises:
        InputError: options, budgets or a grid that it does not take. where: the measure's place in the plan.
    """
    measure = MEASURES[plan.name]
    if not measure.tunes and (plan.grid or any(budget != Budget() for budget in plan.budgets.values())):
        raise InputError(f"{where}: learns from all training frames; leave out its budgets and grid")
    if not plan.budgets:
        raise InputError(f"{where}: budgets is empty; name some, or leave it out for all labels")
    said = [name for name in (*plan.options, *plan.grid) if name in measure.fixed]
    if said:
        raise InputError(
            f"{where}: {said[0]} is always {measure.fixed[said[0]]} in this measure; leave it out, or take fine-tuning"
        )
    if "seed" in plan.options:
        raise InputError(
            f"{where}: seed is that of each run of the benchmark; give seeds, and leave it out here"
        )
    try:
        default = measure.read(plan.options)
        for name, values in plan.grid.items():
            grid_recipes(default, {name: values})
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _split(options: Mapping[str, Any], beside: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of a measure itself, whose names have the types ``beside``, and all others."""
    own = {name: options[name] for name in beside if name in options}
    for name, value in own.items():
        check_value(value, beside[name], name)
        numbers = value if isinstance(value, Sequence) else (value,)
        if name in _RANGES and (wrong := [number for number in numbers if not _RANGES[name].holds(number)]):
            raise InputError(f"{name} is {wrong[0]!r}; give {_RANGES[name]}")
    return own, {name: value for name, value in options.items() if name not in own}


def _recipe(options: Mapping[str, Any], **beside: Any) -> Any:
    """The recipe that options mean without those of the measure itself, see `_split`."""
    from ...downstream.finetuning import Recipe

    return Recipe.of(_split(options, beside)[1])


def _decoder_recipe(options: Mapping[str, Any]) -> Any:
    return _recipe({**options, **_DECODER}, checks=Sequence[float])


def _probe_options(options: Mapping[str, Any]) -> Any:
    from ...downstream.probe import ProbeOptions

    return read_entry(ProbeOptions, dict(options), "options")


def _robustness_options(options: Mapping[str, Any]) -> Any:
    from ...datasets.corruptions.models import CORRUPTIONS

    own, others = _split(options, {"corruptions": Sequence[str]})
    refer(own.get("corruptions", ()), CORRUPTIONS, "corruptions")
    return _probe_options(others)


def _encoder(task: Task) -> Any:
    from ...hub.encoder_file import build_encoder, read_encoder_file

    task.leakage()
    return build_encoder(read_encoder_file(task.backbone))


def _probe(task: Task) -> list[Figure]:
    """Linear and kNN probe of the frozen backbone."""
    found = _probed(task, task.measure.options)
    names = {
        "linear": ("linear probe", _chosen(found)),
        "knn": ("kNN", f"k={found.protocol['options']['knn']}"),
    }
    return list(_figures({names[key]: (key, found.scores) for key in names if key in found.scores}))


def _probed(task: Task, given: Mapping[str, Any]) -> Any:
    from ...downstream.features import EncoderFeatures
    from ...downstream.probe import probe

    options = _probe_options({"place_size_m": task.evaluation.new_places_m, "seed": task.seed, **given})
    return probe(
        EncoderFeatures(_encoder(task)),
        task.index,
        task.train,
        task.evaluate,
        held_out_rows=task.held_out,
        options=options,
    )


def _chosen(found: Any) -> str:
    return " ".join(f"{key}={found.chosen[key]}" for key in ("weight_decay", "class_weights"))


def _robustness(task: Task) -> list[Figure]:
    """The linear probe, fitted on clean scans, on corrupted ones: all that the log allows, three levels."""
    from ...datasets.corruptions.corrupted_index import in_variant
    from ...datasets.corruptions.models import all_variants, lacks
    from ...downstream.evaluation import evaluate_heads

    options = {"knn": 0, "augmentation": None, "place_size_m": None, **task.measure.options}
    chosen = options.pop("corruptions", None)
    found = _probed(task, options)
    clean = Figure(f"robustness: {CLEAN}", _chosen(found), found.scores["linear"])
    figures = [clean]
    for variant in all_variants():
        if lacks(variant.corruption, task.index.card) or (chosen and variant.corruption not in chosen):
            continue
        index = in_variant(task.index, str(variant), task.evaluate)
        matrix = evaluate_heads(found.source, index, task.evaluate, {"x": found.head}, seed=task.seed)["x"]
        scores = matrix.summary(tuple(index.card.classes))
        figures.append(replace(clean, measure=f"robustness: {variant}", scores=scores, variant=str(variant)))
    return figures


def _figures(heads: Mapping[tuple[str, str], tuple[str, Mapping[str, Any]]]) -> Iterator[Figure]:
    from ...downstream.evaluation import NEW_PLACES

    for (measure, recipe), (key, scores) in heads.items():
        for suffix in ("", NEW_PLACES):
            if key + suffix in scores:
                yield Figure(measure, recipe, scores[key + suffix], suffix)


def _fine_tuning(task: Task) -> list[Figure]:
    """The whole network on a budget of labels, with the recipe that the held-out places chose."""
    return _tuned(task, "fine-tuning", {})


def _decoder_probe(task: Task) -> list[Figure]:
    """The encoder half frozen, the decoder half new and trained."""
    return _tuned(task, "decoder probe", _DECODER)


def _tuned(task: Task, name: str, fixed: Mapping[str, Any]) -> list[Figure]:
    from ...downstream.evaluation import evaluate_heads
    from ...downstream.finetuning import Checks, Recipe
    from ...downstream.places import seen_voxels

    encoder = _encoder(task)
    budget = task.measure.budgets[task.budget]
    options = dict(task.measure.options)
    shares = options.pop("checks", ())
    default = Recipe.of({**options, **fixed})
    recipe = _search(task, encoder, default) if task.measure.grid else default
    size = task.evaluation.new_places_m
    seen = None if size is None else seen_voxels(task.index, task.train, size)
    classes = tuple(task.index.card.classes)
    on_the_way: list[dict[str, Any]] = []

    def judge(source: Any, head: Any) -> None:
        found = evaluate_heads(source, task.index, task.evaluate, {"tuned": head}, seen=seen, seed=task.seed)
        on_the_way.append({key: matrix.summary(classes)["miou"] for key, matrix in found.items()})

    checks = Checks(shares, judge) if shares else None
    labelled, matrices = _tune(task, encoder, task.train, task.evaluate, budget, recipe, seen, checks)
    scores = {key: matrix.summary(classes) for key, matrix in matrices.items()}
    ways = [*on_the_way, {key: summary["miou"] for key, summary in scores.items()}]
    best = {key: max((way[key] for way in ways if way[key] is not None), default=None) for key in scores}
    return [
        replace(figure, labelled=labelled, best=best["tuned" + figure.log_suffix])
        for figure in _figures({(name, recipe.text()): ("tuned", scores)})
    ]


def _semi_supervised(task: Task) -> list[Figure]:
    """What training scans without labels add to the budget; every way takes the recipe that labels alone chose."""
    from ...downstream.evaluation import evaluate_heads
    from ...downstream.finetuning import Recipe
    from ...downstream.semi_supervised import WAYS

    options = dict(task.measure.options)
    most = options.pop("unlabelled", 60)
    encoder, default = _encoder(task), Recipe.of(options)
    recipe = _search(task, encoder, default) if task.measure.grid else default
    few = _few_labels(task, encoder, recipe, most)
    labelled = sum(_labelled_points(scan) for scan in few.labelled.values())
    found = []
    for way, run in WAYS.items():
        source, head = run(few)
        scores = evaluate_heads(source, task.index, task.evaluate, {way: head}, seed=task.seed)[way]
        summary = scores.summary(tuple(task.index.card.classes))
        found.append(Figure(f"semi-supervised: {way}", recipe.text(), summary, labelled=labelled))
        log.info("%s, %s: %.1f", task.backbone.stem, found[-1].measure, summary["miou"] or 0.0)
    return found


def _few_labels(task: Task, encoder: Any, recipe: Any, most: int) -> Any:
    """The scans of the budget, and at most ``most`` training scans beside them, in runs around the labelled ones."""
    from ...downstream.budgets import labelled_scans
    from ...downstream.semi_supervised import FewLabels

    budget = task.measure.budgets[task.budget]
    rows = budget.rows(task.index, task.train, seed=task.seed)
    scans = labelled_scans(task.index, rows, replace(budget, scans=None, percent=None), seed=task.seed)
    others = without(task.train, rows)
    others.sort(key=lambda row: min(abs(row - near) for near in rows))  # votes come from neighbours
    return FewLabels(
        encoder,
        task.index,
        dict(zip(rows, scans)),
        sorted(others[:most]),
        list(task.evaluate),
        recipe,
        task.seed,
        votes=budget.points is None,
    )


def _labelled_points(scan: Any) -> int:
    from ...datasets.frame import IGNORE_LABEL

    return int((scan.labels != IGNORE_LABEL).sum())


def _search(task: Task, encoder: Any, default: Any) -> Any:
    """The recipe that is best on the folds, each judged after learning from the other training places."""
    source = task.searched_budget
    found = dict(task.trials)

    def judge(recipe: Any) -> float:
        text = recipe.text()
        if text not in found:
            scores = _trial(task, encoder, recipe, task.measure.budgets[source])
            task.note_trial(text, scores)
            # as its row has it, which a search that goes on reads
            found[text] = round(scores["miou"] or 0.0, 2)
            log.info("%s, %s: %.1f on held-out places with %s", task.backbone.stem, source, found[text], text)
        return found[text]

    return SEARCHES[task.measure.search](default, task.measure.grid, judge)


def _trial(task: Task, encoder: Any, recipe: Any, budget: Any) -> dict[str, Any]:
    """Scores over the scans of all folds together: a place without, say, cars cannot judge how these are found."""
    total = None
    for fold in task.folds:
        fit = without(task.train, fold)
        share = budget.scaled(len(fit) / len(task.train))
        matrix = _tune(task, encoder, fit, fold, share, recipe, None)[1]["tuned"]
        if total is None:
            total = matrix
        else:
            total.merge(matrix)
    assert total is not None
    return total.summary(tuple(task.index.card.classes))


def _tune(
    task: Task,
    encoder: Any,
    train: Sequence[int],
    judge: Sequence[int],
    budget: Any,
    recipe: Any,
    seen: Any,
    checks: Any = None,
) -> tuple[int, dict[str, Any]]:
    """Number of labelled points learned from, and the matrices of the scans that judge."""
    from ...downstream.budgets import labelled_scans
    from ...downstream.evaluation import evaluate_heads
    from ...downstream.finetuning import fine_tune

    # a percentage of a large set is more than a run of these steps ever draws, or a machine holds
    most = None if budget.percent is None else recipe.head_steps + recipe.steps
    scans = labelled_scans(task.index, train, budget, seed=task.seed, most=most)
    classes = len(task.index.card.classes)
    source, head = fine_tune(encoder, scans, classes, recipe, seed=task.seed, checks=checks)
    matrices = evaluate_heads(source, task.index, judge, {"tuned": head}, seen=seen, seed=task.seed)
    return sum(_labelled_points(scan) for scan in scans), matrices


MEASURES = {
    "probe": Measure("linear probe", _probe, _probe_options, columns=("linear probe", "kNN")),
    "fine-tuning": Measure(
        "fine-tuning",
        _fine_tuning,
        partial(_recipe, checks=Sequence[float]),
        tunes=True,
        columns=("fine-tuning",),
    ),
    "decoder probe": Measure(
        "decoder probe",
        _decoder_probe,
        _decoder_recipe,
        tunes=True,
        fixed=_DECODER,
        columns=("decoder probe",),
    ),
    "robustness": Measure(f"robustness: {CLEAN}", _robustness, _robustness_options),
    "semi-supervised": Measure(
        "semi-supervised: labels alone", _semi_supervised, partial(_recipe, unlabelled=int), tunes=True
    ),
}
