"""Convolution in compiled code: the bits of the plain form, and threads that share the blocks."""

from __future__ import annotations

import os
import threading

import pytest
import torch

from superflow.lidar import conv
from superflow.lidar.backends import block_threads, compiled_blocks, compiled_passes, torch_blocks
from superflow.lidar.sparse import KernelMap, Pyramid

needs_blas = pytest.mark.skipif(
    compiled_blocks.problem(torch.device("cpu")) is not None,
    reason="PyTorch shows compiled code no BLAS here",
)
SMALL = (64, 256)  # rows and pairs of a block


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def pyramid() -> Pyramid:
    occupied = torch.rand(2, 14, 14, 14, generator=torch.Generator().manual_seed(0)) < 0.3
    return Pyramid.from_cells(occupied.nonzero(), (14, 14, 14), num_clouds=2)


def maps(of: Pyramid) -> dict[str, KernelMap]:
    return {"same": of.subm(0), "down": of.down(0), "up": of.down(0).transposed}


def values_of(module, kernel_map: KernelMap, into: int = 12, out_of: int = 20) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    features = torch.randn(kernel_map.transposed.num_out, into, generator=draw).requires_grad_()
    weight = torch.randn(len(kernel_map.counts), into, out_of, generator=draw).requires_grad_()
    output = module.convolve(features, weight, kernel_map)
    change = torch.randn(output.shape, generator=draw)
    return [output.detach(), *torch.autograd.grad(output, (features, weight), change)]


@needs_blas
@pytest.mark.parametrize("kind", ["same", "down", "up"])
def test_one_thread_gives_the_bits_of_plain_pytorch(monkeypatch, threads, kind):
    threads(1)
    monkeypatch.setattr(compiled_blocks, "BLOCK", SMALL)
    monkeypatch.setattr(torch_blocks, "CPU_BLOCK", SMALL)
    kernel_map = maps(pyramid())[kind]
    got, want = (values_of(module, kernel_map) for module in (compiled_blocks, torch_blocks))
    assert len(compiled_blocks.prepare(kernel_map).edges) > 5
    assert all(a.equal(b) for a, b in zip(got, want))


@needs_blas
@pytest.mark.parametrize("kind", ["same", "down", "up"])
def test_pairs_are_arranged_as_the_plain_form_has_them(monkeypatch, threads, kind):
    threads(1)
    monkeypatch.setattr(compiled_blocks, "BLOCK", SMALL)
    monkeypatch.setattr(torch_blocks, "CPU_BLOCK", SMALL)
    kernel_map = maps(pyramid())[kind]
    arranged = compiled_blocks.prepare(kernel_map)
    for b, block in enumerate(torch_blocks.prepare(kernel_map)):
        begin, end = arranged.cuts[b, 0], arranged.cuts[b, -1]
        assert arranged.rows_in[begin:end].tolist() == torch.cat(block.rows_in).tolist()
        assert arranged.rows_out[begin:end].tolist() == torch.cat(block.rows_out).tolist()
        assert arranged.products[begin:end].tolist() == block.sums.products.tolist()
        starts = arranged.starts[block.sums.begin : block.sums.end + 1] - begin
        assert starts.tolist() == block.sums.starts.tolist()


@needs_blas
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("kind", ["same", "down", "up"])
def test_threads_share_the_blocks_and_the_bits_are_those_of_one(monkeypatch, threads, kind, count):
    monkeypatch.setattr(compiled_blocks, "BLOCK", SMALL)
    threads(1)
    alone = values_of(compiled_blocks, maps(pyramid())[kind])
    monkeypatch.setattr(block_threads, "_number", torch.get_num_threads)
    block_threads.use(lambda: count)
    seen = {"forward": [], "backward": []}
    for name, idents in seen.items():
        plain = getattr(compiled_passes, name)
        monkeypatch.setattr(
            compiled_passes,
            name,
            lambda *given, plain=plain, idents=idents: (idents.append(threading.get_ident()), plain(*given)),
        )
    for _ in range(3):
        shared = values_of(compiled_blocks, maps(pyramid())[kind])
        assert all(a.equal(b) for a, b in zip(shared, alone))
    assert len(seen["forward"]) == 3 * count
    assert len(seen["backward"]) == 6 * count  # rows and weights
    assert threading.get_ident() not in {*seen["forward"], *seen["backward"]}
    assert torch.get_num_threads() == 1


@needs_blas
@pytest.mark.parametrize("asked", ["features", "weight"])
def test_threads_share_either_gradient_alone(monkeypatch, threads, asked):
    monkeypatch.setattr(compiled_blocks, "BLOCK", SMALL)
    kernel_map, gradients = maps(pyramid())["same"], []
    features, weight = torch.randn(kernel_map.num_out, 4), torch.randn(27, 4, 6)
    for count in (1, 2):
        threads(count)
        given = {"features": features, "weight": weight}
        given[asked] = given[asked].clone().requires_grad_()
        output = compiled_blocks.convolve(**given, kernel_map=kernel_map)
        gradients += torch.autograd.grad(output.square().sum(), given[asked])
    torch.testing.assert_close(*gradients)


@needs_blas
def test_either_gradient_alone():
    kernel_map = maps(pyramid())["same"]
    features, weight = torch.randn(kernel_map.num_out, 4), torch.randn(27, 4, 6)
    for asked in ("features", "weight"):
        gradients = []
        for module in (compiled_blocks, torch_blocks):
            given = {"features": features, "weight": weight}
            given[asked] = given[asked].clone().requires_grad_()
            output = module.convolve(**given, kernel_map=kernel_map)
            gradients += torch.autograd.grad(output.square().sum(), given[asked])
        torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-3)


@needs_blas
@pytest.mark.parametrize(
    ("features", "weight"),
    [
        ((0, 0), (0, 1, 0)),
        ((1, 0), (0, 0, 0)),
        ((-1, 0), (0, 0, 0)),
        ((0, 0), (-1, 0, 0)),
        ((0, 1), (0, 0, 0)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(features, weight):
    kernel_map = maps(pyramid())["down"]
    rows, offsets = kernel_map.num_in, len(kernel_map.counts)
    shapes = [rows + features[0], 4 + features[1]], [offsets + weight[0], 4 + weight[1], 6]
    with pytest.raises(ValueError, match=f"do not fit a map of {offsets} offsets from {rows} rows"):
        compiled_blocks.convolve(*map(torch.ones, shapes), kernel_map)
    wide = torch.ones(rows, 4), torch.ones(offsets, 4, 6, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"Cout\) in float32"):
        compiled_blocks.convolve(*wide, kernel_map)


@needs_blas
def test_it_works_without_gradients_and_in_inference_mode(threads):
    kernel_map = maps(pyramid())["same"]
    features, weight = torch.randn(kernel_map.num_out, 4), torch.randn(27, 4, 6, requires_grad=True)
    want = torch_blocks.convolve(features, weight, kernel_map).detach()
    threads(2)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            torch.testing.assert_close(compiled_blocks.convolve(features, weight, kernel_map), want)


@needs_blas
def test_it_is_the_default_in_single_precision_alone():
    assert conv.backend_for("cpu") is compiled_blocks
    assert compiled_blocks.problem(torch.device("cuda")) == "it runs on a CPU alone"
    kernel_map = maps(pyramid())["same"]
    wide = torch.randn(kernel_map.num_out, 4, dtype=torch.float64), torch.randn(27, 4, 6, dtype=torch.float64)
    assert conv.convolve(*wide, kernel_map).equal(torch_blocks.convolve(*wide, kernel_map))


def test_without_a_blas_plain_pytorch_computes(monkeypatch):
    monkeypatch.setattr(compiled_passes, "blas", lambda: None)
    conv._default.cache_clear()
    try:
        assert "no matrix product" in compiled_blocks.problem(torch.device("cpu"))
        assert conv.backend_for("cpu") is torch_blocks
    finally:
        conv._default.cache_clear()


@pytest.mark.parametrize("works", [[], [5], [1, 1], [9, 1, 1, 1], [1, 1, 1, 9], [0, 0, 0], [3] * 10])
def test_every_part_falls_to_one_thread(threads, works):
    threads(3)
    found = block_threads.shares(works)
    assert [begin for begin, _ in found] == [0, *(end for _, end in found[:-1])]
    assert found[-1][1] == len(works)
    assert len(found) <= 3
    assert all(begin < end for begin, end in found) or not works
    if works == [3] * 10:
        assert [end - begin for begin, end in found] == [3, 4, 3]


def test_an_error_in_a_thread_is_raised_when_all_have_ended():
    ended = []

    def fail():
        raise ValueError("in a thread")

    with pytest.raises(ValueError, match="in a thread"):
        block_threads.run([fail, lambda: ended.append(1)])
    assert ended == [1]


@needs_blas
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_starts_threads_of_its_own(threads):
    threads(2)
    done: list[int] = []
    block_threads.run([lambda: done.append(1)] * 2)
    child = os.fork()
    if child == 0:
        try:
            block_threads.run([lambda: done.append(1)] * 2)
        finally:
            os._exit(0 if len(done) == 4 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
