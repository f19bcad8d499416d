"""Half precision is for the networks; matching and objectives are the same in float32 whatever these computed in."""

from __future__ import annotations

import copy

import pytest
import torch
from small_batch import PRETRAINERS, Fixed, make_clip

from superflow.clips.batch import collate
from superflow.lidar import conv
from superflow.lidar.encoder import LidarEncoder
from superflow.lidar.sparse import Pyramid, SparseTensor
from superflow.lidar.voxelize import make_grid, voxelize
from superflow.method.pretrainer import Pretrainer


class HalfTeacher(Fixed):
    """A teacher whose features come in half precision, as from a GPU."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.bfloat16()


@pytest.mark.parametrize("kind", PRETRAINERS)
def test_a_step_in_mixed_precision_is_the_step_with_rounded_features(student, kind):
    batch = collate([make_clip(0), make_clip(1)])
    mixed = Pretrainer(student, HalfTeacher(), **PRETRAINERS[kind])
    plain = copy.deepcopy(mixed)
    torch.manual_seed(0)  # of the rows and pairs that are drawn
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = mixed.loss(batch)
    losses["loss"].backward()

    def rounded(*arguments):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = type(student).forward(plain.student, *arguments)
        assert found.features.dtype == torch.bfloat16
        found.features = found.features.float()
        return found

    plain.student.forward = rounded
    torch.manual_seed(0)
    expected = plain.loss(batch)
    expected["loss"].backward()
    assert losses["loss"].dtype == torch.float32
    for name, value in expected.items():
        if name != "_features":
            assert torch.equal(torch.as_tensor(losses[name]), torch.as_tensor(value)), name
    for got, want in zip(mixed.parameters(), plain.parameters()):
        assert got.grad.dtype == torch.float32
        # of several passes through the student each gives a rounded gradient
        torch.testing.assert_close(got.grad, want.grad, rtol=0.02, atol=0.02 * float(want.grad.abs().max()))


def test_the_backbone_runs_in_half_precision(monkeypatch):
    """On a GPU autocast reaches the convolutions, on a CPU it does not: here they are given what they get there.

    Only the first takes its inputs, which may be metres and raw intensities, as they are.
    """
    torch.manual_seed(0)
    encoder = LidarEncoder(
        grid={"type": "cubic", "size_m": 0.5}, backbone={"depth": "tiny"}, inputs=("height", "one")
    )
    points = torch.rand(4000, 4) * torch.tensor([30.0, 30, 4, 1])
    voxels = voxelize(
        points, torch.zeros(4000, dtype=torch.int64), make_grid(encoder.grid.config()), num_clouds=1
    )
    pyramid = Pyramid.from_voxels(voxels).build(encoder.backbone.levels)
    values = torch.stack([points[:, 2] / 3, torch.ones(4000)], 1)

    def features() -> torch.Tensor:
        return encoder.backbone(SparseTensor(voxels.reduce(values, "mean"), pyramid)).features

    plain = features()
    plainly = conv.convolve
    computed_in = []

    def as_on_a_gpu(features, weight, where):
        if torch.is_autocast_enabled("cpu"):
            features, weight = features.bfloat16(), weight.bfloat16()
        computed_in.append(features.dtype)
        return plainly(features, weight, where)

    monkeypatch.setattr(conv, "convolve", as_on_a_gpu)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = features()
    assert half.dtype == torch.bfloat16
    assert computed_in[0] == torch.float32
    assert set(computed_in[1:]) == {torch.bfloat16}
    assert float((half.float() - plain).detach().norm() / plain.detach().norm()) < 0.05
    half.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in encoder.parameters())
