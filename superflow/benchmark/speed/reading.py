"""How fast a log is indexed and read, and that memory stays flat: scans of a made street, each listed many times."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ...datasets.index import LogIndex
from ...datasets.prepare import prepare
from ..stand_ins import StandInTask, make_stand_in
from .options import Options, Table

MADE = "semantickitti"  # the stand-in whose scans are read
MARKS = 5  # times at which memory is looked at
CLIPS = 300
SCANS = 12  # of a scene of the stand-in


def measure(options: Options) -> list[Table]:
    """Scans a second of the index and of reading, clips a second, and the memory of the process on the way."""
    with TemporaryDirectory(prefix="superflow_reading_") as folder:
        task = StandInTask(MADE, Path(folder), scans=min(SCANS, options.scans // 4))
        with_images = LogIndex.open(make_stand_in(task))
        root = listed_often(task.root / "sequences" / "00", Path(folder) / "often", options.scans)
        seconds = {}
        seconds["index"], index = _timed(lambda: prepare(MADE, root, Path(folder) / "index"))
        memory, seconds["reading"] = _read_all(index)
        clips = min(CLIPS, options.scans - 4)
        seconds["clips"], _ = _timed(lambda: [index.clip(2 + i, (-1, 0, 1), sweeps=2) for i in range(clips)])
        rows = with_images.rows().tolist()
        size = len(with_images.frame(rows[0], cameras=()).cloud)
        seconds["clips with images"], _ = _timed(lambda: [with_images.clip(row, (-1, 0, 1)) for row in rows])
    counts = {
        "index": options.scans,
        "reading": options.scans,
        "clips": clips,
        "clips with images": len(rows),
    }
    words = {
        "index": "the index is made (scans)",
        "reading": "points and labels are read (scans)",
        "clips": "three scans and two more between them (clips)",
        "clips with images": "three scans with two images each (clips)",
    }
    figures = {name: counts[name] / seconds[name] for name in words}
    lines = [[words[name], f"{counts[name]:,}", f"{figures[name]:,.0f}"] for name in words]
    flat = ", ".join(f"{megabytes:.0f} after {scans:,}" for scans, megabytes in memory)
    return [
        Table(
            f"Reading a log of {options.scans:,} scans of some {size:,} points",
            ("what", "how many", "a CPU second"),
            lines,
            [f"Memory of the process [MB]: {flat} scans."],
            {"a CPU second": figures, "memory_mb": memory},
        )
    ]


def listed_often(sequence: Path, root: Path, count: int) -> Path:
    """A root of ``count`` scans in SemanticKITTI's form: links to those of a sequence, over and over."""
    folder = root / "sequences" / "00"
    scans = sorted((sequence / "velodyne").iterdir())
    for kind, ending in (("velodyne", "bin"), ("labels", "label")):
        (folder / kind).mkdir(parents=True)
        for number in range(count):
            source = sequence / kind / f"{scans[number % len(scans)].stem}.{ending}"
            os.link(source, folder / kind / f"{number:06d}.{ending}")
    poses = (sequence / "poses.txt").read_text().splitlines()
    (folder / "poses.txt").write_text("".join(f"{poses[number % len(poses)]}\n" for number in range(count)))
    (folder / "times.txt").write_text("".join(f"{0.1 * number:.6f}\n" for number in range(count)))
    (folder / "calib.txt").write_text((sequence / "calib.txt").read_text())
    return root


def _read_all(index: LogIndex) -> tuple[list[tuple[int, float]], float]:
    """(scans read, memory [MB]) at some times; CPU seconds of reading all points and labels."""
    memory = [(0, _megabytes())]
    before = time.process_time()
    for part in _parts(len(index)):
        for row in part:
            index.read_cloud(row, labels=True, raw_intensity=False)
        memory.append((part.stop, _megabytes()))
    return memory, time.process_time() - before


def _parts(count: int) -> Iterator[range]:
    ends = [count * (mark + 1) // MARKS for mark in range(MARKS)]
    yield from (range(start, end) for start, end in zip([0, *ends], ends))


def _megabytes() -> float:
    """Memory of this process that lies in RAM."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    before = time.process_time()
    result = work()
    return time.process_time() - before, result
