"""How a model learns to do with fewer tokens, in the two stages of InternVL 3.5 (ViCO, arXiv 2508.18265).

``make_consistent``: answers from short tokens shall be those that a frozen copy gives from full ones. ``train_router``:
all but the router stays; it learns which tiles' short tokens change an answer more than the median of late does.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ...errors import InputError
from ...progress import Progress, silent, track
from .processor import LidarProcessor
from .sft import IGNORED, Example, Recipe, Stepper, batches, collate, encode


@dataclass(frozen=True, slots=True)
class RouterRecipe:
    """How a router learns. A step takes ``batch`` questions and one tile of each scan of them.

    window: ratios of the past of which ``percentile`` is the border between the two labels; 0.5 balances them.
    epsilon: added to both losses of a ratio, since that of the full tokens may be all but zero.
    """

    steps: int = 200
    batch: int = 32
    learning_rate: float = 3e-3
    window: int = 2048
    percentile: float = 0.5
    epsilon: float = 1e-3


def start_short(model: Any) -> None:
    """Let the second projector say at first what the first one says of the mean of the cells that it merges.

    A copy of a projector over fewer cells: of each cell of the coarse square it takes the weights of the cell of the
    fine square that lies there, over the number of fine squares.
    """
    full, short = model.model.connector, model.model.short_connector
    if short is None:
        raise InputError("this model has no second projector; build it with short_merge=...")
    ratio = short.merge // full.merge
    if short.merge % full.merge:
        raise InputError(
            f"short_merge {short.merge} is no multiple of merge {full.merge}, so the second projector cannot begin as "
            "the first; choose a multiple, or train from its own start"
        )

    def spread(weight: Tensor) -> Tensor:
        """(..., merge * merge * C) of fine squares, repeated over a coarse one."""
        cells = weight.reshape(*weight.shape[:-1], full.merge, full.merge, -1)
        return cells.tile(ratio, ratio, 1).flatten(-3)

    with torch.no_grad():
        short.layer_norm.weight.copy_(spread(full.layer_norm.weight))
        short.layer_norm.bias.copy_(spread(full.layer_norm.bias))
        short.linear_1.weight.copy_(spread(full.linear_1.weight) / ratio**2)
        short.linear_1.bias.copy_(full.linear_1.bias)
        short.linear_2.load_state_dict(full.linear_2.state_dict())


def answer_divergence(reference: Tensor, reference_labels: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """(B,) mean over the answer's tokens of KL(reference || model) of the next token.

    Args:
        reference, logits: (B, L, V), maybe of different L: prompts differ in their tokens of scans, answers do not.
        reference_labels, labels: (B, L), ``IGNORED`` beside the answer.
    """
    rows = []
    for i in range(len(labels)):
        ours, theirs = labels[i, 1:] != IGNORED, reference_labels[i, 1:] != IGNORED
        wanted = F.log_softmax(reference[i, :-1][theirs].float(), -1)
        found = F.log_softmax(logits[i, :-1][ours].float(), -1)
        rows.append(F.kl_div(found, wanted, log_target=True, reduction="none").sum(-1).mean())
    return torch.stack(rows)


class Prompts:
    """Batches of examples whose tiles are kept or not as they are told; each row is encoded once for each length.

    Args:
        device: of the model, to which batches are brought.

    Raises:
        InputError: an example has no scan.
    """

    def __init__(
        self, processor: LidarProcessor, examples: Sequence[Example], device: torch.device | str = "cpu"
    ) -> None:
        if not examples or any(each.scan is None for each in examples):
            raise InputError("tokens of scans are learned from questions with a scan each; give some")
        self.processor, self.examples, self.device = processor, examples, device
        self._encoded: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def batch(self, rows: Sequence[int], kept: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Inputs of the model and labels (B, L) of examples ``rows``; kept: (B, tiles) bool."""
        before = self.processor.route
        try:
            encoded = [self._encode(i, own) for i, own in zip(rows, kept)]
            waiting = iter(kept)
            self.processor.route = lambda planes: next(waiting)
            batch = collate(self.processor, [self.examples[i] for i in rows], encoded)
        finally:
            self.processor.route = before
        batch = {name: value.to(self.device) for name, value in batch.items()}
        labels = batch.pop("labels")
        return batch, labels

    def _encode(self, row: int, kept: Tensor) -> tuple[Tensor, Tensor]:
        key = row, int(kept.sum())
        if key not in self._encoded:
            self.processor.route = lambda planes: kept
            self._encoded[key] = encode(self.processor, self.examples[row])
        return self._encoded[key]


def make_consistent(
    model: Any,
    processor: LidarProcessor,
    examples: Sequence[Example],
    recipe: Recipe,
    *,
    generator: torch.Generator,
    progress: Progress = silent,
) -> list[float]:
    """First stage, in place: whole scans at full or at short tokens, by a coin; returns the divergence of each step.

    The reference is the model as it comes, and always sees full tokens. The scans are planes.

    Raises:
        InputError: the model has no second projector, or there is nothing to learn from.
    """
    if model.model.short_connector is None:
        raise InputError("this model has no second projector; build it with short_merge=...")
    reference = copy.deepcopy(model).eval().requires_grad_(False)
    tiles = model.config.tower_config.bev.tiles
    parameters = [p for name, p in model.named_parameters() if p.requires_grad and ".router." not in name]
    step_on, losses = Stepper(parameters, recipe), []
    prompts = Prompts(processor, examples, parameters[0].device)
    model.train()
    drawn = islice(batches(len(examples), recipe.batch, generator), recipe.steps)
    for rows in track(drawn, "making answers consistent", progress, total=recipe.steps):
        short = bool(torch.rand((), generator=generator) < 0.5)
        kept = torch.ones(len(rows), tiles, dtype=torch.bool)
        full_batch, full_labels = prompts.batch(rows, kept)
        with torch.no_grad():
            wanted = reference(**full_batch, use_cache=False).logits
        batch, labels = prompts.batch(rows, ~kept) if short else (full_batch, full_labels)
        found = model(**batch, use_cache=False).logits
        loss = answer_divergence(wanted, full_labels, found, labels).mean()
        step_on(loss)
        losses.append(float(loss.detach()))
    model.eval()
    return losses


class SlidingBorder:
    """Labels of a stream of ratios: 1 from the percentile of those that came last, the new ones among them, on."""

    def __init__(self, window: int, percentile: float) -> None:
        self._past: deque[float] = deque(maxlen=window)
        self._percentile = percentile

    def labels(self, ratios: Tensor) -> Tensor:
        """(N,) 0 or 1 of ratios (N,)."""
        self._past.extend(ratios.tolist())
        border = torch.quantile(torch.tensor(list(self._past)), self._percentile)
        return (ratios >= border).float()


@torch.no_grad()
def loss_ratios(
    model: Any, reference: Any, prompts: Prompts, rows: Sequence[int], tile: Tensor, *, epsilon: float
) -> Tensor:
    """(B,) divergence of the answers with tile[i] of scan i short, over that with all tiles full.

    Args:
        reference: the model before it was made consistent, on full tokens. tile: (B,) int64.
    """
    kept = torch.ones(len(rows), model.config.tower_config.bev.tiles, dtype=torch.bool)
    batch, labels = prompts.batch(rows, kept)
    wanted = reference(**batch, use_cache=False).logits
    full = answer_divergence(wanted, labels, model(**batch, use_cache=False).logits, labels)
    kept[torch.arange(len(rows)), tile] = False
    short_batch, short_labels = prompts.batch(rows, kept)
    short = answer_divergence(wanted, labels, model(**short_batch, use_cache=False).logits, short_labels)
    return (short + epsilon) / (full + epsilon)


def train_router(
    model: Any,
    reference: Any,
    processor: LidarProcessor,
    examples: Sequence[Example],
    recipe: RouterRecipe = RouterRecipe(),
    *,
    generator: torch.Generator,
    progress: Progress = silent,
) -> list[float]:
    """Second stage: the router alone, in place; returns its cross-entropy of each step.

    Args:
        reference: as of ``loss_ratios``.

    Raises:
        InputError: the model has no router, or there is nothing to learn from.
    """
    router = model.model.router
    if router is None:
        raise InputError("this model has no router; build it with short_merge=...")
    tiles = model.config.tower_config.bev.tiles
    optimizer = torch.optim.AdamW(router.parameters(), lr=recipe.learning_rate, weight_decay=0.01)
    border, losses = SlidingBorder(recipe.window, recipe.percentile), []
    prompts = Prompts(processor, examples, next(router.parameters()).device)
    model.eval()
    drawn = islice(batches(len(examples), recipe.batch, generator), recipe.steps)
    for rows in track(drawn, "training the router", progress, total=recipe.steps):
        tile = torch.randint(tiles, (len(rows),), generator=generator)
        labels = border.labels(loss_ratios(model, reference, prompts, rows, tile, epsilon=recipe.epsilon))
        planes = prompts.batch(rows, torch.ones(len(rows), tiles, dtype=torch.bool))[0]["pixel_values"]
        logits = router(planes)[torch.arange(len(rows)), tile]
        loss = F.binary_cross_entropy_with_logits(logits.float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses
