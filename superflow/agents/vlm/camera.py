"""Images beside the LiDAR: a teacher's cached feature maps become tokens that follow those of the scan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import InputError
from .bev import pixel_shuffle
from .config import LidarVLMConfig

if TYPE_CHECKING:
    from ...camera.cache import FeatureCache
    from ...datasets.index import LogIndex


class CameraConnector(nn.Module):
    """As that of the LiDAR: ``camera_merge`` x ``camera_merge`` cells of a map become one token.

    What a cell looks at is learned: each place of each camera adds a vector of its own.
    """

    def __init__(self, config: LidarVLMConfig) -> None:
        super().__init__()
        self.merge = config.camera_merge
        width, merged = config.text_config.hidden_size, config.camera_channels * self.merge**2
        self.layer_norm = nn.LayerNorm(merged)
        self.linear_1 = nn.Linear(merged, width)
        self.act = nn.GELU()
        self.linear_2 = nn.Linear(width, width)
        self.places = nn.Parameter(torch.randn(config.camera_tokens, width) * 0.02)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, cameras * tokens, D) of maps (B, cameras, C, h, w), camera by camera, in each row by row."""
        tokens = pixel_shuffle(maps.permute(0, 1, 3, 4, 2), self.merge).flatten(1, 3)
        tokens = tokens.to(self.linear_1.weight.dtype)
        return self.linear_2(self.act(self.linear_1(self.layer_norm(tokens)))) + self.places


def camera_maps(
    index: LogIndex, row: int, cache: FeatureCache, cameras: Sequence[str], cells: Sequence[int]
) -> Tensor:
    """(cameras, C, h, w) float32 maps of the images of a scan, from a teacher's cache, as means of ``cells`` (h, w).

    Args:
        cameras: channels, as CAM_FRONT, in the order that the model was trained with.

    Raises:
        InputError: the scan has no image of a camera, or the cache has none of its features.
    """
    frame = index.frame(row, cameras=tuple(cameras), points=False, labels=False, images=False)
    tokens = {camera.channel: camera.token for camera in frame.cameras}
    if lacking := [name for name in cameras if name not in tokens]:
        raise InputError(f"the scan {frame.token} has no image of {lacking[0]}; choose among its own cameras")
    maps = [torch.from_numpy(cache.read(tokens[name]).astype("float32")) for name in cameras]
    return torch.stack([F.adaptive_avg_pool2d(each, (cells[0], cells[1])) for each in maps])
