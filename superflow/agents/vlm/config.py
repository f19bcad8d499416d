"""What a LidarVLM is made of, as Hugging Face configurations: tower over the points, connector, language model."""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from ...errors import InputError, suggest
from .bev import BevGrid

TRAINED = ("frozen", "partly", "open")  # how much of the backbone learns: none, its way up, all
CONNECTORS = ("pixel_shuffle", "q_former")


def one_of(value: str, known: tuple[str, ...], what: str) -> str:
    """``value`` if it is known; else an ``InputError`` that names the nearest."""
    if value not in known:
        raise InputError(f"{what} is {value!r}{suggest(value, known)}; choose from {', '.join(known)}")
    return value


class LidarTowerConfig(PreTrainedConfig):
    """The eyes: a backbone of this package and the grid that its features are gathered on.

    Attributes:
        channels: C of the backbone's features; a grid has one more plane, log(1 + points).
        grid: of ``BevGrid``.
        card: of the backbone, with its encoder; None where only ready grids are given.
        backbone: of ``TRAINED``.
    """

    model_type = "superflow_lidar_tower"
    base_config_key = "tower_config"

    channels: int = 48
    grid: dict | None = None
    card: dict | None = None
    backbone: str = "frozen"

    def __post_init__(self, **kwargs: Any) -> None:
        self.grid = BevGrid(**(self.grid or {})).config()
        one_of(self.backbone, TRAINED, "backbone")
        super().__post_init__(**kwargs)

    @property
    def bev(self) -> BevGrid:
        """The grid."""
        return BevGrid(**(self.grid or {}))


class LidarVLMConfig(PreTrainedConfig):
    """A tower, a connector and a language model.

    Attributes:
        tower_config, text_config: of the two halves.
        connector: of ``CONNECTORS``.
        merge: pixel shuffle: cells a side that become one token (2: InternVL's; 4: its short form).
        cell_width: pixel shuffle: channels of a cell after a layer that all cells share; 0: no such layer.
        short_merge: cells a side of the tokens of tiles that a router gives fewer tokens, see `vir`; 0: no router.
        router_thresholds: share of tiles that keep their tokens -> logit from which on they do.
        cameras: images of a scan whose feature maps come beside it, see `camera`; 0: none. camera_channels: of a map.
        camera_cells: h, w of a map. camera_merge: its cells a side that become one token.
        queries, query_layers: Q-Former: tokens of a scan, and its layers.
        lidar_token_id: of the placeholder that features replace; -1 until there is a tokenizer.
    """

    model_type = "superflow_lidar_vlm"
    sub_configs_defaults: ClassVar[dict[str, Any]] = {
        "tower_config": LidarTowerConfig,
        "text_config": SubConfigSpec(AutoConfig, model_type="qwen3"),
    }

    tower_config: Any = None
    text_config: Any = None
    connector: str = "pixel_shuffle"
    merge: int = 4
    cell_width: int = 0
    short_merge: int = 0
    router_thresholds: dict | None = None
    cameras: int = 0
    camera_channels: int = 64
    camera_cells: list | None = None
    camera_merge: int = 2
    queries: int = 32
    query_layers: int = 2
    lidar_token_id: int = -1
    tie_word_embeddings: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        one_of(self.connector, CONNECTORS, "connector")
        super().__post_init__(**kwargs)
        tile = self.tower_config.bev.tile
        if self.connector == "pixel_shuffle" and (self.merge < 1 or tile % self.merge):
            raise InputError(
                f"merge is {self.merge}, and tiles are {tile} x {tile} cells; choose a number that divides {tile}"
            )

        if self.short_merge and (
            self.connector != "pixel_shuffle" or self.short_merge < self.merge or tile % self.short_merge
        ):
            raise InputError(
                f"short_merge is {self.short_merge}; with pixel_shuffle it may be a number that divides {tile} and is "
                f"no less than merge ({self.merge}), else 0"
            )
        if self.cell_width < 0 or (self.cell_width and self.connector != "pixel_shuffle"):
            raise InputError(
                f"cell_width is {self.cell_width}; with pixel_shuffle it may be a number of channels, else 0"
            )
        self.router_thresholds = dict(self.router_thresholds or {})
        self.camera_cells = [int(side) for side in self.camera_cells or (4, 8)]
        if self.cameras and (
            self.camera_merge < 1 or any(side % self.camera_merge for side in self.camera_cells)
        ):
            raise InputError(
                f"camera_merge is {self.camera_merge}, and maps have {self.camera_cells[0]} x {self.camera_cells[1]} "
                "cells; choose a number that divides both"
            )

    @property
    def tokens_per_tile(self) -> tuple[int, int]:
        """Of a tile that keeps its tokens, and of one that does not; both alike without a router."""
        tile = self.tower_config.bev.tile
        return (tile // self.merge) ** 2, (tile // (self.short_merge or self.merge)) ** 2

    @property
    def camera_tokens(self) -> int:
        """Placeholders that the images of one scan take, behind its own."""
        h, w = self.camera_cells or (0, 0)
        return self.cameras * (h // self.camera_merge) * (w // self.camera_merge)

    @property
    def tokens_per_scan(self) -> int:
        """Placeholders that one scan takes, with its images."""
        grid: BevGrid = self.tower_config.bev
        own = self.queries if self.connector == "q_former" else grid.tiles * (grid.tile // self.merge) ** 2
        return own + self.camera_tokens
