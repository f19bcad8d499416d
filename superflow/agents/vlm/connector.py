"""From cells of the grid to the width of a language model, one class a way."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import Blip2QFormerConfig, Blip2QFormerModel

from .bev import BevGrid, pixel_shuffle, to_tiles
from .config import LidarVLMConfig

POSITION = 2  # planes that say where a cell lies, as a vision tower's position embeddings do


def with_position(planes: Tensor, grid: BevGrid) -> Tensor:
    """(B, C + 2, rows, columns): planes, and x and y of each cell over half the side of the grid, about -1 to 1."""
    half = planes.new_tensor([grid.rows, grid.columns]) * grid.cell_m / 2
    where = (grid.centers(device=planes.device).to(planes.dtype) / half).permute(2, 0, 1)
    return torch.cat([planes, where.expand(len(planes), -1, -1, -1)], 1)


class CellLayer(nn.Module):
    """What all cells share: channels by mean and spread of the training scans, Linear, GELU.

    Without it the first layer of a connector has weights of its own for each cell of a token, and must learn anew in
    every place what a thing looks like. InternVL's vision transformer has such layers before its pixel shuffle; the
    backbone's end at the points.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("spread", torch.ones(channels))
        self.linear = nn.Linear(channels, width)
        self.act = nn.GELU()

    @torch.no_grad()
    def standardise(self, planes: Tensor) -> None:
        """Take mean and spread from planes (S, C, rows, columns) of training scans, over all their cells."""
        cells = planes.transpose(0, 1).flatten(1)
        self.mean.copy_(cells.mean(1))
        self.spread.copy_(cells.std(1).clamp(min=1e-6))

    def forward(self, planes: Tensor) -> Tensor:
        """(B, width, rows, columns) of planes (B, C, rows, columns)."""
        cells = (planes.movedim(1, -1) - self.mean) / self.spread
        return self.act(self.linear(cells.to(self.linear.weight.dtype))).movedim(-1, 1)


class PixelShuffleConnector(nn.Module):
    """InternVL's: ``merge`` x ``merge`` cells become one token, then LayerNorm, Linear, GELU, Linear.

    With ``cell_width`` each cell goes through a ``CellLayer`` first.
    """

    def __init__(self, config: LidarVLMConfig, merge: int | None = None) -> None:
        super().__init__()
        self.grid, self.merge = config.tower_config.bev, merge or config.merge
        width = config.text_config.hidden_size
        channels = config.tower_config.channels + 1
        self.cells = CellLayer(channels, config.cell_width) if config.cell_width else None
        merged = ((config.cell_width or channels) + POSITION) * self.merge**2
        self.layer_norm = nn.LayerNorm(merged)
        self.linear_1 = nn.Linear(merged, width)
        self.act = nn.GELU()
        self.linear_2 = nn.Linear(width, width)

    def forward(self, planes: Tensor) -> Tensor:
        """(B, tokens, D) of planes (B, C + 1, rows, columns); tile by tile, in each row by row."""
        if self.cells is not None:
            planes = self.cells(planes)
        tiles = to_tiles(with_position(planes, self.grid), self.grid)
        tokens = pixel_shuffle(tiles, self.merge).flatten(1, -2)
        tokens = tokens.to(self.linear_1.weight.dtype)
        return self.linear_2(self.act(self.linear_1(self.layer_norm(tokens))))


class QFormerConnector(nn.Module):
    """Learned queries that look at all cells (BLIP-2, arXiv 2301.12597): a token a query, whatever the grid."""

    def __init__(self, config: LidarVLMConfig) -> None:
        super().__init__()
        self.grid = config.tower_config.bev
        width = config.text_config.hidden_size
        channels = config.tower_config.channels + 1 + POSITION
        inner = 64 * max(1, -(-channels // 64))  # a whole number of heads of 64
        self.read = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, inner))
        self.queries = nn.Parameter(torch.randn(1, config.queries, inner) * 0.02)
        self.former = Blip2QFormerModel(
            Blip2QFormerConfig(
                hidden_size=inner,
                encoder_hidden_size=inner,
                num_hidden_layers=config.query_layers,
                num_attention_heads=inner // 64,
                intermediate_size=4 * inner,
                cross_attention_frequency=1,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
            )
        )
        self.write = nn.Linear(inner, width)

    def forward(self, planes: Tensor) -> Tensor:
        """(B, queries, D) of planes (B, C + 1, rows, columns)."""
        cells = with_position(planes, self.grid).flatten(2).transpose(1, 2).to(self.write.weight.dtype)
        queries = self.queries.expand(len(cells), -1, -1)
        seen = self.former(query_embeds=queries, encoder_hidden_states=self.read(cells))
        return self.write(seen.last_hidden_state)


CONNECTOR_CLASSES: dict[str, type[PixelShuffleConnector] | type[QFormerConnector]] = {
    "pixel_shuffle": PixelShuffleConnector,
    "q_former": QFormerConnector,
}
