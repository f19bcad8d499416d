"""Synth4D: CARLA's towns seen by a 64- and by a 32-beam LiDAR, single scans in NumPy files.

A scene is kitti_synth_Town03, say. The published splits are pickles, which are never read here; write each as a text
file beside the data, training_split.txt and validation_split.txt, of one scan a line as in
``kitti_synth/Town03/velodyne/000000.npy``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...files.access import folder_names
from ..card import DatasetCard
from ..records import Place, ScanRow
from ..split_lists import split_of_paths
from .kitti_family import stems

STYLES = ("kitti_synth", "nuscenes_synth")
SPLITS = {"train": "training_split", "val": "validation_split"}


def scans(root: Path, card: DatasetCard, report: list[str]) -> Iterator[ScanRow]:
    """Every scan of every town of both sensors below ``root``."""
    towns = [(style, town) for style in STYLES for town in folder_names(root / style)]
    names_of = {town: stems(root.joinpath(*town, "velodyne"), ".npy") for town in towns}
    there = {f"{'/'.join(town)}/velodyne/{name}.npy" for town, names in names_of.items() for name in names}
    split_of = _splits(root, there, report) if there else {}
    for (style, town), names in names_of.items():
        inside = f"{style}/{town}"
        labelled = set(stems(root / inside / "labels", ".npy"))
        if names and len(labelled.intersection(names)) < len(names):
            report.append(f"{root / inside}: some scans have no label file; they go without labels")
        are_numbers = all(name.isdecimal() for name in names)
        for rank, name in enumerate(names):
            path = f"{inside}/velodyne/{name}.npy"
            yield ScanRow(
                scene=f"{style}_{town}",
                token=f"{style}_{town}_{name}",
                order=int(name) if are_numbers else rank,
                points=Place(path),
                lidar_to_ego=np.eye(4),
                labels=Place(f"{inside}/labels/{name}.npy") if name in labelled else None,
                split=split_of.get(path, ""),
            )


def _splits(root: Path, there: set[str], report: list[str]) -> dict[str, str]:
    """Path of a scan -> its split, out of the text files that are there."""
    lists = {split: root / f"{name}.txt" for split, name in SPLITS.items()}

    def absent(split: str) -> str:
        beside = (root, *(root / "splits" / style for style in STYLES))  # or where its authors' loader looks
        pickled = any((folder / f"{SPLITS[split]}.pkl").is_file() for folder in beside)
        only = ", only the pickle that is not read" if pickled else ""
        return f"{only}; write it, a scan a line, for a split {split!r}"

    return split_of_paths(lists, there, report, absent)
