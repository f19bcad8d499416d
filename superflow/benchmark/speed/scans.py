"""Features of one scan of 100,000 points, as `extract` gives them."""

from __future__ import annotations

import torch
from torch import Tensor

from ...hub.backbone import Backbone, BackboneCard
from ...lidar.conv import use_backend
from ...lidar.encoder import LidarEncoder
from .clouds import made_street
from .network import usable_backends
from .options import Options, Table, spread
from .turns import Work, in_turn

POINTS = 100_000
STUDENTS: dict[int | str, float] = {"tiny": 0.25, 34: 0.1}  # depth -> side of a voxel [m]


def measure(options: Options) -> list[Table]:
    """Milliseconds a scan and points a second, a row a student and back end."""
    scan = dense_scan(POINTS)
    depths = [options.depth] if options.depth is not None else list(STUDENTS)
    rows, records, notes = [], {}, []
    for depth in depths:
        size_m = options.grid_m(STUDENTS.get(depth, 0.1))
        turns = in_turn(
            {name: extraction(scan, depth, size_m, name) for name in usable_backends()},
            rounds=options.rounds,
            clock=options.clock,
        )
        for name, took in turns.seconds.items():
            rows.append(
                [
                    f"MinkUNet-{depth}, {size_m:g} m",
                    name,
                    f"{turns.median(name) * 1e3:.0f}",
                    spread([seconds * 1e3 for seconds in took], 0),
                    f"{len(scan) / turns.median(name):,.0f}",
                    turns.compared(usable_backends()[0], name),
                ]
            )
        records[str(depth)] = turns.record()
        notes.append(f"MinkUNet-{depth}: {turns.conditions()}.")
    columns = ("student", "back end", "ms a scan", "from, to", "points/s", f"{usable_backends()[0]} / it")
    return [Table(f"Features of a scan of {len(scan)} points", columns, rows, notes, records)]


def extraction(scan: Tensor, depth: int | str, size_m: float, backend: str) -> Work:
    """`Backbone.extract` of the scan, voxels and maps included, over one back end."""
    torch.manual_seed(0)
    encoder = LidarEncoder({"type": "cubic", "size_m": size_m}, {"depth": depth})
    backbone = Backbone(encoder, BackboneCard(name="random weights"))

    def work() -> None:
        with use_backend(backend):
            backbone.extract(scan)

    return work


def dense_scan(count: int) -> Tensor:
    """(count, 4) points of a made street seen by 128 beams."""
    street = made_street(0, beams=128, azimuths=max(1090, count // 80))
    chosen = torch.randperm(len(street), generator=torch.Generator().manual_seed(0))[:count]
    return street[chosen.sort().values]
