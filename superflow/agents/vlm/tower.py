"""From points to the grid on the ground: a backbone of this package, frozen or learning with the language model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from ...errors import InputError
from ...hub.backbone import Backbone, BackboneCard
from ...lidar.encoder import LidarEncoder
from .bev import BevGrid, scatter
from .config import LidarTowerConfig


class LidarTower(nn.Module):
    """A backbone and a grid. What does not learn stays as in evaluation, whatever ``train`` says.

    Batch normalisation of a frozen part would otherwise follow the scans of the questions.
    """

    def __init__(self, config: LidarTowerConfig) -> None:
        super().__init__()
        self.grid: BevGrid = config.bev
        self.learns = config.backbone
        self.backbone: Backbone | None = None
        if config.card is not None:
            card = BackboneCard.from_record(config.card)
            self.backbone = Backbone(LidarEncoder(**card.encoder), card)
            self.backbone.requires_grad_(False)
            for module in self.learning():
                module.requires_grad_(True)

    def learning(self) -> Sequence[nn.Module]:
        """The parts of the backbone that learn: none, the way up of the U-Net, or all."""
        if self.backbone is None or self.learns == "frozen":
            return ()
        if self.learns == "open":
            return (self.backbone,)
        unet = self.backbone.encoder.backbone
        first = len(unet.blocks) // 2  # as many stages lead down as up
        return (*unet.resample[first:], *unet.blocks[first:])

    def train(self, mode: bool = True) -> Self:
        """Training mode for what learns, evaluation for the rest."""
        super().train(False)
        self.training = mode
        for module in self.learning():
            module.train(mode)
        return self

    def forward(self, scans: Sequence[Tensor], lidar_to_ego: Sequence[Tensor | None]) -> Tensor:
        """(B, C + 1, rows, columns) float32 planes of scans (N, 4+) in their LiDAR frames, in the vehicle's frame.

        Raises:
            InputError: there is no backbone, or the points are such as ``Backbone.extract`` refuses.
        """
        if self.backbone is None:
            raise InputError(
                "this model has no backbone; give grids (pixel_values), or build it with backbone=superflow.load(...)"
            )
        features = self._features(self.backbone, scans)
        return torch.stack(
            [
                scatter(rows, self.grid.cells(in_frame(scan, to_ego)), self.grid)
                for rows, scan, to_ego in zip(features, scans, lidar_to_ego)
            ]
        )

    def _features(self, backbone: Backbone, scans: Sequence[Tensor]) -> list[Tensor]:
        if not self.training or self.learns == "frozen":
            return [backbone.extract(scan) for scan in scans]
        given = [backbone.as_trained(scan) for scan in scans]
        inside = [backbone.within_limits(scan) for scan in given]
        seen = [scan[kept] for scan, kept in zip(given, inside)]  # what extract shows the network
        cloud = torch.repeat_interleave(torch.tensor([len(s) for s in seen], device=seen[0].device))
        rows = backbone(torch.cat(seen), cloud, len(seen)).float()
        return [
            part.new_zeros(len(kept), part.shape[1]).masked_scatter(kept[:, None], part).to(scan.device)
            for scan, kept, part in zip(scans, inside, rows.split([len(s) for s in seen]))
        ]


def in_frame(points: Tensor, a_to_b: Tensor | None) -> Tensor:
    """(N, 3) x, y, z of points (N, 3+) in frame b; as they are for None."""
    if a_to_b is None:
        return points[:, :3]
    turn, shift = a_to_b[:3, :3].to(points), a_to_b[:3, 3].to(points)
    return points[:, :3] @ turn.T + shift


def planes_of(
    backbone: Backbone, points: Any, grid: BevGrid, *, lidar_to_ego: Any = None, intensity: Any = "0..1"
) -> Tensor:
    """(C + 1, rows, columns) planes of one scan: what a frozen tower makes of it, to be kept.

    Args:
        points, intensity: see ``Backbone.extract``. lidar_to_ego: (4, 4); None where the points are in the vehicle's.
    """
    cloud = torch.as_tensor(points)
    to_ego = None if lidar_to_ego is None else torch.as_tensor(lidar_to_ego)
    features = backbone.extract(cloud, intensity=intensity)
    return scatter(features, grid.cells(in_frame(cloud, to_ego)), grid)
