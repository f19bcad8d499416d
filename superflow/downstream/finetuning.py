"""Fine-tuning in memory: a handful of labelled scans, a few hundred steps, minutes of one core.

The network, schedule and size of a step of `superflow train downstream/finetune_small.py`; scans stay in memory, and
what a run depends on is one `Recipe`, so that recipes can be searched.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, get_type_hints

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..clips.batch import Batch
from ..clips.sources import named_in
from ..datasets.frame import IGNORE_LABEL
from ..errors import InputError
from ..lidar.augment import augment
from ..lidar.encoder import LidarEncoder
from ..lidar.minkunet import use_statistics
from ..losses import inverse_root_weights
from ..option_values import Range
from .features import EncoderFeatures, Scan, as_trained
from .heads import LinearProbe
from .labelled import few_labelled
from .recalibration import recalibrate_batch_norm
from .segmentor import Segmentor
from .taking_over import Keep, is_encoder_half, rescale, reset_statistics, stage_of, stages, take_over

_CHOICES = {
    "keep": ("all", "encoder", "nothing"),
    "frozen": ("nothing", "encoder"),
    "batch_norm": ("kept", "reset", "estimated"),
}

# what a number of a recipe may be; others train the other way, or not at all
RANGES = {
    **dict.fromkeys(("rate", "head_rate", "layer_decay"), Range(0, above=True)),
    **dict.fromkeys(("lovasz", "weight_decay"), Range(0)),
    **{"steps": Range(2, whole=True), "head_steps": Range(0, whole=True), "points": Range(1, whole=True)},
    **{"averaging": Range(0, 0.999999), "warm": Range(0, 1)},
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is fine-tuned; every field is part of the result.

    rate, head_rate: peak learning rates of the body and of the linear head. steps: of the whole network, one scan
    each. head_steps: before them, with the body as it came. layer_decay: factor on the rate for every stage further
    from the head. averaging: decay of the moving average of the weights that is judged, 0 for the last weights.
    keep: which part of the backbone is taken over. batch_norm: its running statistics are kept, reset, or estimated
    anew on the training scans. rescaled: see `taking_over.rescale`. frozen: which part never learns. points: of a
    scan and step, None for all; where few points have labels, all of these are among them. lovasz: weight of that
    loss beside a cross-entropy in which all classes count alike, published with 2; 0 is the cross-entropy alone, its
    classes weighted by count^-1/2. warm: share of the steps in which the rate rises.
    """

    rate: float = 6e-3
    head_rate: float = 6e-3
    steps: int = 300
    head_steps: int = 0
    layer_decay: float = 1.0
    averaging: float = 0.0
    keep: Keep = "all"
    batch_norm: str = "kept"
    rescaled: bool = False
    frozen: str = "nothing"
    points: int | None = 60_000
    lovasz: float = 0.0
    weight_decay: float = 0.01
    warm: float = 0.2

    def __post_init__(self) -> None:
        types = get_type_hints(type(self))
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name in _CHOICES and value not in _CHOICES[f.name]:
                raise InputError(
                    f"recipe: {f.name} is {value!r}; choose one of {', '.join(_CHOICES[f.name])}"
                )
            if types[f.name] is float and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise InputError(f"recipe: {f.name} is {value!r}; give a number, with a point: 1.0e-3")
            if types[f.name] is bool and not isinstance(value, bool):
                raise InputError(f"recipe: {f.name} is {value!r}; give true or false")
            if types[f.name] is int and (isinstance(value, bool) or not isinstance(value, int)):
                raise InputError(f"recipe: {f.name} is {value!r}; give a whole number")
            if f.name in RANGES and value is not None and not RANGES[f.name].holds(value):
                raise InputError(f"recipe: {f.name} is {value!r}; give {RANGES[f.name]}")

    @classmethod
    def of(cls, options: dict[str, Any]) -> Recipe:
        """A recipe from the keys of a plan.

        Raises:
            InputError: a key or a value that no recipe has.
        """
        known = {f.name for f in fields(cls)}
        if unknown := [key for key in options if key not in known]:
            raise InputError(f"recipe: {unknown[0]!r} is unknown; the keys are {', '.join(sorted(known))}")
        return cls(**options)

    def text(self) -> str:
        """All fields as ``name=value``, for a table."""
        return " ".join(f"{name}={value}" for name, value in asdict(self).items())


@dataclass(frozen=True, slots=True)
class MeanTeacher:
    """Scans without labels that the moving average of the weights names while it learns (Tarvainen, Valpola 2017).

    Once the rate has risen, every other step is one of ``scans``: the average predicts its points as they are, the
    model learns the classes that are sure, ``threshold``, from the points turned, mirrored and scaled. decay: of the
    average, which is what is judged.
    """

    scans: Sequence[Scan]
    decay: float = 0.99
    threshold: float = 0.9

    def __post_init__(self) -> None:
        # at 0 there is no average, and nothing is unsure
        if not (0 < self.decay < 1 and 0 < self.threshold <= 1):
            raise InputError(
                f"mean teacher: decay {self.decay} and threshold {self.threshold} must lie above 0, the decay below 1, "
                "the threshold at 1 at most"
            )


@dataclass(frozen=True, slots=True)
class Checks:
    """Judgements on the way, which change nothing. judge: gets a copy after each of ``shares`` of the steps."""

    shares: Sequence[float]
    judge: Callable[[EncoderFeatures, LinearProbe], None]

    def steps(self, total: int) -> set[int]:
        """After which of ``total`` steps."""
        return {max(1, round(share * total)) for share in self.shares} - {total}


def fine_tune(
    encoder: LidarEncoder,
    scans: Sequence[Scan],
    num_classes: int,
    recipe: Recipe,
    *,
    seed: int,
    mean_teacher: MeanTeacher | None = None,
    checks: Checks | None = None,
) -> tuple[EncoderFeatures, LinearProbe]:
    """Train a copy of ``encoder`` and a new linear head on labelled scans.

    Args:
        scans: whole, intensity in [0, 1]; points without a label give context and no loss.
        num_classes: C.
        seed: of the head, of fresh weights, of the order of the scans, of their turns and points.
        mean_teacher: further scans, without labels, that take part.
        checks: judgements before the end.

    Returns:
        The network's features, in evaluation mode, and its head, as `evaluation.evaluate_heads` takes them.

    Raises:
        InputError: no scan has a labelled point, or one has points that cannot be voxelised.
    """
    counts = sum(torch.bincount(scan.labels, minlength=256)[:num_classes] for scan in scans)
    if not isinstance(counts, Tensor) or not int(counts.sum()):
        raise InputError(f"none of the {len(scans)} scans has a labelled point; choose labelled scans")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Segmentor(
            _prepared(encoder, scans, recipe, seed),
            num_classes,
            loss_on="voxels",
            class_weights=None if recipe.lovasz else inverse_root_weights(counts),
            lovasz_weight=recipe.lovasz,
        )
    draws = _Draws(scans, model.encoder, recipe.points, seed)
    _train_head(model, draws, recipe)
    return _features_and_head(_train_all(model, draws, recipe, mean_teacher, seed, checks))


def _features_and_head(judged: Segmentor) -> tuple[EncoderFeatures, LinearProbe]:
    head = LinearProbe(judged.head.weight.detach().T.clone(), judged.head.bias.detach().clone())
    return EncoderFeatures(judged.encoder.eval()), head


def _prepared(encoder: LidarEncoder, scans: Sequence[Scan], recipe: Recipe, seed: int) -> LidarEncoder:
    encoder = take_over(encoder, recipe.keep, seed=seed)
    if recipe.rescaled:
        rescale(encoder)
    if recipe.batch_norm == "reset":
        reset_statistics(encoder)
    if recipe.batch_norm == "estimated":
        encoder = recalibrate_batch_norm(encoder, scans)
    if recipe.frozen == "encoder":
        for name, parameter in encoder.named_parameters():
            parameter.requires_grad_(not is_encoder_half(encoder, name))
    return encoder


def _train_head(model: Segmentor, draws: _Draws, recipe: Recipe) -> None:
    """The head alone, on features normalised by the batch, as the steps of the whole network will see them."""
    if not recipe.head_steps:
        return
    model.train()
    optimiser = torch.optim.AdamW(model.head.parameters(), recipe.head_rate, weight_decay=recipe.weight_decay)
    learns = {name: p.requires_grad for name, p in model.encoder.named_parameters()}
    model.encoder.requires_grad_(False)
    with use_statistics(model.encoder, "batch"):
        for _ in range(recipe.head_steps):
            _step(model, draws.next(), optimiser)
    for name, parameter in model.encoder.named_parameters():
        parameter.requires_grad_(learns[name])


def _train_all(
    model: Segmentor,
    draws: _Draws,
    recipe: Recipe,
    mean_teacher: MeanTeacher | None,
    seed: int,
    checks: Checks | None,
) -> Segmentor:
    """One cycle over all that is not frozen; the model whose weights are to be judged."""
    groups = rate_groups(model, recipe)
    optimiser = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)
    cycle = _one_cycle(optimiser, recipe)
    average, taught = None, None
    decay = recipe.averaging if mean_teacher is None else mean_teacher.decay
    if decay:
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    if mean_teacher is not None and average is not None:
        taught = _TaughtDraws(mean_teacher, average, model.encoder, recipe.points, seed)
    model.train()
    if recipe.frozen == "encoder":
        _freeze_statistics(model.encoder)
    judged: Any = model if average is None else average.module
    for step in range(recipe.steps):
        batch = taught.next() if taught and step % 2 and step >= recipe.warm * recipe.steps else None
        _step(model, batch or draws.next(), optimiser)
        if step + 1 < recipe.steps:  # torch divides by the length of a fall that there may not be
            cycle.step()
        if average is not None:
            average.update_parameters(model)
        if checks is not None and step + 1 in checks.steps(recipe.steps):
            checks.judge(*_features_and_head(copy.deepcopy(judged)))
    assert isinstance(judged, Segmentor)
    return judged


def _one_cycle(optimiser: torch.optim.Optimizer, recipe: Recipe) -> torch.optim.lr_scheduler.OneCycleLR:
    """The rise and fall of all rates over the steps of a recipe."""
    # torch divides by the length of the rise: where it is one step, by hardly more than nothing
    rise = recipe.warm * recipe.steps - 1
    return torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        [group["lr"] for group in optimiser.param_groups],
        total_steps=recipe.steps,
        pct_start=recipe.warm if rise else recipe.warm + 1e-9,
        cycle_momentum=False,
    )


def rate_groups(model: Segmentor, recipe: Recipe) -> list[dict[str, Any]]:
    """Groups for an optimiser: the head, and the trainable parameters of each stage of the body with their rate."""
    groups: list[dict[str, Any]] = [{"params": list(model.head.parameters()), "lr": recipe.head_rate}]
    top = stages(model.encoder)
    for stage in range(top + 1):
        own = [p for n, p in model.encoder.named_parameters() if stage_of(n) == stage and p.requires_grad]
        if own:
            groups.append({"params": own, "lr": recipe.rate * recipe.layer_decay ** (top - stage)})
    return groups


def _freeze_statistics(encoder: LidarEncoder) -> None:
    for name, module in encoder.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and is_encoder_half(encoder, f"{name}."):
            module.eval()


def _step(model: Segmentor, batch: Batch, optimiser: torch.optim.Optimizer) -> None:
    with named_in(batch):
        loss = model.loss(batch)["loss"]
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], 5.0)
    optimiser.step()


class _Draws:
    """Scans in random order, all once before one comes again; each thinned, turned, mirrored and scaled anew."""

    def __init__(self, scans: Sequence[Scan], encoder: LidarEncoder, points: int | None, seed: int) -> None:
        self._scans = [scan for scan in scans if bool((scan.labels != IGNORE_LABEL).any())]
        self._encoder = encoder
        self._points = points
        self._generator = torch.Generator().manual_seed(seed)
        self._order: list[int] = []

    def next(self) -> Batch:
        """The next scan as a batch of one cloud."""
        return self._augmented(self._drawn())

    def _drawn(self) -> Scan:
        if not self._order:
            self._order = torch.randperm(len(self._scans), generator=self._generator).tolist()
        scan = self._scans[self._order.pop()]
        kept = thinned(scan.labels, self._points, self._generator)
        return replace(scan, points=scan.points[kept], labels=scan.labels[kept])

    def _augmented(self, scan: Scan) -> Batch:
        return self._batch(replace(scan, points=augment(scan.points, self._generator)[0]))

    def _batch(self, scan: Scan) -> Batch:
        points = as_trained(self._encoder, scan.points)
        return Batch.of_cloud(points, labels=scan.labels, sources=((scan.source,),))


class _TaughtDraws(_Draws):
    """Scans whose labels are the sure classes of the average; those with none of these are left out."""

    def __init__(
        self,
        taught: MeanTeacher,
        average: AveragedModel,
        encoder: LidarEncoder,
        points: int | None,
        seed: int,
    ) -> None:
        super().__init__((), encoder, points, seed + 1)
        self._scans = list(taught.scans)
        self._threshold = taught.threshold
        self._average = average

    def next(self) -> Batch | None:  # type: ignore[override]
        """The next scan, named by the average as it is now; None where it is sure of nothing."""
        scan = self._drawn()
        teacher = self._average.module
        assert isinstance(teacher, Segmentor)
        sure, best = teacher.predict(self._batch(scan)).max(dim=1)
        labels = torch.where(sure >= self._threshold, best, IGNORE_LABEL)
        if not bool((labels != IGNORE_LABEL).any()):
            return None
        return self._augmented(replace(scan, labels=labels))


def thinned(labels: Tensor, count: int | None, generator: torch.Generator) -> Tensor:
    """Ascending rows of at most ``count`` points; labelled ones come first where they are at most half of these."""
    if count is None or count >= len(labels):
        return torch.arange(len(labels))
    keys = torch.rand(len(labels), generator=generator)
    if (few := few_labelled(labels, count)) is not None:
        keys[few] = -1.0
    return keys.argsort()[:count].sort().values
