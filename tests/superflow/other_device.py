"""Tensors that claim to lie on another device: where code mixes devices, it fails on a machine that has only one.

Values stay on the CPU, so results can be compared; what a GPU refuses is refused: an operator on tensors of two
devices, and an array made without ``.cpu()``. Indices on the CPU and single numbers may be mixed in, as on a GPU.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("meta")  # a name that autograd takes without a driver behind it
MOVES = ("aten::_to_copy", "aten::copy_")
# operators after which the host has to wait for the device: it reads a value, or learns the size of the result
WAITS = tuple(
    f"aten::{name}"
    for name in (
        "_local_scalar_dense",
        "nonzero",
        "_unique2",
        "unique_dim",
        "unique_consecutive",
        "masked_select",
    )
)
INDEXES = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")


TRAFFIC: Counter[str] = Counter()  # what made the host wait for the device, or copied to it; cleared by tests


class Elsewhere(Tensor):
    """A tensor on ``DEVICE``. Attributes: inner, its values on the CPU."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Elsewhere:
        shape: dict[str, Any] = {}
        if inner.layout == torch.strided:
            shape = {"strides": inner.stride(), "storage_offset": inner.storage_offset()}
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), dtype=inner.dtype, layout=inner.layout, device=DEVICE, **shape
        )
        made.inner = inner
        return made

    def new_tensor(self, data: Any, *, dtype: torch.dtype | None = None, **options: Any) -> Elsewhere:
        """As of a plain tensor, on this device."""
        TRAFFIC["copy to the device"] += 1
        return Elsewhere(torch.tensor(data, dtype=dtype or self.dtype, **options))

    def tolist(self) -> Any:
        """As of a plain tensor."""
        TRAFFIC["tolist"] += 1
        return self.inner.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        """As of a plain tensor on a GPU: only by force."""
        if not force:
            raise TypeError("values on another device cannot become an array; move them with .cpu() first")
        return self.inner.detach().numpy()

    def __repr__(self) -> str:
        return f"Elsewhere({self.inner!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class OtherDevice(TorchDispatchMode):
    """Inside ``with OtherDevice()`` tensors can be made on ``DEVICE`` and moved there and back."""

    def __enter__(self) -> OtherDevice:
        self._before = torch.tensor, torch.as_tensor, torch.autocast
        tensor, as_tensor, autocast = self._before
        torch.tensor, torch.as_tensor = _made_there(tensor), _made_there(as_tensor)
        torch.autocast = lambda kind, *rest, **options: autocast(
            "cpu" if kind == DEVICE.type else kind, *rest, **options
        )
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        torch.tensor, torch.as_tensor, torch.autocast = self._before
        super().__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def moved(value: Any) -> Any:
    """A copy of a tensor, or of a dataclass with its tensors, on ``DEVICE``; a module is moved itself."""
    if isinstance(value, nn.Module):
        for part in value.modules():
            for name, parameter in part._parameters.items():
                if parameter is not None:
                    own = Elsewhere(parameter.detach().clone())
                    part._parameters[name] = nn.Parameter(own, requires_grad=parameter.requires_grad)
            for name, buffer in part._buffers.items():
                part._buffers[name] = None if buffer is None else moved(buffer)
        return value
    if isinstance(value, Tensor):
        return Elsewhere(value.detach().clone())
    tensors = {f.name: got for f in fields(value) if isinstance(got := getattr(value, f.name), Tensor)}
    return replace(value, **{name: moved(tensor) for name, tensor in tensors.items()})


def _made_there(make: Any) -> Any:
    """`torch.tensor` or `torch.as_tensor` that also makes tensors of numbers on ``DEVICE``."""

    def made(data: Any, *, device: Any = None, **options: Any) -> Tensor:
        if isinstance(data, Tensor) or device is None or torch.device(device) != DEVICE:
            return make(data, device=device, **options)
        TRAFFIC["copy to the device"] += 1
        return Elsewhere(make(data, **options))

    return made


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """The operator on the values; its result is there when an input is, or when it was asked for there."""
    given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    there = [leaf for leaf in given if isinstance(leaf, Elsewhere)]
    name = func.overloadpacket._qualified_op_name
    if there and name not in MOVES:
        _check_one_device(name, args, given)
    is_there = bool(there)
    if kwargs.get("device") is not None:
        is_there = torch.device(kwargs["device"]) == DEVICE
        kwargs = {**kwargs, "device": torch.device("cpu")}
    elif name == "aten::copy_":
        is_there = isinstance(args[0], Elsewhere)
    _note_traffic(name, args, is_there, bool(there))
    result = func(*tree_map(_values, args), **tree_map(_values, kwargs))
    if not is_there:
        return result
    same = {id(leaf.inner): leaf for leaf in there}  # an operator in place returns what it was given

    def wrapped(leaf: Any) -> Any:
        return same[id(leaf)] if id(leaf) in same else Elsewhere(leaf)

    return tree_map(lambda leaf: wrapped(leaf) if isinstance(leaf, Tensor) else leaf, result)


def _note_traffic(name: str, args: Any, to_there: bool, from_there: bool) -> None:
    indices = args[1] if name in INDEXES else ()
    by_mask = any(isinstance(part, Tensor) and part.dtype == torch.bool for part in indices)
    if from_there and (name in WAITS or by_mask or (name in MOVES and not to_there)):
        TRAFFIC[name] += 1
    if name in MOVES and to_there and not isinstance(args[name == "aten::copy_"], Elsewhere):
        TRAFFIC["copy to the device"] += 1


def _check_one_device(name: str, args: Any, given: list[Tensor]) -> None:
    here = [leaf for leaf in given if not isinstance(leaf, Elsewhere) and leaf.dim() > 0]
    if name in INDEXES and isinstance(args[0], Elsewhere):  # its indices may be here, its values not
        values = args[2:3]
        here = [leaf for leaf in here if any(leaf is value for value in values)]
    if here:
        raise RuntimeError(f"{name} got tensors of two devices: {[tuple(leaf.shape) for leaf in given]}")


def _values(leaf: Any) -> Any:
    return leaf.inner if isinstance(leaf, Elsewhere) else leaf
