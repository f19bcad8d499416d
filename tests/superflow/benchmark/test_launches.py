"""Kernel launches are counted as a device would start them, and stay few."""

from __future__ import annotations

import torch

from superflow.benchmark.speed import launches
from superflow.benchmark.speed.clouds import clouds, exactly
from superflow.benchmark.speed.options import Options
from superflow.lidar.minkunet import MinkUNet
from superflow.lidar.sparse import Pyramid


def test_what_only_looks_or_makes_room_starts_nothing():
    x = torch.ones(4, 6, requires_grad=True)
    with launches.Launches() as found:
        y = x.view(6, 4).t()[1:].unbind(0)
        torch.empty(3), torch.empty_like(x), x.detach().contiguous()
        assert found.total == 0
        z = (y[0] @ y[1]).relu()
        assert found.by_name == {"aten::dot": 1, "aten::relu": 1}
        z.backward()
    assert found.by_name["aten::threshold_backward"] == 1


def test_minkunet_34_starts_few_kernels():
    """Whatever the width: at most 600 forward and 1200 backward."""
    pyramid = Pyramid.from_voxels(exactly(4000, clouds(None), 0.2))
    counted = {}
    for width in (0.25, 0.5):
        torch.manual_seed(0)
        net = MinkUNet(34, width=width)
        counted[width] = launches.network_launches(net, "torch_grouped", pyramid)
    first = counted[0.25]
    assert {part: counted[0.5][part] for part in ("forward", "backward")} == {
        part: first[part] for part in ("forward", "backward")
    }
    assert 200 < first["forward"].total() <= 600
    assert first["forward"]["aten::add_"] < 40  # residual sums: counters of batches are raised together
    assert first["forward"]["aten::_foreach_add_"] == 1
    assert 400 < first["backward"].total() <= 1200


def test_both_forms_are_told():
    (table,) = launches.measure(Options(voxels=[500], depth="tiny", size_m=0.5))
    assert [row[0] for row in table.rows] == ["torch", "torch_grouped"]
    plain, grouped = ([int(number) for number in row[1:]] for row in table.rows)
    assert grouped[1] < plain[1] / 2
    assert grouped[2] < plain[2] / 3
    assert sum(table.record["launches"]["torch"]["forward"].values()) == plain[1]
