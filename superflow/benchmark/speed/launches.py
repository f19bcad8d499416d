"""How many kernels a device would have to start for a network: counted, not timed, so that it needs no device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ...lidar.backends import torch_blocks, torch_grouped
from ...lidar.conv import use_backend
from ...lidar.minkunet import MinkUNet
from ...lidar.sparse import KernelMap, Pyramid, SparseTensor
from .clouds import clouds, exactly
from .options import Options, Table

# back ends in plain PyTorch, and how they arrange maps on a device; what compiled ones start cannot be seen from here
FORMS: dict[str, Callable[[Sequence[KernelMap]], None]] = {
    "torch": partial(torch_blocks.prepare_all, limit=torch_blocks.CUDA_BLOCK),
    "torch_grouped": torch_grouped.prepare_all,
}
PARTS = ("maps", "forward", "backward")
# operators that only make room or look at what is there; views say so themselves
STARTS_NOTHING = frozenset(
    f"aten::{name}"
    for name in (
        *("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"),
        *("_unsafe_view", "promote_types"),
    )
)


class Launches(TorchDispatchMode):
    """Counts operators that start a kernel, inside ``with Launches() as launches``: each is one, whatever it starts.

    Attributes:
        by_name: how often each operator ran.
    """

    def __init__(self) -> None:
        super().__init__()
        self.by_name: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """All of them."""
        return self.by_name.total()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket._qualified_op_name
        if not func.is_view and name not in STARTS_NOTHING:
            self.by_name[name] += 1
        return func(*args, **(kwargs or {}))


def measure(options: Options) -> list[Table]:
    """A table a number of voxels: launches of a training step's parts, a row for each form in plain PyTorch."""
    torch.manual_seed(0)
    net = MinkUNet(options.depth or 34)
    tables = []
    for count in options.voxels:
        voxels = exactly(count, clouds(options.data), options.grid_m(0.1))
        record, rows = {}, []
        for form in FORMS:
            record[form] = network_launches(net, form, Pyramid.from_voxels(voxels))
            rows.append([form, *(str(record[form][part].total()) for part in PARTS)])
        title = (
            f"MinkUNet-{options.depth or 34}, {count} voxels of {voxels.num_clouds} clouds, kernel launches"
        )
        notes = ("Operators that start a kernel on a device, counted on the CPU; none of them ran on a GPU.",)
        plain = {form: {part: dict(found) for part, found in parts.items()} for form, parts in record.items()}
        tables.append(Table(title, ("back end", *PARTS), rows, notes, {"launches": plain}))
    return tables


def network_launches(net: MinkUNet, form: str, pyramid: Pyramid) -> dict[str, Counter[str]]:
    """What a training step on a fresh pyramid starts: for its maps, the forward and the backward pass."""
    features = torch.ones(len(pyramid.level(0)), net.in_channels)
    net.zero_grad(set_to_none=True)
    found = {part: Launches() for part in PARTS}
    with use_backend(form):
        with found["maps"]:
            FORMS[form](pyramid.maps(net.levels))
        with found["forward"]:
            output = net(SparseTensor(features, pyramid)).features
        upstream = torch.full_like(output, 1 / len(features))
        with found["backward"]:
            output.backward(upstream)
    return {part: launches.by_name for part, launches in found.items()}
