"""Pointing beside answering: each token of a scan learns to say how much of what is asked for stands in its square.

An answer is one word for a whole scan, from which a model that learns from scratch finds out late that the scan matters
at all. Which objects a question means is known where it was made: with the question before the scan, each token has
both, and a linear head that is thrown away reads from its last hidden state how many of those objects are its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import query as ask
from ..query_answer import Scenery
from ..query_parse import parse_query
from ..scene import SceneRecord
from .bev import BevGrid, token_sums

PHRASES = 2  # a comparison is of two


def pointed_at(scene: SceneRecord, asked: Mapping[str, Any], grid: BevGrid, merge: int) -> Tensor:
    """(tokens, ``PHRASES``) float32 numbers of objects that each phrase of a question surely means, by square.

    Args:
        asked: of a case whose family asks a query; a question with one phrase leaves the second at zero.
    """
    scenery = Scenery(scene, asked["min_points"], asked["max_range_m"])
    query = parse_query(asked["query"])
    return torch.cat(
        [token_sums([(o.center, 0) for o in found], 1, grid, merge) for found in _meant(scenery, query)], 1
    )


def _meant(scenery: Scenery, query: ask.Query) -> list[tuple[Any, ...]]:
    match query:
        case (
            ask.IsThere(ask.Amount(things))
            | ask.HowMany(things)
            | ask.WhatKind(things)
            | ask.WhatStatus(things)
        ):
            phrases = [things]
        case ask.AreThereMore(first, second) | ask.SameStatus(first, second):
            phrases = [first, second]
        case _:
            phrases = []
    found: list[tuple[Any, ...]] = [scenery.found(things) for things in phrases]
    return found + [()] * (PHRASES - len(found))


class Pointer(nn.Module):
    """The head, drawn from a generator. width: of the language model's hidden states."""

    def __init__(self, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.head = nn.Linear(width, PHRASES)
        with torch.no_grad():
            self.head.weight.normal_(0.0, 0.02, generator=generator)
            self.head.bias.fill_(-3.0)  # most squares hold nothing of what is asked for

    def forward(self, hidden: Tensor, at: Tensor, targets: Tensor) -> Tensor:
        """Poisson loss, summed over the tokens of a scan, in the mean over scans.

        Args:
            hidden: (B, L, D). at: (B, L) True where the tokens of scans are. targets: (B, tokens, ``PHRASES``).
        """
        rates = self.head(hidden[at].float())
        loss = F.poisson_nll_loss(rates, targets.flatten(0, 1).to(rates), log_input=True, reduction="sum")
        return loss / len(targets)
