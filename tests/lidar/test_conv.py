"""Sparse convolution against PyTorch's dense one, on every back end that is here."""

from __future__ import annotations

import runpy
import sys
import tomllib
from importlib.util import find_spec

import pytest
import torch
from packaging.requirements import Requirement
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from superflow.errors import InputError
from superflow.lidar import conv
from superflow.lidar.backends import compiled_blocks, torch_blocks, torch_grouped
from superflow.lidar.sparse import Pyramid, SparseTensor

# back end, dtype, largest error relative to the largest value
BACKENDS = [
    pytest.param(name, dtype, tolerance, id=f"{name}-{str(dtype)[6:]}")
    for name in conv.BACKENDS
    if name != "spconv" or find_spec(name)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-12))
    if name.startswith("torch") or dtype == torch.float32  # it computes in single precision only
]
GRIDS = [((5, 6, 7), 1.0, False), ((5, 6, 7), 0.3, True), ((9, 5, 3), 0.05, False), ((3, 1, 5), 0.5, True)]


def random_pyramid(shape, density: float, wraps: bool = False, seed: int = 0) -> Pyramid:
    occupied = torch.rand(2, *shape, generator=torch.Generator().manual_seed(seed)) < density
    return Pyramid.from_cells(occupied.nonzero(), shape, num_clouds=2, wraps=wraps)


def draw(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def to_dense(features, level):
    index = level.cells.long().unbind(1)
    grid = features.new_zeros(2, *level.shape, features.shape[1])
    return grid.index_put(index, features).permute(0, 4, 1, 2, 3)


def at_cells(dense, level):
    return dense.permute(0, 2, 3, 4, 1)[level.cells.long().unbind(1)]


def dense_same(features, weight, pyramid):
    """conv3d on the cells of the level; circular along axis 1 where that wraps."""
    level = pyramid.level(0)
    dense = F.pad(to_dense(features, level), (1, 1, 0, 0, 1, 1))
    dense = F.pad(dense, (0, 0, 1, 1, 0, 0), mode="circular" if level.wraps else "constant")
    kernel = weight.view(3, 3, 3, *weight.shape[1:]).permute(4, 3, 0, 1, 2)
    return at_cells(F.conv3d(dense, kernel), level)


def dense_down(features, weight, pyramid):
    fine, coarse = pyramid.level(0), pyramid.level(1)
    rounded = [side for size in reversed(fine.shape) for side in (0, size % 2)]
    kernel = weight.view(2, 2, 2, *weight.shape[1:]).permute(4, 3, 0, 1, 2)
    return at_cells(F.conv3d(F.pad(to_dense(features, fine), rounded), kernel, stride=2), coarse)


def dense_up(features, weight, pyramid):
    fine, coarse = pyramid.level(0), pyramid.level(1)
    kernel = weight.view(2, 2, 2, *weight.shape[1:]).permute(3, 4, 0, 1, 2)
    return at_cells(F.conv_transpose3d(to_dense(features, coarse), kernel, stride=2), fine)


# offsets, dense twin, kernel map, level of the input
KINDS = {
    "same": (27, dense_same, lambda pyramid: pyramid.subm(0), 0),
    "down": (8, dense_down, lambda pyramid: pyramid.down(0), 0),
    "up": (8, dense_up, lambda pyramid: pyramid.down(0).transposed, 1),
}


def assert_equals_dense(kind, name, dtype, tolerance, pyramid):
    offsets, twin, kernel_map, level = KINDS[kind]
    features = draw(len(pyramid.level(level)), 5, dtype=dtype).requires_grad_()
    weight = draw(offsets, 5, 3, dtype=dtype, seed=1).requires_grad_()
    with conv.use_backend(name):
        got = conv.convolve(features, weight, kernel_map(pyramid))
    want = twin(features, weight, pyramid)
    assert got.shape == want.shape
    upstream = draw(*want.shape, dtype=dtype, seed=2)
    pairs = [(got, want)]
    pairs += zip(*(torch.autograd.grad(output, (features, weight), upstream) for output in (got, want)))
    for ours, theirs in pairs:
        assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


@pytest.mark.parametrize(("name", "dtype", "tolerance"), BACKENDS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("shape", "density", "wraps"), GRIDS)
def test_equals_dense_convolution(name, dtype, tolerance, kind, shape, density, wraps):
    assert_equals_dense(kind, name, dtype, tolerance, random_pyramid(shape, density, wraps))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("block", [(7, 1 << 20), (1 << 20, 40), (1, 1)])
@pytest.mark.parametrize("name", ["torch", "torch_grouped", "compiled"])
def test_blocks_do_not_show(monkeypatch, kind, block, name):
    monkeypatch.setattr(compiled_blocks, "BLOCK", block)
    monkeypatch.setattr(torch_blocks, "CPU_BLOCK", block)
    monkeypatch.setattr(torch_grouped, "BLOCK", block)
    exact = (torch.float32, 1e-5) if name == "compiled" else (torch.float64, 1e-12)
    assert_equals_dense(kind, name, *exact, random_pyramid((5, 6, 7), 0.4, wraps=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", [torch_blocks, torch_grouped])
def test_weight_gradients_lose_nothing_between_blocks(monkeypatch, form, kind, dtype):
    """In half precision the sum over many blocks would not notice the share of a single one."""
    offsets, _, kernel_map, level = KINDS[kind]
    pyramid = random_pyramid((16, 16, 16), 0.5)
    # of one sign, as behind a ReLU, the sum grows far beyond what a block adds to it
    features = draw(len(pyramid.level(level)), 3).abs().to(dtype)
    monkeypatch.setattr(torch_blocks, "CPU_BLOCK", (4, 1 << 20))
    monkeypatch.setattr(torch_grouped, "BLOCK", (4, 1 << 20))
    gradients = []
    for kind_of_number in (dtype, torch.float64):
        weight = torch.zeros(offsets, 3, 2, dtype=kind_of_number, requires_grad=True)
        form.convolve(features.to(kind_of_number), weight, kernel_map(pyramid)).sum().backward()
        assert weight.grad.dtype == kind_of_number
        gradients.append(weight.grad.double())
    got, want = gradients
    assert (got - want).abs().max() <= 2 * torch.finfo(dtype).eps * want.abs().max()


@pytest.mark.parametrize(("name", "dtype", "tolerance"), BACKENDS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_cells_give_no_features_and_zero_gradients(name, dtype, tolerance, kind):
    offsets, _, kernel_map, _ = KINDS[kind]
    pyramid = random_pyramid((4, 4, 4), 0.0)
    features = torch.zeros(0, 5, dtype=dtype, requires_grad=True)
    weight = draw(offsets, 5, 3, dtype=dtype).requires_grad_()
    with conv.use_backend(name):
        output = conv.convolve(features, weight, kernel_map(pyramid))
    assert output.shape == (0, 3)
    output.sum().backward()
    assert features.grad.shape == (0, 5)
    assert weight.grad.abs().sum() == 0


def test_a_cell_alone_sees_only_the_centre_of_the_kernel():
    pyramid = Pyramid.from_cells(torch.tensor([[0, 1, 1, 1]]), (3, 3, 3), num_clouds=1)
    features, weight = draw(1, 4), draw(27, 4, 6)
    torch.testing.assert_close(conv.convolve(features, weight, pyramid.subm(0)), features @ weight[13])


def test_input_gradients_are_skipped_where_nobody_asks(monkeypatch):
    asked = []
    plain = torch_blocks._backward
    monkeypatch.setattr(torch_blocks, "_backward", lambda *given: (asked.append(given[4:]), plain(*given)))
    pyramid, weight = random_pyramid((4, 4, 4), 0.5), draw(27, 4, 6).requires_grad_()
    torch_blocks.convolve(draw(len(pyramid.level(0)), 4), weight, pyramid.subm(0)).sum().backward()
    assert asked[0][0] is None
    assert asked[0][1] is weight.grad or asked[0][1].equal(weight.grad)


def test_layers_move_between_levels():
    pyramid = random_pyramid((6, 6, 6), 0.4)
    x = SparseTensor(draw(len(pyramid.level(0)), 4), pyramid)
    down = conv.DownConv(4, 6)(conv.SubMConv(4, 4)(x))
    assert (down.level, down.features.shape) == (1, (len(pyramid.level(1)), 6))
    up = conv.UpConv(6, 5)(down)
    assert (up.level, up.features.shape) == (0, (len(pyramid.level(0)), 5))
    point = conv.PointConv(4, 3)
    torch.testing.assert_close(point(x).features, x.features @ point.weight[0])
    assert [tuple(layer.weight.shape) for layer in (conv.SubMConv(2, 3), conv.UpConv(2, 3))] == [
        (27, 2, 3),
        (8, 2, 3),
    ]


def test_runs_repeat_bit_by_bit():
    pyramid = random_pyramid((12, 12, 12), 0.3)
    features, weight = draw(len(pyramid.level(0)), 16), draw(27, 16, 24)

    def run() -> list[torch.Tensor]:
        x, w = features.clone().requires_grad_(), weight.clone().requires_grad_()
        fresh = random_pyramid((12, 12, 12), 0.3)
        y = conv.convolve(x, w, fresh.subm(0))
        return [y.detach(), *torch.autograd.grad(y.square().sum(), (x, w))]

    first = run()
    for _ in range(3):
        assert all(a.equal(b) for a, b in zip(first, run()))


def test_autocast_on_the_cpu_does_not_reach_the_products():
    pyramid = random_pyramid((6, 6, 6), 0.4)
    features, weight = draw(len(pyramid.level(0)), 8), draw(27, 8, 8)
    want = conv.convolve(features, weight, pyramid.subm(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert conv.convolve(features, weight, pyramid.subm(0)).equal(want)


def test_what_a_back_end_does_not_compute_in_is_left_to_pytorch(monkeypatch):
    """bfloat16 by spconv would become float16, whose gradients nobody scales."""
    spconv = conv.load_backend("spconv")
    given = []
    monkeypatch.setattr(spconv, "problem", lambda device: None)
    monkeypatch.setattr(
        spconv,
        "convolve",
        lambda features, *rest: (given.append(features.dtype), torch_blocks.convolve(features, *rest))[1],
    )
    pyramid = random_pyramid((6, 6, 6), 0.4)
    features, weight = draw(len(pyramid.level(0)), 8), draw(27, 8, 8)
    for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
        arguments = features.to(dtype), weight.to(dtype), pyramid.subm(0)
        with conv.use_backend("spconv"):
            got = conv.convolve(*arguments)
        assert got.dtype == dtype
        assert got.equal(torch_blocks.convolve(*arguments))
    assert given == [torch.float32, torch.float16]


def test_spconv_is_tested_wherever_it_has_a_wheel(repository):
    extras = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (spconv,) = (need for need in map(Requirement, extras["test"]) if need.name.startswith("spconv"))
    assert (find_spec("spconv") is not None) >= spconv.marker.evaluate(), "install the test extra"


@pytest.mark.parametrize(("shape", "density", "wraps"), GRIDS)
@pytest.mark.parametrize("kind", KINDS)
def test_pairs_are_laid_out_for_spconv_in_one_piece(shape, density, wraps, kind):
    pyramid = random_pyramid(shape, density, wraps)
    one = KINDS[kind][2](pyramid)
    with Operators() as operators:
        table, counts = conv.load_backend("spconv").prepare(one)
    assert counts.tolist() == one.counts
    assert table.shape == (2, len(one.counts), max(1, *one.counts))
    for side, rows in enumerate((one.rows_in, one.rows_out)):
        for k, part in enumerate(rows.split(one.counts)):
            assert torch.equal(table[side, k, : len(part)], part)
            assert (table[side, k, len(part) :] == -1).all()
    assert operators.count < 20  # for all offsets and both sides


class Operators(TorchDispatchMode):
    """How many operators run inside."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.skipif(find_spec("spconv") is None, reason="spconv has no wheel for this platform or Python")
@pytest.mark.parametrize("kind", KINDS)
def test_spconv_does_not_cast_by_itself(monkeypatch, kind):
    from spconv.pytorch import functional

    seen = []
    for name in ("indice_subm_conv", "indice_conv"):
        plainly = getattr(functional, name)
        monkeypatch.setattr(
            functional,
            name,
            lambda *given, plainly=plainly: (
                seen.append(torch.is_autocast_enabled("cuda")),
                plainly(*given),
            )[1],
        )
    offsets, _, kernel_map, level = KINDS[kind]
    pyramid = random_pyramid((6, 6, 6), 0.4)
    features, weight = draw(len(pyramid.level(level)), 8), draw(offsets, 8, 8)
    before = torch.is_autocast_enabled("cuda")
    torch.set_autocast_enabled("cuda", True)
    try:
        conv.load_backend("spconv").convolve(features, weight, kernel_map(pyramid))
        assert torch.is_autocast_enabled("cuda")
    finally:
        torch.set_autocast_enabled("cuda", before)
    assert seen == [False]


def test_inputs_are_not_changed():
    pyramid = random_pyramid((6, 6, 6), 0.4)
    features, weight = draw(len(pyramid.level(0)), 8).requires_grad_(), draw(27, 8, 8).requires_grad_()
    before = features.detach().clone(), weight.detach().clone()
    output = conv.convolve(features, weight, pyramid.subm(0))
    upstream = draw(*output.shape)
    kept = upstream.clone()
    output.backward(upstream)
    assert features.equal(before[0])
    assert weight.equal(before[1])
    assert upstream.equal(kept)


def test_a_result_survives_the_next_call():
    # the workspace is reused: nothing that was returned may lie in it
    pyramid = random_pyramid((8, 8, 8), 0.4)
    features, weight = draw(len(pyramid.level(0)), 8), draw(27, 8, 8)
    first = conv.convolve(features, weight, pyramid.subm(0))
    kept = first.clone()
    conv.convolve(features * 2, weight, pyramid.subm(0))
    conv.convolve(
        conv.convolve(features, weight[:8], pyramid.down(0)), weight[8:16], pyramid.down(0).transposed
    )
    assert first.equal(kept)


def test_training_goes_on_after_inference_mode():
    # its tensors must not be written outside: the workspace that both use is none of them
    pyramid = random_pyramid((6, 6, 6), 0.4)
    features, weight = draw(len(pyramid.level(0)), 8), draw(27, 8, 9).requires_grad_()
    torch_blocks._local.__dict__.clear()
    with torch.inference_mode():
        want = conv.convolve(features, weight, random_pyramid((6, 6, 6), 0.4).subm(0))
    got = conv.convolve(features, weight, pyramid.subm(0))
    got.sum().backward()
    assert got.equal(want)


def test_the_back_end_is_chosen_by_block_then_environment(monkeypatch):
    conv._default.cache_clear()
    monkeypatch.delenv(conv.ENVIRONMENT, raising=False)
    fastest = compiled_blocks if compiled_blocks.problem(torch.device("cpu")) is None else torch_blocks
    assert conv.backend_for("cpu") is fastest
    with conv.use_backend("torch"):
        assert conv.backend_for("cpu") is torch_blocks
    conv._default.cache_clear()
    monkeypatch.setenv(conv.ENVIRONMENT, "cuda-magic")
    with pytest.raises(
        InputError, match=r"'cuda-magic' is unknown; choose one of compiled, torch, torch_grouped, spconv"
    ):
        conv.backend_for("cpu")
    monkeypatch.setenv(conv.ENVIRONMENT, "spconv")
    spconv = conv.load_backend("spconv")
    monkeypatch.setattr(spconv, "problem", lambda device: "not installed; say please")
    with pytest.raises(
        InputError, match="SUPERFLOW_CONV_BACKEND=spconv cannot be used on cpu: not installed"
    ):
        conv.backend_for("cpu")
    with (
        pytest.raises(InputError, match="'spconv' cannot be used: not installed"),
        conv.use_backend("spconv"),
    ):
        pass
    conv._default.cache_clear()


def test_runs_that_shall_repeat_on_a_gpu_leave_out_spconv(monkeypatch):
    monkeypatch.delenv(conv.ENVIRONMENT, raising=False)
    spconv = conv.load_backend("spconv")
    monkeypatch.setattr(spconv, "problem", lambda device: None)
    monkeypatch.setattr(conv, "_passes", lambda name, device: True)
    conv._default.cache_clear()
    try:
        assert conv.backend_for("cuda") is spconv
        torch.use_deterministic_algorithms(True)
        assert conv.backend_for("cuda") is torch_grouped
        torch.use_deterministic_algorithms(False)
        assert conv.backend_for("cuda") is spconv
    finally:
        torch.use_deterministic_algorithms(False)
        conv._default.cache_clear()


def test_a_build_that_cannot_be_imported_is_a_problem(monkeypatch):
    spconv = conv.load_backend("spconv")
    monkeypatch.setattr(spconv.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "spconv.pytorch", None)
    assert "cannot be imported" in spconv.problem(torch.device("cpu"))
    assert spconv.problem(torch.device("meta")) == "knows no device meta"
    monkeypatch.setattr(spconv.importlib.util, "find_spec", lambda name: None)
    assert "-m pip install 'superflow-lidar[spconv]' brings" in spconv.problem(torch.device("cpu"))


def test_a_back_end_that_is_wrong_on_a_device_is_left_out(monkeypatch, caplog):
    spconv = conv.load_backend("spconv")
    monkeypatch.setattr(spconv, "problem", lambda device: None)
    monkeypatch.setattr(
        spconv, "convolve", lambda features, *rest: torch_blocks.convolve(features * 1.001, *rest)
    )
    assert not conv._passes("spconv", torch.device("cpu"))
    assert "is wrong on cpu" in caplog.text
    monkeypatch.setattr(spconv, "convolve", lambda *given: 1 / 0)
    assert not conv._passes("spconv", torch.device("cpu"))
    assert "fails on cpu and is left out: division by zero" in caplog.text


def test_the_module_reports_its_back_ends(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "superflow.lidar.conv")
    with pytest.raises(SystemExit) as end:
        runpy.run_module("superflow.lidar.conv", run_name="__main__")
    assert end.value.code == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "ok, largest relative error" in lines["torch"]
    assert "in use" in lines["torch" if compiled_blocks.problem(torch.device("cpu")) else "compiled"]
    assert "spconv" in lines


def test_the_report_fails_when_the_back_end_in_use_is_wrong(monkeypatch, capsys):
    right = torch_blocks.convolve
    monkeypatch.setattr(conv, "BACKENDS", {"torch": "torch_blocks"})
    monkeypatch.setattr(conv, "PREFERRED", {"cpu": ("torch",)})
    conv._default.cache_clear()
    monkeypatch.setattr(torch_blocks, "convolve", lambda features, *rest: right(features * 1.001, *rest))
    assert conv.main() == 1
    assert "WRONG" in capsys.readouterr().out
    conv._default.cache_clear()
