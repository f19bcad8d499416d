"""A small backbone, a small language model from scratch, and both put together."""

from __future__ import annotations

import pytest
import torch

from superflow.hub.backbone import Backbone, BackboneCard
from superflow.lidar.encoder import LidarEncoder

QUESTION = "How many cars are ahead?"
TEXTS = [QUESTION, "Is there a bus?", "no", "yes", "1", "2", "3"]


@pytest.fixture(scope="session")
def small_backbone() -> Backbone:
    """Untrained, with statistics of batch normalisation that are no defaults, and a limit on its range."""
    torch.manual_seed(3)
    encoder = LidarEncoder({"type": "cubic", "size_m": 0.5}, {"depth": "tiny", "output": 6})
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2.0)
    return Backbone(encoder, BackboneCard("small", limits={"range_m": [0.0, 25.0]}))


@pytest.fixture
def scan():
    """Makes a scan (N, 4) of points around the vehicle from a seed; some lie outside of the grid."""

    def make(seed: int = 0, count: int = 200) -> torch.Tensor:
        drawn = torch.rand(count, 4, generator=torch.Generator().manual_seed(seed))
        return drawn * torch.tensor([44.0, 44.0, 3.0, 1.0]) - torch.tensor([22.0, 22.0, 1.0, 0.0])

    return make


@pytest.fixture
def make_vlm(small_backbone):
    """Builds a small model over 8 x 16 cells in two tiles; options go to ``build``."""
    pytest.importorskip("transformers")
    from superflow.agents.vlm.bev import BevGrid
    from superflow.agents.vlm.build import build
    from superflow.agents.vlm.language import tiny

    def make(**options):
        torch.manual_seed(5)
        given = {
            "backbone": small_backbone,
            "grid": BevGrid(rows=8, columns=16, cell_m=2.5, tile=8),
            "merge": 2,
        }
        return build(tiny(TEXTS, width=32), **(given | options))

    return make
