"""One training sample of the GPU config, as a loader worker makes it: what it takes, and what it hands over."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from dataclasses import fields
from itertools import cycle
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import cv2
from torch import Tensor

from ...clips.batch import Batch
from ...clips.dataset import PretrainDataset
from ...datasets.index import LogIndex
from ...datasets.prepare import prepare
from ...engine.config import load_config
from ...street.drive import DriveSettings, make_drive
from ...street.schema import VERSION
from .options import Options, Table, spread
from .turns import Work, in_turn

CONFIG = "pretrain/superflowpp.py"
DRIVE = DriveSettings(seconds=2.0, image_size=(900, 1600))  # as nuScenes has it
SAMPLES = 4  # a round
# what is changed of the config's dataset, by part
ARMS: dict[str, Mapping[str, Any]] = {
    "as the config has it": {},
    "images decoded whole": {"views": {"half": False}},
    "without images and pairs": {"images": False},
}


def measure(options: Options, drive: DriveSettings = DRIVE) -> list[Table]:
    """Milliseconds a sample, page faults, and megabytes from the worker to the process that trains."""
    cv2.setNumThreads(1)
    with TemporaryDirectory(prefix="superflow_sample_") as folder:
        index = LogIndex.open(options.data) if options.data else _made_log(Path(folder), drive)
        arms = {name: _Arm(index, changes) for name, changes in ARMS.items()}
        works: dict[str, Work] = {name: arm.make_some for name, arm in arms.items()}
        turns = in_turn(works, rounds=options.rounds, clock=options.clock)
    first = next(iter(ARMS))
    rows, record = [], {}
    for name, arm in arms.items():
        took = [1e3 * s / SAMPLES for s in turns.seconds[name]]
        record[name] = {"megabytes": arm.megabytes, "points": arm.points, "faults": arm.faults}
        rows.append(
            [
                name,
                f"{median(took):.1f}",
                spread(took, 1),
                turns.compared(name, first),
                f"{arm.megabytes:.2f}",
                f"{median(arm.faults):.0f}",
            ]
        )
    columns = ("sample", "ms", "from, to", "of the first: median, from to", "MB handed over", "page faults")
    title = f"A sample of {CONFIG}, {arms[first].points:,} points, {arms[first].images} images"
    return [Table(title, columns, rows, [turns.conditions()], turns.record() | {"arms": record})]


def _made_log(folder: Path, drive: DriveSettings) -> LogIndex:
    """A prepared drive of two scenes."""
    root = make_drive(folder / "drive", scenes=2, val_scenes=1, settings=drive)
    return prepare("nuscenes", root, folder / "index", version=VERSION)


class _Arm:
    """The config's dataset with some changes, and what its samples took.

    points, images: of the last sample. megabytes: of the tensors of the largest. faults: pages that the system gave, a
    sample, of each round.
    """

    def __init__(self, index: LogIndex, changes: Mapping[str, Any]) -> None:
        options = load_config(CONFIG).train_dataloader.dataset.to_dict()
        options |= {"index": index, "frames": None}
        for part, values in changes.items():
            options[part] = options[part] | values if isinstance(values, Mapping) else values
        del options["type"]
        self.dataset = PretrainDataset(**options)
        times = [len(self.dataset.times.rows(row)) for row in self.dataset.rows.tolist()]
        whole = [item for item, count in enumerate(times) if count == max(times)]
        self._next = enumerate(cycle(whole))
        self.faults: list[float] = []
        self.points, self.images, self.megabytes = 0, 0, 0.0

    def make_some(self) -> None:
        """``SAMPLES`` samples, one after the other."""
        before = _faults()
        for _ in range(SAMPLES):
            seed, item = next(self._next)
            sample = self.dataset[item, seed]
        self.faults.append((_faults() - before) / SAMPLES)
        self.points = len(sample.points)
        self.images = 0 if sample.images is None else len(sample.images)
        self.megabytes = max(self.megabytes, _bytes(sample) / 1e6)


def _bytes(sample: Batch) -> int:
    values = (getattr(sample, f.name) for f in fields(sample))
    return sum(value.numel() * value.element_size() for value in values if isinstance(value, Tensor))


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
