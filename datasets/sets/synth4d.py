"""Synth4D: CARLA's towns seen by a 64- and by a 32-beam LiDAR, single scans in NumPy files.

A scene is kitti_synth_Town03, say. The published splits are pickles, which are never read here; write each as a text
file beside the data, training_split.txt and validation_split.txt, of one scan a line as in
``kitti_synth/Town03/velodyne/000000.npy``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...files.access import folder_names, read_text
from ..card import DatasetCard
from ..records import Place, ScanRow
from .kitti_family import stems

STYLES = ("kitti_synth", "nuscenes_synth")
SPLITS = {"train": "training_split", "val": "validation_split"}


def scans(root: Path, card: DatasetCard, report: list[str]) -> Iterator[ScanRow]:
    """Every scan of every town of both sensors below ``root``."""
    split_of: dict[str, str] | None = None
    for style in STYLES:
        for town in folder_names(root / style):
            inside = f"{style}/{town}"
            names = stems(root / inside / "velodyne", ".npy")
            labelled = set(stems(root / inside / "labels", ".npy"))
            if names and split_of is None:
                split_of = _splits(root, report)
            if names and len(labelled.intersection(names)) < len(names):
                report.append(f"{root / inside}: some scans have no label file; they go without labels")
            for rank, name in enumerate(names):
                path = f"{inside}/velodyne/{name}.npy"
                yield ScanRow(
                    scene=f"{style}_{town}",
                    token=f"{style}_{town}_{name}",
                    order=int(name) if all(n.isdecimal() for n in names) else rank,
                    points=Place(path),
                    lidar_to_ego=np.eye(4),
                    labels=Place(f"{inside}/labels/{name}.npy") if name in labelled else None,
                    split=(split_of or {}).get(path, ""),
                )


def _splits(root: Path, report: list[str]) -> dict[str, str]:
    """Path of a scan -> its split, out of the text files that are there."""
    found: dict[str, str] = {}
    for split, name in SPLITS.items():
        path = root / f"{name}.txt"
        if path.is_file():
            found |= {line.strip(): split for line in read_text(path).splitlines()}
        else:
            pickled = ", only the pickle that is not read" if (root / f"{name}.pkl").is_file() else ""
            report.append(f"{path}: is not there{pickled}; write it, a scan a line, for a split {split!r}")
    return found
