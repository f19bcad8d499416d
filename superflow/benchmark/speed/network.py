"""A training step of a network alone: our back end against spconv, with the same weights and voxels."""

from __future__ import annotations

from contextlib import nullcontext
from statistics import median

import torch
from torch import Tensor

from ...lidar.conv import load_backend, use_backend
from ...lidar.minkunet import MinkUNet
from ...lidar.sparse import Pyramid, SparseTensor
from ...lidar.voxelize import Voxels
from .clouds import clouds, exactly
from .options import Options, Table, spread
from .turns import Seconds, Turns, Work, busy_cores, in_fresh_process, in_turn, timed

RIVALS = ("compiled", "torch", "spconv")  # back ends for a CPU, ours first


def measure(options: Options) -> list[Table]:
    """A table a number of voxels, and one more for each beside busy cores."""
    tables = []
    for count in options.voxels:
        net, voxels = made_network(options, count)
        for beside in ("", ", one busy process a core beside it") if options.loaded else ("",):
            with busy_cores() if beside else nullcontext():
                turns, parts = alternate(net, voxels, options.rounds, options.clock)
            sizes = f"{count} voxels of {voxels.num_clouds} clouds"
            title = f"MinkUNet-{options.depth or 18}, {sizes}, a training step{beside}"
            tables.append(_table(title, turns, parts, _peaks(options, count) if not beside else {}))
    return tables


def alternate(
    net: MinkUNet, voxels: Voxels, rounds: int, clock: str
) -> tuple[Turns, dict[str, dict[str, float]]]:
    """What the steps of all back ends took, and the medians of their parts."""
    features = torch.randn(len(voxels), net.in_channels, generator=torch.Generator().manual_seed(0))
    steps: dict[str, list[dict[str, Seconds]]] = {name: [] for name in usable_backends()}

    def work(name: str) -> Work:
        return lambda: steps[name].append(network_step(net, name, voxels, features))

    turns = in_turn({name: work(name) for name in steps}, rounds=rounds, clock=clock)
    # putting our maps into the layout of spconv is none of its time, so that the parts are summed
    for name, made in steps.items():
        turns.seconds[name] = [sum(part[clock] for part in step.values()) for step in made[-rounds:]]
    parts = {
        name: {part: median(step[part][clock] for step in made[-rounds:]) for part in made[0]}
        for name, made in steps.items()
    }
    return turns, parts


def _table(title: str, turns: Turns, parts: dict[str, dict[str, float]], peaks: dict[str, float]) -> Table:
    rows = []
    ours = next(iter(parts))
    for name, own in parts.items():
        rows.append(
            [
                name,
                *(f"{own[part]:.3f}" for part in ("maps", "forward", "backward")),
                f"{turns.median(name):.3f}",
                spread(turns.seconds[name], 3),
                turns.compared(ours, name, 3),
                f"{peaks[name]:.0f}" if name in peaks else "-",
            ]
        )
    columns = (
        "back end",
        "maps s",
        "forward s",
        "backward s",
        "step s",
        "from, to",
        f"{ours} / it",
        "peak MB",
    )
    return Table(
        title, columns, rows, [turns.conditions()], turns.record() | {"parts": parts, "peak_mb": peaks}
    )


def _peaks(options: Options, count: int) -> dict[str, float]:
    if not options.memory:
        return {}
    return {name: in_fresh_process(_one_step, name, options, count)[0] for name in usable_backends()}


def _one_step(name: str, options: Options, count: int) -> Work:
    net, voxels = made_network(options, count)
    return lambda: network_step(net, name, voxels, torch.ones(count, net.in_channels))


def made_network(options: Options, count: int) -> tuple[MinkUNet, Voxels]:
    """The network of the options, and so many voxels for it."""
    torch.manual_seed(0)
    return MinkUNet(options.depth or 18), exactly(count, clouds(options.data), options.grid_m(0.1))


def usable_backends() -> list[str]:
    """Names of the back ends that this machine has for its CPU, the one that it uses first."""
    return [name for name in RIVALS if load_backend(name).problem(torch.device("cpu")) is None]


def network_step(net: MinkUNet, backend: str, voxels: Voxels, features: Tensor) -> dict[str, Seconds]:
    """Seconds of the maps, the forward and the backward pass of one step.

    spconv makes its index pairs by its own code, as for its users, and multiplies along ours, which are the same
    pairs in a better order; putting ours into its layout is not counted.
    """
    pyramid = Pyramid.from_voxels(voxels)
    held: dict[str, Tensor] = {}

    def maps() -> None:
        if backend == "spconv":
            spconv_index(pyramid, net.levels)
        else:
            prepare(pyramid, net.levels, backend)

    def forward() -> None:
        held["output"] = net(SparseTensor(features, pyramid)).features

    def backward() -> None:
        held["output"].backward(torch.full_like(held["output"], 1 / len(features)))

    net.zero_grad(set_to_none=True)
    with use_backend(backend):
        seconds = {"maps": timed(maps)}
        prepare(pyramid, net.levels, backend)
        return seconds | {"forward": timed(forward), "backward": timed(backward)}


def prepare(pyramid: Pyramid, levels: int, backend: str) -> None:
    """Build and arrange all maps that a network over ``levels`` levels takes, forward and backward."""
    load_backend(backend).prepare_all(pyramid.maps(levels))


def spconv_index(pyramid: Pyramid, levels: int) -> None:
    """All index pairs by spconv's own code, on a grid rounded up so that it drops no cell."""
    from spconv.core import ConvAlgo
    from spconv.pytorch import ops

    cells = pyramid.level(0).cells.clone()
    cells[:, 1:] -= cells[:, 1:].amin(0) // 16 * 16
    shape = [int(size) // 16 * 16 + 16 for size in cells[:, 1:].amax(0)]
    same = [3] * 3, [1] * 3, [1] * 3, [1] * 3, [0] * 3  # kernel, stride, padding, dilation, output padding
    half = [2] * 3, [2] * 3, [0] * 3, [1] * 3, [0] * 3
    for level in range(levels):
        ops.get_indice_pairs(cells, pyramid.num_clouds, shape, ConvAlgo.Native, *same, subm=True)
        if level + 1 < levels:
            cells = ops.get_indice_pairs(cells, pyramid.num_clouds, shape, ConvAlgo.Native, *half)[0]
            shape = [size // 2 for size in shape]
