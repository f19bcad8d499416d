"""The networks: sizes, gradients everywhere, back ends alike, and clouds that hardly exist."""

from __future__ import annotations

import gc

import pytest
import torch

from superflow.errors import InputError
from superflow.lidar import conv
from superflow.lidar.minkunet import MINKUNET, MinkUNet, Norm, use_statistics
from superflow.lidar.sparse import KernelMap, Pyramid, SparseTensor


def blob(cells_across: int = 24, density: float = 0.08, clouds: int = 2, seed: int = 0) -> Pyramid:
    """A surface-like set of cells, deep enough for five levels."""
    generator = torch.Generator().manual_seed(seed)
    shape = (cells_across,) * 3
    occupied = torch.rand(clouds, *shape, generator=generator) < density
    occupied[:, :, :, 0] |= torch.rand(clouds, *shape[:2], generator=generator) < 0.5
    return Pyramid.from_cells(occupied.nonzero(), shape, num_clouds=clouds)


def tensor(pyramid: Pyramid, channels: int = 4, seed: int = 0) -> SparseTensor:
    generator = torch.Generator().manual_seed(seed)
    return SparseTensor(torch.randn(len(pyramid.level(0)), channels, generator=generator), pyramid)


# millions of weights as counted by hand from the table: convolutions, projections and batch normalisation
@pytest.mark.parametrize(
    ("depth", "weights", "channels", "levels"),
    [
        ("tiny", 1304608, 48, 5),
        (18, 21721472, 96, 5),
        (34, 37873280, 96, 5),
        (50, None, 384, 5),
        (101, None, 384, 5),
    ],
)
def test_sizes(depth, weights, channels, levels):
    with torch.device("meta"):
        net = MinkUNet(depth)
        assert MinkUNet(depth, output=96).out_channels == 96
    assert (net.out_channels, net.levels) == (channels, levels)
    count = sum(parameter.numel() for parameter in net.parameters())
    assert count == expected_weights(depth)
    assert weights is None or count == weights


def expected_weights(depth) -> int:
    """Counted from the table by formulas of its own."""
    base, stages = MINKUNET[depth]
    conv_norm = lambda k, a, b: k * a * b + 2 * b  # noqa: E731
    total, channels, skips = conv_norm(27, 4, base) + conv_norm(27, base, base), base, []
    for blocks, width, stride, expansion in stages:
        if stride == 2:
            skips.append(channels)
            total += conv_norm(8, channels, channels)
        else:
            total += conv_norm(8, channels, width)
            channels = width + skips.pop()
        for _ in range(blocks):
            out = width * expansion
            if expansion == 1:
                total += conv_norm(27, channels, width) + conv_norm(27, width, width)
            else:
                total += (
                    conv_norm(1, channels, width) + conv_norm(27, width, width) + conv_norm(1, width, out)
                )
            total += conv_norm(1, channels, out) if channels != out else 0
            channels = out
    return total


@pytest.mark.parametrize("depth", ["tiny", 18, 34, 50])
def test_gradients_reach_every_parameter(depth):
    torch.manual_seed(0)
    net = MinkUNet(depth, width=0.25)
    x = tensor(blob())
    output = net(x).features
    assert output.shape == (len(x.features), net.out_channels)
    output.square().sum().backward()
    without = [name for name, p in net.named_parameters() if p.grad is None or not bool((p.grad != 0).any())]
    assert without == []


@pytest.mark.parametrize("depth", ["tiny", 50])
def test_gradients_are_the_slope_of_the_loss(depth):
    # the blocks add and rectify in place; in double precision the slope along a direction would show a slip
    torch.manual_seed(0)
    net, pyramid = MinkUNet(depth, width=0.25).double(), blob(40, 0.05)
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(len(pyramid.level(0)), 4, generator=generator).double()
    values = {"input": start.requires_grad_(), **dict(net.named_parameters())}
    along = {name: torch.randn(value.shape, generator=generator).double() for name, value in values.items()}

    def loss(shift: float) -> torch.Tensor:
        moved = {name: value + shift * along[name] for name, value in values.items()}
        x = SparseTensor(moved.pop("input"), pyramid)
        return torch.func.functional_call(net, moved, (x,)).features.square().mean()

    gradients = torch.autograd.grad(loss(0.0), list(values.values()))
    slope = sum(float((gradient * along[name]).sum()) for name, gradient in zip(values, gradients))
    # so short a step because normalising a few coarse cells bends sharply
    with torch.no_grad():
        assert float(loss(1e-10) - loss(-1e-10)) / 2e-10 == pytest.approx(slope, rel=1e-3)


def test_kernel_maps_do_not_outlive_their_step():
    """In a cycle they would keep the device's memory until Python looks for cycles."""
    net, known = MinkUNet("tiny", width=0.25), {id(one) for one in kernel_maps()}
    gc.disable()
    try:
        net(tensor(blob())).features.square().sum().backward()
        left = [one for one in kernel_maps() if id(one) not in known]
    finally:
        gc.enable()
    assert left == []


def kernel_maps() -> list[KernelMap]:
    return [one for one in gc.get_objects() if type(one) is KernelMap]


def test_width_and_output_are_numbers():
    net = MinkUNet(50, width=0.5, output=40, in_channels=3)
    assert (net.in_channels, net.out_channels) == (3, 40)
    assert net(tensor(blob(), channels=3)).features.shape[1] == 40
    assert net.stem[0].conv.out_channels == 16
    assert MinkUNet("tiny", width=0.25).stem[0].conv.out_channels == 8


def test_back_ends_agree_on_the_whole_net():
    names = [n for n in conv.BACKENDS if conv.load_backend(n).problem(torch.device("cpu")) is None]
    torch.manual_seed(0)
    net, x = MinkUNet(18, width=0.5), tensor(blob())
    outputs = []
    for name in names:
        with conv.use_backend(name), torch.no_grad():
            outputs.append(net(x).features)
    for other in outputs[1:]:
        assert (other - outputs[0]).abs().max() <= 1e-5 * outputs[0].abs().max()


def test_clouds_do_not_see_one_another_in_evaluation():
    torch.manual_seed(0)
    net = MinkUNet("tiny").eval()
    pyramid = blob(clouds=2)
    x = tensor(pyramid)
    second = pyramid.level(0).cells[:, 0] == 1
    cells = pyramid.level(0).cells[second] - torch.tensor([1, 0, 0, 0])
    alone = SparseTensor(x.features[second], Pyramid.from_cells(cells, (24, 24, 24), num_clouds=1))
    torch.testing.assert_close(net(alone).features, net(x).features[second], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", [0, 1, 2])
@pytest.mark.parametrize("depth", ["tiny", 50])
def test_hardly_any_cells_train(rows, depth):
    cells = torch.tensor([[0, 3, 3, 3], [0, 3, 3, 4]])[:rows]
    net = MinkUNet(depth, width=0.25)
    before = {name: value.clone() for name, value in net.named_buffers()}
    output = net(
        SparseTensor(torch.ones(rows, 4), Pyramid.from_cells(cells, (8, 8, 8), num_clouds=1))
    ).features
    output.sum().backward()
    assert output.shape == (rows, net.out_channels)
    assert bool(output.isfinite().all())
    assert all(bool(value.isfinite().all()) for value in net.buffers())
    assert all(bool(p.grad.isfinite().all()) for p in net.parameters())
    if rows < 2:
        assert all(value.equal(before[name]) for name, value in net.named_buffers())


def test_norm_is_batch_normalisation_where_there_is_a_batch():
    ours, twin = Norm(6, momentum=0.1), torch.nn.BatchNorm1d(6, momentum=0.1)
    for step in range(3):
        x = torch.randn(10, 6, generator=torch.Generator().manual_seed(step)) * 3 + 1
        torch.testing.assert_close(ours(x), twin(x))
    assert all(a.equal(b) for a, b in zip(ours.buffers(), twin.buffers()))
    torch.testing.assert_close(ours.eval()(x), twin.eval()(x))
    x = torch.ones(1, 6)
    torch.testing.assert_close(ours.train()(x), twin.eval()(x))  # no variance in one row


def test_norm_without_momentum_averages_all_batches():
    norm, batches = Norm(4, momentum=None), [torch.randn(20, 4) + k for k in range(3)]
    for batch in batches:
        norm(batch)
    torch.testing.assert_close(norm.running_mean, torch.stack([batch.mean(0) for batch in batches]).mean(0))


def test_a_network_counts_batches_as_its_layers_would():
    """All counters at once, those of coarse levels with too few voxels left out, as layer by layer."""
    two = Pyramid.from_cells(torch.tensor([[0, 3, 3, 3], [0, 3, 3, 4]]), (8, 8, 8), num_clouds=1)
    nets = []
    for together in (True, False):
        torch.manual_seed(0)
        net = MinkUNet("tiny")
        net.stem[1].norm.momentum = None  # needs its count at once
        net.resample[0].norm.statistics = "batch"
        nets.append(net)
        for cloud in (blob(), two, blob()):
            net(tensor(cloud)) if together else net._through_levels(tensor(cloud))
    counts = [{name: int(v) for name, v in net.named_buffers() if name.endswith("tracked")} for net in nets]
    assert counts[0] == counts[1]
    assert set(counts[0].values()) == {0, 2, 3}
    assert all(a.equal(b) for a, b in zip(nets[0].buffers(), nets[1].buffers()))


def test_mistake_43_groups_of_clouds_need_not_share_statistics():
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)) * 2 + 5
    net = torch.nn.Sequential(Norm(4), Norm(4))
    before = [value.clone() for value in net.buffers()]
    updated = net(x)
    assert not net[0].running_mean.equal(before[0])
    net[0].reset_running_stats()
    net[1].reset_running_stats()
    with use_statistics(net, "batch"):
        assert net(x).equal(updated)
    assert all(a.equal(b) for a, b in zip(net.buffers(), before))
    with use_statistics(net, "running"):
        got = net(x)
    assert all(a.equal(b) for a, b in zip(net.buffers(), before))
    torch.testing.assert_close(got, net.eval()(x))
    assert [layer.statistics for layer in net] == ["update", "update"]
    with pytest.raises(InputError, match="choose"), use_statistics(net, "none"):
        pass


def test_layers_never_wait_for_the_device(monkeypatch):
    net, x = MinkUNet("tiny"), tensor(blob())
    net(x).features.sum().backward()  # the maps are built and arranged here

    def refuse(*_args, **_options):
        raise AssertionError("a layer asked for a value on the host")

    for name in ("item", "tolist", "__bool__", "__int__", "__float__", "nonzero", "numpy", "cpu"):
        monkeypatch.setattr(torch.Tensor, name, refuse)
    net(x).features.sum().backward()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 20}, "depth 20 is unknown; choose one of tiny, 18, 34, 50, 101"),
        ({"width": 0}, "must be positive"),
        ({"output": "wide"}, 'output may be "published"'),
        ({"output": 0}, "must be positive"),
    ],
)
def test_unknown_options_are_named(options, message):
    with pytest.raises(InputError, match=message):
        MinkUNet(**options)
