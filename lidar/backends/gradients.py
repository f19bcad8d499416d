"""The convolution as a function with gradients, whatever passes over the blocks compute them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..sparse import KernelMap

# forward(features, weight, kernel_map, output) writes the output; backward(features, weight, grad, kernel_map,
# grad_features, grad_weight) writes the one and adds to the other, None where nobody asks for it
Forward = Callable[[Tensor, Tensor, KernelMap, Tensor], None]
Backward = Callable[[Tensor, Tensor, Tensor, KernelMap, Tensor | None, Tensor | None], None]


class Convolve(torch.autograd.Function):
    """Output (num_out, Cout) of contiguous features (num_in, Cin) and weight (K, Cin, Cout) along a map."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        kernel_map: KernelMap,
        forward: Forward,
        backward: Backward,
    ) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.kernel_map, ctx.passes = kernel_map, backward
        output = features.new_empty(kernel_map.num_out, weight.shape[2])
        forward(features, weight, kernel_map, output)
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        features, weight = ctx.saved_tensors
        need_features, need_weight, *_ = ctx.needs_input_grad
        grad_features = torch.empty_like(features) if need_features else None
        # in half precision a block's share would be lost in the sum over many blocks
        total = torch.promote_types(weight.dtype, torch.float32)
        grad_weight = torch.zeros_like(weight, dtype=total) if need_weight else None
        ctx.passes(features, weight, grad.contiguous(), ctx.kernel_map, grad_features, grad_weight)
        return grad_features, None if grad_weight is None else grad_weight.to(weight.dtype), None, None, None
