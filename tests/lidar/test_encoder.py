"""The student as others use it: points in, one row of features a point out."""

from __future__ import annotations

import copy
import json
import math
import pickle

import pytest
import torch

from superflow.errors import InputError
from superflow.lidar.conv import use_backend
from superflow.lidar.encoder import INPUTS, LidarEncoder
from superflow.lidar.voxelize import CubicGrid

CUBIC = {"type": "cubic", "size_m": 0.4}
TURNABLE = ("intensity", "height", "range", "one")
SMALL = {"depth": "tiny", "width": 0.5}


def street(count: int = 1500, seed: int = 0) -> torch.Tensor:
    """Points of a ground plane with two walls."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(count, 4, generator=generator) * torch.tensor([24.0, 16.0, 0.1, 1.0]) - torch.tensor(
        [12.0, 8.0, 1.8, 0.0]
    )
    wall = torch.arange(count) % 3 == 0
    points[wall, 1] = torch.where(points[wall, 1] > 0, 7.0, -7.0)
    points[wall, 2] = torch.rand(int(wall.sum()), generator=generator) * 3 - 1.8
    return points


def encoder(grid=CUBIC, backbone=SMALL, seed: int = 0, **options) -> LidarEncoder:
    torch.manual_seed(seed)
    return LidarEncoder(grid, backbone, **options)


def one_cloud(points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, int]:
    return points, torch.zeros(len(points), dtype=torch.long), 1


def test_one_row_a_point_in_the_order_of_the_points():
    net, points = encoder().eval(), street()
    features = net.point_features(*one_cloud(points))
    assert features.shape == (len(points), net.out_channels)
    assert features.dtype == torch.float32
    shuffled = torch.randperm(len(points), generator=torch.Generator().manual_seed(1))
    again = net.point_features(*one_cloud(points[shuffled]))
    torch.testing.assert_close(again, features[shuffled], rtol=1e-4, atol=1e-5)
    whole = net(*one_cloud(points))
    assert whole.features[whole.inverse].equal(features)
    assert whole.coords.shape == (len(whole.features), 4)


@pytest.mark.parametrize("reduce", ["mean", "first"])
@pytest.mark.parametrize("inputs", ["published", TURNABLE, ("column:4", "one")])
@pytest.mark.parametrize("grid", [CUBIC, {"type": "cylinder", "rho_m": 0.4, "phi_deg": 2.0, "z_m": 0.4}])
def test_the_config_rebuilds_the_network(grid, inputs, reduce):
    net = encoder(grid, inputs=inputs, reduce=reduce)
    config = json.loads(json.dumps(net.config()))
    again = LidarEncoder(**config)
    again.load_state_dict(net.state_dict())
    assert again.config() == net.config()
    points = torch.cat([street(300), torch.rand(300, 1)], 1)
    assert (
        again.eval().point_features(*one_cloud(points)).equal(net.eval().point_features(*one_cloud(points)))
    )


def test_a_grid_object_serves_as_well_as_its_description():
    assert encoder(CubicGrid(0.4)).config() == encoder(CUBIC).config()


def test_an_encoder_can_be_copied_and_pickled():
    net = encoder(inputs=TURNABLE).eval()
    points = one_cloud(street(300))
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert twin.point_features(*points).equal(net.point_features(*points))


def test_double_precision_throughout():
    net, points = encoder().double().eval(), street(300)
    exact = net.point_features(*one_cloud(points.double()))
    assert exact.dtype == torch.float64
    torch.testing.assert_close(
        net.float().point_features(*one_cloud(points)).double(), exact, rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("training", [True, False])
def test_empty_clouds(training):
    net = encoder().train(training)
    assert net.point_features(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), 0).shape == (
        0,
        net.out_channels,
    )
    assert net.point_features(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), 3).shape == (
        0,
        net.out_channels,
    )
    points = street(400)
    cloud = torch.tensor([0, 2]).repeat_interleave(200)  # cloud 1 of 3 and cloud 3 of 4 have no point
    features = net.point_features(points, cloud, 4)
    features.square().sum().backward()
    assert bool(features.isfinite().all())
    assert all(bool(p.grad.isfinite().all()) for p in net.parameters())
    assert all(bool(b.isfinite().all()) for b in net.buffers())
    assert net.point_features(points[:1], cloud[:1], 1).shape == (1, net.out_channels)


def test_mistake_40_a_training_step_without_numpy(monkeypatch):
    def refuse(*_args, **_options):
        raise AssertionError("the training step must stay in PyTorch")

    monkeypatch.setattr(torch.Tensor, "numpy", refuse)
    monkeypatch.setattr(torch.Tensor, "__array__", refuse)
    monkeypatch.setattr(torch.Tensor, "cuda", refuse)
    net = encoder()
    net.point_features(*one_cloud(street(300))).sum().backward()


def test_mistake_42_an_outlier_changes_no_other_feature():
    net, points = encoder(inputs=TURNABLE).eval(), street()
    outlier = torch.tensor([[-301.3, -207.9, -21.7, 0.2]])
    want = net.point_features(*one_cloud(points))
    got = net.point_features(*one_cloud(torch.cat([points, outlier])))[:-1]
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_mistake_14_half_a_turn_changes_no_feature():
    # 384 sectors can be halved at every stride, so a half turn is exact through the whole network
    net = encoder({"type": "cylinder", "rho_m": 0.4, "phi_deg": 0.9375, "z_m": 0.4}, inputs=TURNABLE).eval()
    points = street()
    turned = points * torch.tensor([-1.0, -1.0, 1.0, 1.0])
    want, got = (net.point_features(*one_cloud(cloud)) for cloud in (points, turned))
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_moving_by_sixteen_voxels_changes_no_feature():
    net, points = encoder({"type": "cubic", "size_m": 0.5}, inputs=("intensity", "one")).eval(), street()
    points[:, :3] = (points[:, :3] * 64).round() / 64  # so that the shift is exact
    moved = points + torch.tensor([-8.0, 16.0, 8.0, 0.0])
    want, got = (net.point_features(*one_cloud(cloud)) for cloud in (points, moved))
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reduce", ["mean", "first"])
@pytest.mark.parametrize("sectors", [None, 384, 3, 2, 1])
def test_clouds_of_any_size_together_have_the_features_of_each_alone(sectors, reduce):
    """With few sectors a turn closes on itself at the coarser strides."""
    grid = (
        CUBIC if sectors is None else {"type": "cylinder", "rho_m": 0.5, "phi_deg": 360 / sectors, "z_m": 0.5}
    )
    net = encoder(grid, reduce=reduce).eval()
    clouds = [street(count, seed) for seed, count in enumerate((0, 1, 300, 2, 0))]
    want = torch.cat([net.point_features(*one_cloud(points)) for points in clouds])
    together, cloud = torch.cat(clouds), torch.repeat_interleave(torch.tensor([len(each) for each in clouds]))
    torch.testing.assert_close(net.point_features(together, cloud, 5), want, rtol=1e-4, atol=1e-5)
    twice = net.point_features(torch.cat([together, together]), torch.cat([cloud, cloud]), 5)
    torch.testing.assert_close(twice, torch.cat([want, want]), rtol=1e-4, atol=1e-5)
    for name in ("torch", "torch_grouped"):
        with use_backend(name):
            torch.testing.assert_close(net.point_features(together, cloud, 5), want, rtol=1e-4, atol=1e-5)


def test_mistake_37_intensity_is_scaled_where_it_is_not_published():
    points = torch.tensor([[3.0, 4.0, 1.5, 0.5]])
    got = {name: float(column(points)[0]) for name, column in INPUTS.items()}
    want = dict(x=3, y=4, z=1.5, raw_intensity=0.5, intensity=2, height=0.5, range=5 / 30 - 1, one=1)
    want |= dict(has_intensity=1)
    assert got == pytest.approx(want)
    assert encoder().inputs == ("x", "y", "z", "raw_intensity")


def test_mistake_36_first_and_mean_differ():
    points = street()
    first, mean = (encoder(reduce=how).eval().point_features(*one_cloud(points)) for how in ("first", "mean"))
    assert not first.allclose(mean)


def test_mistake_05_a_step_repeats_bit_by_bit():
    def step() -> list[torch.Tensor]:
        net = encoder()
        net.point_features(*one_cloud(street())).square().mean().backward()
        return [p.grad for p in net.parameters()] + list(net.buffers())

    assert all(a.equal(b) for a, b in zip(step(), step()))


def test_autocast_on_the_cpu_is_held_off():
    net, points = encoder().eval(), street(300)
    want = net.point_features(*one_cloud(points))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert net.point_features(*one_cloud(points)).equal(want)


def test_inputs_stay_as_they_are():
    net, points = encoder(), street(300)
    kept = points.clone()
    net.point_features(*one_cloud(points))
    assert points.equal(kept)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": ("intensity", "colour")}, "input 'colour' is unknown; choose from x, y, z"),
        ({"inputs": "column:x"}, "'column:x' is unknown"),
        ({"reduce": "max"}, 'reduce is \'max\'; choose "mean" or "first"'),
        ({"backbone": {"depth": 18, "in_channels": 7}}, "in_channels is 7, but there are 4 inputs"),
        ({"backbone": {"deep": 18}}, "does not fit MinkUNet .*deep"),
        ({"grid": {"type": "cube"}}, "grid type 'cube' is unknown"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(InputError, match=message):
        encoder(**options)


def test_wrong_points_are_named():
    net = encoder()
    with pytest.raises(InputError, match=r"points are \(5, 3\); give \(N, 4\+\)"):
        net(torch.zeros(5, 3), torch.zeros(5, dtype=torch.long), 1)
    points = street(20)
    points[3, 0] = math.nan
    with pytest.raises(InputError, match="1 of 20 points cannot be voxelised, the first is row 3"):
        net(*one_cloud(points))
    with pytest.raises(InputError, match="column:6"):
        encoder(inputs=("column:6",))(*one_cloud(street(20)))


def test_a_point_without_intensity_counts_as_dark_and_can_say_so():
    points = street(200)
    dark, unknown = points.clone(), points.clone()
    dark[:, 3], unknown[:, 3] = 0.0, math.nan
    plain = encoder(inputs=("intensity", "raw_intensity", "height", "one")).eval()
    assert plain.point_features(*one_cloud(dark)).equal(plain.point_features(*one_cloud(unknown)))
    assert plain.needs_intensity
    net = encoder(inputs=("intensity", "has_intensity", "height", "one")).eval()
    assert (net.columns, net.needs_intensity) == ((0, 1, 2, 3), False)
    assert not net.point_features(*one_cloud(dark)).allclose(net.point_features(*one_cloud(unknown)))
    assert net.point_features(*one_cloud(unknown)).isfinite().all()
