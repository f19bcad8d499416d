"""Logs that were downloaded in part: which scenes are whole, and an index of only those."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..files import reading
from .store import Columns

logger = logging.getLogger(__name__)


def whole_scenes(root: Path, frames: Columns, cameras: Columns, scenes: int) -> NDArray[np.bool_]:
    """(S,) True for scenes of which every file is there; tells the user of missing ones."""
    folders: dict[bytes, set[bytes]] = {}

    def is_missing(path: bytes) -> bool:
        folder, name = os.path.split(path)
        if (
            folder not in folders
        ):  # one listing a folder: half a million single look-ups are slow on network disks
            folders[folder] = _names_in(os.path.join(os.fsencode(root), folder))
        return name not in folders[folder]

    whole = np.ones(scenes, dtype=bool)
    scene_of_image = frames["scene"][cameras["frame"]]
    missing = 0
    for paths, scene in (
        (frames["path"], frames["scene"]),
        (frames["label_path"], frames["scene"]),
        (cameras["path"], scene_of_image),
    ):
        absent = np.array([bool(path) and is_missing(path) for path in paths.tolist()], dtype=bool)
        missing += int(absent.sum())
        whole[scene[absent]] = False
    if missing:
        logger.warning(
            "%s: %d files that the tables name are missing, of %d of %d scenes; complete the download, "
            "or index the other scenes with --complete-scenes",
            *(root, missing, int((~whole).sum()), scenes),
        )
    return whole


def _names_in(folder: bytes) -> set[bytes]:
    """Names of the files in a folder; none where there is no such folder.

    Raises:
        InputError: it is there and cannot be listed, which is not what a download that is not finished looks like.
    """
    with reading(os.fsdecode(folder)):
        try:
            return set(os.listdir(folder))
        except (FileNotFoundError, NotADirectoryError):
            return set()


def keep_scenes(keep: NDArray[np.bool_], frames: Columns, cameras: Columns, boxes: Columns) -> None:
    """Leave only the scenes where ``keep`` (S,) is true in the columns, and renumber scenes and frames."""
    rows = keep[frames["scene"]]
    new_row = np.cumsum(rows) - 1
    frames.update({key: column[rows] for key, column in frames.items()})
    frames["scene"] = (np.cumsum(keep) - 1)[frames["scene"]].astype(np.int32)
    for table in (cameras, boxes):
        kept = rows[table["frame"]]
        table.update({key: column[kept] for key, column in table.items()})
        table["frame"] = new_row[table["frame"]]
