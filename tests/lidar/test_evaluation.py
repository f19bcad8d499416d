"""Networks as they are used: the same rows as in evaluation mode, parts that get their mode back, rows to train on."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from superflow.clips.batch import Batch
from superflow.downstream.features import EncoderFeatures
from superflow.downstream.segmentor import Segmentor
from superflow.hub.backbone import Backbone, BackboneCard
from superflow.lidar.encoder import LidarEncoder
from superflow.lidar.evaluation import evaluating


@pytest.fixture
def encoder() -> LidarEncoder:
    torch.manual_seed(0)
    made = LidarEncoder(
        {"type": "cubic", "size_m": 0.5}, {"depth": "tiny", "width": 0.5}, inputs=("height", "one")
    )
    made.train()(scan(), torch.zeros(400, dtype=torch.int64), 1)  # statistics that are not those at birth
    return made


def scan() -> torch.Tensor:
    return torch.rand(400, 4, generator=torch.Generator().manual_seed(1)) * torch.tensor([20, 20, 3, 1.0])


def segmented(encoder: LidarEncoder) -> torch.Tensor:
    one = torch.zeros(1, dtype=torch.int64)
    batch = Batch(scan(), torch.zeros(400, dtype=torch.int64), one, one, one.bool())
    torch.manual_seed(0)
    return Segmentor(encoder, 3).predict(batch)


WAYS = {
    "extract": lambda encoder: Backbone(encoder, BackboneCard(name="made")).extract(scan()),
    "features": lambda encoder: EncoderFeatures(encoder)(scan()),
    "some features": lambda encoder: EncoderFeatures(encoder)(scan(), torch.tensor([3, 1])),
    "probabilities": segmented,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("training", [False, True])
def test_rows_are_those_of_evaluation_and_can_be_trained_on(way, training, encoder):
    plain = {name: value.clone() for name, value in encoder.state_dict().items()}
    rows = WAYS[way](encoder.train(training))
    with torch.no_grad():
        want = encoder.eval().point_features(scan(), torch.zeros(400, dtype=torch.int64), 1)
        if way == "some features":
            want = want[[3, 1]]
        if way == "probabilities":
            torch.manual_seed(0)
            want = Segmentor(encoder, 3).head(want).softmax(1)
    assert torch.allclose(rows, want, atol=1e-6) if way == "probabilities" else torch.equal(rows, want)
    assert all(torch.equal(value, plain[name]) for name, value in encoder.state_dict().items())
    head = nn.Linear(rows.shape[1], 2)
    head(rows).sum().backward()
    assert head.weight.grad.any()


def test_every_part_gets_its_mode_back_after_errors_too():
    net = nn.Sequential(nn.Linear(1, 1), nn.Sequential(nn.Dropout(), nn.BatchNorm1d(1)), nn.ReLU())
    net.train()
    net[1][1].eval()
    before = [part.training for part in net.modules()]

    def fail() -> None:
        with evaluating(net):
            assert not any(part.training for part in net.modules())
            assert not torch.is_grad_enabled()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [part.training for part in net.modules()] == before == [True, True, True, True, False, True]
