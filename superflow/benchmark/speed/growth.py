"""How time and memory grow with the number of points: voxels, kernel maps, votes, regions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...clips.batch import Batch
from ...downstream.voting import Ballot, VotingOptions, vote
from ...files.writes import write_atomically
from ...lidar.sparse import Pyramid
from ...lidar.voxelize import CubicGrid, voxelize
from ...method.pooling import pool_points
from ...method.regions import region_table
from .clouds import made_street
from .network import prepare
from .options import Options, Table
from .turns import Work, in_fresh_process, in_turn

CLASSES, CHANNELS = 16, 64


def measure(options: Options) -> list[Table]:
    """Microseconds a thousand points at every size, and the power of the number of points that time grows with."""
    seconds: dict[str, list[float]] = {name: [] for name in PARTS}
    memory: dict[str, list[float]] = {name: [] for name in PARTS}
    notes = []
    for count in options.sizes:
        turns = in_turn(
            {name: make(count) for name, make in PARTS.items()}, rounds=options.rounds, clock=options.clock
        )
        for name in PARTS:
            seconds[name].append(turns.median(name))
            if options.memory:
                memory[name].append(in_fresh_process(PARTS[name], count)[1])
        notes.append(f"{count} points: {turns.conditions()}.")
    rows = []
    for name, took in seconds.items():
        each = [f"{1e9 * value / count:.0f}" for value, count in zip(took, options.sizes)]
        added = [f"{value:.0f}" for value in memory[name]] or ["-"]
        rows.append([name, *each, f"{exponent(options.sizes, took):.2f}", ", ".join(added)])
    columns = ("part", *(f"{count} points: µs a thousand" for count in options.sizes), "exponent", "MB added")
    record = {"sizes": list(options.sizes), "seconds": seconds, "memory_mb": memory}
    return [Table("Growth with the number of points", columns, rows, notes, record)]


def exponent(sizes: Sequence[int], values: Sequence[float]) -> float:
    """Slope of the line through the logarithms: 1 is linear. nan where there is one size only."""
    if len(sizes) < 2:
        return math.nan
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def streets(count: int) -> tuple[Tensor, Tensor]:
    """(count, 4) points and (count,) the cloud of each: scans of one street, as many as it takes."""
    street = made_street(0)
    row = torch.arange(count)
    return street[row % len(street)], row // len(street)


def voxels(count: int) -> Work:
    """Points to voxels of 0.1 m."""
    points, cloud = streets(count)
    return lambda: voxelize(points, cloud, CubicGrid(0.1))


def maps(count: int) -> Work:
    """The kernel maps of five levels, arranged."""
    made = voxelize(*streets(count), CubicGrid(0.1))
    return lambda: prepare(Pyramid.from_voxels(made), 5, "torch")


def votes(count: int) -> Work:
    """Two scans vote on a third, all of ``count`` points."""
    draw = torch.Generator().manual_seed(0)
    beams = max(32, count // 1000)
    street = made_street(0, beams=beams, azimuths=1090)
    scans = []
    for place in range(3):
        chosen = torch.randint(len(street), (count,), generator=draw)
        pose = np.eye(4)
        pose[0, 3] = 0.5 * place
        classes = torch.rand(count, CLASSES, generator=draw).softmax(1)
        scans.append(Ballot(street[chosen, :3].contiguous(), classes, pose))
    return lambda: vote(scans[1], {-1: scans[0], 1: scans[2]}, VotingOptions())


def regions(count: int) -> Work:
    """The table of the regions that ``count`` pairs name, one for twenty pairs, and the means over them."""
    draw = torch.Generator().manual_seed(0)
    points, _ = streets(count)
    nothing = torch.zeros(1, dtype=torch.int64)
    batch = Batch(
        points=points,
        cloud=torch.zeros(count, dtype=torch.int64),
        cloud_clip=nothing,
        cloud_offset=nothing,
        cloud_dense=torch.zeros(1, dtype=torch.bool),
        images=torch.zeros(1, CHANNELS, 1, 1),
        image_clip=nothing,
        image_offset=nothing,
        pair_point=torch.arange(count),
        pair_image=torch.zeros(count, dtype=torch.int64),
        pair_pixel=torch.zeros(count, 2),
        pair_region=torch.randint(0, max(count // 20, 1), (count,), generator=draw),
        view_size=(1, 1),
    )
    features = torch.rand(count, CHANNELS, generator=draw)
    inverse = torch.arange(count)
    return lambda: pool_points(features, inverse, batch, region_table(batch))


PARTS: dict[str, Callable[[int], Work]] = {
    "voxels": voxels,
    "kernel maps": maps,
    "a vote of two scans": votes,
    "regions": regions,
}


def draw_growth(sizes: Sequence[int], seconds: Mapping[str, Sequence[float]], path: Path) -> None:
    """Both axes logarithmic, a line a part, beside one that is linear."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4.2), dpi=120, layout="constrained")
    axes = figure.subplots()
    for name, took in seconds.items():
        axes.loglog(sizes, took, "o-", label=f"{name}, exponent {exponent(sizes, took):.2f}")
    least = min(took[0] for took in seconds.values())
    axes.loglog(sizes, [least * size / sizes[0] for size in sizes], "--", color="#9aa3b0", label="linear")
    axes.set_xlabel("points")
    axes.set_ylabel("seconds")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    with write_atomically(path) as file:
        figure.savefig(file, format="png")
