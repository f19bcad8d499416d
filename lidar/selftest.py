"""What a convolution back end computes on this machine, against PyTorch's dense convolutions."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor
from torch.nn import functional as F

from .sparse import Pyramid

TOLERANCE = 1e-5  # relative; float32 leaves about 1e-6


@torch.inference_mode(False)
@torch.enable_grad()
def largest_error(backend: ModuleType, device: torch.device) -> float:
    """Largest relative error of values and gradients of the three convolutions by a module of ``backends``."""
    generator = torch.Generator().manual_seed(0)
    shape, clouds = (5, 6, 7), 2
    cells = (torch.rand(clouds, *shape, generator=generator) < 0.3).nonzero()
    pyramid = Pyramid.from_cells(cells.to(device), shape, num_clouds=clouds)
    features = torch.randn(len(cells), 8, generator=generator)
    weights = [torch.randn(k, 8, 8, generator=generator) for k in (27, 8, 8)]

    def sparse(x: Tensor, same: Tensor, down: Tensor, up: Tensor) -> Tensor:
        y = backend.convolve(x, same, pyramid.subm(0))
        return backend.convolve(backend.convolve(y, down, pyramid.down(0)), up, pyramid.down(0).transposed)

    def dense(x: Tensor, same: Tensor, down: Tensor, up: Tensor) -> Tensor:
        at = cells.unbind(1)
        occupied = torch.zeros(clouds, *shape).index_put(at, torch.ones(()))[:, None]
        y = torch.zeros(clouds, *shape, 8, dtype=x.dtype).index_put(at, x).permute(0, 4, 1, 2, 3)
        y = F.conv3d(y, same.view(3, 3, 3, 8, 8).permute(4, 3, 0, 1, 2), padding=1) * occupied
        y = F.pad(y, [side for size in reversed(shape) for side in (0, size % 2)])
        y = F.conv3d(y, down.view(2, 2, 2, 8, 8).permute(4, 3, 0, 1, 2), stride=2)
        y = F.conv_transpose3d(y, up.view(2, 2, 2, 8, 8).permute(3, 4, 0, 1, 2), stride=2)
        return y.permute(0, 2, 3, 4, 1)[at]

    with torch.autocast(device.type, enabled=False):
        got = _values(sparse, [tensor.to(device) for tensor in (features, *weights)])
    want = _values(dense, [tensor.double() for tensor in (features, *weights)])
    return max(float((a.cpu().double() - b).abs().max() / b.abs().max()) for a, b in zip(got, want))


def _values(run: Callable[..., Tensor], arguments: list[Tensor]) -> list[Tensor]:
    """Output, and the gradients of half the sum of its squares."""
    arguments = [argument.detach().requires_grad_() for argument in arguments]
    output = run(*arguments)
    return [output.detach(), *torch.autograd.grad(output, arguments, output.detach())]
