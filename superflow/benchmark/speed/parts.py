"""The parts of a pretraining step of one clip, from cached features, one after the other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...lidar.encoder import LidarEncoder
from ...lidar.sparse import Pyramid
from ...lidar.voxelize import voxelize
from ...method.pixels import ImageFeatures
from ...method.pretrainer import Pretrainer
from .batches import CachedFeatures, any_teacher, make_batch
from .network import prepare, usable_backends
from .options import Options, Table, spread
from .turns import Work, in_turn, peak_memory_mb


def measure(options: Options) -> list[Table]:
    """Median milliseconds of every part, and the peak memory of all of them."""
    turns = in_turn(training_parts(options), rounds=options.rounds, clock=options.clock)
    rows = [
        [name, f"{turns.median(name) * 1e3:.1f}", spread([s * 1e3 for s in took], 1)]
        for name, took in turns.seconds.items()
    ]
    rows.append(["peak memory of this process [MB]", f"{peak_memory_mb():.0f}", ""])
    title = f"Pretraining step, MinkUNet-{options.depth or 'tiny'}, three times and a dense cloud, six images"
    return [Table(title, ("part", "ms", "from, to"), rows, [turns.conditions()], turns.record())]


def training_parts(options: Options) -> dict[str, Work]:
    """The parts of a step by name, to be called in this order: each takes what the one before has left."""
    student = LidarEncoder(
        {"type": "cubic", "size_m": options.grid_m(0.25)},
        {"depth": options.depth or "tiny"},
        inputs=("intensity", "height", "range", "one"),
    )
    draw = torch.Generator().manual_seed(0)
    teacher, pictures = any_teacher(), torch.rand(6, 3, 224, 416, generator=draw)
    images = torch.randn(6, 64, 28, 52, generator=draw)
    batch = make_batch(options, clips=1, cameras=2, images=images, view=(224, 416))
    # as world cells, of which a clip has some hundreds
    batch.pairs.region.copy_(torch.randint(0, 300, (len(batch.points),), generator=draw))
    objectives = [{"type": "spatial"}, {"type": "temporal"}, {"type": "dense_to_sparse", "kind": "cosine"}]
    cached: Any = CachedFeatures(64)  # components of the teacher's, as `prepare features` keeps them
    model = Pretrainer(student, cached, objectives=objectives, pixels="hit", normalize="after")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    cloud, count, levels = batch.cloud, batch.num_clouds, student.backbone.levels
    held: dict[str, Any] = {}

    def keep(name: str, work: Work) -> Work:
        return lambda: held.__setitem__(name, work())

    def losses() -> Tensor:
        found = held["matches"]
        terms = [o.weight * o(*(found[kind] for kind in o.reads)) for o in model.objectives.values()]
        return torch.stack(terms).sum()

    def backward() -> None:
        optimizer.zero_grad()
        held["loss"].backward()

    return {
        f"teacher {teacher.name}, 6 images": lambda: teacher(pictures),
        "voxelise": keep("voxels", lambda: voxelize(batch.points, cloud, student.grid, num_clouds=count)),
        "kernel maps": lambda: prepare(Pyramid.from_voxels(held["voxels"]), levels, usable_backends()[0]),
        "student, the two above included": keep("student", lambda: student(batch.points, cloud, count)),
        "pooling": keep("matches", lambda: model.match(batch, held["student"], ImageFeatures(images, batch))),
        "losses": keep("loss", losses),
        "backward": backward,
        "optimiser": optimizer.step,
    }
