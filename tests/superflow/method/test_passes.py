"""Batch norm of dense and neighbouring clouds: shared with the others, their own, or as in evaluation."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from superflow.clips.batch import collate
from superflow.lidar.encoder import LidarEncoder
from superflow.lidar.minkunet import Norm
from superflow.method.passes import check_rules, encode_clouds

SHARED = {"dense": "shared", "neighbours": "shared"}


def encoder() -> LidarEncoder:
    torch.manual_seed(0)
    return LidarEncoder({"type": "cubic", "size_m": 0.5}, {"depth": "tiny"}, inputs=("height", "age"))


def statistics(net: LidarEncoder) -> list[torch.Tensor]:
    return [layer.running_mean.clone() for layer in net.modules() if isinstance(layer, Norm)]


@pytest.fixture
def batch(clip):
    return collate([clip(0), clip(1, offsets=(0, 1))])


def clouds_of(batch, *, dense=None, neighbour=None):
    """(N,) bool, the points of one kind of cloud."""
    chosen = torch.ones_like(batch.cloud_dense)
    chosen &= True if dense is None else batch.cloud_dense == dense
    chosen &= True if neighbour is None else (batch.cloud_offset != 0) == neighbour
    return chosen[batch.cloud]


def at_points(found) -> torch.Tensor:
    return found.features[found.inverse]


def test_all_shared_is_one_pass(batch):
    one, two = encoder(), encoder()
    found = encode_clouds(one, batch, SHARED)
    plain = two(batch.points, batch.cloud, batch.num_clouds)
    assert torch.equal(at_points(found), plain.at_points())
    assert all(torch.equal(a, b) for a, b in zip(statistics(one), statistics(two)))


@pytest.mark.parametrize(
    ("rules", "kind"),
    [({"dense": "own"}, {"dense": True}), ({"neighbours": "own"}, {"dense": False, "neighbour": True})],
)
def test_own_statistics_come_from_these_clouds_alone_and_leave_no_trace(batch, rules, kind):
    mine = clouds_of(batch, **kind)
    apart, without = encoder(), encoder()
    found = at_points(encode_clouds(apart, batch, SHARED | rules))
    # the others as if these clouds were not there, statistics included
    alone = without(batch.points[~mine], batch.cloud[~mine], batch.num_clouds).at_points()
    assert torch.allclose(found[~mine], alone, atol=1e-5)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(statistics(apart), statistics(without)))
    # these as if the others were not there
    these = encoder()(batch.points[mine], batch.cloud[mine], batch.num_clouds).at_points()
    assert torch.allclose(found[mine], these, atol=1e-5)
    assert not torch.allclose(
        found[mine], at_points(encode_clouds(encoder(), batch, SHARED))[mine], atol=1e-3
    )


def test_running_statistics_are_those_of_evaluation(batch):
    net, mine = encoder(), clouds_of(batch, dense=False, neighbour=True)
    encode_clouds(net, batch, SHARED)  # so that the statistics are not those of a new network
    # the pass over the other clouds moves the statistics first
    found = at_points(encode_clouds(net, batch, SHARED | {"neighbours": "running"}))
    evaluated = net.eval()(batch.points[mine], batch.cloud[mine], batch.num_clouds).at_points()
    assert torch.allclose(found[mine], evaluated, atol=1e-5)


def test_gradients_come_back_from_every_pass(batch):
    net = encoder()
    found = encode_clouds(net, batch, {"dense": "own", "neighbours": "running"})
    found.features.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
    assert found.inverse.min() == 0
    assert found.inverse.max() == len(found.features) - 1


def test_a_kind_that_the_batch_lacks_changes_nothing(clip):
    batch = clip(0, dense=False)
    found, plain = encode_clouds(encoder(), batch, SHARED | {"dense": "own"}), encoder()
    assert torch.equal(at_points(found), plain(batch.points, batch.cloud, batch.num_clouds).at_points())


def test_age_reaches_the_student(batch):
    aged = replace(batch, age=torch.linspace(0, 0.1, len(batch.points)))
    young, old = (at_points(encode_clouds(encoder(), b, SHARED)) for b in (batch, aged))
    zero = at_points(encode_clouds(encoder(), replace(batch, age=torch.zeros(len(batch.points))), SHARED))
    assert torch.equal(young, zero)
    assert not torch.allclose(young, old, atol=1e-3)
    apart = encode_clouds(encoder(), aged, SHARED | {"dense": "own"})
    mine = clouds_of(aged, dense=True)
    these = encoder()(aged.points[mine], aged.cloud[mine], aged.num_clouds, aged.age[mine]).at_points()
    assert torch.allclose(at_points(apart)[mine], these, atol=1e-5)


def test_unknown_rules_are_named():
    with pytest.raises(ValueError, match=r"batch_norm\.dense is 'alone'; use one of shared, own, running"):
        check_rules(dense="alone")


def test_statistics_joined_over_processes_have_no_groups(batch):
    net = torch.nn.SyncBatchNorm.convert_sync_batchnorm(encoder())
    with pytest.raises(ValueError, match="leave out sync_bn"):
        encode_clouds(net, batch, SHARED | {"dense": "own"})
