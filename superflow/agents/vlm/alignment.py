"""The stage before questions: each token of a scan learns to say what stands in its square of the ground.

InternVL aligns its connector by captions of images, with the language model at rest. Here the caption of a token is how
many objects of each category stand in its square, read by a linear head that is thrown away: the language model is not
needed, so a step costs a fraction of one on questions, and every square of every scan tells something.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import InputError
from ...progress import Progress, silent, track
from ..scene import SceneRecord
from ..words import CATEGORIES
from .bev import BevGrid, token_sums
from .connector import PixelShuffleConnector
from .model import LidarVLM
from .sft import Recipe, Stepper, batches

MEASURED = 64  # scans of which the size of tokens is taken


def counts_of(
    scene: SceneRecord,
    grid: BevGrid,
    merge: int,
    *,
    parts: int = 1,
    min_points: int = 5,
    max_range_m: float = 30.0,
) -> Tensor:
    """(tokens, parts² * categories) float32 numbers of objects in the square of each token, in the order of tokens.

    Args:
        merge: cells a side of a token. parts: a square is counted in so many parts a side, row by row; it divides
            ``merge``. min_points, max_range_m: objects with fewer points, or farther away [m], are
            left out, as in questions.
    """
    objects = scene.answerable(min_points=min_points, max_range_m=max_range_m).objects
    kinds = [(o.center, CATEGORIES.index(o.category)) for o in objects]
    return token_sums(kinds, len(CATEGORIES), grid, merge, parts=parts)


def align(
    model: LidarVLM,
    planes: Mapping[str, Tensor],
    counts: Mapping[str, Tensor],
    recipe: Recipe,
    *,
    generator: torch.Generator,
    progress: Progress = silent,
) -> list[float]:
    """Train the connector on scans with known objects, in place; returns the loss of each step.

    In the end the tokens are as large as the embeddings of words, whose questions would drown in them otherwise.

    Args:
        planes, counts: of each scan, by its name; see ``counts_of``. generator: of the order and of the head, drawn
            by it alone. The channels' mean and spread are those of ``planes``.

    Raises:
        InputError: the model's connector is of another kind, or there are no scans.
    """
    connector = model.model.connector
    if not isinstance(connector, PixelShuffleConnector):
        raise InputError("tokens of a Q-Former have no squares of their own; align a pixel_shuffle connector")
    if not planes or set(planes) != set(counts):
        raise InputError(
            "planes and counts must be those of the same scans, and at least one; give both of each"
        )
    if connector.cells is not None:
        connector.cells.standardise(torch.stack(list(planes.values())))
    means = torch.stack(list(counts.values())).mean((0, 1))
    head = nn.Linear(connector.linear_2.out_features, len(means))
    with torch.no_grad():
        head.weight.normal_(0.0, 0.02, generator=generator)
        head.bias.copy_(means.clamp(min=1e-3).log())
    parameters = [*connector.parameters(), *head.parameters()]
    step_on, names, losses = Stepper(parameters, recipe), list(planes), []
    drawn = islice(batches(len(names), recipe.batch, generator), recipe.steps)
    for rows in track(drawn, "aligning tokens", progress, total=recipe.steps):
        rates = head(connector(torch.stack([planes[names[i]] for i in rows])))
        loss = F.poisson_nll_loss(rates, torch.stack([counts[names[i]] for i in rows]), log_input=True)
        step_on(loss)
        losses.append(float(loss.detach()))
    _bring_to_size_of_words(model, connector, torch.stack([planes[name] for name in names[:MEASURED]]))
    return losses


@torch.no_grad()
def _bring_to_size_of_words(model: LidarVLM, connector: PixelShuffleConnector, planes: Tensor) -> None:
    """Scale the last layer so that tokens have the root mean square of the embeddings of words."""
    table: Any = model.get_input_embeddings()
    factor = (table.weight.pow(2).mean() / connector(planes).pow(2).mean()).sqrt()
    connector.linear_2.weight.mul_(factor)
    connector.linear_2.bias.mul_(factor)
