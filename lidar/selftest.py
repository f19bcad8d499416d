"""What every convolution back end computes on this machine, against PyTorch's dense convolutions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from .conv import BACKENDS, PREFERRED, backend_for, convolve, load_backend, use_backend
from .sparse import Pyramid

TOLERANCE = 1e-5  # relative; float32 leaves about 1e-6


@torch.inference_mode(False)
@torch.enable_grad()
def largest_error(name: str, device: torch.device) -> float:
    """Largest relative error of values and gradients of the three convolutions by the back end ``name``."""
    generator = torch.Generator().manual_seed(0)
    shape, clouds = (5, 6, 7), 2
    cells = (torch.rand(clouds, *shape, generator=generator) < 0.3).nonzero()
    pyramid = Pyramid.from_cells(cells.to(device), shape, num_clouds=clouds)
    features = torch.randn(len(cells), 8, generator=generator)
    weights = [torch.randn(k, 8, 8, generator=generator) for k in (27, 8, 8)]

    def sparse(x: Tensor, same: Tensor, down: Tensor, up: Tensor) -> Tensor:
        y = convolve(x, same, pyramid.subm(0))
        return convolve(convolve(y, down, pyramid.down(0)), up, pyramid.down(0).transposed)

    def dense(x: Tensor, same: Tensor, down: Tensor, up: Tensor) -> Tensor:
        at = cells.unbind(1)
        occupied = torch.zeros(clouds, *shape).index_put(at, torch.ones(()))[:, None]
        y = torch.zeros(clouds, *shape, 8, dtype=x.dtype).index_put(at, x).permute(0, 4, 1, 2, 3)
        y = F.conv3d(y, same.view(3, 3, 3, 8, 8).permute(4, 3, 0, 1, 2), padding=1) * occupied
        y = F.pad(y, [side for size in reversed(shape) for side in (0, size % 2)])
        y = F.conv3d(y, down.view(2, 2, 2, 8, 8).permute(4, 3, 0, 1, 2), stride=2)
        y = F.conv_transpose3d(y, up.view(2, 2, 2, 8, 8).permute(3, 4, 0, 1, 2), stride=2)
        return y.permute(0, 2, 3, 4, 1)[at]

    with use_backend(name), torch.autocast(device.type, enabled=False):
        got = _values(sparse, [tensor.to(device) for tensor in (features, *weights)])
    want = _values(dense, [tensor.double() for tensor in (features, *weights)])
    return max(float((a.cpu().double() - b).abs().max() / b.abs().max()) for a, b in zip(got, want))


def _values(run: Callable[..., Tensor], arguments: list[Tensor]) -> list[Tensor]:
    """Output, and the gradients of half the sum of its squares."""
    arguments = [argument.detach().requires_grad_() for argument in arguments]
    output = run(*arguments)
    return [output.detach(), *torch.autograd.grad(output, arguments, output.detach())]


def main() -> int:
    """Print each back end on each device; 1 if the one in use there is wrong."""
    failed = False
    print(f"{'back end':10}{'device':8}{'version':28}self-test")
    for kind in [kind for kind in PREFERRED if kind == "cpu" or torch.cuda.is_available()]:
        device = torch.device(kind)
        used = backend_for(kind)
        for name in BACKENDS:
            module = load_backend(name)
            if problem := module.problem(device):
                print(f"{name:10}{kind:8}{'-':28}{problem}")
                continue
            error = largest_error(name, device)
            state = "ok" if error < TOLERANCE else "WRONG"
            mark = ", in use" if module is used else ""
            failed |= state == "WRONG" and module is used
            print(f"{name:10}{kind:8}{module.version():28}{state}, largest relative error {error:.1e}{mark}")
    return int(failed)
