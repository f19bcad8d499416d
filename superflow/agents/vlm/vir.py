"""Visual Resolution Router of InternVL 3.5 (arXiv 2508.18265): tiles that tell little are given fewer tokens.

A model with ``short_merge`` has a second projector, of a coarser pixel shuffle, and a router that scores tiles before
either projector. Which tiles keep their full tokens is decided before a prompt is written: ``route_with`` makes a
processor ask the router; ``tiles_kept`` of the rows that it then makes tells which they are, and ``generate`` takes it.
How both learn: `vir_training`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import InputError
from .bev import BevGrid, to_tiles
from .config import LidarVLMConfig
from .connector import POSITION, with_position

# of tiles that keep their full tokens: the budgets that a router is set to
SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)


class TileRouter(nn.Module):
    """Says of each tile whether its full tokens are worth it: attention pools its cells, two layers judge."""

    def __init__(self, config: LidarVLMConfig, width: int = 32) -> None:
        super().__init__()
        self.grid: BevGrid = config.tower_config.bev
        channels = config.tower_config.channels + 1 + POSITION
        self.layer_norm = nn.LayerNorm(channels)
        self.attention = nn.Linear(channels, 1)
        self.judge = nn.Sequential(nn.Linear(channels, width), nn.GELU(), nn.Linear(width, 1))

    def forward(self, planes: Tensor) -> Tensor:
        """(B, tiles) logit that a tile keeps its full tokens, of planes (B, C + 1, rows, columns)."""
        tiles = to_tiles(with_position(planes, self.grid), self.grid).flatten(2, 3)
        cells = self.layer_norm(tiles.to(self.layer_norm.weight.dtype))
        pooled = (self.attention(cells).softmax(2) * cells).sum(2)
        return self.judge(pooled).squeeze(-1)


def join_tokens(full: Tensor, short: Tensor, kept: Tensor) -> Tensor:
    """(N, D) tokens of all scans one after another: of each tile the full ones or the short ones, tiles in order.

    Args:
        full: (S, tiles * a, D). short: (S, tiles * b, D), b <= a. kept: (S, tiles) bool.
    """
    scans, tiles = kept.shape
    full, short = (
        full.reshape(scans, tiles, -1, full.shape[-1]),
        short.reshape(scans, tiles, -1, full.shape[-1]),
    )
    places = torch.arange(full.shape[2], device=kept.device)
    padded = nn.functional.pad(short, (0, 0, 0, full.shape[2] - short.shape[2]))
    tokens = torch.where(kept[..., None, None], full, padded)
    return tokens[kept[..., None] | (places < short.shape[2])]


def keep_highest(scores: Tensor, share: float) -> Tensor:
    """(S, tiles) bool: the share of all tiles of all scans with the highest scores, of equal ones the first.

    So every way of scoring spends the same number of tokens in the mean.
    """
    count = round(share * scores.numel())
    order = torch.argsort(scores.flatten(), descending=True, stable=True)
    kept = torch.zeros(scores.numel(), dtype=torch.bool)
    kept[order[:count]] = True
    return kept.reshape(scores.shape)


def random_scores(planes: Tensor, grid: BevGrid, *, generator: torch.Generator) -> Tensor:
    """(S, tiles) scores that say nothing."""
    return torch.rand(len(planes), grid.tiles, generator=generator)


def point_scores(planes: Tensor, grid: BevGrid) -> Tensor:
    """(S, tiles) number of points of each tile, from the last plane."""
    return torch.expm1(to_tiles(planes[:, -1:].double(), grid)).sum((2, 3, 4))


def range_scores(planes: Tensor, grid: BevGrid) -> Tensor:
    """(S, tiles) nearness: minus the distance of the middle of each tile from the vehicle [m]."""
    middles = to_tiles(grid.centers().permute(2, 0, 1)[None], grid).mean((2, 3))
    return -middles.norm(dim=2).expand(len(planes), -1)


@torch.no_grad()
def router_scores(model: Any, planes: Tensor) -> Tensor:
    """(S, tiles) logits of a model's own router.

    Raises:
        InputError: it has none.
    """
    router = model.model.router
    if router is None:
        raise InputError("this model has no router; build it with short_merge=...")
    return router(planes.to(next(router.parameters()).device)).float().cpu()


def set_budgets(model: Any, planes: Tensor, shares: Sequence[float] = SHARES) -> None:
    """Note in the model's config from which logit on a tile is kept, so that so many of these scans' tiles are."""
    scores = router_scores(model, planes).flatten()
    model.config.router_thresholds = {
        f"{share:g}": float(torch.quantile(scores, 1 - share)) for share in shares
    }


def threshold_of(model: Any, share: float) -> float:
    """The logit from which on a tile is kept, at a budget that ``set_budgets`` noted.

    Raises:
        InputError: the model has no such budget, or no router.
    """
    known: dict[str, float] = model.config.router_thresholds
    if f"{share:g}" not in known:
        raise InputError(
            f"this router has no budget {share:g}; it has {', '.join(known) or 'none: set them with set_budgets'}"
        )
    return known[f"{share:g}"]


def route_with(processor: Any, model: Any, share: float | None) -> None:
    """Let a model's router decide how many tokens the scans of a prompt get; None: all tiles keep theirs.

    Args:
        share: of tiles that keep their full tokens, of those that ``set_budgets`` noted.

    Raises:
        InputError: the model has no such budget, or no router.
    """
    if share is None:
        processor.route, processor.planes = None, None
        return
    threshold = threshold_of(model, share)

    def planes_of_points(points: Tensor, lidar_to_ego: Any) -> Tensor:
        to_ego = None if lidar_to_ego is None else torch.as_tensor(lidar_to_ego)[None]
        with torch.no_grad():
            planes: Tensor = model.model.get_lidar_planes(points[None].to(model.device), to_ego)[0].cpu()
        return planes

    processor.route = lambda planes: router_scores(model, planes[None])[0] >= threshold
    processor.planes = planes_of_points
