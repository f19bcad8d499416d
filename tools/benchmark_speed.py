"""Time the sparse convolutions against spconv, and the parts of a training step, beside what this machine can do.

    superflow benchmark-speed                               MinkUNet-18, 20k and 60k voxels, both back ends
    superflow benchmark-speed --voxels 20000 --rounds 9     more rounds, tighter medians
    superflow benchmark-speed --loaded --threads 2          again while other processes keep all cores busy
    superflow benchmark-speed --parts --depth tiny          the parts of a pretraining step in ms
    superflow benchmark-speed --data work_dirs/prepared     clouds of a prepared log instead of a made street

The back ends alternate (A B A B) in one process, with the same weights and voxels, and the ceilings of the machine
(matrix product, memory copy) are measured between them. Ratios are taken pair by pair, so that a machine whose speed
drifts does not decide. Seconds are CPU time of the thread, of the process with --threads 2 and more; wall time is
beside them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch is imported

import torch
from torch import Tensor, nn

from superflow.benchmark.speed import (
    ceilings,
    exactly,
    made_street,
    network_step,
    peak_memory_mb,
    prepare,
    timed,
    usable_backends,
)
from superflow.clips.batch import Batch
from superflow.errors import InputError
from superflow.files.access import check_place
from superflow.files.writes import write_atomically
from superflow.lidar.conv import load_backend
from superflow.lidar.encoder import LidarEncoder
from superflow.lidar.minkunet import MINKUNET, MinkUNet
from superflow.lidar.sparse import Pyramid
from superflow.lidar.voxelize import Voxels, voxelize
from superflow.tools.command import run_command


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="superflow benchmark-speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--voxels", type=int, nargs="+", default=[20_000, 60_000])
    parser.add_argument("--size", type=float, help="side of a voxel [m] (default: 0.1; with --parts 0.25)")
    parser.add_argument("--depth", choices=[str(depth) for depth in MINKUNET], default="18")
    parser.add_argument("--rounds", type=int, default=5, help="A B pairs that count (default: 5)")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch (default: 1)")
    parser.add_argument("--data", type=Path, help="folder of a prepared log; by default a street is made")
    parser.add_argument("--loaded", action="store_true", help="measure again beside one busy process a core")
    parser.add_argument("--memory", action="store_true", help="peak memory of one step, a process a back end")
    parser.add_argument("--parts", action="store_true", help="only the parts of a pretraining step")
    parser.add_argument("--json", type=Path, help="also write every figure there")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Print the tables; 0, or 2 when the input cannot be used."""
    args = parse_args(argv)
    torch.set_num_threads(args.threads)
    args.clock = "thread" if args.threads == 1 else "process"
    return run_command("superflow benchmark-speed", lambda: _measure(args))


def _measure(args: argparse.Namespace) -> int:
    result: dict[str, Any] = {"machine": machine(), "options": {k: str(v) for k, v in vars(args).items()}}
    print("  ".join(f"{key} {value}" for key, value in result["machine"].items()))
    if args.json:
        check_place(args.json.parent)
    if args.parts:
        result["parts"] = measure_parts(args)
    else:
        result["networks"] = [measure_network(args, count) for count in args.voxels]
    if args.json:
        with write_atomically(args.json, "w") as file:
            json.dump(result, file, indent=1)
    return 0


def machine() -> dict[str, Any]:
    """What the figures belong to."""
    return {
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processor": platform.machine(),
        "python": platform.python_version(),
        **{name: load_backend(name).version() for name in usable_backends()},
        "load": round(os.getloadavg()[0], 2),
        "OMP_WAIT_POLICY": os.environ["OMP_WAIT_POLICY"],
    }


def clouds(data: Path | None) -> Iterator[Tensor]:
    """Clouds without end: of a prepared log, over and over, or made streets."""
    if data is None:
        yield from (made_street(seed) for seed in itertools.count())
        return
    from superflow.datasets.index import LogIndex

    index = LogIndex.open(data)
    for row in itertools.cycle(index.rows().tolist()):
        yield torch.from_numpy(index.frame(row, cameras=(), labels=False).points)


@contextmanager
def busy_cores() -> Iterator[None]:
    """One process a core that does nothing but keep it busy."""
    spin = [sys.executable, "-c", "while True: pass"]
    others = [subprocess.Popen(spin) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def measure_network(args: argparse.Namespace, count: int) -> dict[str, Any]:
    """Print and return the figures of all back ends at one number of voxels."""
    net, voxels = _network(args, count)
    print(f"\nMinkUNet-{args.depth}, {count} voxels of {voxels.num_clouds} clouds")
    result: dict[str, Any] = {"voxels": count}
    for load in ("quiet", "loaded") if args.loaded else ("quiet",):
        with busy_cores() if load == "loaded" else nullcontext():
            result[load] = alternate(net, voxels, args.rounds, args.clock)
        _print_network(load, result[load], args.clock)
    if args.memory:
        result["peak_mb"] = {name: peak_memory(name, args, count) for name in usable_backends()}
        print(f"  peak memory of one step [MB]: {result['peak_mb']}")
    return result


def alternate(net: MinkUNet, voxels: Voxels, rounds: int, clock: str) -> dict[str, Any]:
    """Medians by part and back end, every step's seconds, ratios pair by pair, and the ceilings between them."""
    names, limits = usable_backends(), []
    features = torch.randn(len(voxels), net.in_channels, generator=torch.Generator().manual_seed(0))
    steps: dict[str, list[dict[str, dict[str, float]]]] = {name: [] for name in names}
    for turn in range(rounds + 1):
        for name in names:
            step = network_step(net, name, voxels, features)
            if turn:  # the first round loads libraries and grows buffers
                steps[name].append(step)
                limits.append(ceilings(clock))
    result: dict[str, Any] = {key: median(limit[key] for limit in limits) for key in limits[0]}
    for name in names:
        whole = {
            kind: [sum(part[kind] for part in step.values()) for step in steps[name]]
            for kind in (clock, "wall")
        }
        parts = {part: median(step[part][clock] for step in steps[name]) for part in steps[name][0]}
        result[name] = {**parts, "steps": whole[clock], "wall": whole["wall"]}
    if "spconv" in names:
        result["ratios"] = [a / b for a, b in zip(result["torch"]["steps"], result["spconv"]["steps"])]
    return result


def _print_network(load: str, result: dict[str, Any], clock: str) -> None:
    print(
        f"  {load}, seconds of {clock} time; ceilings: {result['sgemm_gflops']:.0f} GFLOP/s sgemm, "
        f"{result['copy_gbytes']:.1f} GB/s copy"
    )
    for name in usable_backends():
        own = result[name]
        parts = "  ".join(f"{part} {own[part]:.3f}" for part in ("maps", "forward", "backward"))
        steps = f"step {median(own['steps']):.3f} ({min(own['steps']):.3f} to {max(own['steps']):.3f})"
        print(f"    {name:8}{parts}  {steps}  wall {median(own['wall']):.3f}")
    if ratios := result.get("ratios"):
        each = " ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"    torch / spconv: median {median(ratios):.3f}; pair by pair {each}")


def peak_memory(name: str, args: argparse.Namespace, count: int) -> float:
    """Peak resident memory [MB] of a fresh process that makes one step, imports included."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_one_step, args=(sender, name, args, count))
    child.start()
    sender.close()
    try:
        return receiver.recv()
    finally:
        child.join()


def _one_step(sender: Any, name: str, args: argparse.Namespace, count: int) -> None:
    torch.set_num_threads(args.threads)
    net, voxels = _network(args, count)
    network_step(net, name, voxels, torch.ones(count, net.in_channels))
    sender.send(round(peak_memory_mb(), 1))


def _network(args: argparse.Namespace, count: int) -> tuple[MinkUNet, Voxels]:
    torch.manual_seed(0)
    return MinkUNet(_depth(args)), exactly(count, clouds(args.data), args.size or 0.1)


def _depth(args: argparse.Namespace) -> int | str:
    return int(args.depth) if args.depth.isdecimal() else args.depth


def measure_parts(args: argparse.Namespace) -> dict[str, float]:
    """Print and return the median milliseconds of every part of a pretraining step, and the peak memory."""
    parts = training_parts(args)
    rounds: dict[str, list[float]] = {name: [] for name in parts}
    for turn in range(args.rounds + 1):
        for name, work in parts.items():
            seconds = timed(work)[args.clock]
            if turn:
                rounds[name].append(seconds * 1e3)
    medians = {name: median(values) for name, values in rounds.items()}
    medians["peak memory [MB]"] = peak_memory_mb()
    print(f"\npretraining step, MinkUNet-{args.depth}, three times and a dense cloud, six images [ms]")
    for name, value in medians.items():
        print(f"  {name:34}{value:9.1f}")
    return medians


def training_parts(args: argparse.Namespace) -> dict[str, Callable[[], Any]]:
    """The parts of a step by name, to be called in this order: each takes what the one before has left."""
    from superflow.method.pixels import ImageFeatures
    from superflow.method.pretrainer import Pretrainer

    student = LidarEncoder(
        {"type": "cubic", "size_m": args.size or 0.25},
        {"depth": _depth(args)},
        inputs=("intensity", "height", "range", "one"),
    )
    teacher, pictures = _teacher()
    batch = _batch(args)
    assert batch.images is not None
    cached: Any = nn.Identity()
    cached.channels = batch.images.shape[1]  # as cached features, 64 components of the teacher's
    images = batch.images
    objectives = [{"type": "spatial"}, {"type": "temporal"}, {"type": "dense_to_sparse", "kind": "cosine"}]
    model = Pretrainer(student, cached, objectives=objectives, pixels="hit", normalize="after")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    cloud, count, levels = batch.cloud, batch.num_clouds, student.backbone.levels
    held: dict[str, Any] = {}

    def keep(name: str, work: Callable[[], Any]) -> Callable[[], Any]:
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
        "kernel maps": lambda: prepare(Pyramid.from_voxels(held["voxels"]), levels, "torch"),
        "student, the two above included": keep("student", lambda: student(batch.points, cloud, count)),
        "pooling": keep("matches", lambda: model.match(batch, held["student"], ImageFeatures(images, batch))),
        "losses": keep("loss", losses),
        "backward": backward,
        "optimiser": optimizer.step,
    }


def _teacher() -> tuple[nn.Module, Tensor]:
    """The embedded teacher where it is installed, else the one without weights; and six images for it."""
    from superflow.camera.teacher import make_teacher

    try:
        teacher = make_teacher("efficientnet_lite0")
    except InputError:
        teacher = make_teacher("filter_bank")
    return teacher, torch.rand(6, 3, 224, 416, generator=torch.Generator().manual_seed(0))


def _batch(args: argparse.Namespace) -> Batch:
    """A clip of three times and a dense cloud, 8000 points each, with random pairs to six images of 300 regions."""
    draw = torch.Generator().manual_seed(0)
    source, parts = clouds(args.data), []
    for _ in range(4):
        cloud = next(source)[:, :4]
        parts.append(cloud[torch.randperm(len(cloud), generator=draw)[:8000]])
    rows = torch.tensor([len(part) for part in parts])
    pairs = int(rows.sum())
    offsets = torch.tensor([-1, 0, 1])
    return Batch(
        points=torch.cat(parts),
        cloud=torch.repeat_interleave(torch.arange(4), rows),
        cloud_clip=torch.zeros(4, dtype=torch.long),
        cloud_offset=torch.tensor([-1, 0, 1, 0]),
        cloud_dense=torch.tensor([False, False, False, True]),
        images=torch.randn(6, 64, 28, 52, generator=draw),
        image_clip=torch.zeros(6, dtype=torch.long),
        image_offset=offsets.repeat(2),
        image_camera=torch.arange(2).repeat_interleave(3),
        pair_point=torch.arange(pairs),
        pair_image=torch.repeat_interleave(torch.tensor([0, 1, 2, 1]), rows),
        pair_pixel=torch.rand(pairs, 2, generator=draw) * torch.tensor([415.0, 223.0]),
        pair_region=torch.randint(0, 300, (pairs,), generator=draw),
        view_size=(224, 416),
    )


if __name__ == "__main__":
    sys.exit(main())
