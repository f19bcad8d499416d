"""The fast probes: how much do frozen features say about classes, with nothing but a linear map on top?

result = probe(EncoderFeatures(encoder), index, train_rows, eval_rows)
result.scores["linear"]["miou"], result.scores["linear, new places"]["miou"]
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from inspect import signature
from typing import Any

import torch

from ..datasets.selection import without
from ..errors import InputError, first_line
from ..lidar.augment import augment
from ..lidar.limits import Limits
from ..option_values import Range
from ..progress import LogLines, Stopwatch
from ..protocol import check_protocol, index_protocol
from ..together import together
from .evaluation import evaluate_heads
from .features import (
    EncoderFeatures,
    FeatureSample,
    FeatureSource,
    Scan,
    read_scan,
    sample_features,
)
from .heads import CLASS_WEIGHTS, Head, LinearProbe, fit_knn_probe, fit_linear_probe
from .labelled import require_labelled_points
from .metrics import ConfusionMatrix, class_predictions
from .places import seen_voxels
from .recalibration import recalibrate_batch_norm

_log = logging.getLogger(__name__)

# what a number of the options may be; others fit nothing, or something else than they say
_RANGES = {
    **dict.fromkeys(("max_points", "iterations", "knn_per_class", "knn_points"), Range(1, whole=True)),
    **dict.fromkeys(("recalibrate_frames", "knn", "seed"), Range(0, whole=True)),
    **{"balance": Range(0, 1), "weight_decays": Range(0), "place_size_m": Range(0, above=True)},
}
NOT_AUGMENTED = "linear, not augmented"  # the head that was fitted on scans as they are


@dataclass(frozen=True, slots=True)
class ProbeOptions:
    """Settings of ``probe``; every one is part of the result.

    max_points, balance: training points, see ``sample_features``. augmentation: options of ``lidar.augment.augment``
    for the clouds that the head is fitted on, published turns, flips and scales by default; None fits on scans as
    they are. Evaluation and choice of options always see scans as they are. weight_decays, class_weights: grid from
    which the held-out training frames choose. iterations: of L-BFGS. refit: fit again with the held-out frames after
    choosing. recalibrate_frames: unlabelled training frames for batch-norm statistics, 0 leaves them as trained.
    knn: neighbours, 0 leaves that probe out; knn_per_class: size of its bank; knn_points: points judged a
    frame. place_size_m: voxel that tells new places from seen ones, None where train and evaluation frames share
    no world. limits: region; evaluation points outside count as errors. seed: of all draws.
    """

    max_points: int = 80_000
    balance: float = 0.0
    augmentation: Mapping[str, Any] | None = field(default_factory=dict)
    weight_decays: tuple[float, ...] = (1e-2, 1e-3, 1e-4)
    class_weights: tuple[str, ...] = CLASS_WEIGHTS
    iterations: int = 80
    refit: bool = True
    recalibrate_frames: int = 20
    knn: int = 15
    knn_per_class: int = 1500
    knn_points: int = 2000
    place_size_m: float | None = 0.5
    limits: Limits | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, allowed in _RANGES.items():
            value = getattr(self, name)
            numbers = value if isinstance(value, Sequence) else () if value is None else (value,)
            if wrong := [number for number in numbers if not allowed.holds(number)]:
                raise InputError(f"options: {name} is {wrong[0]!r}; give {allowed}")
        for name in ("weight_decays", "class_weights"):
            if not getattr(self, name):
                raise InputError(f"options: {name} is empty; give one at least")
        if unknown := [name for name in self.class_weights if name not in CLASS_WEIGHTS]:
            raise InputError(
                f"options: class_weights has {unknown[0]!r}; choose of {', '.join(CLASS_WEIGHTS)}"
            )
        _try_augmentation(self.augmentation or {})


def _try_augmentation(options: Mapping[str, Any]) -> None:
    """Refuse what no cloud can be augmented with: this is read before backbones are trained for the probe."""
    try:
        augment(torch.zeros(0, 4), torch.Generator(), **options)
    except (TypeError, ValueError, IndexError) as error:
        takes = [name for name, p in signature(augment).parameters.items() if p.kind is p.KEYWORD_ONLY]
        raise InputError(
            f"options: augmentation is {dict(options)}, which cannot be used ({first_line(error)}); give null, or "
            f"options of {', '.join(takes)}"
        ) from error


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a probe found.

    scores: name of the head ("linear", "linear, not augmented", "knn", each also with ", new places") ->
    ``ConfusionMatrix.summary``. chosen: weight decay and class weights of "linear", with their mIoU on the held-out
    frames. tried: all combinations. protocol: what has to agree for two results to be comparable. seconds: by stage.
    head: the fitted linear probe.
    """

    scores: dict[str, dict[str, Any]]
    chosen: dict[str, Any]
    tried: list[dict[str, Any]]
    protocol: dict[str, Any]
    seconds: dict[str, float]
    head: LinearProbe = field(repr=False)
    source: FeatureSource = field(repr=False)

    def record(self) -> dict[str, Any]:
        """All of it but the tensors, as plain types for JSON."""
        kept = [f.name for f in fields(self) if f.name not in ("head", "source")]
        return {name: getattr(self, name) for name in kept}


def probe(
    source: FeatureSource,
    index: Any,
    train_rows: Sequence[int],
    eval_rows: Sequence[int],
    *,
    held_out_rows: Sequence[int] | None = None,
    options: ProbeOptions | None = None,
    protocol: Mapping[str, Any] | None = None,
) -> ProbeResult:
    """Fit a linear and a kNN probe on training frames, evaluate both on all points of the evaluation frames.

    As in the published protocols (SLidR, SuperFlow), the linear head is fitted on clouds that are turned, mirrored
    and scaled. Where a log always drives along the same street, directions are a clue to classes that even random
    weights pass on; a head fitted on scans as they are is scored beside it and shows how much of that there is.

    Args:
        source: ``EncoderFeatures`` or ``RawCoordinates``. An encoder is not changed; with recalibrated statistics a
            copy of it is used (``ProbeResult.source``).
        index: a ``LogIndex``.
        train_rows, eval_rows: rows of labelled frames; they may not overlap.
        held_out_rows: the part of ``train_rows`` that chooses the options; the last quarter when None, since
            frames next to one another are nearly the same frame.
        protocol: further fields of the record (pretraining, teacher, seed of the run, ...).

    Raises:
        InputError: no frame to fit on, to choose by or to evaluate has a labelled point, of the first two none within
            the limits; or ``protocol`` takes a field away that results are compared by (its value is None).
        ValueError: training and evaluation frames overlap, or no frame is left to fit on.
    """
    options = options or ProbeOptions()
    train_rows, eval_rows = [int(row) for row in train_rows], [int(row) for row in eval_rows]
    fit_rows, held_out_rows = _parts(index, train_rows, eval_rows, held_out_rows)
    # with any choice of the grid, to refuse before the work and not after it
    any_choice = {"weight_decay": 0.0, "class_weights": "none"}
    check_protocol(_protocol(source, index, train_rows, eval_rows, any_choice, options, protocol or {}))

    watch = Stopwatch()
    source = _recalibrated(source, index, train_rows, options)
    watch.lap("recalibrate")
    samples = _samples(source, index, train_rows, options)
    watch.lap("extract")
    classes = tuple(index.card.classes)
    head, tried, heads = _heads(*samples, fit_rows, held_out_rows, classes, options)
    watch.lap("fit")
    size_m = options.place_size_m
    seen = None if size_m is None else seen_voxels(index, train_rows, size_m)
    matrices = evaluate_heads(
        source, index, eval_rows, heads, seen=seen, limits=options.limits, seed=options.seed
    )
    watch.lap("evaluate")
    return ProbeResult(
        scores={name: matrix.summary(classes) for name, matrix in matrices.items()},
        chosen=(best := _best(tried)),
        tried=tried,
        protocol=_protocol(source, index, train_rows, eval_rows, best, options, protocol or {}),
        seconds=watch.wall,
        head=head,
        source=source,
    )


def _parts(
    index: Any, train_rows: list[int], eval_rows: list[int], held_out_rows: Sequence[int] | None
) -> tuple[list[int], list[int]]:
    """Rows to fit on and held-out rows, after all that `probe` refuses of rows."""
    fit_rows, held_out = split_held_out(train_rows, held_out_rows)
    if set(train_rows) & set(eval_rows):
        raise ValueError(f"row {min(set(train_rows) & set(eval_rows))} is a training and an evaluation frame")
    if not fit_rows or not set(held_out) <= set(train_rows):
        raise ValueError("held_out_rows must be a part of train_rows and leave frames to fit on")
    for rows, purpose in ((fit_rows, "training"), (held_out, "held-out"), (eval_rows, "evaluation")):
        require_labelled_points(index, rows, purpose)
    return fit_rows, held_out


def _samples(
    source: FeatureSource, index: Any, train_rows: list[int], options: ProbeOptions
) -> tuple[FeatureSample, FeatureSample]:
    """Training points of scans as they are, and of augmented ones, which are the same where nothing is."""
    draw = functools.partial(
        sample_features,
        source,
        index,
        train_rows,
        max_points=options.max_points,
        balance=options.balance,
        limits=options.limits,
        seed=options.seed,
    )
    if options.augmentation is None:
        return (sample := draw()), sample
    sample, augmented = together(draw, functools.partial(draw, augmentation=options.augmentation))
    return sample, augmented


def _heads(
    sample: FeatureSample,
    augmented: FeatureSample,
    fit_rows: Sequence[int],
    held_out_rows: Sequence[int],
    classes: Sequence[str],
    options: ProbeOptions,
) -> tuple[LinearProbe, list[dict[str, Any]], dict[str, Head]]:
    """The linear probe, the options that were tried for it, and all heads by name."""
    held_out = sample.of_rows(held_out_rows)
    for part, rows, what in (
        (sample.of_rows(fit_rows), fit_rows, "training"),
        (held_out, held_out_rows, "held-out"),
    ):
        if not len(part.labels):  # of which nothing could be fitted, or chosen
            raise InputError(
                f"none of the {len(rows)} {what} frames has a labelled point within the limits; choose other frames"
            )
    samples = [augmented] if options.augmentation is None else [augmented, sample]
    fits = [functools.partial(_fit, of, fit_rows, held_out, classes, options) for of in samples]
    (head, tried), *plain = together(*fits)
    heads: dict[str, Head] = {"linear": head}
    if plain:
        heads[NOT_AUGMENTED] = plain[0][0]
    if options.knn:
        heads["knn"] = _fit_knn(sample, classes, options)
    return head, tried, heads


def split_held_out(
    train_rows: Sequence[int], held_out_rows: Sequence[int] | None = None
) -> tuple[list[int], list[int]]:
    """Rows to fit on and rows that choose the options: the last quarter of ``train_rows`` when they are not given."""
    held_out = list(train_rows[-max(1, len(train_rows) // 4) :] if held_out_rows is None else held_out_rows)
    return without(train_rows, held_out), held_out


def _fit(
    sample: FeatureSample,
    fit_rows: Sequence[int],
    held_out: FeatureSample,
    classes: Sequence[str],
    options: ProbeOptions,
) -> tuple[LinearProbe, list[dict[str, Any]]]:
    """The linear probe of ``sample`` with the options that ``held_out`` chose, and all that were tried."""
    head, tried = choose_linear_probe(sample.of_rows(fit_rows), held_out, classes, options)
    if options.refit:
        chosen = _fit_options(_best(tried), options)
        head = fit_linear_probe(sample.features, sample.labels, len(classes), start=head, **chosen)
    return head, tried


def _fit_knn(sample: FeatureSample, classes: Sequence[str], options: ProbeOptions) -> Head:
    return fit_knn_probe(
        sample.features,
        sample.labels,
        len(classes),
        k=options.knn,
        per_class=options.knn_per_class,
        max_points=options.knn_points,
        seed=options.seed,
    )


def _best(tried: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return max(tried, key=lambda trial: trial["miou"])


def choose_linear_probe(
    fit: FeatureSample, held_out: FeatureSample, classes: Sequence[str], options: ProbeOptions
) -> tuple[LinearProbe, list[dict[str, Any]]]:
    """The probe that is best on ``held_out``, and the mIoU of every combination of the grid.

    Weight decay descends within the grid so that each fit begins where a smoother one ended.
    """
    tried: list[dict[str, Any]] = []
    best: tuple[float, LinearProbe] | None = None
    trials = len(options.class_weights) * len(options.weight_decays)
    progress, what = LogLines(_log, quiet=True), "options of the linear probe"
    progress(what, 0, trials)
    for weights in options.class_weights:
        head = None
        for decay in sorted(options.weight_decays, reverse=True):
            trial = {"weight_decay": decay, "class_weights": weights}
            head = fit_linear_probe(
                fit.features, fit.labels, len(classes), start=head, **_fit_options(trial, options)
            )
            matrix = ConfusionMatrix(len(classes))
            matrix.update(class_predictions(head.probabilities(held_out.features)), held_out.labels)
            miou = matrix.summary(classes)["miou"] or 0.0
            tried.append({**trial, "miou": miou})
            progress(what, len(tried), trials)
            if best is None or miou > best[0]:
                best = (miou, head)
    if best is None:
        raise ValueError("weight_decays and class_weights must each name at least one value")
    return best[1], tried


def _recalibrated(
    source: FeatureSource, index: Any, train_rows: Sequence[int], options: ProbeOptions
) -> FeatureSource:
    if not options.recalibrate_frames or not isinstance(source, EncoderFeatures):
        return source
    step = max(1, len(train_rows) // options.recalibrate_frames)
    rows = train_rows[::step][: options.recalibrate_frames]
    clouds = (read_scan(index, row, labels=False) for row in rows)
    if source.chunk_points is not None:
        clouds = (_thinned(scan, source.chunk_points, options.seed) for scan in clouds)
    encoder = recalibrate_batch_norm(source.encoder, clouds)
    return EncoderFeatures(encoder, chunk_points=source.chunk_points, seed=source.seed)


def _thinned(scan: Scan, count: int, seed: int) -> Scan:
    kept = (
        torch.randperm(len(scan.points), generator=torch.Generator().manual_seed(seed))[:count].sort().values
    )
    return scan.at(kept)


def _fit_options(trial: Mapping[str, Any], options: ProbeOptions) -> dict[str, Any]:
    return {
        "weight_decay": trial["weight_decay"],
        "class_weights": trial["class_weights"],
        "iterations": options.iterations,
    }


def _protocol(
    source: FeatureSource,
    index: Any,
    train_rows: Sequence[int],
    eval_rows: Sequence[int],
    best: Mapping[str, Any],
    options: ProbeOptions,
    given: Mapping[str, Any],
) -> dict[str, Any]:
    settings = asdict(options)
    settings["limits"] = None if options.limits is None else options.limits.record()
    recalibrated = options.recalibrate_frames and isinstance(source, EncoderFeatures)
    return {
        **index_protocol(index, train_rows, eval_rows),
        "pretraining": "none",
        "teacher": "none",
        "feature_channels": source.channels,
        "head": "linear, standardised features",
        "optimiser": "L-BFGS",
        "learning_rate": "line search",
        "augmentation": (
            "none" if options.augmentation is None else f"turns, flips, scale {dict(options.augmentation)}"
        ),
        "losses": f"cross-entropy, class weights {best['class_weights']}, weight decay {best['weight_decay']:g}",
        "batch_norm": (
            f"frozen, recalibrated on {options.recalibrate_frames} unlabelled training frames"
            if recalibrated
            else "frozen, as trained"
        ),
        "checkpoint": "last",
        "evaluated_on": "points",
        "seed": options.seed,
        "input_points": getattr(source, "chunk_points", None) or "all",
        "options": settings,
        **given,
    }
