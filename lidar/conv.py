"""Sparse convolution: four layers with one weight layout, over whichever back end fits the device.

A weight is (K, Cin, Cout), K the offsets of the kernel in the order of ``sparse.KernelMap``. Which module of
``backends`` multiplies is chosen once per kind of device and never changes a weight, a name or a result beyond
rounding. ``python -m superflow.lidar.conv`` shows what there is on this machine.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor, nn

from ..errors import InputError
from .selftest import TOLERANCE, largest_error
from .sparse import KernelMap, Pyramid, SparseTensor

logger = logging.getLogger(__name__)

# name -> module of lidar/backends
BACKENDS = {
    "compiled": "compiled_blocks",
    "torch": "torch_blocks",
    "torch_grouped": "torch_grouped",
    "spconv": "spconv",
}
# the last of them is plain PyTorch
PREFERRED = {"cpu": ("compiled", "torch"), "cuda": ("spconv", "torch_grouped")}
ELSEWHERE = ("torch_grouped",)
ENVIRONMENT = "SUPERFLOW_CONV_BACKEND"


class Convolution(nn.Module):
    """What the layers share: the weight (K, Cin, Cout) and how it is drawn."""

    def __init__(self, in_channels: int, out_channels: int, volume: int) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.weight = nn.Parameter(torch.empty(volume, in_channels, out_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """He initialisation over the outputs of a weight."""
        nn.init.normal_(self.weight, std=(2.0 / (self.weight.shape[0] * self.out_channels)) ** 0.5)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, offsets={self.weight.shape[0]}"


class SubMConv(Convolution):
    """3 x 3 x 3 convolution whose outputs are the input cells."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 27)

    def forward(self, x: SparseTensor) -> SparseTensor:
        return x.replace(convolve(x.features, self.weight, x.pyramid.subm(x.level)))


class DownConv(Convolution):
    """2 x 2 x 2 convolution with stride 2, to the next coarser level."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 8)

    def forward(self, x: SparseTensor) -> SparseTensor:
        features = convolve(x.features, self.weight, x.pyramid.down(x.level))
        return SparseTensor(features, x.pyramid, x.level + 1)


class UpConv(Convolution):
    """Inverse of ``DownConv``: 2 x 2 x 2 transposed convolution onto the cells of the next finer level."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 8)

    def forward(self, x: SparseTensor) -> SparseTensor:
        features = convolve(x.features, self.weight, x.pyramid.down(x.level - 1).transposed)
        return SparseTensor(features, x.pyramid, x.level - 1)


class PointConv(Convolution):
    """1 x 1 x 1 convolution: one matrix product."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1)

    def forward(self, x: SparseTensor) -> SparseTensor:
        return x.replace(x.features @ self.weight.squeeze(0))


def convolve(features: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
    """(num_out, Cout) from ``features`` (num_in, Cin) and ``weight`` (K, Cin, Cout) along ``kernel_map``.

    Computes in the dtype of the features, under autocast on CUDA in that of autocast; where the back end does not
    compute in that dtype, the one in plain PyTorch does.
    """
    if features.is_cuda and torch.is_autocast_enabled("cuda"):
        dtype = torch.get_autocast_dtype("cuda")
        features, weight = features.to(dtype), weight.to(dtype)
    return _backend_in(features.device.type, features.dtype).convolve(features, weight, kernel_map)


def prepare(pyramid: Pyramid, levels: int, dtype: torch.dtype) -> Pyramid:
    """The pyramid with all maps of ``levels`` levels arranged for what its layers compute in.

    Done here, a device is waited for here; layers then wait for nothing, neither forward nor backward.

    Args:
        dtype: of the features of the first layer; the others compute in that of autocast, where it is on.
    """
    device = pyramid.level(0).keys.device.type
    maps = pyramid.maps(levels)
    if device == "cuda" and torch.is_autocast_enabled("cuda"):
        _backend_in(device, dtype).prepare_all(maps[:1])
        dtype = torch.get_autocast_dtype("cuda")
    _backend_in(device, dtype).prepare_all(maps)
    return pyramid


def _backend_in(device_type: str, dtype: torch.dtype) -> ModuleType:
    backend = backend_for(device_type)
    return backend if dtype in backend.DTYPES else _instead(backend, device_type, dtype)


@cache  # so that the log says it once
def _instead(backend: ModuleType, device_type: str, dtype: torch.dtype) -> ModuleType:
    """The back end in plain PyTorch, for what ``backend`` does not compute in."""
    name, plain = backend.__name__.rpartition(".")[2], _preferred(device_type)[-1]
    logger.info(
        "sparse convolution in %s: %s, because %s does not compute in it", str(dtype)[6:], plain, name
    )
    return load_backend(plain)


_forced: list[str] = []  # names of the use_backend blocks around the current call


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Compute with the back end ``name`` inside the block, in the dtypes that it has.

    What was computed there keeps it for its gradients.

    Raises:
        InputError: there is no such back end, or it is not installed.
    """
    if problem := load_backend(name).problem(torch.device("cpu")):
        raise InputError(f"convolution back end {name!r} cannot be used: {problem}")
    _forced.append(name)
    try:
        yield
    finally:
        _forced.pop()


def backend_for(device_type: str) -> ModuleType:
    """The module that computes on ``device_type``: of ``use_backend``, else of the environment, else the default.

    With ``torch.use_deterministic_algorithms(True)`` the default is plain PyTorch.
    """
    if _forced:
        return load_backend(_forced[-1])
    return _default(device_type, device_type != "cpu" and torch.are_deterministic_algorithms_enabled())


@cache
def _default(device_type: str, repeatable: bool) -> ModuleType:
    """Without ``use_backend``. Only PyTorch's sums are repeatable on a GPU: spconv picks its kernels by their time."""
    device = torch.device(device_type)
    if name := os.environ.get(ENVIRONMENT):
        if problem := load_backend(name).problem(device):
            raise InputError(f"{ENVIRONMENT}={name} cannot be used on {device_type}: {problem}")
        return load_backend(name)
    *compiled, plain = _preferred(device_type)
    for name in () if repeatable else compiled:
        if load_backend(name).problem(device) is None and _passes(name, device):
            break
    else:
        name = plain
    logger.info("sparse convolution on %s: %s", device_type, name)
    return load_backend(name)


def _preferred(device_type: str) -> tuple[str, ...]:
    return PREFERRED.get(device_type, ELSEWHERE)


def _passes(name: str, device: torch.device) -> bool:
    """Whether compiled kernels are right on this very device; some builds lack those of newer GPUs."""
    try:
        error = largest_error(load_backend(name), device)
    except Exception as failure:  # whatever a foreign extension raises, it is not usable here
        logger.warning("convolution back end %s fails on %s and is left out: %s", name, device, failure)
        return False
    if not error < TOLERANCE:
        logger.warning("convolution back end %s is wrong on %s (%.1e) and is left out", name, device, error)
    return error < TOLERANCE


def load_backend(name: str) -> ModuleType:
    """The module of ``backends`` with that name.

    Raises:
        InputError: there is none.
    """
    if name not in BACKENDS:
        raise InputError(f"convolution back end {name!r} is unknown; choose one of {', '.join(BACKENDS)}")
    return import_module(f".backends.{BACKENDS[name]}", __package__)


def main() -> int:
    """Print each back end on each device; 1 if the one in use there is wrong."""
    failed = False
    wide = max(map(len, ("back end", *BACKENDS))) + 2
    print(f"{'back end':{wide}}{'device':8}{'version':28}self-test")
    for kind in [kind for kind in PREFERRED if kind == "cpu" or torch.cuda.is_available()]:
        device = torch.device(kind)
        used = backend_for(kind)
        for name in BACKENDS:
            module = load_backend(name)
            if problem := module.problem(device):
                print(f"{name:{wide}}{kind:8}{'-':28}{problem}")
                continue
            error = largest_error(module, device)
            state = "ok" if error < TOLERANCE else "WRONG"
            mark = ", in use" if module is used else ""
            failed |= state == "WRONG" and module is used
            print(
                f"{name:{wide}}{kind:8}{module.version():28}{state}, largest relative error {error:.1e}{mark}"
            )
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
